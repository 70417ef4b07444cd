"""What a reload cannot change is named: the site, the address, the key, and the command that does it."""

from pathlib import Path

from pillarbox.config import Settings, parse
from pillarbox.config.fields import RESTART
from pillarbox.config.model import TABLES
from pillarbox.daemon.restart import changes_that_need_a_restart

HERE = Path("/etc/pillarbox/pillarbox.toml")
SITE = '[[site]]\nname = "{name}"\nsubmission = ["{address}"]\ncertificate = "c.pem"\nkey = "k.pem"\n'
MAIL = SITE.format(name="mail.example.org", address="192.0.2.1:587")
PRINT = SITE.format(name="print.example.org", address="10.0.0.10:2525")


def settings(*tables: str) -> Settings:
    return parse("".join(tables) + '[[route]]\nhost = "mx.example.org"\n', HERE)


def test_a_new_site_names_its_address_and_the_command() -> None:
    (line,) = changes_that_need_a_restart(settings(MAIL), settings(MAIL, PRINT))
    assert line == (
        'site "print.example.org": 10.0.0.10:2525 (submission) is new; '
        "it needs a restart: systemctl restart pillarbox"
    )


def test_with_a_unit_per_role_the_address_is_the_sockets() -> None:
    (line,) = changes_that_need_a_restart(settings(MAIL), settings(MAIL, PRINT), units=True)
    assert line.endswith(
        "needs a restart: add ListenStream=10.0.0.10:2525 by `systemctl edit pillarbox-submission.socket`, "
        "then systemctl restart pillarbox.target"
    )


def test_an_address_that_is_gone_and_one_that_changed_its_kind() -> None:
    (line,) = changes_that_need_a_restart(settings(MAIL, PRINT), settings(MAIL))
    assert 'site "print.example.org": 10.0.0.10:2525 (submission) is gone' in line
    found = changes_that_need_a_restart(settings(MAIL), settings(MAIL.replace("submission", "submissions")))
    assert [line.split(";")[0] for line in found] == [
        'site "mail.example.org": 192.0.2.1:587 (submissions) is new',
        'site "mail.example.org": 192.0.2.1:587 (submission) is gone',
    ]


def test_keys_of_the_server_show_both_values() -> None:
    old, new = settings("[server]\nuser = 'nobody'\n", MAIL), settings('[server]\nrun_directory = "/run/x"\n', MAIL)
    assert [line.split(";")[0] for line in changes_that_need_a_restart(old, new)] == [
        "server.run_directory: /run/pillarbox is in force, /run/x is in the file",
        "server.user: nobody is in force, nothing is in the file",
    ]
    (line,) = changes_that_need_a_restart(settings(MAIL), settings("[spool]\nmin_free = 0\n", MAIL))
    assert line.startswith("spool: ")


def test_what_a_reload_can_change_is_not_named() -> None:
    second = PRINT.replace("10.0.0.10:2525", "192.0.2.1:587")
    assert changes_that_need_a_restart(settings(MAIL), settings('[server]\ndrain_time = "1s"\n', MAIL, second)) == []


def test_the_reference_marks_exactly_the_keys_whose_change_needs_a_restart() -> None:
    marked = {
        ".".join((*name, key))
        for name, tables in TABLES.items()
        for table in tables
        for key, field in table.model_fields.items()
        if (field.description or "").endswith(RESTART)
    }
    server = {"data_directory", "run_directory", "user", "run_as_root", "submission_workers", "delivery_workers"}
    assert marked == {
        *(f"server.{key}" for key in server),
        *(f"spool.{key}" for key in ("kind", "min_free", "durability")),
        *(f"spool.cell.{key}" for key in ("name", "dsn", "password_file", "max_size", "accepts")),
        "site.submission",
        "site.submissions",
        "acme.listen",  # tests/config/test_acme.py
        "acme.hook",
    }
    for key in server:
        value = "true" if key == "run_as_root" else "7" if key.endswith("workers") else '"nobody"'
        found = changes_that_need_a_restart(settings(MAIL), settings(f"[server]\n{key} = {value}\n", MAIL))
        assert [line.split(":")[0] for line in found] == [f"server.{key}"]

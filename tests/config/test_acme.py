"""certificate = "acme" and [acme]: what is taken, what is refused and why, what is looked at on the machine."""

import datetime
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.ports import steady_ports

from pillarbox.certificates.settings import LETS_ENCRYPT, AcmeSettings
from pillarbox.config import ConfigError, Settings, check_files, parse
from pillarbox.config import acme as acme_module
from pillarbox.config.shown import as_toml, keys_of
from pillarbox.daemon.restart import changes_that_need_a_restart
from pillarbox.doctor.report import Finding, Severity

HERE = Path("/etc/pillarbox/pillarbox.toml")
SITE = '[[site]]\nname = "mail.example.org"\nsubmission = ["192.0.2.1:587"]\ncertificate = "acme"\n'
FILES = SITE.replace('"acme"', '"c.pem"\nkey = "k.pem"').replace("mail.", "post.").replace(".1:587", ".2:587")
ACME = "[acme]\nagree_to_terms = true\n"
ROUTE = '[[route]]\nhost = "mx.example.org"\n'


def taken(*tables: str) -> Settings:
    return parse("".join((*tables, ROUTE)), HERE)


def refused(*tables: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        taken(*tables)
    return [f"{one.line} {one.key}: {one.message}" for one in caught.value.mistakes]


def test_a_site_that_wants_one_and_a_site_that_has_one() -> None:
    settings = taken(SITE, FILES, ACME)
    assert settings.acme == AcmeSettings(
        Path("/var/lib/pillarbox/certificates"),
        ("mail.example.org",),
        directory=LETS_ENCRYPT,
        listen=(("0.0.0.0", 80), ("::", 80)),  # noqa: S104 - the default: an authority comes from anywhere
    )
    wants, has = settings.sites
    assert wants.acme
    assert wants.certificate == wants.key == Path("/var/lib/pillarbox/certificates/mail.example.org.pem")
    assert (has.acme, has.certificate, has.key) == (False, HERE.parent / "c.pem", HERE.parent / "k.pem")


def test_everything_that_can_be_said_and_what_it_means() -> None:
    settings = taken(
        '[server]\ndata_directory = "/data"\n',
        SITE,
        '[acme]\nagree_to_terms = true\ndirectory = "https://ca.example.org/acme"\nemail = "postmaster@example.org"\n'
        'hook = ["dns", "--zone"]\nhook_time = "1m"\nca = "ca.pem"\n',
    )
    assert settings.acme is not None
    assert replace(settings.acme, listen=()) == AcmeSettings(
        Path("/data/certificates"),
        ("mail.example.org",),
        "https://ca.example.org/acme",
        "postmaster@example.org",
        HERE.parent / "ca.pem",
        hook=("dns", "--zone"),
        hook_time=60.0,
    )


def test_without_a_site_that_wants_one_nothing_is_asked_for() -> None:
    assert taken(FILES).acme is None
    assert taken(FILES, "[acme]\n").acme is None


def test_nobody_agrees_in_anybody_s_place() -> None:
    (found,) = refused(SITE, "[acme]\n")
    assert found.startswith("5 acme.agree_to_terms: expected true: read the terms of service of https://acme-v02.")
    (found,) = refused(SITE)
    assert found.startswith('4 site[0].certificate: found "acme" without [acme]; expected that table')


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ((SITE + 'key = "k.pem"\n', ACME), 'site[0].key: found beside certificate = "acme"; expected none'),
        ((SITE.replace('"acme"', '"c.pem"'), ACME), "site[0].key: missing: The certificate's private key"),
        ((SITE.replace("mail.example.org", "mail"), ACME), 'site[0].name: found "mail"; an ACME authority'),
        ((SITE, ACME + 'directory = "http://ca.example.org"\n'), "acme.directory: found"),
        ((SITE, ACME + 'directory = "ca.example.org"\n'), "acme.directory: found"),
        ((SITE, ACME + 'email = "postmaster"\n'), "acme.email: found"),
        ((SITE, ACME + 'email = "a b@example.org"\n'), "acme.email: found"),
        ((SITE, ACME + 'listen = ["192.0.2.1:587"]\n'), "acme.listen[0]: found"),
        ((SITE, ACME + 'listen = ["0.0.0.0:25"]\n'), "port 25 is for mail transfer"),
        ((SITE, ACME + 'external_account = "x"\n'), "acme.external_account: found without external_key_file"),
        ((SITE, ACME + 'external_key_file = "x"\n'), "acme.external_key_file: found without external_account"),
        ((SITE, ACME + "listen = []\n"), "acme.listen: found an empty list"),
        ((SITE, ACME + 'listen = ["0.0.0.0:80"]\nhook = ["x"]\n'), "acme.listen: found beside hook"),
    ],
)
def test_what_does_not_go_together_is_refused(tables: tuple[str, ...], message: str) -> None:
    (found,) = refused(*tables)
    assert message in found


@pytest.mark.parametrize("more", ["", 'hook = ["x"]\n', 'listen = ["127.0.0.1:8080"]\nca = "ca.pem"\n'])
def test_what_is_shown_is_a_file_that_says_the_same(more: str) -> None:
    settings = taken(SITE, FILES, ACME + more)
    again = parse(as_toml(keys_of(settings)), HERE)
    assert (again.acme, again.sites) == (settings.acme, settings.sites)


def test_a_path_that_is_only_named_so_can_be_said() -> None:
    site = SITE.replace('"acme"', '"./acme"\nkey = "k.pem"')
    assert taken(site).sites[0].certificate == HERE.parent / "acme"


# ---- what a reload cannot change


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ((FILES,), (FILES, SITE.replace(".1:587", ".2:587"), ACME), 'certificate = "acme" is new'),
        ((FILES, SITE.replace(".1:587", ".2:587"), ACME), (FILES,), "any more"),
        ((SITE, ACME), (SITE, ACME + 'listen = ["0.0.0.0:8080"]\n'), "another listen"),
        ((SITE, ACME), (SITE, ACME + 'hook = ["x"]\n'), "another listen"),
    ],
)
def test_who_listens_is_settled_at_the_start(old: tuple[str, ...], new: tuple[str, ...], word: str) -> None:
    (line,) = changes_that_need_a_restart(taken(*old), taken(*new))
    assert word in line
    assert line.endswith("it needs a restart: systemctl restart pillarbox")
    (line,) = changes_that_need_a_restart(taken(*old), taken(*new), units=True)
    assert "pillarbox-certificates.socket" in line
    assert line.endswith(", then systemctl restart pillarbox.target")


def test_a_reload_may_add_a_name_and_change_the_authority() -> None:
    two = SITE + SITE.replace("mail.", "post.")
    changed = ACME + 'directory = "https://ca.example.org/acme"\nemail = "postmaster@example.org"\n'
    assert changes_that_need_a_restart(taken(SITE, ACME), taken(two, changed)) == []


# ---- what check says


def looked_at(tmp_path: Path, more: str = "", *, ports: bool = False) -> list[Finding]:
    text = SITE.replace("192.0.2.1:587", "127.0.0.1:5587") + ACME + more
    server = '[server]\ndata_directory = "data"\nrun_directory = "run"\n[spool]\nmin_free = 0\n'
    settings = parse(f'{server}{text}[[route]]\nkind = "maildir"\npath = "out"\n', tmp_path / "pillarbox.toml")
    return [found for found in check_files(settings, ports=ports) if "mail.example.org" in found.subject] + [
        found for found in check_files(settings, ports=ports) if found.subject == "acme" or "port" in found.subject
    ]


def test_a_certificate_that_is_not_there_yet_is_no_error(tmp_path: Path) -> None:
    (found,) = looked_at(tmp_path)
    assert found.severity is Severity.NOTE
    assert "no certificate yet" in found.message


def test_one_that_is_there_is_looked_at_by_its_own_measure(tmp_path: Path, authority: Authority) -> None:
    """Six days are short for a certificate of ninety, and half the life of one of twelve."""
    folder = tmp_path / "data" / "certificates"
    folder.mkdir(parents=True)
    for before, word in ((84, "WARNING"), (6, "OK")):
        day = datetime.timedelta(days=1)
        issued = authority.issue("mail.example.org", not_before=-before * day, not_after=6 * day)
        pair = issued.key.read_bytes() + issued.certificate.read_bytes() + issued.ca.read_bytes()
        (folder / "mail.example.org.pem").write_bytes(pair)
        (found,) = looked_at(tmp_path)
        assert found.severity.name == word
    (folder / "mail.example.org.pem").write_bytes(b"")
    assert any(found.severity is Severity.ERROR for found in looked_at(tmp_path))


def test_a_missing_library_is_said_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        acme_module, "missing_library", lambda: "the ACME library is missing; install it: pip install pillarbox[acme]"
    )
    found = next(found for found in looked_at(tmp_path) if found.subject == "acme")
    assert (found.severity, found.blocks) == (Severity.ERROR, True)
    assert found.advice == "install it: pip install pillarbox[acme]"


def test_a_hook_and_a_ca_that_are_not_there_are_said(tmp_path: Path) -> None:
    found = [
        found for found in looked_at(tmp_path, 'hook = ["/nowhere/x"]\nca = "ca.pem"\n') if found.subject == "acme"
    ]
    assert [one.severity for one in found] == [Severity.ERROR, Severity.ERROR]
    assert "there is no program /nowhere/x" in found[0].message
    assert "ca.pem does not exist" in found[1].message


def test_the_responder_s_port_is_tried(tmp_path: Path) -> None:
    (port,) = steady_ports(1)
    found = looked_at(tmp_path, f'listen = ["127.0.0.1:{port}"]\n', ports=True)
    assert (Severity.OK, f"port 127.0.0.1:{port}") in [(one.severity, one.subject) for one in found]

"""`pillarbox check`: what the settings want of the accounts."""

from pathlib import Path

from tests.cli.conftest import Run

DEVICES = """
[[site]]
name = "print.example.org"
submission = ["127.0.0.1:54652"]
certificate = {certificate}
key = {key}
[site.legacy]
networks = ["127.0.0.0/8"]
logins = ["printer"]
[[directory]]
scram = {scram}
"""


def add(run: Run, site: Path, login: str) -> None:
    done = run(
        "user", "add", login, "--address", "x@example.org", "--password-stdin", "-c", site, stdin="correct horse\n"
    )
    assert done.code == 0, done.err


def test_scram_is_counted_site_by_site_and_over_accounts_that_are_enabled(run: Run, site: Path) -> None:
    lines = dict(line.split(" = ", 1) for line in site.read_text().splitlines() if " = " in line)
    files = {"certificate": lines["certificate"], "key": lines["key"]}
    text = site.read_text().replace("[[route]]", "{mechanisms}{devices}[[route]]")
    before = text.replace("{mechanisms}", "").replace("{devices}", DEVICES.format(scram="false", **files))
    site.write_text(before)
    for login in ("old@example.org", "left@example.org", "printer"):
        add(run, site, login)
    announced = text.replace("{mechanisms}", 'mechanisms = ["PLAIN", "SCRAM-SHA-256"]')
    site.write_text(announced.replace("{devices}", DEVICES.format(scram="true", **files)))
    add(run, site, "new@example.org")
    assert run("user", "disable", "left@example.org", "-c", site).code == 0

    def said() -> list[str]:
        checked = run("check", "--no-ports", "-c", site)
        return [line.split(": ", 1)[1] for line in checked.out.splitlines() if "site mail.example.org: SCRAM" in line]

    assert said() == ["SCRAM-SHA-256 is not offered: 1 of 2 accounts have no secret"]
    assert run("user", "password", "old@example.org", "--password-stdin", "-c", site, stdin="another one\n").code == 0
    assert said() == ["SCRAM-SHA-256: every account that may sign in here has a secret"]
    assert run("user", "enable", "left@example.org", "-c", site).code == 0
    assert said() == ["SCRAM-SHA-256 is not offered: 1 of 3 accounts have no secret"]

"""`pillarbox check`: what the settings want of the accounts, and what of sign-in nobody could use."""

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.support.certs import Authority

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


ABOUT_SIGN_IN = ("app passwords are required", "nobody can sign in", "ask one server", "password hash")


def findings(run: Run, site: Path, subject: str) -> list[dict[str, str]]:
    """Those about this subject and about sign-in."""
    told = json.loads(run("check", "--no-ports", "--json", "-c", site).out)
    assert told["mistakes"] == []
    found = [each for each in told["findings"] if each["subject"] == subject]
    return [each for each in found if any(words in each["message"] for words in ABOUT_SIGN_IN)]


def with_site(site: Path, lines: str, tables: str = "") -> None:
    site.write_text(site.read_text().replace("[[route]]", f"{lines}\n{tables}\n[[route]]"))


def imap(name: str, server: str, domain: str = "example.org", more: str = "") -> str:
    return (
        f'[[directory]]\nkind = "imap"\nname = "{name}"\nservers = ["{server}"]\n'
        f'domains = ["{domain}"]\nnames = ["*@{domain}"]\n{more}\n'
    )


LDAP = """
[[directory]]
kind = "ldap"
name = "corp"
preset = "openldap"
servers = ["ldaps://MAIL.example.org"]
base = "dc=example,dc=org"
"""


@pytest.mark.parametrize(
    ("mechanisms", "severity", "says"),
    [
        ('["SCRAM-SHA-256"]', "error", "submissions: nobody can sign in: app passwords are required"),
        ('["SCRAM-SHA-256", "EXTERNAL"]', "warning", "nobody can use one by EXTERNAL"),
        ('["PLAIN", "SCRAM-SHA-256"]', "", ""),
    ],
)
def test_required_app_passwords_need_a_mechanism_that_takes_them(
    run: Run, site: Path, authority: Authority, mechanisms: str, severity: str, says: str
) -> None:
    certificates = f'client_certificates = "optional"\nclient_ca = "{authority.ca}"'
    lines = f'app_passwords = "required"\nmechanisms = {mechanisms}\n' + certificates * ("EXTERNAL" in mechanisms)
    with_site(site, lines, "[[directory]]\nscram = true\n")
    found = findings(run, site, "site mail.example.org")
    assert [each["severity"] for each in found] == ([severity] if severity else [])
    assert not severity or says in found[0]["message"]


def test_two_directories_that_ask_one_server_are_told(run: Run, site: Path) -> None:
    tables = imap("box", "mail.example.org") + LDAP + imap("tunnel", "localhost:1143", "b.example")
    tables += imap("other", "localhost:1144", "c.example")
    with_site(site, 'directories = ["box", "tunnel", "other", "corp"]', tables)
    (found,) = findings(run, site, "directories box, corp")
    assert "they ask one server, mail.example.org" in found["message"]
    assert "10 wrong passwords" in found["message"]
    assert findings(run, site, "directories tunnel, other") == []


def test_a_directory_that_no_site_uses_shares_no_server(run: Run, site: Path) -> None:
    with_site(site, 'directories = ["corp"]', imap("box", "mail.example.org") + LDAP)
    assert findings(run, site, "directories box, corp") == []


def test_a_directory_whose_people_no_site_takes_is_told(run: Run, site: Path) -> None:
    tables = imap("box", "imap.example.org", "other.example") + imap("ours", "imap2.example.org")
    with_site(site, 'domains = ["Example.ORG"]\ndirectories = ["box", "ours"]', tables)
    (found,) = findings(run, site, "site mail.example.org")
    assert found["message"] == 'nobody can sign in by directory "box": none of its domains is one of the site\'s'


OAUTH = """
[[directory]]
kind = "oauth"
name = "tokens"
preset = "keycloak"
issuer = "https://id.example.org/realms/mail"
audience = ["mail"]
{people}
"""


@pytest.mark.parametrize("people", ["", 'people = "corp"'])
def test_a_directory_of_passwords_where_no_mechanism_takes_one_is_told(run: Run, site: Path, people: str) -> None:
    lines = 'mechanisms = ["OAUTHBEARER"]\ndirectories = ["corp", "tokens"]'
    with_site(site, lines, LDAP + OAUTH.format(people=people))
    found = [each["message"] for each in findings(run, site, "site mail.example.org")]
    says = 'nobody can sign in by directory "corp": no mechanism of the site takes a password'
    assert found == ([] if people else [says])


def test_imported_hashes_are_counted_until_they_are_replaced(run: Run, site: Path) -> None:
    add(run, site, "old@example.org")
    export = site.parent / "people.ldif"
    person = "dn: CN={0},O=ACME\nmail: {0}@example.org\ncn: {0}\nHTTPPassword: (355E98E7C7B59BD810ED845AD0FD2FC4)\n\n"
    export.write_text(person.format("ada") + person.format("bob"))
    done = run("import", "domino", export, "-c", site)
    assert done.code == 0, done.err
    (found,) = findings(run, site, "accounts")
    assert found["message"].startswith("2 of 3 have the password hash of the system that they were imported from")
    for name in ("ada", "bob"):
        done = run("user", "password", f"{name}@example.org", "--password-stdin", "-c", site, stdin="another one\n")
        assert done.code == 0, done.err
    assert findings(run, site, "accounts") == []

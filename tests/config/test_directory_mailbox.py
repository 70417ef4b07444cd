"""[[directory]] with kind = "imap", "pop3" and "dovecot": what they become, and what is refused with its reason."""

import socket
from pathlib import Path

import pytest
from tests.config.corp import SITE, mistakes, taken
from tests.support.certs import Authority

from pillarbox.config import check_files
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.mailbox.settings import MailboxSettings
from pillarbox.directory.settings import DirectorySettings
from pillarbox.directory.wire import Place
from pillarbox.doctor.report import Finding, Severity

DOMAINS = 'domains = ["example.org"]\n'


def made(kind: str, text: str, site: str = SITE) -> DirectorySettings:
    return taken(f'kind = "{kind}"\n{text}', site).directories[0]


def refused(kind: str, text: str, site: str = SITE) -> list[str]:
    return mistakes(f'kind = "{kind}"\n{text}', site)


def test_a_server_and_a_domain_are_enough() -> None:
    assert made("imap", f'servers = ["imap.example.org"]\n{DOMAINS}') == MailboxSettings(
        name="corp",
        protocol="imap",
        servers=(Place("imap.example.org", 993),),
        domains=("example.org",),
        wrong_tries=5,
    )
    assert made("dovecot", f'servers = ["/run/dovecot/auth-client"]\n{DOMAINS}') == DovecotSettings(
        name="corp", servers=(Place(path="/run/dovecot/auth-client"),), domains=("example.org",), wrong_tries=5
    )


@pytest.mark.parametrize(
    ("kind", "tls", "port"),
    [("imap", "tls", 993), ("imap", "starttls", 143), ("pop3", "tls", 995), ("pop3", "starttls", 110)],
)
def test_ports_are_those_of_the_protocol(kind: str, tls: str, port: int) -> None:
    found = made(
        kind, f'servers = ["a.example.org", "b.example.org:1993", "[::1]:1", "::1"]\ntls = "{tls}"\n{DOMAINS}'
    )
    assert isinstance(found, MailboxSettings)
    assert list(map(str, found.servers)) == [
        f"a.example.org:{port}",
        "b.example.org:1993",
        "[::1]:1",
        f"[::1]:{port}",
    ]


def test_every_key_reaches_its_room() -> None:
    text = """servers = ["127.0.0.1"]
tls = "starttls"
ca = "ca.pem"
tls_name = "imap.example.org"
login = "{local}@{domain}"
domains = ["example.org", "example.net"]
names = ["*@example.org"]
cache = "1m"
wrong_cache = "2m"
wrong_tries = 3
wrong_window = "4m"
timeout = "5s"
connections = 6
"""
    assert made("pop3", text) == MailboxSettings(
        name="corp",
        protocol="pop3",
        servers=(Place("127.0.0.1", 110),),
        tls="starttls",
        ca=Path("/etc/pillarbox/ca.pem"),
        tls_name="imap.example.org",
        login="{local}@{domain}",
        domains=("example.org", "example.net"),
        names=("*@example.org",),
        cache=60.0,
        wrong_cache=120.0,
        wrong_tries=3,
        wrong_window=240.0,
        timeout=5.0,
        connections=6,
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_no_tls_is_for_loopback(host: str) -> None:
    found = made("imap", f'servers = ["{host}"]\ntls = "none"\n{DOMAINS}')
    assert isinstance(found, MailboxSettings)
    assert found.servers[0].port == 143


@pytest.mark.parametrize(
    ("kind", "text", "part"),
    [
        ("imap", f'servers = ["imap.example.org"]\ntls = "none"\n{DOMAINS}', "passwords are sent"),
        ("imap", f'servers = ["192.0.2.1"]\ntls = "none"\n{DOMAINS}', "passwords are sent"),
        ("imap", f'servers = ["a b"]\n{DOMAINS}', 'servers: found "a b"'),
        ("imap", f'servers = ["imap.example.org:0"]\n{DOMAINS}', "servers"),
        ("imap", f"servers = []\n{DOMAINS}", "servers"),
        ("imap", 'servers = ["imap.example.org"]\n', "domains"),
        ("imap", 'servers = ["imap.example.org"]\ndomains = []\n', "domains"),
        ("pop3", f'servers = ["pop3.example.org"]\nlogin = "anna"\n{DOMAINS}', 'expected "{login}" or "{local}"'),
        ("pop3", 'servers = ["pop3.example.org"]\nlogin = "{local}"\ndomains = ["*"]\n', "cannot check"),
        ("imap", f'servers = ["127.0.0.1"]\ntls = "none"\nca = "ca.pem"\n{DOMAINS}', "expected without"),
        ("dovecot", f'servers = ["192.0.2.1:12345"]\n{DOMAINS}', "in the clear"),
        ("dovecot", f'servers = ["dovecot.example.org:12345"]\n{DOMAINS}', "in the clear"),
        ("dovecot", f'servers = ["127.0.0.1"]\n{DOMAINS}', "a port beside it"),
        ("dovecot", f'servers = ["auth-client"]\n{DOMAINS}', "expected a path"),
        ("dovecot", f'servers = ["127.0.0.1:99999"]\n{DOMAINS}', "expected a path"),
        ("dovecot", 'servers = ["/run/dovecot/auth-client"]\n', "domains"),
    ],
)
def test_what_cannot_work_is_refused_with_its_reason(kind: str, text: str, part: str) -> None:
    assert any(part in mistake for mistake in refused(kind, text)), refused(kind, text)


@pytest.mark.parametrize("kind", ["imap", "pop3", "dovecot"])
def test_one_that_can_only_say_no_stands_last_or_has_names(kind: str) -> None:
    text = f'servers = ["127.0.0.1:1"]\n{DOMAINS}'
    site = SITE.replace('["corp"]', '["corp", "local"]') + '[[directory]]\nname = "local"\n'
    assert any("expected it last" in mistake for mistake in refused(kind, text, site))
    assert made(kind, text + 'names = ["*@example.org"]\n', site).name == "corp"
    assert made(kind, text, site.replace('["corp", "local"]', '["local", "corp"]')).name == "corp"


def findings(kind: str, text: str) -> list[Finding]:
    settings = taken(f'kind = "{kind}"\n{text}')
    return [finding for finding in check_files(settings, ports=False) if finding.subject == "directory corp"]


def test_check_looks_at_the_authority_s_file(tmp_path: Path) -> None:
    servers = f'servers = ["imap.example.org"]\n{DOMAINS}'
    (missing,) = findings("imap", f'{servers}ca = "{tmp_path}/none.pem"\n')
    assert missing.severity is Severity.ERROR
    assert "none.pem" in missing.message
    assert findings("imap", f'{servers}ca = "{Authority(tmp_path).ca}"\n') == []


def test_check_tries_dovecot_s_socket(tmp_path: Path) -> None:
    path = tmp_path / "auth"
    text = f'servers = ["{path}"]\n{DOMAINS}'
    (absent,) = findings("dovecot", text)
    assert absent.severity is Severity.WARNING
    assert absent.message == f"cannot connect to {path}: No such file or directory"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        (deaf,) = findings("dovecot", text)
        assert deaf.message == f"cannot connect to {path}: Connection refused"
        sock.listen()
        assert findings("dovecot", text) == []

"""What check finds on the machine: certificates, keys, folders, ports, secrets."""

import datetime
import socket
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from tests.support.certs import Authority, Issued

from pillarbox.config import check_files, parse
from pillarbox.config.files import check_ports
from pillarbox.config.settings import Settings
from pillarbox.delivery.settings import AuthSettings, SmarthostRoute, TlsMode
from pillarbox.doctor.report import Finding, Severity
from pillarbox.spool.settings import CellSettings, CellsSettings, EmbeddedSettings
from pillarbox.submission.settings import Address, LegacySettings

Make = Callable[[Issued], Settings]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Settings of a site with this certificate."""

    def settings(issued: Issued) -> Settings:
        text = (
            '[server]\ndata_directory = "data"\nrun_directory = "run"\n[spool]\nmin_free = 0\n'
            '[[site]]\nname = "mail.example.org"\nsubmissions = ["127.0.0.1:5465"]\n'
            f'certificate = "{issued.certificate}"\nkey = "{issued.key}"\n'
            '[[route]]\nkind = "maildir"\npath = "out"\n'
        )
        return parse(text, tmp_path / "pillarbox.toml")

    return settings


def errors(settings: Settings) -> list[Finding]:
    return [finding for finding in check_files(settings, ports=False) if finding.severity is Severity.ERROR]


def words(settings: Settings) -> str:
    return "\n".join(map(str, check_files(settings, ports=False)))


def test_a_good_pair(make: Make, authority: Authority) -> None:
    assert errors(make(authority.issue("mail.example.org"))) == []


def test_expired_fails_the_check_and_does_not_keep_the_server_from_starting(make: Make, authority: Authority) -> None:
    found = errors(make(authority.issue("mail.example.org", not_after=-datetime.timedelta(hours=1))))
    assert len(found) == 1
    assert "expired on" in found[0].message
    assert not found[0].blocks


def test_expiring_and_not_yet_valid(make: Make, authority: Authority) -> None:
    soon = authority.issue("mail.example.org", not_after=datetime.timedelta(days=5, hours=1))
    assert "in 5 days" in words(make(soon))
    later = authority.issue("mail.example.org", not_before=datetime.timedelta(days=2))
    assert "is valid from" in str(errors(make(later))[0])


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("mail.example.org", True),
        ("*.example.org", True),
        ("*.org", False),
        ("example.org", False),
        ("*.mail.example.org", False),
    ],
)
def test_names(make: Make, authority: Authority, name: str, right: bool) -> None:
    assert ("is not for mail.example.org" in words(make(authority.issue(name)))) is not right


def test_a_key_of_another_certificate_blocks(make: Make, authority: Authority) -> None:
    issued = replace(authority.issue("mail.example.org"), key=authority.issue("mail.example.org").key)
    found = errors(make(issued))
    assert [finding.blocks for finding in found] == [True]
    assert "does not belong" in found[0].message


@pytest.mark.parametrize(
    "content", [b"", b"not PEM", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_files_that_are_no_pem(make: Make, authority: Authority, tmp_path: Path, content: bytes) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_bytes(content)
    issued = authority.issue("mail.example.org")
    assert "holds no private key" in str(errors(make(replace(issued, key=wrong)))[0])
    assert "holds no certificate" in str(errors(make(replace(issued, certificate=wrong)))[0])


def test_an_encrypted_key(make: Make, authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue("mail.example.org")
    key = load_pem_private_key(issued.key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    assert "is encrypted" in str(errors(make(replace(issued, key=locked)))[0])


def test_files_that_are_not_there_or_are_folders(make: Make, authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue("mail.example.org")
    assert "does not exist" in str(errors(make(replace(issued, key=tmp_path / "gone")))[0])
    assert "Is a directory" in str(errors(make(replace(issued, key=tmp_path)))[0])


def test_a_key_that_everybody_can_read(make: Make, authority: Authority) -> None:
    issued = authority.issue("mail.example.org")
    settings = make(issued)
    issued.key.chmod(0o640)
    assert "everybody on" not in words(settings)
    issued.key.chmod(0o644)
    assert "everybody on this machine can read the key" in words(settings)
    issued.key.chmod(0o660)
    assert "others than its owner can change the key" in words(settings)


def test_a_file_where_a_folder_should_be(make: Make, authority: Authority, tmp_path: Path) -> None:
    settings = make(authority.issue("mail.example.org"))
    (tmp_path / "data").touch()
    found = errors(settings)
    assert "data cannot be" in found[0].message
    assert found[0].blocks


def test_a_user_that_is_not_there(make: Make, authority: Authority) -> None:
    settings = make(authority.issue("mail.example.org"))
    settings = replace(settings, server=replace(settings.server, user="no-such-user"))
    assert 'there is no user "no-such-user"' in "\n".join(map(str, errors(settings)))


def test_the_password_of_a_cell_is_there_and_nobody_elses(make: Make, authority: Authority, tmp_path: Path) -> None:
    settings = make(authority.issue("mail.example.org"))
    secret = tmp_path / "secret"
    settings = replace(settings, spool=CellsSettings((CellSettings("a", "host=pg1", secret),)))
    (missing,) = errors(settings)
    assert str(missing).startswith("error: cell a: ")
    assert str(secret) in str(missing)
    secret.write_text("sesame\n")
    secret.chmod(0o644)
    assert "sesame" not in words(settings)
    assert f"password_file {secret}" in words(settings)
    secret.chmod(0o600)
    assert "cell a" not in words(settings)


def test_too_little_room(make: Make, authority: Authority) -> None:
    settings = make(authority.issue("mail.example.org"))
    assert isinstance(settings.spool, EmbeddedSettings)
    settings = replace(settings, spool=replace(settings.spool, min_free=1 << 60))
    assert "answered 452" in str(errors(settings)[0])


def test_secrets_of_routes(make: Make, authority: Authority, tmp_path: Path) -> None:
    settings = make(authority.issue("mail.example.org"))
    empty = tmp_path / "empty"
    empty.touch(0o600)

    def with_auth(auth: AuthSettings) -> Settings:
        route = SmarthostRoute(("example.net",), "mx.example.org", 587, auth=auth)
        return replace(settings, delivery=replace(settings.delivery, routes=(route,)))

    assert "is empty" in str(errors(with_auth(AuthSettings("PLAIN", "u", empty)))[0])
    assert "does not exist" in str(errors(with_auth(AuthSettings("PLAIN", "u", tmp_path / "gone")))[0])
    program = AuthSettings("PLAIN", "u", None, ("no-such-program",))
    assert "there is no program no-such-program" in str(errors(with_auth(program))[0])
    assert 'no route has domains = ["*"]' in words(with_auth(program))


@pytest.mark.parametrize(
    ("host", "tls", "warned"),
    [
        ("mx.example.org", "none", True),
        ("192.0.2.25", "none", False),  # a documentation network is nobody's on the internet
        ("203.0.114.1", "none", True),
        ("mx.example.org", "starttls", False),
        ("10.0.0.25", "none", False),
        ("fd00::25", "none", False),
        ("127.0.0.1", "none", False),
        ("localhost", "none", False),
    ],
)
def test_clear_text_to_a_next_hop_far_away(
    make: Make, authority: Authority, host: str, tls: str, warned: bool
) -> None:
    settings = make(authority.issue("mail.example.org"))
    route = SmarthostRoute(("*",), host, 25, tls=TlsMode(tls))
    found = words(replace(settings, delivery=replace(settings.delivery, routes=(route,))))
    assert (f'route[0] to {host}: tls = "none"' in found) is warned


def test_scram_at_a_site_of_devices(make: Make, authority: Authority) -> None:
    settings = make(authority.issue("mail.example.org"))
    legacy = LegacySettings((ip_network("10.0.0.0/8"),), frozenset({"printer"}))
    site = replace(settings.sites[0], legacy=legacy)
    assert "SCRAM-SHA-256" not in words(replace(settings, sites=(site,)))
    site = replace(site, submissions_mechanisms=("PLAIN", "SCRAM-SHA-256"))
    assert "SCRAM-SHA-256 is offered to devices" in words(replace(settings, sites=(site,)))


def test_a_certificate_that_is_not_there_is_wanted_for_its_sites_name(make: Make, authority: Authority) -> None:
    issued = authority.issue("mail.example.org")
    (found,) = errors(make(replace(issued, key=issued.key.with_name("gone"))))
    assert found.advice == "get or make one for mail.example.org"


def test_ports(make: Make, authority: Authority) -> None:
    settings = make(authority.issue("mail.example.org"))
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        taken = replace(settings.sites[0], submissions=(Address("127.0.0.1", port), Address("192.0.2.99", port)))
        found = check_ports(replace(settings, sites=(taken,)))
    assert [finding.severity for finding in found] == [Severity.ERROR, Severity.ERROR]
    assert "in use by another program" in found[0].message
    assert "is no address of this machine" in found[1].message
    free = check_ports(replace(settings, sites=(replace(taken, submissions=(Address("127.0.0.1", port),)),)))
    assert [finding.message for finding in free] == ["free"]

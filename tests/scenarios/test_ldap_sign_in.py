"""People of an LDAP server sign in at the daemon: as what is theirs; what the server cannot say is nobody's fault."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import slapd_tree
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.slapd import Slapd
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario


@pytest.fixture
def slapd(tmp_path: Path) -> Iterator[Slapd]:
    folder = tmp_path / "slapd"
    folder.mkdir()
    server = Slapd(folder, Authority(folder))
    server.load()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def daemon(slapd: Slapd, tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> RunningDaemon:
    directory = f"""
[guard]
max_delay = "0s"
[[directory]]
name = "domino"
kind = "ldap"
preset = "domino"
servers = ["{slapd.tls_uri}"]
ca = "{slapd.served.ca}"
bind_dn = "{slapd_tree.SERVICE[slapd_tree.DOMINO]}"
password_file = "{slapd.password_file}"
base = "{slapd_tree.DOMINO}"
cache = "0s"
[[directory.group]]
dn = "CN=Terminations,o=ACME"
disabled = true
"""
    site = ('directories = ["domino"]',)
    return start_daemon(tmp_path, authority, at_end=request.addfinalizer, site=site, extra=directory)


def replies(daemon: RunningDaemon, user: str, password: str, *lines: str) -> list[str]:
    """To AUTH and to these lines, in a session of its own."""
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        return [talk.sign_in(user, password), *(talk.say(line) for line in lines)]


def test_a_person_signs_in_by_a_hierarchical_name_and_sends_as_what_is_theirs(daemon: RunningDaemon) -> None:
    found = replies(
        daemon,
        "Jada Correr/Sales/ACME",
        slapd_tree.PASSWORD,
        "MAIL FROM:<jada_correr@example.org>",
        "RSET",
        "MAIL FROM:<anna@example.org>",
    )
    assert [reply[:3] for reply in found] == ["235", "250", "250", "550"]
    assert daemon.wait_for("signin.succeeded")["login"] == "Jada Correr/Sales/ACME"


def test_wrong_unknown_and_disabled_look_alike_and_the_log_knows(daemon: RunningDaemon) -> None:
    found = [
        replies(daemon, user, password)[0]
        for user, password in (("Anna Smith", "x"), ("Nobody", "x"), ("Bob/ACME", slapd_tree.PASSWORD))
    ]
    assert len(set(found)) == 1
    assert found[0].startswith("535")
    reasons = [line["reason"].lower() for line in daemon.log() if line["event"] == "signin.failed"]
    assert reasons == ["wrong", "unknown", "disabled"]


def test_without_the_server_nobodys_password_is_wrong(daemon: RunningDaemon, slapd: Slapd) -> None:
    assert replies(daemon, "anna", slapd_tree.PASSWORD)[0].startswith("235")
    slapd.stop()
    assert replies(daemon, "anna", slapd_tree.PASSWORD)[0].startswith("454")
    slapd.start()
    assert replies(daemon, "anna", slapd_tree.PASSWORD)[0].startswith("235")


def test_a_wrong_service_password_is_not_the_persons(daemon: RunningDaemon, slapd: Slapd) -> None:
    slapd.password_file.write_text("another")
    assert replies(daemon, "anna", slapd_tree.PASSWORD)[0].startswith("454")

"""SCRAM-SHA-256 that a real Dovecot plays, at the real daemon, beside local accounts with secrets of their own."""

import time
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import start_daemon
from tests.support.dovecot import PASSWORD, running_dovecot
from tests.support.scram_client import scram
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

DIRECTORIES = """
[[directory]]
scram = true

[[directory]]
name = "box"
kind = "dovecot"
servers = ["{socket}"]
domains = ["example.org"]
"""


def test_each_signs_in_at_the_directory_that_knows_the_name(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    people, mechanisms = {"anna@example.org": PASSWORD}, "plain scram-sha-256"
    with running_dovecot(authority.issue("localhost"), people, mechanisms=mechanisms, clear=True) as dovecot:
        daemon = start_daemon(
            tmp_path,
            authority,
            at_end=request.addfinalizer,
            site=(
                'mechanisms = ["SCRAM-SHA-256", "PLAIN"]',
                'failed_sign_in_time = "50ms"',
                'directories = ["local", "box"]',
            ),
            extra=DIRECTORIES.format(socket=dovecot.auth_socket),
        )
        daemon.user("ada", password, ["ada@example.org"])
        with Talk(daemon.submissions, daemon.ca) as talk:
            deadline = time.monotonic() + 20
            while "AUTH SCRAM-SHA-256 PLAIN" not in talk.say("EHLO client.example.org"):
                assert time.monotonic() < deadline
                time.sleep(0.1)  # until the worker has heard what Dovecot offers
            assert scram(talk, "anna@example.org", "wrong").startswith("535 5.7.8 ")
            assert scram(talk, "nobody@example.org", PASSWORD).startswith("535 5.7.8 ")
            assert scram(talk, "anna@example.org", PASSWORD).startswith("235 ")
            assert talk.say("MAIL FROM:<anna@example.org>").startswith("250 ")
        with Talk(daemon.submissions, daemon.ca) as talk:
            talk.say("EHLO client.example.org")
            assert scram(talk, "ada", password).startswith("235 ")
        assert daemon.stop() == 0

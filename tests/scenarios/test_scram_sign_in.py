"""SCRAM-SHA-256 at the real daemon: offered while every account has a secret, from the next EHLO on."""

from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import start_daemon
from tests.support.scram_client import scram
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario


def test_an_account_without_a_secret_takes_the_offer_back_until_it_has_one(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    daemon = start_daemon(
        tmp_path,
        authority,
        at_end=request.addfinalizer,
        site=('mechanisms = ["PLAIN"]', 'failed_sign_in_time = "50ms"'),
    )
    daemon.user("old", password, ["old@example.org"])  # of before scram = true
    text = daemon.config.read_text().replace('["PLAIN"]', '["SCRAM-SHA-256", "PLAIN"]')
    assert daemon.stop() == 0
    daemon.config.write_text(f"{text}\n[[directory]]\nscram = true\n")
    daemon.start()
    daemon.user("ada", password, ["ada@example.org"])
    with Talk(daemon.submissions, daemon.ca) as talk:
        assert "AUTH PLAIN" in talk.say("EHLO client.example.org")
        daemon.ask("user.password", {"login": "old", "password": password})
        assert "AUTH SCRAM-SHA-256 PLAIN" in talk.say("EHLO client.example.org")
        assert scram(talk, "ada", "wrong").startswith("535 5.7.8 ")
        assert scram(talk, "nobody", password).startswith("535 5.7.8 ")
        assert scram(talk, "ada", password).startswith("235 ")
        assert talk.say("MAIL FROM:<ada@example.org>").startswith("250 ")
    assert daemon.stop() == 0

"""Other people's programs sign in with tokens that a real OpenID provider gave them, and end when one is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.clients import CLIENTS, Mail, Target
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.oidc import AUDIENCE, Provider, running_provider

pytestmark = pytest.mark.interop

SHARED = [("msmtp", "OAUTHBEARER"), ("msmtp", "XOAUTH2"), ("curl", "OAUTHBEARER"), ("nodemailer", "XOAUTH2")]


@pytest.fixture(scope="module")
def office(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, request: pytest.FixtureRequest
) -> Iterator[tuple[Provider, RunningDaemon]]:
    """The provider, and a daemon that checks its tokens."""
    folder = tmp_path_factory.mktemp("office")
    with running_provider(folder / "provider") as provider:
        daemon = start_daemon(
            folder,
            authority,
            at_end=request.addfinalizer,
            site=('mechanisms = ["OAUTHBEARER", "XOAUTH2"]', 'directories = ["corp"]'),
            extra=f"""
[[directory]]
name = "corp"
kind = "oauth"
preset = "keycloak"
issuer = "{provider.issuer}"
audience = ["{AUDIENCE}"]
scope = ["smtp"]
[[directory]]
kind = "local"
""",
        )
        yield provider, daemon
        assert daemon.stop() == 0


@pytest.mark.parametrize(("client", "mechanism"), SHARED)
def test_a_program_sends_with_its_persons_token_and_says_when_it_may_not(
    client: str, mechanism: str, office: tuple[Provider, RunningDaemon], message_path: Path
) -> None:
    provider, daemon = office
    mail = Mail("anna@example.org", ("bob@elsewhere.example",), message_path)
    message_path.write_bytes(message_path.read_bytes().replace(b"<ada@example.org>", b"<anna@example.org>"))
    for resource, accepted in (("jwt", True), ("other", False)):
        before, token = len(daemon.log()), provider.sign_in("anna", resource)
        target = Target("localhost", daemon.submissions, "tls", "anna", token, daemon.ca, mechanism=mechanism)
        sent = CLIENTS[client](target, mail)
        assert sent.accepted is accepted, sent.output
        line = daemon.wait_for("signin.succeeded" if accepted else "signin.failed", after=before)
        assert line["mechanism"] == mechanism
        if accepted:
            daemon.wait_for("delivery.delivered", after=before)
        else:
            assert line["cause"] == "audience"

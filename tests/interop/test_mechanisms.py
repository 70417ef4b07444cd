"""Other people's programs sign in by each mechanism that they share with us, and say so when they may not."""

import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from tests.support.certs import Authority, Issued
from tests.support.clients import CLIENTS, Mail, Target, require
from tests.support.daemon import RunningDaemon, start_daemon

pytestmark = pytest.mark.interop

PASSWORD = "a pass%word with = and, spaces"
KEY = "a secret of the token's issuer, 32 octets or more"
MECHANISMS = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2", "EXTERNAL")

Server = tuple[RunningDaemon, Issued]


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, request: pytest.FixtureRequest
) -> Iterator[Server]:
    """A daemon that offers every mechanism, and Ada's client certificate."""
    folder = tmp_path_factory.mktemp("server")
    key = folder / "token-key"
    key.write_text(KEY)
    daemon = start_daemon(
        folder,
        authority,
        at_end=request.addfinalizer,
        site=(
            f"mechanisms = {list(MECHANISMS)}",
            'client_certificates = "optional"',
            f'client_ca = "{authority.ca}"',
        ),
        extra=f"""
[[directory]]
name = "local"
kind = "local"
scram = true
token_key = "{key}"
token_issuer = "https://id.example.org/"
token_audience = "smtp.example.org"
""",
    )
    daemon.user("ada", PASSWORD, ["ada@example.org"])
    certificate = authority.issue("ada", client=True)
    daemon.ask("user.certify", {"login": "ada", "mark": f"sha256:{certificate.fingerprint}"})
    yield daemon, certificate
    assert daemon.stop() == 0


def token(*, lasts: float = 300.0) -> str:
    """An access token for Ada."""
    claims = {"sub": "ada", "iss": "https://id.example.org/", "aud": "smtp.example.org", "exp": time.time() + lasts}
    return jwt.encode(claims, KEY, algorithm="HS256")


def target(server: Server, mechanism: str) -> Target:
    """Ada's sign-in by this mechanism."""
    daemon, certificate = server
    plain = Target("localhost", daemon.submissions, "tls", "ada", PASSWORD, daemon.ca, mechanism=mechanism)
    if mechanism in ("OAUTHBEARER", "XOAUTH2"):
        return replace(plain, password=token())
    if mechanism == "EXTERNAL":
        # no password: curl takes EXTERNAL only without one
        return replace(plain, password="", certificate=certificate.certificate, key=certificate.key)
    return plain


SHARED = [
    ("msmtp", "LOGIN"),
    ("msmtp", "SCRAM-SHA-256"),
    ("msmtp", "OAUTHBEARER"),
    ("msmtp", "XOAUTH2"),
    ("msmtp", "EXTERNAL"),
    ("curl", "LOGIN"),
    ("curl", "OAUTHBEARER"),  # which it takes of the two, whatever it is told
    ("curl", "EXTERNAL"),
    ("nodemailer", "XOAUTH2"),
]


@pytest.mark.parametrize(("client", "mechanism"), SHARED)
def test_a_client_signs_in_by_a_mechanism_and_sends(
    client: str, mechanism: str, server: Server, message_path: Path
) -> None:
    daemon, _ = server
    before = len(daemon.log())
    sent = CLIENTS[client](
        target(server, mechanism), Mail("ada@example.org", ("bob@elsewhere.example",), message_path)
    )
    assert sent.accepted, sent.output
    line = daemon.wait_for("signin.succeeded", after=before)
    assert (line["mechanism"], line["login"]) == (mechanism, "ada")
    daemon.wait_for("delivery.delivered", after=before)


@pytest.mark.parametrize(
    ("client", "mechanism"), [each for each in SHARED if each[1] in ("OAUTHBEARER", "XOAUTH2", "SCRAM-SHA-256")]
)
def test_a_client_says_when_it_may_not(client: str, mechanism: str, server: Server, message_path: Path) -> None:
    """An expired token, and a wrong password: the error dialogue ends, and the client with it."""
    daemon, _ = server
    before = len(daemon.log())
    wrong = replace(target(server, mechanism), password="wrong" if "SCRAM" in mechanism else token(lasts=-3_600))
    sent = CLIENTS[client](wrong, Mail("ada@example.org", ("bob@elsewhere.example",), message_path))
    assert not sent.accepted
    assert daemon.wait_for("signin.failed", after=before)["mechanism"] == mechanism
    assert not [line for line in daemon.log()[before:] if line.get("event") == "signin.succeeded"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
def test_gsasl_signs_in(mechanism: str, server: Server) -> None:
    daemon, _ = server
    before = len(daemon.log())
    done = _gsasl(daemon, mechanism, PASSWORD)
    assert done.returncode == 0, done.stdout
    assert daemon.wait_for("signin.succeeded", after=before)["mechanism"] == mechanism


def test_gsasl_with_a_wrong_password_is_told_so(server: Server) -> None:
    done = _gsasl(server[0], "SCRAM-SHA-256", "wrong")
    assert done.returncode != 0
    assert "535 5.7.8" in done.stdout


def _gsasl(daemon: RunningDaemon, mechanism: str, password: str) -> subprocess.CompletedProcess[str]:
    command = [
        *(require("gsasl"), "--client", "--smtp", "--starttls", "--connect", f"localhost:{daemon.submission}"),
        *("--x509-ca-file", str(daemon.ca), "--mechanism", mechanism),
        "--no-cb",  # it gives up by itself where TLS has channel bindings and the server offers no -PLUS
        *("--authentication-id", "ada", "--password", password),
    ]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30
    )

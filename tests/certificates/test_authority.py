"""What an authority may answer: refusals with and without a time to wait, and what is no ACME at all."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from acme import client, messages

from pillarbox.certificates import authority
from pillarbox.certificates.authority import ANSWER_CEILING, AcmeAuthority
from pillarbox.certificates.challenge import Responder
from pillarbox.certificates.keeper import AuthorityError
from pillarbox.certificates.settings import AcmeSettings
from pillarbox.certificates.shelf import new_key

NAME = "mail.example.org"
PROBLEM = "application/problem+json"


class Answering(http.server.ThreadingHTTPServer):
    """Says ``account`` (status, headers, body) to newAccount; ``directory`` in place of its own when not None."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.account: tuple[int, dict[str, str], bytes] = (500, {}, b"")
        self.directory: bytes | None = None
        self.written = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever hangs up is no error here."""

    @property
    def url(self) -> str:
        """Where its directory is."""
        return f"http://127.0.0.1:{self.server_address[1]}/dir"

    def refuse(self, status: int, code: str, detail: str, **headers: str) -> None:
        """A problem document (RFC 7807) as the answer to newAccount."""
        body = json.dumps({"type": f"urn:ietf:params:acme:error:{code}", "detail": detail}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.account = (status, {"Content-Type": PROBLEM, **named}, body)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        base = self.server.url.removesuffix("/dir")
        own = {each: f"{base}/{each}" for each in ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange")}
        body = json.dumps(own).encode() if self.server.directory is None else self.server.directory
        self._answer(200, {"Content-Type": "application/json"}, body)

    def do_HEAD(self) -> None:
        self._answer(200, {"Replay-Nonce": "oFvnlFP1wIhRlYS2jTaXbA"}, b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(*self.server.account)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        for begin in range(0, len(body), 65_536):
            self.wfile.write(body[begin : begin + 65_536])
            self.server.written += 65_536

    def log_message(self, format: str, *args: object) -> None:
        """Not into the test's output."""


class Silent:
    """A proof that nobody comes to see."""

    kind = "http-01"

    def show(self, place: str, value: str) -> None:
        raise AssertionError("there was no order")

    hide = show


@pytest.fixture
def server() -> Iterator[Answering]:
    """An authority that answers as the test says."""
    with Answering() as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


def refused(server: Answering) -> AuthorityError:
    """What comes of asking for a certificate."""
    acme = AcmeAuthority(AcmeSettings(Path(), (NAME,), server.url), new_key())
    with pytest.raises(AuthorityError) as caught:
        acme.issue(NAME, new_key(), Silent())
    return caught.value


def test_who_asks_too_often_is_told_how_long_to_wait(server: Answering) -> None:
    server.refuse(429, "rateLimited", "too many registrations", Retry_After="86400")
    found = refused(server)
    assert str(found) == "the authority said: too many registrations (rateLimited)"
    assert found.limited == 86_400.0


@pytest.mark.parametrize("value", ["Fri, 31 Dec 2027 23:59:59 GMT", "soon", "-1", "1e9", "", "9" * 40])
def test_a_time_that_is_not_understood_is_none(server: Answering, value: str) -> None:
    server.refuse(429, "rateLimited", "too many registrations", Retry_After=value)
    assert refused(server).limited == 0.0


def test_another_refusal_is_no_limit_and_has_its_advice(server: Answering) -> None:
    server.refuse(400, "invalidContact", "contact email has forbidden domain")
    found = refused(server)
    assert str(found) == "the authority said: contact email has forbidden domain (invalidContact)"
    assert (found.advice, found.limited) == ("correct email in [acme]", None)


def test_what_it_says_is_one_short_line(server: Answering) -> None:
    server.refuse(403, "unauthorized", "no\r\n250 ok\n" + "x" * 5000)
    text = str(refused(server))
    assert "no 250 ok xxx" in text
    assert len(text) < 600


@pytest.mark.parametrize("answer", [(500, {}, b"oops"), (200, {}, b"oops"), (404, {"Content-Type": PROBLEM}, b"{}")])
def test_what_is_no_answer_is_said(server: Answering, answer: tuple[int, dict[str, str], bytes]) -> None:
    server.account = answer
    assert str(refused(server)).startswith("the authority ")


@pytest.mark.parametrize("of", ["the directory", "the account"])
def test_an_answer_without_end_is_not_read_to_its_end(server: Answering, of: str) -> None:
    huge = b" " * 64 * ANSWER_CEILING
    if of == "the directory":
        server.directory = huge
    else:
        server.account = (201, {"Content-Type": "application/json"}, huge)
    assert f"an answer of more than {ANSWER_CEILING} octets" in str(refused(server))
    assert server.written < len(huge) / 2


@pytest.mark.parametrize("directory", [b"", b"<html>", b"[]", b"{}", b"null", b'"x"', b'{"newNonce": 5}'])
def test_a_directory_that_is_none_is_said(server: Answering, directory: bytes) -> None:
    server.directory = directory
    found = refused(server)
    assert str(found).startswith("the authority ")
    assert found.advice


def test_nothing_is_published_for_an_order_that_never_was(server: Answering) -> None:
    responder = Responder()
    server.refuse(429, "rateLimited", "no")
    refused(server)
    assert responder._answers == {}


class Nothing:
    """A proof that nothing may be shown of."""

    kind = "dns-01"

    def show(self, place: str, value: str) -> None:
        raise AssertionError(f"shown at {place}")

    def hide(self, place: str, value: str) -> None:
        raise AssertionError(f"hidden at {place}")


def test_the_authority_does_not_choose_the_name_that_a_hook_is_called_with() -> None:
    other = messages.Identifier(typ=messages.IDENTIFIER_FQDN, value="--help")
    wanted = messages.AuthorizationResource(
        uri="https://ca.example/1", body=messages.Authorization(identifier=other, challenges=[])
    )
    never_asked = client.ClientV2.__new__(client.ClientV2)
    with pytest.raises(AuthorityError, match=r"instead of mail\.example\.org"):
        authority._show(never_asked, "mail.example.org", wanted, Nothing())

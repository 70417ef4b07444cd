"""oauth/http.py: short answers of whoever was asked, and of nobody else."""

import gzip
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.web import WebServer, answer, json_answer

from pillarbox.directory.base import Unusable
from pillarbox.directory.oauth.http import ANSWER_CEILING, Http, basic
from pillarbox.directory.oauth.settings import is_asked
from pillarbox.directory.servers import ServerFailed


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    made = Http(ca=None, timeout=5.0, connections=2)
    yield made
    made.close()


@pytest.mark.parametrize(("url", "plain", "expected"), [
    ("https://id.example.org/keys", False, True), ("https://id.example.org:8443/keys", True, True),
    ("http://127.0.0.1:80/keys", True, True), ("http://[::1]/keys", True, True), ("http://localhost/", True, True),
    ("http://127.0.0.1:80/keys", False, False), ("http://id.example.org/", True, False),
    ("http://localhost.evil.example/", True, False), ("http://127.0.0.1@evil.example/", True, False),
    ("https://user:secret@id.example.org/", True, False), ("ftp://id.example.org/", True, False),
    ("file:///etc/passwd", True, False), ("https:///keys", True, False),
    ("https://id.example.org:99999/", True, False),
    ("https://id.example.org/ HTTP/1.1\r\nX: y", True, False), ("https://[::1", True, False), ("", True, False),
    ("https://id.ex\u00e4mple.org/", True, False),
])  # fmt: skip
def test_only_https_is_asked_or_http_on_this_machine(url: str, plain: bool, expected: bool) -> None:
    assert is_asked(url, plain=plain) is expected


async def test_an_answer_comes_whole_whatever_its_status(http: Http) -> None:
    async with WebServer() as web:
        web.answers["/a"] = answer(b"x" * 100_000)
        web.answers["/b"] = json_answer({"error": "x"}, status="400 Bad Request")
        assert await http.ask(f"{web.url}/a") == (200, b"x" * 100_000)
        assert await http.ask(f"{web.url}/b", form={"token": "a&b=c"}) == (400, b'{"error": "x"}')
        method, _, headers, content = web.asked[1]
        assert (method, content) == ("POST", b"token=a%26b%3Dc")
        assert headers["content-type"] == "application/x-www-form-urlencoded"
        assert headers["accept-encoding"] == "identity"


async def test_a_redirect_is_not_followed_and_a_cookie_not_sent_back(http: Http) -> None:
    async with WebServer() as web:
        web.answers["/a"] = answer(b"", f"Location: {web.url}/b", "Set-Cookie: a=b", status="302 Found")
        assert (await http.ask(f"{web.url}/a", form={"token": "t"}, authorization="Basic x"))[0] == 302
        await http.ask(f"{web.url}/a")
        assert web.count("/b") == 0 and "cookie" not in web.asked[1][2]


async def test_what_is_too_long_or_no_http_or_never_ends_is_a_failure(http: Http) -> None:
    chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 20
    async with WebServer() as web:
        web.answers["/long"] = answer(b"x" * (ANSWER_CEILING + 1))
        web.answers["/chunks"] = chunk
        web.answers["/smtp"] = b"220 mail.example.org ESMTP\r\n"
        web.answers["/header"] = b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"
        for path in ("/long", "/chunks", "/smtp", "/header"):
            with pytest.raises(ServerFailed) as failed:
                await http.ask(f"{web.url}{path}", form={"token": "secret-token"}, authorization="Basic secret")
            assert "secret" not in str(failed.value)


async def test_a_connection_that_ends_as_it_is_taken_is_tried_again_once(http: Http) -> None:
    async with WebServer() as web:
        web.answers["/a"] = answer(b"{}")
        for form in (None, {"token": "t"}):
            web.drops = 1
            assert await http.ask(f"{web.url}/a", form=form) == (200, b"{}")
        web.drops, before = 9, len(web.asked)
        with pytest.raises(ServerFailed, match="ServerDisconnectedError"):
            await http.ask(f"{web.url}/a", form={"token": "t"})
        assert len(web.asked) == before + 2


async def test_an_answer_in_a_coding_is_taken_as_it_is(http: Http) -> None:
    async with WebServer() as web:
        bomb = gzip.compress(b"x" * 10_000_000)
        web.answers["/a"] = answer(bomb, "Content-Encoding: gzip")
        assert await http.ask(f"{web.url}/a") == (200, bomb)


async def test_who_does_not_answer_has_so_long_and_no_longer() -> None:
    http = Http(ca=None, timeout=0.2, connections=2)
    async with WebServer() as web:
        web.answers["/a"] = None
        with pytest.raises(ServerFailed, match=r"no answer within 0\.2 s"):
            await http.ask(f"{web.url}/a")
        url = web.url
    with pytest.raises(ServerFailed, match="Cannot connect"):
        await http.ask(f"{url}/a")
    http.close()
    with pytest.raises(ServerFailed, match="closed"):
        await http.ask(f"{url}/a")


async def test_the_certificate_must_be_of_the_ca(authority: Authority, tmp_path: Path, http: Http) -> None:
    issued = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    trusting = Http(ca=issued.ca, timeout=5.0, connections=2)
    async with WebServer(context) as web:
        web.answers["/a"] = answer(b"{}")
        assert await trusting.ask(f"{web.url}/a") == (200, b"{}")
        with pytest.raises(ServerFailed, match="CERTIFICATE_VERIFY_FAILED"):
            await http.ask(f"{web.url}/a")
        with pytest.raises(ServerFailed, match=r"(?i)certificate"):
            await trusting.ask(f"https://127.0.0.1:{web.port}/a")
    trusting.close()


def test_a_ca_that_cannot_be_used_is_said_at_once(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    for path in (empty, tmp_path / "absent.pem"):
        with pytest.raises(Unusable, match=r"^ca .*\.pem: cannot be used"):
            Http(ca=path, timeout=1.0, connections=1)
        empty.write_text("no certificate")


def test_the_clients_name_and_secret_are_encoded_before_they_are_joined() -> None:
    assert basic("a:b", "c d%") == "Basic YSUzQWI6YytkJTI1"  # a%3Ab:c+d%25

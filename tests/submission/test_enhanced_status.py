"""ENHANCEDSTATUSCODES over everything that the real session says, whatever a client comes up with (RFC 2034 4)."""

import asyncio
import base64
import contextlib
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.conversations import END, conversations, misjudged
from tests.support.submission import ANNA, PASSWORD, Server, submission, talker

SIGN_IN = b"AUTH PLAIN " + base64.b64encode(f"\0{ANNA.login}\0{PASSWORD}".encode()) + b"\r\n"

# what chance seldom reaches: a wrong password, a challenge, and refusals of the message itself
DEEP = [
    b"EHLO x\r\nAUTH PLAIN AHVzZXIAd3Jvbmc=\r\nAUTH LOGIN\r\n*\r\n" + SIGN_IN,
    b"MAIL FROM:<mallory@example.com>\r\n",
    b"MAIL FROM:<anna@example.org> BY=60;N HOLDFOR=600\r\n",
    b"MAIL FROM:<anna@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n",
    b"From: mallory@example.com\r\n\r\ntext\r\n.\r\n",
    b"MAIL FROM:<anna@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n",
    b"From: anna@example.org\r\n\r\nbare\nLF\r\n.\r\n",
    b"MAIL FROM:<anna@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n",
    b"Received: x\r\n" * 101 + b"From: anna@example.org\r\n\r\ntext\r\n.\r\n",
    b"MAIL FROM:<anna@example.org>\r\nRCPT TO:<b@example.com>\r\nBDAT 5\r\na: b\n",
    END,
]


async def heard_by(server: Server, said: list[bytes], *, inside_tls: bool) -> bytes:
    """All that the server says to it, up to its end of the connection."""
    port = server.submissions if inside_tls else server.submission
    heard = b""
    async with await talker(port, tls=server.trust() if inside_tls else None) as client:
        client.say(b"".join(said))
        with contextlib.suppress(ConnectionError):  # it closed, and octets that it did not read were on their way
            while octets := await asyncio.wait_for(client.reader.read(65_536), 20):
                heard += octets
    return heard


def test_whatever_a_client_says(tmp_path: Path) -> None:
    codes: set[bytes] = set()
    with asyncio.Runner() as runner:
        serving = submission(tmp_path, failed_sign_in_time=0.0)
        server = runner.run(serving.__aenter__())

        @settings(max_examples=60)
        @example(DEEP, True)
        @given(conversations(sign_in=SIGN_IN), st.sampled_from((True, True, True, False)))
        def converse(said: list[bytes], inside_tls: bool) -> None:
            heard = runner.run(heard_by(server, said, inside_tls=inside_tls))
            assert heard.startswith(b"220 mail.example.org ")
            assert misjudged(heard, b"mail.example.org") == []
            codes.update(line[:3] for line in heard.split(b"\r\n"))

        try:
            converse()
        finally:
            runner.run(serving.__aexit__(None, None, None))
    assert codes >= {
        b"214",
        b"221",
        b"235",
        b"250",
        b"334",
        b"354",
        b"421",
        b"500",
        b"501",
        b"503",
        b"530",
        b"535",
        b"550",
        b"554",
    }

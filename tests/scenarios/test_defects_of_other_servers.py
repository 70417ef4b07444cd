"""What broke other mail servers since 2018 (docs/security.md lists them) breaks nothing here.

It gets a clear reply, the next message is accepted and delivered, and the log tells of no bug.
"""

import base64
import contextlib
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.daemon import RunningDaemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

MESSAGE = b"From: ada@example.org\r\nTo: bob@elsewhere.example\r\nSubject: still here\r\n\r\nHello\r\n"
BUGS = {"session.failed", "request.failed", "note.failed", "process.ended", "process.stray", "delivery.crashed"}


@pytest.fixture
def server(shared_daemon: RunningDaemon, password: str) -> Iterator[RunningDaemon]:
    """The daemon; behind each test it still serves, and no bug was told."""
    before = len(shared_daemon.log())
    yield shared_daemon
    with signed_in(shared_daemon, password) as talk:
        assert delivered(shared_daemon, talk.transaction(MESSAGE)) is not None
    assert [line for line in shared_daemon.log()[before:] if line.get("event") in BUGS] == []


def signed_in(server: RunningDaemon, password: str) -> Talk:
    """Ada's session on the submissions port."""
    talk = Talk(server.submissions, server.ca)
    assert talk.say("EHLO client.example.org").startswith("250")
    assert talk.sign_in("ada", password).startswith("235")
    return talk


def delivered(server: RunningDaemon, answer: str) -> bytes | None:
    """The message that got this reply, once it is in the maildir; None when it was refused."""
    if not answer.startswith("250"):
        return None
    queue_id = re.findall(r"[0-9A-Z]{26}", answer)[-1]
    server.wait_for("delivery.delivered", queue_id=queue_id)
    (path,) = (server.maildir / "new").glob(f"*{queue_id}*")
    return path.read_bytes()


def test_a_long_ehlo_is_taken_or_refused_and_written_as_one_word(server: RunningDaemon, password: str) -> None:
    """CVE-2019-16928 (Exim): a heap overflow by a long EHLO."""
    with Talk(server.submission) as talk:
        assert talk.say("EHLO " + "x" * 450).startswith("250")
        assert talk.say("EHLO " + "x" * 20_000).startswith("500")
        assert talk.say("EHLO client.example.org").startswith("250")


@pytest.mark.parametrize(
    "octets",
    [b'NOOP "', b"NOOP \xff", b"NOOP " + b"(" * 400, b"HELO \xc3", b"EHLO \xf0\x9f", b"MAIL FROM:<\xe2\x82", b""],
)
def test_malformed_octets_of_strangers_are_answered(server: RunningDaemon, octets: bytes) -> None:
    """CVE-2020-10957, CVE-2020-7046 (Dovecot): a malformed NOOP crashed, truncated UTF-8 was read for ever."""
    with Talk(server.submission) as talk:
        assert talk.say(octets)[:1] in "25"
        assert talk.say("NOOP").startswith("250")


def test_many_empty_lines_of_a_stranger_end_the_session(server: RunningDaemon) -> None:
    """CVE-2020-10958 (Dovecot): many newlines led to a use after free."""
    with Talk(server.submission) as talk:
        talk.send(b"\r\n" * 2_000)
        replies = []
        with contextlib.suppress(ConnectionError):
            while True:
                replies.append(talk.reply()[:3])
        assert set(replies) == {"500", "421"}
        assert len(replies) <= 50


@pytest.mark.parametrize("said", [b"AUTH PLAIN\r\n", b"AUTH PLAIN AGFk", b"AUTH LOGIN\r\nYWRh\r\n", b"AUTH "])
def test_a_sign_in_that_is_cut_off_hurts_nobody(server: RunningDaemon, said: bytes) -> None:
    """CVE-2019-11494, CVE-2019-11499 (Dovecot): who left during AUTH inside TLS crashed the login process."""
    talk = Talk(server.submissions, server.ca)
    talk.say("EHLO client.example.org")
    talk.send(said)
    talk.reset()


def test_nobody_signs_in_as_somebody_else_by_authzid(server: RunningDaemon, password: str) -> None:
    """CVE-2023-27582 (maddy): PLAIN's authorization identity was believed."""
    server.user("carol", "a quite different password", ["carol@example.org"])
    response = base64.b64encode(f"carol\0ada\0{password}".encode()).decode()
    with Talk(server.submissions, server.ca) as talk:
        talk.say("EHLO client.example.org")
        assert talk.say(f"AUTH PLAIN {response}").startswith("535")
        assert talk.say("MAIL FROM:<carol@example.org>").startswith("530")


def test_sql_in_a_login_is_a_login_that_nobody_has(server: RunningDaemon) -> None:
    """CVE-2022-24407 (Cyrus SASL), CVE-2025-26794 (Exim's hints in SQLite): text became SQL."""
    with Talk(server.submissions, server.ca) as talk:
        talk.say("EHLO client.example.org'; DELETE FROM account; --")
        assert talk.sign_in("ada' OR '1'='1' --", "' OR 1=1; DROP TABLE account; --").startswith("535")


@pytest.mark.parametrize(
    "local_part",
    [
        "${run{/bin/touch$sg{}{}{}CANARY}}",
        "|touch CANARY",
        ";touch CANARY;",
        "`touch CANARY`",
        "$(touch CANARY)",
        "../../../CANARY",
        "x",
        "",
    ],
)
def test_nothing_in_an_address_is_executed_or_opened(
    server: RunningDaemon, password: str, tmp_path: Path, local_part: str
) -> None:
    """CVE-2019-10149 (Exim), CVE-2020-7247 (OpenSMTPD): an address was run as a command; CVE-2020-10967 (Dovecot): an
    empty quoted local part crashed."""
    canary = tmp_path / "canary"
    quoted = local_part.replace("CANARY", str(canary))
    with signed_in(server, password) as talk:
        message = delivered(server, talk.transaction(MESSAGE, "ada@example.org", f'"{quoted}"@elsewhere.example'))
        assert talk.say(f'MAIL FROM:<"{quoted}"@example.org>')[:1] == "5"
    assert message is None or message.endswith(b"\r\n\r\nHello\r\n")
    assert not canary.exists()
    assert not list(server.maildir.parent.glob("**/*canary*"))


@pytest.mark.parametrize(
    ("mail", "rcpt"),
    [
        (" AUTH=ada+0D+0AX-Evil:+20yes", ""),
        (" ENVID=a+0D+0AX-Evil:+20yes", ""),
        ("", " ORCPT=rfc822;a+0D+0AX-Evil:+20yes"),
        ("", " ORCPT=rfc822;a+0AX-Evil:+20yes@example.org NOTIFY=DELAY"),
        (" SIZE=+5", ""),
        (" SIZE=99999999999999999999", ""),
    ],
)
def test_no_parameter_brings_a_line_into_the_message(
    server: RunningDaemon, password: str, mail: str, rcpt: str
) -> None:
    """CVE-2020-28021, CVE-2020-28026 (Exim): an encoded newline in AUTH= or ORCPT became a line of the spool's file;
    CVE-2020-28022: the parameters of MAIL were read beyond their end."""

    def act() -> str:
        for command in (f"MAIL FROM:<ada@example.org>{mail}", f"RCPT TO:<bob@elsewhere.example>{rcpt}", "DATA"):
            answer = talk.say(command)
            if answer[:1] not in "23":
                return answer
        talk.send(MESSAGE + b".\r\n")
        return talk.reply()

    with signed_in(server, password) as talk:
        message = delivered(server, act())
    if message is not None:
        head, _, _ = message.partition(b"\r\n\r\n")
        assert not re.search(rb"^X-Evil", head, re.MULTILINE | re.IGNORECASE)


@pytest.mark.parametrize("begin", [b"DATA\r\n", b"BDAT 500 LAST\r\n"], ids=["DATA", "BDAT"])
def test_no_content_is_read_in_the_clear_after_tls_ended(server: RunningDaemon, password: str, begin: bytes) -> None:
    """CVE-2026-45185 (Exim): after a close_notify inside BDAT the server read on from the bare socket."""
    before = len(server.log())
    context = ssl.create_default_context(cafile=str(server.ca))
    with socket.create_connection(("127.0.0.1", server.submissions), 10) as raw:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

        def step(call: Callable[[], object]) -> None:
            while True:
                try:
                    call()
                    break
                except ssl.SSLWantReadError:
                    raw.sendall(outgoing.read())
                    incoming.write(raw.recv(65_536))
            raw.sendall(outgoing.read())

        response = base64.b64encode(f"\0ada\0{password}".encode())
        step(tls.do_handshake)
        for line in (
            b"EHLO x\r\n",
            b"AUTH PLAIN " + response + b"\r\n",
            b"MAIL FROM:<ada@example.org>\r\n",
            b"RCPT TO:<bob@elsewhere.example>\r\n",
        ):
            step(lambda: tls.read(65_536))  # the reply to the line before
            tls.write(line)
        step(lambda: tls.read(65_536))
        tls.write(begin)
        if begin.startswith(b"DATA"):
            step(lambda: tls.read(65_536))
        tls.write(MESSAGE)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()  # close_notify
        raw.sendall(outgoing.read() + b"x" * 400 + b"\r\n.\r\nNOOP\r\n")
        with contextlib.suppress(OSError):
            while raw.recv(65_536):
                pass
    server.wait_for("session.closed", after=before)
    assert [line for line in server.log()[before:] if line.get("event") == "message.accepted"] == []


HEADERS = {
    "a hundred thousand addresses": (b"To: " + b"a@b,\r\n " * 20_000 + b"c@d\r\n", "250"),
    "one long line": (b"To: " + b"x" * 60_000 + b"\r\n", "250"),
    "more than the ceiling": (b"X: y\r\n" * 100_000, "554"),
    "deep MIME": (
        b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(5_000)),
        "250",
    ),
    "deep comments": (b"From: ada@example.org " + b"(" * 30_000 + b"\r\n", "550"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_made_to_cost_much_is_judged_by_its_size_and_senders_alone(
    server: RunningDaemon, password: str, name: str
) -> None:
    """CVE-2024-23184, CVE-2024-23185 (large headers), CVE-2020-12100 (nested MIME parts) of Dovecot. What reading one
    costs: tests/message/test_hostile_headers.py."""
    header, code = HEADERS[name]
    origin = b"" if header.startswith(b"From:") else b"From: ada@example.org\r\n"
    with signed_in(server, password) as talk:
        assert talk.transaction(origin + header + b"\r\nHello\r\n")[:3] == code
        assert talk.transaction(MESSAGE).startswith("250")


@pytest.mark.parametrize(
    "originators",
    [
        b"From: carol@example.org\r\n",
        b"From: ada@example.org\r\nFrom: carol@example.org\r\n",
        b"From: ada@example.org, carol@example.org\r\n",
        b'From: "carol@example.org" <ada@example.org>, <carol@example.org>\r\n',
        b"From: ada@example.org\r\nSender: carol@example.org\r\n",
        b"From: carol@example.org (ada@example.org)\r\n",
        b"From: <carol@example.org>ada@example.org\r\n",
        b'From: "x <carol@example.org>" <ada@example.org>\r\n',
        b"From : carol@example.org\r\nFrom: ada@example.org\r\n",
        b"From:\r\n\t\r\n carol@example.org\r\n",
        b"From: ada@example.org\xe3\x80\x80<carol@example.org>\r\n",
        b"From: alice@example.org)carol@example.org\r\n",
    ],
)
def test_nobody_sends_as_somebody_else_however_the_field_is_written(
    server: RunningDaemon, password: str, originators: bytes
) -> None:
    """CVE-2024-7208 (hosted relays), CVE-2024-49040 (Exchange), CVE-2019-16056, CVE-2023-27043 (Python's parser)."""
    with signed_in(server, password) as talk:
        answer = talk.transaction(originators + b"To: bob@elsewhere.example\r\n\r\nHello\r\n")
        assert answer[:3] in {"550", "554"}, answer
        assert talk.say("MAIL FROM:<carol@example.org>").startswith("550")


@pytest.mark.parametrize("verb", ["GET / HTTP/1.1", "POST /MAIL HTTP/1.1", "PUT / HTTP/1.0"])
def test_a_browser_is_hung_up_on(server: RunningDaemon, verb: str) -> None:
    """CVE-2021-3618 (ALPACA; Sendmail and others): HTTP was passed over until mail commands came."""
    with Talk(server.submissions, server.ca) as talk:
        talk.send(f"{verb}\r\nHost: mail\r\nEHLO x\r\nNOOP\r\n".encode())
        assert talk.reply().startswith("421")
        assert talk.at_end()

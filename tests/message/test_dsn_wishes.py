"""What a sender asked of reports: success and relaying told, RET, ENVID and ORCPT (RFC 3461 4 and 6)."""

import email
import email.message
from email import policy

import pytest

from pillarbox.message.dsn import FailedRecipient, Letterhead, Report, bounce, delay_warning, success
from pillarbox.message.envelope import Envelope

NOW = 1_795_503_792.0
HEADER = b"From: Alice <alice@example.org>\r\nSubject: Hello\r\n\r\n"
CONTENT = HEADER + b"The text.\r\n"
BOB = FailedRecipient("bob@example.net", "2.0.0", "250 2.0.0 taken", "mx.example.net:25", "rfc822;bob@example.org")
HEAD = Letterhead("mail.example.org", "", NOW, "<1@mail.example.org>", "=_7f3a")


def envelope(*, ret: str = "", envid: str = "") -> Envelope:
    return Envelope(
        queue_id="01M3250V0064S36D1N6RVKGE9G",
        reverse_path="alice@example.org",
        forward_paths=("bob@example.net",),
        received_at=NOW - 60,
        size=len(CONTENT),
        ret=ret,
        envid=envid,
    )


def told(*delivered: FailedRecipient, action: str = "delivered", ret: str = "", content: bytes = HEADER) -> Report:
    return success(envelope(ret=ret), content, delivered, HEAD, action=action)


def parts(report: Report) -> list[email.message.Message]:
    message = email.message_from_bytes(report.content, policy=policy.compat32)
    assert not message.defects and message.get_content_type() == "multipart/report"
    return [part for part in message.get_payload() if isinstance(part, email.message.Message)]


def fields(report: Report) -> list[dict[str, str]]:
    blocks = parts(report)[1].get_payload()
    assert isinstance(blocks, list)
    return [dict(block.items()) for block in blocks if isinstance(block, email.message.Message)]


def words(report: Report) -> str:
    return " ".join(str(parts(report)[0].get_payload()).split())


@pytest.mark.parametrize(
    ("action", "subject", "says"),
    [
        ("delivered", b"Your message was delivered", "was delivered to the recipients named below, as you wanted"),
        ("relayed", b"Your message was relayed", "That system may tell you no more of them"),
    ],
)
def test_success_is_told_as_what_it_was(action: str, subject: bytes, says: str) -> None:
    report = told(BOB, action=action)
    assert b"\r\nSubject: " + subject + b"\r\n" in report.content
    assert b"\r\nAuto-Submitted: auto-replied\r\n" in report.content
    assert says in words(report)
    per_message, recipient = fields(report)
    assert per_message["Reporting-MTA"] == "dns; mail.example.org"
    assert recipient == {
        "Original-Recipient": "rfc822; bob@example.org",
        "Final-Recipient": "rfc822; bob@example.net",
        "Action": action,
        "Status": "2.0.0",
        "Remote-MTA": "dns; mx.example.net",
        "Diagnostic-Code": "smtp; 250 2.0.0 taken",
    }


def test_success_names_every_recipient_that_it_is_about() -> None:
    report = told(BOB, FailedRecipient("carol@example.net", "2.1.5", "250 2.1.5 ok"))
    assert [block.get("Final-Recipient") for block in fields(report)[1:]] == [
        "rfc822; bob@example.net",
        "rfc822; carol@example.net",
    ]


def test_a_success_without_a_status_has_a_general_one() -> None:
    assert fields(told(FailedRecipient("bob@example.net", "", "ok")))[1]["Status"] == "2.0.0"


def test_no_advice_is_given_on_what_went_well() -> None:
    assert "Check its spelling" not in words(told(FailedRecipient("bob@example.net", "5.1.1", "550 5.1.1 odd")))


@pytest.mark.parametrize(
    ("original", "shown"),
    [
        ("rfc822;bob+x@example.org", "rfc822; bob+x@example.org"),
        ("x400;c=de; s=bob", "x400; c=de; s=bob"),
        ("utf-8;jörg@example.org", r"utf-8; j\x{F6}rg@example.org"),
        ("utf-8;bob@example.org", "utf-8; bob@example.org"),
        ("rfc822;bob@example.org\r\nAction: failed", "rfc822; bob@example.org Action: failed"),
    ],
)
def test_the_original_recipient_is_one_field_in_ascii(original: str, shown: str) -> None:
    report = told(FailedRecipient("bob@example.net", "2.0.0", "250 ok", original=original))
    assert fields(report)[1]["Original-Recipient"] == shown
    assert fields(report)[1]["Action"] == "delivered"


def test_the_senders_own_id_of_the_envelope_comes_first() -> None:
    made = bounce(envelope(envid="QQ+1 x\r\nX-Evil: 1"), HEADER, [BOB], HEAD)
    per_message = fields(made)[0]
    assert next(iter(per_message.items())) == ("Original-Envelope-Id", "QQ+1 x X-Evil: 1")
    assert "X-Evil" not in per_message


@pytest.mark.parametrize("content", [CONTENT, HEADER + b".\r\n"])
def test_a_failure_returns_the_whole_content_when_that_was_asked_for(content: bytes) -> None:
    made = bounce(envelope(ret="FULL"), content, [BOB], HEAD)
    assert b"\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n\r\n" + content in made.content


@pytest.mark.parametrize(
    "content",
    [
        HEADER + b"J\xc3\xbcrgen\r\n",
        HEADER + b"x" * 999 + b"\r\n",
        HEADER + b"bare\nLF\r\n",
        HEADER + b"bare\rCR\r\n",
        HEADER + b"NUL\0\r\n",
        HEADER,
    ],
    ids=["8-bit", "long line", "bare LF", "bare CR", "NUL", "no more than the header"],
)
def test_a_content_that_seven_bits_cannot_carry_comes_back_as_its_header(content: bytes) -> None:
    made = bounce(envelope(ret="FULL"), content, [BOB], HEAD)
    assert parts(made)[2].get_content_type() == "text/rfc822-headers"
    assert made.content.isascii() and made.content.count(b"Subject: Hello") == 1
    assert b"\r\n\r\nFrom: Alice <alice@example.org>\r\nSubject: Hello\r\n" in made.content


@pytest.mark.parametrize("ret", ["", "HDRS", "FULL"])
def test_what_did_not_fail_returns_the_header_whatever_was_asked_for(ret: str) -> None:
    late = delay_warning(envelope(ret=ret), CONTENT, [BOB], HEAD, give_up_at=NOW + 60)
    for report in (late, told(BOB, ret=ret, content=CONTENT)):
        assert parts(report)[2].get_content_type() == "text/rfc822-headers"
        assert b"The text." not in report.content


def test_success_of_nobody_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="recipient"):
        told()

"""Bounces and delay warnings: exact octets, what other parsers see, and hostile replies."""

import email
import email.message
import quopri
import re
from email import policy

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pillarbox.message.dsn import MAX_RETURNED_HEADER, FailedRecipient, Letterhead, Report, bounce, delay_warning
from pillarbox.message.envelope import Envelope
from pillarbox.message.header import find_header_end

NOW = 1_795_503_792.0
HEADER = b"From: Alice <alice@example.org>\r\nSubject: Hello\r\n\tthere\r\n\r\n"


def envelope(reverse_path: str = "alice@example.org", *, smtputf8: bool = False) -> Envelope:
    return Envelope(
        queue_id="01M3250V0064S36D1N6RVKGE9G",
        reverse_path=reverse_path,
        forward_paths=("bob@example.net",),
        received_at=NOW - 60,
        size=1234,
        smtputf8=smtputf8,
    )


def bounced(
    *failed: FailedRecipient,
    reverse_path: str = "alice@example.org",
    header: bytes = HEADER,
    smtputf8: bool = False,
    postmaster: str = "",
    boundary: str = "=_7f3a",
) -> Report:
    return bounce(
        envelope(reverse_path, smtputf8=smtputf8),
        header,
        failed,
        Letterhead("mail.example.org", postmaster, NOW, "<1@mail.example.org>", boundary),
    )


BOB = FailedRecipient("bob@example.net", "5.1.1", "550 5.1.1 no such user", "mx.example.net:25")


def parts(report: Report) -> list[email.message.Message]:
    """The three parts as Python's email package sees them, the report's own shape checked on the way."""
    message = email.message_from_bytes(report.content, policy=policy.compat32)
    assert not message.defects
    assert message.get_content_type() == "multipart/report"
    payload = message.get_payload()
    assert isinstance(payload, list)
    assert len(payload) in (2, 3)
    found = [part for part in payload if isinstance(part, email.message.Message)]
    assert len(found) == len(payload)
    assert message.get_param("report-type") == found[1].get_content_subtype()  # RFC 6522 3
    return found


def words(report: Report) -> str:
    payload = parts(report)[0].get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()


def fields(report: Report) -> list[dict[str, str]]:
    if parts(report)[1].get_content_type() == "message/global-delivery-status":
        return [dict(line.split(": ", 1) for line in block.split("\r\n")) for block in told_in_utf8(report)]
    blocks = parts(report)[1].get_payload()
    assert isinstance(blocks, list)
    return [dict(block.items()) for block in blocks if isinstance(block, email.message.Message)]


def told_in_utf8(report: Report) -> list[str]:
    """The groups of fields of a message/global-delivery-status."""
    head, _, rest = report.content.split(b"message/global-delivery-status\r\n", 1)[1].partition(b"\r\n\r\n")
    assert head == b"Content-Transfer-Encoding: quoted-printable"
    octets, _, _ = rest.partition(b"\r\n--=_")
    unfolded = quopri.decodestring(octets).decode().replace("\r\n\t", " ")
    return unfolded.removesuffix("\r\n").split("\r\n\r\n")


def returned(report: Report) -> bytes:
    payload = parts(report)[2].get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def test_a_bounce_octet_by_octet() -> None:
    report = bounced(BOB)
    assert not report.smtputf8
    assert not report.eight_bit
    assert report.content == (
        b"From: Mail Delivery System <MAILER-DAEMON@mail.example.org>\r\n"
        b"To: <alice@example.org>\r\n"
        b"Subject: Your message could not be delivered\r\n"
        b"Date: Tue, 24 Nov 2026 07:03:12 +0000\r\n"
        b"Message-ID: <1@mail.example.org>\r\n"
        b"Auto-Submitted: auto-replied\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: multipart/report; report-type=delivery-status;\r\n"
        b'\tboundary="=_7f3a"\r\n'
        b"\r\n"
        b"This is a delivery report in the form that mail programs show (RFC 3464).\r\n"
        b"\r\n"
        b"--=_7f3a\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"This is the mail system at mail.example.org.\r\n"
        b"\r\n"
        b"Your message could not be delivered to the recipients named below. No\r\n"
        b"further attempt will be made for them; any other recipients are not\r\n"
        b"affected.\r\n"
        b"\r\n"
        b"bob@example.net\r\n"
        b"  mx.example.net said: 550 5.1.1 no such user\r\n"
        b"  The address does not exist there. Check its spelling, or ask the person\r\n"
        b"  for the present one.\r\n"
        b"\r\n"
        b"Your message was accepted on Tue, 24 Nov 2026 07:02:12 +0000 under the queue\r\n"
        b"id 01M3250V0064S36D1N6RVKGE9G. Whoever helps you will want to see this\r\n"
        b"report.\r\n"
        b"\r\n"
        b"--=_7f3a\r\n"
        b"Content-Type: message/delivery-status\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"Reporting-MTA: dns; mail.example.org\r\n"
        b"Arrival-Date: Tue, 24 Nov 2026 07:02:12 +0000\r\n"
        b"X-Pillarbox-Queue-ID: 01M3250V0064S36D1N6RVKGE9G\r\n"
        b"\r\n"
        b"Final-Recipient: rfc822; bob@example.net\r\n"
        b"Action: failed\r\n"
        b"Status: 5.1.1\r\n"
        b"Remote-MTA: dns; mx.example.net\r\n"
        b"Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"
        b"\r\n"
        b"--=_7f3a\r\n"
        b"Content-Type: text/rfc822-headers\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"From: Alice <alice@example.org>\r\n"
        b"Subject: Hello\r\n"
        b"\tthere\r\n"
        b"\r\n"
        b"--=_7f3a--\r\n"
    )


def test_a_delay_warning_says_until_when_and_asks_for_nothing() -> None:
    report = delay_warning(
        envelope(),
        HEADER,
        [FailedRecipient("bob@example.net", "4.4.1", "connection timed out"), FailedRecipient("c@x", "", "", "")],
        Letterhead("mail.example.org", "help@example.org", NOW, "<1@mail.example.org>", "b"),
        give_up_at=NOW + 86_400,
    )
    message = email.message_from_bytes(report.content)
    assert message["Subject"] == "Your message is delayed"
    assert message["From"] == "Mail Delivery System <help@example.org>"
    text = words(report)
    assert "You need not send it again" in " ".join(text.split())
    assert "tried until Wed, 25 Nov 2026 07:03:12 +0000" in " ".join(text.split())
    assert "bob@example.net\r\n  Reason: connection timed out\r\n\r\n" in text
    assert "c@x\r\n  No reason is known.\r\n" in text
    until = "Wed, 25 Nov 2026 07:03:12 +0000"
    assert fields(report)[1:] == [
        {
            "Final-Recipient": "rfc822; bob@example.net",
            "Action": "delayed",
            "Status": "4.4.1",
            "Diagnostic-Code": "x-pillarbox; connection timed out",
            "Will-Retry-Until": until,
        },
        {"Final-Recipient": "rfc822; c@x", "Action": "delayed", "Status": "4.0.0", "Will-Retry-Until": until},
    ]


def test_each_recipient_has_its_words_and_its_fields() -> None:
    report = bounced(BOB, FailedRecipient("c@x", "5.4.7", "no answer from any mail system", ""))
    text = words(report)
    assert "\r\nbob@example.net\r\n  mx.example.net said: 550" in text
    assert "\r\nc@x\r\n  Reason: no answer from any mail system\r\n" in text
    per_message, bob, carol = fields(report)
    assert per_message["Reporting-MTA"] == "dns; mail.example.org"
    assert bob["Remote-MTA"] == "dns; mx.example.net"
    assert "Remote-MTA" not in carol
    assert carol["Diagnostic-Code"] == "x-pillarbox; no answer from any mail system"


@pytest.mark.parametrize("status", ["", "nonsense", "9.1.1", "5.1", "5.1.1\r\nX: y", "5.1.1000", "٥.1.1"])
def test_a_status_that_is_none_becomes_a_general_one(status: str) -> None:
    assert fields(bounced(FailedRecipient("b@x", status, "550 no")))[1]["Status"] == "5.0.0"


@pytest.mark.parametrize("hop", ["", "maildir:/var/mail/x", "mx\r\nX: y", "mx:99999999", "[192.0.2.1]:25"])
def test_a_hop_that_is_no_name_is_not_told(hop: str) -> None:
    report = bounced(FailedRecipient("b@x", "5.1.1", "550 no", hop))
    assert "Remote-MTA" not in fields(report)[1]
    assert "The next mail system said: 550 no" in words(report)


def test_a_hostile_reply_stays_in_its_field() -> None:
    reply = "550 no\r\n\r\n--=_7f3a\r\nContent-Type: text/html\r\n\r\n<b>x\0\x1b[2J\x85\u2028\u202e" + "y" * 5000
    report = bounced(FailedRecipient("b@x", "5.7.1", reply, "mx.example.net"))
    assert len(parts(report)) == 3
    diagnostic = fields(report)[1]["Diagnostic-Code"]
    assert re.sub(r"\s+", " ", diagnostic).startswith("smtp; 550 no --=_7f3a Content-Type: text/html <b>x [2J y")
    assert len(diagnostic) < 1000
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xff]", report.content)
    assert max(map(len, report.content.split(b"\r\n"))) <= 998
    assert not re.search("[\x1b\x85\u2028\u202e]", words(report))


def test_a_long_reply_is_folded() -> None:
    report = bounced(FailedRecipient("b@x", "5.7.1", "550 " + "word " * 100, "mx"))
    assert max(map(len, report.content.split(b"\r\n"))) <= 78
    assert re.sub(r"\s+", " ", fields(report)[1]["Diagnostic-Code"]) == "smtp; 550" + " word" * 100


def test_international_recipients_and_replies_are_told_in_seven_bits() -> None:
    report = bounced(FailedRecipient("jörg+a@exämple.net", "5.6.7", "550 Empfänger unbekannt", "mx"))
    assert report.content.isascii()
    assert not report.smtputf8
    assert "jörg+a@exämple.net\r\n  mx said: 550 Empfänger unbekannt\r\n" in words(report)
    field = fields(report)[1]
    assert field["Final-Recipient"] == "utf-8; j\\x{F6}rg\\x{2B}a@ex\\x{E4}mple.net"
    assert field["Diagnostic-Code"] == "smtp; 550 Empf?nger unbekannt"


def test_an_international_sender_needs_smtputf8() -> None:
    report = bounced(BOB, reverse_path="älice@example.org", smtputf8=True)
    assert report.smtputf8
    assert "\r\nTo: <älice@example.org>\r\n".encode() in report.content


def test_an_international_sender_is_told_of_international_recipients_in_utf8() -> None:
    """RFC 6533 4 (the part's type), 3 (the address as it is)."""
    failed = FailedRecipient("jörg+a@exämple.net", "5.6.7", "550 no", "mx", original="utf-8;jörg@exämple.org")
    report = bounced(failed, reverse_path="älice@example.org", smtputf8=True)
    assert parts(report)[1].get_content_type() == "message/global-delivery-status"
    field = fields(report)[1]
    assert field["Original-Recipient"] == "utf-8; jörg@exämple.org"
    assert field["Final-Recipient"] == "utf-8; jörg+a@exämple.net"
    assert max(map(len, report.content.split(b"\r\n"))) <= 78


def test_an_international_sender_is_told_of_a_plain_recipient_as_everybody_is() -> None:
    report = bounced(BOB, reverse_path="älice@example.org", smtputf8=True)
    assert parts(report)[1].get_content_type() == "message/delivery-status"


def test_an_eight_bit_header_is_returned_exactly_but_in_seven_bits() -> None:
    header = b"Subject: M\xfcller =\r\nX: trailing \r\nY: \t\r\n\r\n"
    report = bounced(BOB, header=header)
    assert report.content.isascii()
    assert parts(report)[2].get_content_type() == "text/rfc822-headers"
    assert returned(report) == header[:-2]


def test_an_international_header_is_returned_as_global_headers() -> None:
    header = "Subject: Grüße\r\n\r\n".encode()
    report = bounced(BOB, header=header, smtputf8=True)
    assert (
        b"Content-Type: message/global-headers\r\nContent-Transfer-Encoding: quoted-printable\r\n" in report.content
    )
    assert b"\r\n\r\nSubject: Gr=C3=BC=C3=9Fe\r\n\r\n--=_7f3a--\r\n" in report.content
    assert bounced(BOB, smtputf8=True).content == bounced(BOB).content


@pytest.mark.parametrize("header", [b"X: " + b"y" * 999 + b"\r\n", b"X: \ry\r\n", b"X: \ny\r\n", b"X: \0\r\n"])
def test_a_header_that_is_not_seven_bit_lines_is_encoded(header: bytes) -> None:
    report = bounced(BOB, header=header)
    assert max(map(len, report.content.split(b"\r\n"))) <= 78
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", report.content)
    assert returned(report) == header


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (b"A: b\r\n", b"A: b\r\n"),
        (b"A: b\r\n\r\n", b"A: b\r\n"),
        (
            b"A: b\r\n" + b"X: 34567890\r\n" * 10_000,
            b"A: b\r\n" + b"X: 34567890\r\n" * ((MAX_RETURNED_HEADER - 6) // 13),
        ),
    ],
)
def test_whole_lines_of_the_header_are_returned_up_to_a_ceiling(header: bytes, kept: bytes) -> None:
    content = bounced(BOB, header=header).content
    assert content.endswith(b"Content-Transfer-Encoding: 7bit\r\n\r\n" + kept + b"\r\n--=_7f3a--\r\n")


@pytest.mark.parametrize("header", [b"", b"\r\n", b"no end"])
def test_a_header_that_cannot_be_had_is_no_part(header: bytes) -> None:
    content = bounced(BOB, header=header).content
    assert b"rfc822-headers" not in content
    assert content.endswith(b"Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\r\n--=_7f3a--\r\n")


@pytest.mark.parametrize("path", ["alice@x\r\nBcc: evil@x", "alice@x\0", "a\u2028b@x"])
def test_no_path_can_add_a_field(path: str) -> None:
    report = bounced(FailedRecipient(path, "5.1.1", "550 no"), reverse_path=path)
    message = email.message_from_bytes(report.content)
    assert "Bcc" not in message
    assert len(parts(report)) == 3
    assert all("Bcc" not in block for block in fields(report))


@pytest.mark.parametrize(
    ("recipients", "reverse_path", "boundary"),
    [((BOB,), "", "b"), ((), "a@x", "b"), ((BOB,), "a@x", ""), ((BOB,), "a@x", "b\r\n"), ((BOB,), "a@x", "b" * 71)],
)
def test_what_cannot_be_a_report_is_a_bug_of_the_caller(
    recipients: tuple[FailedRecipient, ...], reverse_path: str, boundary: str
) -> None:
    with pytest.raises(ValueError, match="a report needs"):
        bounced(*recipients, reverse_path=reverse_path, boundary=boundary)


hostile = st.text(st.characters() | st.sampled_from('\r\n\0 ;:<>-="\\'), max_size=60)
recipients = st.builds(
    FailedRecipient, hostile.map(lambda t: "x" + t), hostile, hostile | hostile.map("550 {}".format), hostile
)
header_octets = st.lists(
    st.sampled_from([b"A: b", b"\r\n", b"\r", b"\n", b" ", b"=", b"\xff"]) | st.binary(max_size=9)
).map(b"".join)


@settings(max_examples=300)
@given(st.lists(recipients, min_size=1, max_size=3), header_octets, hostile, st.booleans())
@example([FailedRecipient("x", "", "")], b"\r\n\r\n", "", False)
def test_whatever_was_said_a_bounce_is_a_report_of_three_parts(
    failed: list[FailedRecipient], header: bytes, path: str, smtputf8: bool
) -> None:
    report = bounced(*failed, reverse_path="a" + path, header=header, smtputf8=smtputf8, boundary="=_unguessable")
    returned = header[: find_header_end(header)]  # what begins with an empty line has no header
    assert len(parts(report)) == (3 if b"\r\n" in returned.removeprefix(b"\r\n") else 2)
    assert len(fields(report)) == 1 + len(failed)
    assert all(field["Action"] == "failed" for field in fields(report)[1:])
    assert report.smtputf8 is not report.content.isascii()
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", report.content)
    message = email.message_from_bytes(report.content)
    assert message.keys() == [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "MIME-Version",
        "Content-Type",
    ]

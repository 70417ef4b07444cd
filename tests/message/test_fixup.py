"""RFC 6409 8: what is added, what is removed, and that nothing else changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.message.fixup import complete, message_id
from pillarbox.message.header import HeaderDefect, parse

TRACE = b"Received: by mail.example.org with ESMTPSA\r\n\tid 1; Tue, 24 Nov 2026 07:03:12 +0000\r\n"
DATE = "Tue, 24 Nov 2026 07:03:12 +0000"
ID = "<01M3250V0064S36D1N6RVKGE9G@mail.example.org>"
ADDED_DATE = f"Date: {DATE}\r\n".encode()
ADDED_ID = f"Message-ID: {ID}\r\n".encode()
OWN = frozenset({b"Mail.example.org", b"mx two"})


def completed(header: bytes) -> bytes:
    return complete(parse(header), trace=TRACE, date=DATE, message_id=ID, own_names=OWN)


def test_what_is_there_stays() -> None:
    header = b"DATE: whenever\r\nmessage-id: mine\r\nFrom: a@b\r\n\r\n"
    assert completed(header) == TRACE + header


def test_what_is_missing_comes_after_the_trace() -> None:
    assert completed(b"From: a@b\r\n\r\n") == TRACE + ADDED_DATE + ADDED_ID + b"From: a@b\r\n\r\n"
    assert completed(b"Date:\r\nFrom: a@b\r\n\r\n") == TRACE + ADDED_ID + b"Date:\r\nFrom: a@b\r\n\r\n"
    assert completed(b"Message-Id: <x>\r\n\r\n") == TRACE + ADDED_DATE + b"Message-Id: <x>\r\n\r\n"


def test_resent_fields_are_not_the_message_s_own() -> None:
    header = b"Resent-Date: x\r\nResent-Message-ID: <y>\r\nX-Date: z\r\n\r\n"
    assert completed(header) == TRACE + ADDED_DATE + ADDED_ID + header


@pytest.mark.parametrize("header", [b"", b"\r\n"])
def test_a_header_of_nothing(header: bytes) -> None:
    assert completed(header) == TRACE + ADDED_DATE + ADDED_ID + header


def test_blind_copies_are_removed_with_their_folding() -> None:
    header = (
        b"X-Bcc: stays\r\nBcc: a@b,\r\n\tc@d\r\nDate: x\r\nRESENT-BCC:e@f\r\nResent-Bcc-Not: stays\r\n"
        b"Message-ID: <y>\r\nbcc:\r\nTo: z\r\n\r\n"
    )
    kept = b"X-Bcc: stays\r\nDate: x\r\nResent-Bcc-Not: stays\r\nMessage-ID: <y>\r\nTo: z\r\n\r\n"
    assert completed(header) == TRACE + kept


@pytest.mark.parametrize(
    "results",
    [
        b"mail.example.org; none",
        b" mail.example.org; spf=pass",
        b"\r\n\tmail.example.org;\r\n\tdkim=pass",
        b" MAIL.Example.ORG 1; none",
        b' "mail.example.org"; none',
        b' "mail\\.example.org"; none',
        b' "mx two"; none',
        b" (of (ours) \\) x) mail.example.org; none",
        b" (ours) mail.example.org(x); none",
        b" mail.example.org",
    ],
)
def test_forged_results_in_our_name_are_removed(results: bytes) -> None:
    field = b"Authentication-Results:" + results + b"\r\n"
    rest = b"Date: x\r\nMessage-ID: <y>\r\n\r\n"
    assert completed(field + rest) == TRACE + rest


@pytest.mark.parametrize(
    "results",
    [
        b" mx.example.net; none",
        b" mail.example.org.evil; x",
        b" x-mail.example.org; x",
        b"",
        b" ;",
        b" (mail.example.org",
        b' "mail.example.org',
        b" (a(b) mail.example.org; x",
        b" (a\\) mail.example.org; x",
    ],
)
def test_other_results_stay(results: bytes) -> None:
    header = b"Authentication-Results:" + results + b"\r\nDate: x\r\nMessage-ID: <y>\r\n\r\n"
    assert completed(header) == TRACE + header


@pytest.mark.parametrize("header", [b"Bcc : a@b\r\n\r\n", b"A: b\r\nnonsense\r\n\r\n", b"A: b\0\r\n\r\n", b"A: b"])
def test_what_cannot_be_read_for_certain_is_refused(header: bytes) -> None:
    with pytest.raises(HeaderDefect):
        completed(header)


def test_a_message_id_is_the_queue_id_at_our_host() -> None:
    assert message_id("01M3250V0064S36D1N6RVKGE9G", "mail.example.org") == ID
    assert message_id("01", "mäil\r\nx: y") == "<01@m_il__x__y>"


names = st.sampled_from([b"From", b"Date", b"date", b"Message-ID", b"Bcc", b"Resent-Bcc", b"X-Bcc", b"Subject"])
bodies = st.lists(st.sampled_from([b"a@b", b"\xff", b"Bcc: x", b"Date: y"]), min_size=1, max_size=5).map(
    b"\r\n ".join
)


@given(st.lists(st.tuples(names, bodies), max_size=10), st.booleans())
def test_taking_away_what_was_added_leaves_the_original_less_the_blind_copies(
    fields: list[tuple[bytes, bytes]], has_end: bool
) -> None:
    raws = [(name.lower(), name + b":" + text + b"\r\n") for name, text in fields]
    end = b"\r\n" if has_end else b""
    done = completed(b"".join([raw for _, raw in raws]) + end)
    present = {name for name, _ in raws}
    added = TRACE + (b"" if b"date" in present else ADDED_DATE) + (b"" if b"message-id" in present else ADDED_ID)
    kept = [raw for name, raw in raws if name not in (b"bcc", b"resent-bcc")]
    assert done == added + b"".join(kept) + end

"""Mailboxes in wire form, there and back."""

import pytest

from pillarbox.smtp.path import Mailbox
from pillarbox.smtp.syntax import parse_mailbox


@pytest.mark.parametrize(
    ("mailbox", "text"),
    [
        (Mailbox("a", "example.org"), "a@example.org"),
        (Mailbox("a.b+c", "example.org"), "a.b+c@example.org"),
        (Mailbox("a b", "example.org"), '"a b"@example.org'),
        (Mailbox("a..b", "example.org"), '"a..b"@example.org'),
        (Mailbox(".a", "example.org"), '".a"@example.org'),
        (Mailbox("", "example.org"), '""@example.org'),
        (Mailbox('a"b\\c', "example.org"), '"a\\"b\\\\c"@example.org'),
        (Mailbox("a@b", "example.org"), '"a@b"@example.org'),
        (Mailbox("jürgen", "münchen.example"), "jürgen@münchen.example"),
        (Mailbox("a", "[IPV6:::1]"), "a@[IPV6:::1]"),
        (Mailbox("Postmaster", ""), "Postmaster"),
    ],
)
def test_mailbox_is_quoted_where_it_must_be_and_read_back(mailbox: Mailbox, text: str) -> None:
    assert str(mailbox) == text
    assert parse_mailbox(text) == mailbox


@pytest.mark.parametrize(
    "text",
    ["", "a", "a@", "@b", "a@b c", "a@b>", "a@b> X=1", "<a@b>", " a@b", "a@b ", "a\n@b", "a@b\r\n", "\ud800@b"],
)
def test_what_is_no_mailbox_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a mailbox"):
        parse_mailbox(text)

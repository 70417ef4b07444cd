"""Which addresses an Identity may use, in the envelope and in the header."""

from dataclasses import replace

import pytest

from pillarbox.directory.base import Identity
from pillarbox.message.header import parse
from pillarbox.submission.replies import Refused
from pillarbox.submission.rights import check_header, check_reverse_path, may_use, narrowed

ANNA = Identity("anna", frozenset({"anna@example.org", "info@example.org"}))
APPLICATION = Identity("crm", frozenset({"crm@example.org"}), domains=frozenset({"example.org", "example.com"}))
ASSISTANT = Identity("assistant", frozenset({"assistant@example.org"}), may_redirect=True)


@pytest.mark.parametrize(
    ("identity", "address", "allowed"),
    [
        (ANNA, "anna@example.org", True),
        (ANNA, "Anna@EXAMPLE.org", True),
        (ANNA, "info@example.org", True),
        (ANNA, "boss@example.org", False),  # the site's own domain is not enough (R3)
        (ANNA, "anna@sub.example.org", False),
        (ANNA, "anna@example.org.evil.example", False),
        (ANNA, "", False),
        (APPLICATION, "anyone@example.com", True),
        (APPLICATION, "anyone@Example.COM", True),
        (APPLICATION, "anyone@sub.example.com", False),
        (APPLICATION, "anyone@notexample.com", False),
        (APPLICATION, '"a@example.com"@evil.example', False),
        (APPLICATION, "example.com", False),
        (Identity("k", frozenset({"kim@example.org"})), "\u212aim@example.org", False),  # the Kelvin sign is no k
        (Identity("k", frozenset({"\u00e9va@example.org"})), "\u00c9va@example.org", False),  # ASCII case only
    ],
)
def test_an_address_is_ones_own_or_in_a_domain_that_is(identity: Identity, address: str, allowed: bool) -> None:
    assert may_use(identity, address) is allowed


def test_null_reverse_path_is_anybodys() -> None:
    check_reverse_path(ANNA, "", smtputf8=False)
    with pytest.raises(Refused) as caught:
        check_reverse_path(ANNA, "boss@example.org", smtputf8=False)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (550, "5.7.1")


@pytest.mark.parametrize(
    ("identity", "header", "allowed"),
    [
        (ANNA, b"From: Anna <anna@example.org>\r\n", True),
        (ANNA, b"From: Anna <anna@example.org>, Info <info@example.org>\r\nSender: anna@example.org\r\n", True),
        (ANNA, b"From: anna@example.org, boss@example.org\r\nSender: anna@example.org\r\n", False),
        (ANNA, b"From: anna@example.org\r\nSender: boss@example.org\r\n", False),
        (ANNA, b"From: boss@example.org\r\nSender: anna@example.org\r\n", False),
        (ANNA, b"From: anna@example.org\r\nFrom: boss@example.org\r\n", False),
        (ANNA, b"Subject: nobody\r\n", False),
        (ANNA, b"From: boss@other.example\r\nResent-From: anna@example.org\r\n", False),
        (ASSISTANT, b"From: boss@other.example\r\nResent-From: assistant@example.org\r\n", True),
        (ASSISTANT, b"From: boss@other.example\r\nResent-From: somebody@example.org\r\n", False),
        (
            ASSISTANT,
            b"From: boss@other.example\r\nResent-From: assistant@example.org\r\nResent-Sender: x@example.org\r\n",
            False,
        ),
        (ASSISTANT, b"From: boss@other.example\r\nSender: assistant@example.org\r\n", False),
        (ANNA, b"From: anna@example.org\r\nResent-From: boss@example.org\r\n", False),
    ],
)
def test_every_from_and_sender_must_be_ones_own(identity: Identity, header: bytes, allowed: bool) -> None:
    if allowed:
        check_header(identity, parse(header + b"\r\n"), smtputf8=False)
        return
    with pytest.raises(Refused) as caught:
        check_header(identity, parse(header + b"\r\n"), smtputf8=False)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (550, "5.7.1")


def test_refusal_shows_the_address_escaped_and_capped() -> None:
    with pytest.raises(Refused) as caught:
        check_reverse_path(ANNA, "\u00fcber" * 60 + "@example.org", smtputf8=False)
    (text,) = caught.value.reply.text
    assert text.isascii()
    assert len(text) < 160


def test_at_a_site_with_domains_only_the_addresses_in_them_are_used() -> None:
    everywhere = Identity(
        "ada",
        frozenset({"ada@example.org", "ada@example.net", "ada@sub.example.org", "postmaster"}),
        domains=frozenset({"example.com", "example.net"}),
        may_redirect=True,
        recipients_per_hour=7,
        generation=3,
    )
    here = narrowed(everywhere, frozenset({"example.org", "example.net"}))
    assert here == replace(
        everywhere,
        addresses=frozenset({"ada@example.org", "ada@example.net"}),
        domains=frozenset({"example.net"}),
    )
    assert may_use(here, "Ada@Example.ORG")
    assert not may_use(here, "ada@sub.example.org")
    assert not may_use(here, "any@example.com")
    nowhere = narrowed(everywhere, frozenset({"example.edu"}))
    assert (nowhere.addresses, nowhere.domains) == (frozenset(), frozenset())

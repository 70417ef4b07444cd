"""The trace field, and that nothing a peer says gets out of it."""

import re
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.message.header import parse
from pillarbox.message.received import address_literal, domain, protocol_keyword, received

NOW = 1_795_503_792.25
ID = "01M3250V0064S36D1N6RVKGE9G"


def trace(
    *,
    helo: str = "laptop",
    address: str | None = "192.0.2.7",
    protocol: str = "ESMTPSA",
    tls: tuple[str, str] | None = ("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    forward_path: str | None = "bob@example.net",
    login: str | None = None,
) -> bytes:
    return received(
        helo=helo,
        address=address,
        host="mail.example.org",
        protocol=protocol,
        tls=tls,
        queue_id=ID,
        forward_path=forward_path,
        now=NOW,
        login=login,
    )


def test_the_whole_field() -> None:
    assert trace() == (
        b"Received: from laptop ([192.0.2.7])\r\n"
        b"\tby mail.example.org with ESMTPSA (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tid 01M3250V0064S36D1N6RVKGE9G for <bob@example.net>;\r\n"
        b"\tTue, 24 Nov 2026 07:03:12 +0000\r\n"
    )


def test_a_hidden_client_leaves_no_trace_of_address_or_machine() -> None:
    assert trace(helo="alices-laptop", address=None) == (
        b"Received: by mail.example.org with ESMTPSA (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tid 01M3250V0064S36D1N6RVKGE9G for <bob@example.net>;\r\n"
        b"\tTue, 24 Nov 2026 07:03:12 +0000\r\n"
    )


def test_several_recipients_do_not_learn_of_each_other_and_no_tls_is_not_claimed() -> None:
    assert trace(tls=None, forward_path=None, protocol="ESMTPA") == (
        b"Received: from laptop ([192.0.2.7])\r\n"
        b"\tby mail.example.org with ESMTPA\r\n"
        b"\tid 01M3250V0064S36D1N6RVKGE9G;\r\n"
        b"\tTue, 24 Nov 2026 07:03:12 +0000\r\n"
    )


def test_a_login_is_told_only_when_given() -> None:
    assert b"login" not in trace()
    assert b"ESMTPA (login alice@example.org)\r\n" in trace(tls=None, protocol="ESMTPA", login="alice@example.org")
    assert b"(login a___x_)\r\n" in trace(tls=None, login="a)\r\nxä")


@pytest.mark.parametrize(
    ("helo", "shown"),
    [
        ("laptop.example.org", b"laptop.example.org"),
        ("[192.0.2.7]", b"[192.0.2.7]"),
        ("[IPV6:2001:db8::1]", b"[IPV6:2001:db8::1]"),
        ("my laptop", b"my_laptop"),
        ("Jörgs-PC", b"J_rgs-PC"),
        ("a) (b", b"a___b"),
        ("[a]; x", b"_a___x"),
        ("x\r\nBcc: y", b"x__Bcc__y"),
        ("[x\r\n y]", b"_x___y_"),
        ("", b"unknown"),
        ("x" * 300, b"x" * 255),
        ("[" + "1" * 300 + "]", b"_" + b"1" * 254),
    ],
)
def test_the_helo_is_shown_harmless(helo: str, shown: bytes) -> None:
    assert trace(helo=helo).startswith(b"Received: from " + shown + b" ([192.0.2.7])\r\n")


@pytest.mark.parametrize(
    ("path", "protocol", "shown"),
    [
        ("bob@example.net", "ESMTPSA", True),
        ("a+b=c@[192.0.2.1]", "ESMTPSA", True),
        ("jörg@exämple.net", "UTF8SMTPSA", True),
        ("jörg@exämple.net", "ESMTPSA", False),
        ('"a b"@example.net', "ESMTPSA", False),
        ('">"@example.net', "ESMTPSA", False),
        ("Postmaster", "ESMTPSA", False),
        ("a@b\r\nX: y", "ESMTPSA", False),
        ("a@b\u2028c", "UTF8SMTPSA", False),
        ("a\x85@b", "UTF8SMTPSA", False),
        ("a@" + "b" * 300, "ESMTPSA", False),
    ],
)
def test_only_a_plain_forward_path_is_shown(path: str, protocol: str, shown: bool) -> None:
    assert (f" for <{path}>;\r\n".encode() in trace(forward_path=path, protocol=protocol)) is shown
    assert (b" for " in trace(forward_path=path, protocol=protocol)) is shown


def test_protocol_keywords() -> None:
    def keyword(tls: bool, authenticated: bool, smtputf8: bool) -> str:
        return protocol_keyword(esmtp=True, tls=tls, authenticated=authenticated, smtputf8=smtputf8)

    assert keyword(False, False, False) == "ESMTP"
    assert keyword(True, False, False) == "ESMTPS"
    assert keyword(False, True, False) == "ESMTPA"
    assert keyword(True, True, False) == "ESMTPSA"
    assert keyword(False, False, True) == "UTF8SMTP"
    assert keyword(True, False, True) == "UTF8SMTPS"
    assert keyword(False, True, True) == "UTF8SMTPA"
    assert keyword(True, True, True) == "UTF8SMTPSA"
    assert protocol_keyword(esmtp=False, tls=True, authenticated=True, smtputf8=False) == "SMTP"


def test_address_literals() -> None:
    assert address_literal("192.0.2.7") == "[192.0.2.7]"
    assert address_literal("2001:db8::1") == "[IPv6:2001:db8::1]"
    assert address_literal("fe80::1%eth0") == "[IPv6:fe80::1]"
    assert address_literal("::ffff:192.0.2.7") == "[IPv6:::ffff:192.0.2.7]"


def test_domain() -> None:
    assert domain("mail.example.org") == "mail.example.org"
    assert domain("a b\n") == "a_b_"
    assert domain("") == "unknown"


FORM = re.compile(
    rb"Received: (?:from \S+ \(\[[0-9A-Fa-f.:IPv]+\]\)\r\n\t)?by \S+ with \S+(?: \([^()\r\n]*\))*\r\n"
    rb"\tid \S+(?: for <[^<>\s]+>)?;\r\n\t[^\r\n]+ \+0000\r\n"
)


@given(
    st.text(max_size=40),
    st.none() | st.sampled_from(["192.0.2.7", "2001:db8::1"]) | st.text(max_size=8).map(lambda t: t + "1"),
    st.none() | st.tuples(st.text(max_size=8), st.text(max_size=8)),
    st.none() | st.text(max_size=20) | st.text(max_size=8).map(lambda t: t + "@example.net"),
    st.none() | st.text(max_size=20),
    st.sampled_from(["ESMTPSA", "UTF8SMTPSA"]),
)
def test_it_is_always_one_field_of_one_shape(
    helo: str,
    address: str | None,
    tls: tuple[str, str] | None,
    forward_path: str | None,
    login: str | None,
    protocol: str,
) -> None:
    octets = trace(helo=helo, address=address, tls=tls, forward_path=forward_path, login=login, protocol=protocol)
    if address is None or re.search("[0-9A-Fa-f.:]", address.partition("%")[0]):
        assert FORM.fullmatch(octets)
    header = parse(octets)
    assert header.defect is None
    assert [name for name, _ in header.fields] == [b"received"]
    message = message_from_bytes(octets + b"\r\nbody", policy=policy.SMTP)
    assert message.keys() == ["Received"]
    assert message.get_payload() == "body"
    assert protocol.startswith("UTF8") or octets.isascii()

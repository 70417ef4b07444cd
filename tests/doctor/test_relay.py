"""The walk of a next hop, against one that answers on real sockets as told."""

import ssl
from dataclasses import replace

import pytest
from tests.support.certs import Authority, Issued
from tests.support.nexthop import DROP, HANG, Last, NextHop

from pillarbox.doctor import conversation
from pillarbox.doctor import relay as relay_module
from pillarbox.doctor.relay import Probe, SignIn, walk
from pillarbox.doctor.report import Finding, Severity, worst
from pillarbox.smtp.path import Mailbox

SENDER = Mailbox("alice", "example.org")
RECIPIENT = Mailbox("bob", "example.net")


def probe(hop: NextHop, tls: str = "auto") -> Probe:
    return Probe("127.0.0.1", hop.port, "mail.example.org", SENDER, RECIPIENT, tls=tls)


def server_context(issued: Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context


@pytest.fixture(scope="session")
def issued(authority: Authority) -> Issued:
    return authority.issue("localhost", "127.0.0.1")


def trusting(issued: Issued) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=issued.ca)


def of(findings: list[Finding], step: str) -> Finding:
    """The one finding of a step."""
    found = [finding for finding in findings if finding.subject == f"127.0.0.1 {step}"]
    assert len(found) == 1, [str(finding) for finding in findings]
    return found[0]


async def test_a_next_hop_that_allows_everything() -> None:
    async with NextHop() as hop:
        findings = await walk(probe(hop, tls="none"))
    assert worst(findings) <= Severity.NOTE
    for step in ("resolve", "connect", "greeting", "EHLO", "MAIL", "RCPT", "MAIL <>", "QUIT"):
        assert of(findings, step).severity is Severity.OK
    verbs = [line.split(" ")[0].rstrip() for _, line in hop.commands]
    assert verbs == ["EHLO", "MAIL", "RCPT", "RSET", "MAIL", "RSET", "QUIT"]
    assert not hop.messages
    assert not hop.violations


async def test_own_domain_refused_as_sender_says_what_to_allow() -> None:
    script = {"MAIL": ["550 5.7.1 example.org: sender address rejected: not logged in", "250 2.1.0 ok"]}
    async with NextHop(script=script) as hop:
        findings = await walk(probe(hop))
    refusal = of(findings, "MAIL")
    assert refusal.severity is Severity.ERROR
    assert "from alice@example.org: 550 5.7.1" in refusal.message
    assert "an MX often refuses its own domain as sender" in refusal.advice
    assert "Deny messages from" in refusal.advice
    assert of(findings, "MAIL <>").severity is Severity.OK
    assert of(findings, "QUIT").severity is Severity.OK


@pytest.mark.parametrize(
    ("step", "reply", "words"),
    [
        ("RCPT", "554 5.7.1 Relay access denied", "Exclude these connecting hosts from anti-relay checks"),
        ("RCPT", "550 5.1.1 no such user", "name one that exists with --recipient"),
        ("RCPT", "450 4.2.0 Greylisted", "greylisting"),
        ("MAIL", "554 5.7.1 blocked using zen.spamhaus.org", "private whitelist"),
        ("MAIL", "530 5.7.0 Authentication required", "[route.auth]"),
        ("MAIL", "530 5.7.0 Must issue a STARTTLS command first", 'tls = "starttls"'),
        ("MAIL", "553 5.1.8 Domain of sender does not exist", "looks the sender's domain up"),
        ("MAIL", "450 4.7.25 Client host rejected: cannot find your hostname", "PTR record"),
        ("MAIL", "552 5.3.4 message size exceeds fixed limit", "max_message_size"),
    ],
)
async def test_each_usual_refusal_has_its_advice(step: str, reply: str, words: str) -> None:
    async with NextHop(script={step: reply}) as hop:
        findings = await walk(probe(hop))
    refusal = of(findings, step)
    assert reply in refusal.message
    assert words in refusal.advice
    assert refusal.severity is (Severity.WARNING if reply.startswith("4") else Severity.ERROR)


async def test_refused_at_connect() -> None:
    async with NextHop(script={"CONNECT": "554 5.7.1 you are listed at dnsbl.example.net"}) as hop:
        findings = await walk(probe(hop))
    refusal = of(findings, "greeting")
    assert refusal.severity is Severity.ERROR
    assert "DNS blacklist" in refusal.advice
    assert of(findings, "QUIT").severity is Severity.OK


async def test_bounces_refused_is_a_warning() -> None:
    async with NextHop(script={"MAIL": ["250 2.1.0 ok", "550 5.7.1 no null sender"]}) as hop:
        findings = await walk(probe(hop))
    assert of(findings, "MAIL <>").severity is Severity.WARNING
    assert of(findings, "RCPT").severity is Severity.OK


async def test_masked_greeting_is_a_firewall() -> None:
    async with NextHop(script={"CONNECT": "220 ****************2******0*00"}) as hop:
        findings = await walk(probe(hop))
    assert "ESMTP inspection" in of(findings, "greeting").advice


async def test_masked_starttls_is_a_firewall() -> None:
    async with NextHop(keywords=("SIZE 1000000", "XXXXXXXA", "8BITMIME")) as hop:
        findings = await walk(probe(hop, tls="starttls"))
    assert of(findings, "TLS").severity is Severity.ERROR
    assert "ESMTP inspection" in of(findings, "TLS").advice
    assert not [line for _, line in hop.commands if line.startswith("MAIL")]


async def test_abilities_that_mail_will_miss() -> None:
    async with NextHop(keywords=("SIZE 1000000",)) as hop:
        findings = await walk(replace(probe(hop), max_message_size=52_428_800))
    assert "larger mail will bounce" in of(findings, "SIZE").message
    assert "assume_8bitmime" in of(findings, "8BITMIME").advice
    assert of(findings, "SMTPUTF8").severity is Severity.NOTE


async def test_assume_8bitmime_is_believed() -> None:
    async with NextHop(keywords=("SMTPUTF8",)) as hop:
        findings = await walk(replace(probe(hop), assume_8bitmime=True))
    assert not [finding for finding in findings if "8BITMIME" in finding.subject]


async def test_ehlo_not_understood_falls_back_to_helo() -> None:
    async with NextHop(script={"EHLO": "500 5.5.1 what"}) as hop:
        findings = await walk(probe(hop))
    assert "HELO was" in next(f for f in findings if "HELO was" in f.message).message
    assert of(findings, "MAIL").severity is Severity.OK


# ---- TLS


async def test_starttls_with_a_trusted_certificate(issued: Issued) -> None:
    async with NextHop(tls=server_context(issued)) as hop:
        findings = await walk(replace(probe(hop, tls="starttls"), context=lambda: trusting(issued)))
    assert of(findings, "TLS").severity is Severity.OK
    assert "TLSv1.3" in of(findings, "TLS").message
    assert of(findings, "RCPT").severity is Severity.OK


async def test_implicit_tls(issued: Issued) -> None:
    async with NextHop(tls=server_context(issued), implicit_tls=True) as hop:
        findings = await walk(replace(probe(hop, tls="tls"), context=lambda: trusting(issued)))
    assert of(findings, "TLS").severity is Severity.OK
    assert of(findings, "QUIT").severity is Severity.OK


@pytest.mark.parametrize("implicit", [False, True])
async def test_untrusted_certificate_is_said_and_gets_no_secret(issued: Issued, implicit: bool) -> None:
    sign_in = SignIn("PLAIN", "relay", "s3cret")
    async with NextHop(tls=server_context(issued), implicit_tls=implicit, users={"relay": "s3cret"}) as hop:
        one = replace(probe(hop, tls="tls" if implicit else "starttls"), sign_in=sign_in)
        findings = await walk(one)
        assert not hop.sign_ins
    assert of(findings, "TLS").severity is Severity.ERROR
    assert "fingerprint" in of(findings, "TLS").advice
    assert "not tried" in of(findings, "AUTH").message
    assert not [line for _, line in hop.commands if line.upper().startswith("AUTH")]
    assert of(findings, "MAIL").subject.endswith("MAIL")  # it looked on


async def test_wrong_name_in_the_certificate(authority: Authority) -> None:
    other = authority.issue("other.example.org")
    async with NextHop(tls=server_context(other)) as hop:
        findings = await walk(replace(probe(hop, tls="starttls"), context=lambda: trusting(other)))
    assert of(findings, "TLS").severity is Severity.ERROR


async def test_pinned_certificate(issued: Issued) -> None:
    def unchecked() -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    async with NextHop(tls=server_context(issued)) as hop:
        right = replace(probe(hop, tls="starttls"), context=unchecked, fingerprint=issued.fingerprint)
        assert of(await walk(right), "TLS").severity is Severity.OK
        wrong = of(await walk(replace(right, fingerprint="0" * 64)), "TLS")
    assert wrong.severity is Severity.ERROR
    assert issued.fingerprint in wrong.message


async def test_implicit_tls_on_a_plain_port_says_so() -> None:
    async with NextHop() as hop:
        findings = await walk(probe(hop, tls="tls"))
    assert findings[-1].severity is Severity.ERROR
    assert "starttls" in findings[-1].advice


# ---- AUTH


async def test_signs_in_with_the_routes_secret(issued: Issued) -> None:
    async with NextHop(tls=server_context(issued), users={"relay": "s3cret"}) as hop:
        one = replace(probe(hop, tls="starttls"), context=lambda: trusting(issued))
        without = await walk(one)
        right = await walk(replace(one, sign_in=SignIn("PLAIN", "relay", "s3cret")))
        wrong = await walk(replace(one, sign_in=SignIn("PLAIN", "relay", "wrong")))
    assert "[route.auth]" in of(without, "MAIL").advice
    assert of(right, "AUTH").severity is Severity.OK
    assert of(right, "RCPT").severity is Severity.OK
    assert of(wrong, "AUTH").severity is Severity.ERROR
    assert "user or secret is wrong" in of(wrong, "AUTH").advice
    assert not [finding for finding in wrong if finding.subject.endswith("MAIL")]
    assert "s3cret" not in repr(right) + repr(wrong)


async def test_a_mechanism_that_is_not_offered(issued: Issued) -> None:
    async with NextHop(tls=server_context(issued), users={"relay": "x"}, mechanisms=("PLAIN",)) as hop:
        one = replace(probe(hop, tls="starttls"), context=lambda: trusting(issued))
        findings = await walk(replace(one, sign_in=SignIn("XOAUTH2", "relay", "x")))
    assert "the route wants XOAUTH2" in of(findings, "AUTH").message


# ---- what breaks


async def test_nobody_listens() -> None:
    async with NextHop() as hop:
        port = hop.port
    findings = await walk(Probe("127.0.0.1", port, "mail.example.org", SENDER, RECIPIENT))
    assert of(findings, "connect").severity is Severity.ERROR


async def test_a_name_without_an_address() -> None:
    findings = await walk(Probe("no-such-host.invalid", 25, "mail.example.org", SENDER, RECIPIENT))
    assert [finding.severity for finding in findings] == [Severity.ERROR]
    assert "has no address" in findings[0].message


@pytest.mark.parametrize("step", ["CONNECT", "EHLO", "MAIL", "RCPT", "RSET"])
async def test_a_connection_that_breaks(step: str) -> None:
    async with NextHop(script={step: DROP}) as hop:
        findings = await walk(probe(hop))
    assert findings[-1].severity is Severity.ERROR
    assert "the conversation ended" in findings[-1].message


async def test_a_next_hop_that_says_goodbye() -> None:
    async with NextHop(script={"MAIL": Last("421 4.3.2 shutting down")}) as hop:
        findings = await walk(probe(hop))
    assert "421" in of(findings, "MAIL").message


async def test_a_next_hop_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "_TIMEOUT", 0.2)
    async with NextHop(script={"MAIL": HANG}) as hop:
        findings = await walk(probe(hop))
    assert "no reply within 0.2 s" in of(findings, "MAIL").message


def test_a_sign_in_does_not_show_its_secret() -> None:
    assert "s3cret" not in repr(SignIn("PLAIN", "u", "s3cret"))
    assert conversation.Ended("MAIL", "x").step == "MAIL"

"""Walks a next hop the way delivery will, up to RCPT and back: what must it allow, in words.

    findings = await walk(Probe(host="mx.example.org", port=25, hello="mail.example.org", ...))

resolve, connect, greeting, EHLO, TLS, AUTH, MAIL from an own address, RCPT outside, RSET, MAIL <>, QUIT. Nothing
is sent: there is no DATA. Where a certificate is not trusted the walk says so and looks on without trust, but then
it signs in nowhere. Unknown commands are never tried: some servers count them.

STANDARDS
    RFC 5321, RFC 3207, RFC 4954, RFC 1870, RFC 6152, RFC 6531, RFC 8314.

ERRORS
    None raised: whatever happens is a Finding.
"""

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_hex

from pillarbox.doctor.conversation import Conversation, Ended
from pillarbox.doctor.hints import CISCO, advise, greeting_is_masked, in_words, masked_keywords
from pillarbox.doctor.report import Finding, Severity
from pillarbox.net.stream import ConnectionLost, DeadlineExceeded, connect
from pillarbox.sasl import client_mechanism
from pillarbox.smtp.events import Hello, Mail, Quit, Rcpt, Reset, StartTls
from pillarbox.smtp.path import Mailbox
from pillarbox.smtp.reply import Reply

_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True, repr=False)
class SignIn:
    """How to sign in there; not shown in any repr."""

    mechanism: str
    user: str
    secret: str


@dataclass(frozen=True, slots=True)
class Probe:
    """One walk.

    Attributes:
        tls: "none", "starttls", "tls", or "auto" (STARTTLS where it is offered).
        context: makes the TLS context that checks the certificate as delivery will.
        tls_name: the name the certificate must have; also sent as SNI.
        fingerprint: SHA-256 of the only certificate that is right (hex), None: the context decides.
        sign_in: None: do not.
        sender, recipient: for MAIL and RCPT; the recipient is outside the next hop's domains.
        max_message_size: octets that the sites accept, to be compared with SIZE.
        assume_8bitmime: the route sends 8-bit content regardless.
    """

    host: str
    port: int
    hello: str
    sender: Mailbox
    recipient: Mailbox
    tls: str = "auto"
    context: Callable[[], ssl.SSLContext] = ssl.create_default_context
    tls_name: str | None = None
    fingerprint: str | None = None
    sign_in: SignIn | None = None
    source_address: str | None = None
    max_message_size: int = 0
    assume_8bitmime: bool = False


async def walk(probe: Probe) -> list[Finding]:
    """All findings, in the order of the walk."""
    walker = _Walker(probe)
    await walker.walk()
    return walker.findings


class _Over(Exception):
    """The connection is gone and the finding about it made."""


class _Walker:
    def __init__(self, probe: Probe) -> None:
        self.findings: list[Finding] = []
        self._probe = probe
        self._trusted = True
        self._encrypted = False

    def _find(self, severity: Severity, step: str, message: str, advice: str = "") -> None:
        self.findings.append(Finding(severity, f"{self._probe.host} {step}", message, advice))

    async def walk(self) -> None:
        if not await self._resolve():
            return
        talk = await self._open()
        if talk is None:
            return
        try:
            await self._converse(talk)
            await talk.ask(Quit())
            self._find(Severity.OK, "QUIT", "left in good order; nothing was sent")
        except _Over:
            pass  # its finding is there already
        except Ended as end:
            self._find(
                Severity.ERROR, end.step, f"the conversation ended: {end}", CISCO if "XXXX" in str(end) else ""
            )
        finally:
            await talk.close()

    # -- up to the first octet

    async def _resolve(self) -> bool:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._probe.host, self._probe.port, type=socket.SOCK_STREAM)
        except OSError as error:
            reason = error.strerror or str(error)
            self._find(
                Severity.ERROR, "resolve", f"the name has no address: {reason}", "look at the name, and at DNS here"
            )
            return False
        addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
        self._find(Severity.OK, "resolve", f"is at {', '.join(addresses)}")
        return True

    async def _open(self) -> Conversation | None:
        talk: Conversation | None
        try:
            talk = await self._connect(self._probe.context if self._probe.tls == "tls" else None)
        except ssl.SSLCertVerificationError as error:
            self._distrust(error)
            talk = await self._again()
        except ssl.SSLError as error:
            self._no_tls(error)
            return None
        except (ConnectionLost, DeadlineExceeded) as error:
            reason = str(error) or f"no answer within {_TIMEOUT:g} s"
            self._find(
                Severity.ERROR,
                "connect",
                f"port {self._probe.port}: {reason}",
                "look at host, port and the firewalls between; many providers block port 25 outwards",
            )
            return None
        if talk is not None:
            self._find(
                Severity.OK,
                "connect",
                f"connected to port {self._probe.port}; the next hop sees this host as {talk.local}",
            )
            if self._probe.tls == "tls":
                self._secured(talk)
        return talk

    async def _connect(self, context: Callable[[], ssl.SSLContext] | None) -> Conversation:
        stream = await connect(
            self._probe.host,
            self._probe.port,
            tls=context() if context else None,
            server_hostname=self._probe.tls_name or self._probe.host,
            local_address=self._probe.source_address,
            timeout=_TIMEOUT,
        )
        return Conversation(stream, _TIMEOUT)

    async def _again(self) -> Conversation | None:
        """Connects once more without trust, only to look."""
        try:
            return await self._connect(_trusting_context)
        except (ConnectionLost, DeadlineExceeded, ssl.SSLError) as error:
            self._find(Severity.ERROR, "connect", f"a second connection failed: {error}")
            return None

    # -- the conversation

    async def _converse(self, talk: Conversation) -> None:
        greeting = await talk.greeting()
        if not self._greeted(greeting) or not await self._hello(talk):
            return
        if self._probe.tls in ("starttls", "auto") and not await self._start_tls(talk):
            return
        if self._probe.tls == "none":
            self._find(Severity.NOTE, "TLS", 'not used: the route says tls = "none"')
        self._look_at_keywords(talk)
        if await self._authenticate(talk):
            await self._transaction(talk)

    def _greeted(self, reply: Reply) -> bool:
        if greeting_is_masked(reply):
            self._find(Severity.WARNING, "greeting", f"it is masked: {in_words(reply)}", CISCO)
        elif reply.is_positive:
            self._find(Severity.OK, "greeting", in_words(reply))
        if not reply.is_positive:
            self._refused("greeting", reply, "")
        return reply.is_positive

    async def _hello(self, talk: Conversation) -> bool:
        reply = await talk.ask(Hello(self._probe.hello, esmtp=True))
        if reply.is_positive:
            offered = " ".join(talk.keywords) or "no extensions"
            where = "EHLO inside TLS" if self._encrypted else "EHLO"
            self._find(Severity.OK, where, f"as {self._probe.hello}; it offers {offered}")
            return True
        if reply.code not in (500, 502) or self._probe.tls == "starttls":
            self._refused("EHLO", reply, "")
            return False
        second = await talk.ask(Hello(self._probe.hello, esmtp=False))
        if not second.is_positive:
            self._refused("HELO", second, "")
            return False
        self._find(
            Severity.WARNING, "EHLO", f"not understood ({in_words(reply)}), HELO was: no extension can be used", CISCO
        )
        return True

    async def _start_tls(self, talk: Conversation) -> bool:
        required = self._probe.tls == "starttls"
        if "STARTTLS" not in talk.keywords:
            masked = masked_keywords(talk.keywords)
            severity = Severity.ERROR if required else Severity.WARNING
            advice = CISCO if masked else 'enable TLS there, or set tls = "none" in the route if the way is trusted'
            self._find(severity, "TLS", "STARTTLS is not offered", advice)
            return not required
        reply = await talk.ask(StartTls())
        if not reply.is_positive:
            self._refused(
                "STARTTLS", reply, "the next hop offers STARTTLS and cannot do it: its certificate may be missing"
            )
            return not required
        try:
            await talk.start_tls(self._probe.context(), self._probe.tls_name or self._probe.host)
        except ssl.SSLCertVerificationError as error:
            self._distrust(error)
            return await self._start_tls_without_trust(talk)
        except ssl.SSLError as error:
            self._no_tls(error)
            raise _Over from None
        self._secured(talk)
        return await self._hello(talk)

    async def _start_tls_without_trust(self, talk: Conversation) -> bool:
        """A failed handshake ends the connection: a second one, without trust, looks at the rest."""
        await talk.close()
        try:
            talk.replace(await self._connect(None))
        except (ConnectionLost, DeadlineExceeded) as error:
            raise Ended("connect", f"a second time: {error}") from None
        await talk.greeting()
        await talk.ask(Hello(self._probe.hello, esmtp=True))
        if not (await talk.ask(StartTls())).is_positive:
            return False
        try:
            await talk.start_tls(_trusting_context(), self._probe.tls_name or self._probe.host)
        except ssl.SSLError as error:
            self._no_tls(error)
            raise _Over from None
        self._encrypted = True
        return await self._hello(talk)

    def _distrust(self, error: ssl.SSLCertVerificationError) -> None:
        self._trusted = False
        self._find(
            Severity.ERROR,
            "TLS",
            f"its certificate is not trusted: {error.verify_message or error}",
            "in the route: ca (its CA), tls_name (the name in it) or fingerprint; the walk goes on without trust",
        )

    def _no_tls(self, error: ssl.SSLError) -> None:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        plain = "wrong version number" in reason or "record layer" in reason
        advice = (
            'this port does not begin with TLS: set tls = "starttls"' if plain else "TLS 1.2 or newer is needed there"
        )
        self._find(Severity.ERROR, "TLS", f"the handshake failed: {reason}", advice)

    def _secured(self, talk: Conversation) -> None:
        self._encrypted = True
        version, cipher = talk.tls_facts or ("TLS", "?")
        seen = hashlib.sha256(talk.certificate).hexdigest() if talk.certificate else ""
        if self._probe.fingerprint is not None and seen != self._probe.fingerprint:
            self._trusted = False
            self._find(
                Severity.ERROR, "TLS", f"it shows another certificate than the pinned one: {seen or 'none'}",
                "find out why it changed before you change fingerprint",
            )  # fmt: skip
        elif self._trusted:
            self._find(Severity.OK, "TLS", f"{version} {cipher}; its certificate is trusted (sha256 {seen[:16]}…)")

    def _look_at_keywords(self, talk: Conversation) -> None:
        keywords = talk.keywords
        masked = masked_keywords(keywords)
        if masked:
            self._find(Severity.WARNING, "EHLO", f"keywords were overwritten on the way: {' '.join(masked)}", CISCO)
        if "8BITMIME" not in keywords and not self._probe.assume_8bitmime:
            self._find(
                Severity.WARNING,
                "8BITMIME",
                "not offered: messages with 8-bit content will bounce (5.6.3)",
                "enable it there (Domino: Router/SMTP, Advanced, 8-bit MIME), or set assume_8bitmime in the route",
            )
        if "SMTPUTF8" not in keywords:
            self._find(
                Severity.NOTE, "SMTPUTF8", "not offered: mail to or from internationalised addresses will bounce"
            )
        self._look_at_size(keywords.get("SIZE", ""))

    def _look_at_size(self, said: str) -> None:
        limit = int(said) if said.isascii() and said.isdigit() and len(said) < 20 else 0
        if limit and limit < self._probe.max_message_size:
            self._find(
                Severity.WARNING,
                "SIZE",
                f"it takes {limit} octets, the sites {self._probe.max_message_size}: larger mail will bounce (5.3.4)",
                "raise its limit, or lower max_message_size",
            )

    async def _authenticate(self, talk: Conversation) -> bool:
        """True: go on to MAIL."""
        offered = talk.keywords.get("AUTH", "").upper().split()
        sign_in = self._probe.sign_in
        if sign_in is None:
            what = f"offered ({' '.join(offered)}), not used" if offered else "not offered, not used"
            self._find(Severity.NOTE, "AUTH", f"{what}: the route has no [route.auth]")
            return True
        if not self._trusted:
            self._find(Severity.NOTE, "AUTH", "not tried: the secret goes to nobody who is not trusted")
            return True
        if sign_in.mechanism not in offered:
            listed = " ".join(offered) or "nothing"
            self._find(
                Severity.ERROR, "AUTH", f"the route wants {sign_in.mechanism}, it offers {listed}", "change mechanism"
            )
            return False
        mechanism = client_mechanism(sign_in.mechanism, sign_in.user, sign_in.secret, token_hex(16))
        reply = await talk.sign_in(mechanism)
        if not reply.is_positive:
            self._refused("AUTH", reply, "")
            return False
        if not mechanism.complete:
            self._find(
                Severity.ERROR, "AUTH", "it says yes and has not proven that it knows the password", "ask who answers"
            )
            return False
        self._find(Severity.OK, "AUTH", f"signed in as {sign_in.user} by {sign_in.mechanism}")
        return True

    async def _transaction(self, talk: Conversation) -> None:
        sender, recipient = self._probe.sender, self._probe.recipient
        reply = await talk.ask(Mail(sender))
        if not reply.is_positive:
            self._refused("MAIL", reply, f"from {sender}: ")
        else:
            self._find(Severity.OK, "MAIL", f"from {sender} is allowed: {in_words(reply)}")
            reply = await talk.ask(Rcpt(recipient))
            if reply.is_positive:
                self._find(Severity.OK, "RCPT", f"to {recipient} is allowed: {in_words(reply)}")
            else:
                self._refused("RCPT", reply, f"to {recipient}: ")
        await self._null_reverse_path(talk)

    async def _null_reverse_path(self, talk: Conversation) -> None:
        """Bounces leave by the same next hop."""
        reply = await talk.ask(Reset())
        if not reply.is_positive:
            self._refused("RSET", reply, "")
            return
        reply = await talk.ask(Mail(None))
        if reply.is_positive:
            self._find(Severity.OK, "MAIL <>", "bounces are allowed")
            await talk.ask(Reset())
        else:
            self._find(
                Severity.WARNING,
                "MAIL <>",
                f"bounces are refused: {in_words(reply)}",
                "a mail system must take the null reverse-path (RFC 5321 4.5.5): allow it",
            )

    def _refused(self, step: str, reply: Reply, what: str) -> None:
        severity = Severity.WARNING if reply.is_transient and step in ("MAIL", "RCPT") else Severity.ERROR
        self._find(severity, step, f"{what}{in_words(reply)}", advise(step, reply))


def _trusting_context() -> ssl.SSLContext:
    """Checks nothing: for looking only, never with a secret."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

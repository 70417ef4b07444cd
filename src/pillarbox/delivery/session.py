"""A session with a smarthost: connect, greeting, EHLO, TLS, sign-in; then one attempt after another.

EHLO that is not understood is followed by HELO, where the route asks for neither TLS nor sign-in. With STARTTLS,
EHLO is said again inside and what was offered outside is forgotten. What a route asks for and does not get ends
the set-up: no plaintext in place of TLS, no mail without the sign-in. None of it fails a message, not even a 5yz:
it says something about the route and nothing about the message, so the messages wait while somebody corrects it.

STANDARDS
    RFC 5321 3.1, 4.1.1.1, 4.5.3.2, RFC 3207, RFC 4954, RFC 8314 3.3 (implicit TLS).

ERRORS
    open_session raises NextHopUnavailable with the reason in words; the connection is closed then.
"""

import asyncio
import ssl
from collections.abc import Callable
from secrets import token_hex
from typing import Final

from pillarbox.delivery.abilities import Abilities, Allowance
from pillarbox.delivery.attempt import attempt, say
from pillarbox.delivery.consignment import Consignment, NextHopUnavailable, Report
from pillarbox.delivery.route import next_hop
from pillarbox.delivery.secrets import Secrets, SecretUnavailable
from pillarbox.delivery.settings import AuthSettings, SmarthostRoute, TlsMode
from pillarbox.delivery.tls_policy import PinMismatch, TlsSettingsError, check_pin, server_name
from pillarbox.net.stream import ConnectionLost, DeadlineExceeded, SmtpStream, connect
from pillarbox.sasl import ClientMechanism, ExchangeError, client_mechanism
from pillarbox.smtp.connection import LocalProtocolError, RemoteProtocolError
from pillarbox.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    Challenge,
    Command,
    ConnectionClosed,
    Hello,
    Quit,
    StartTls,
)
from pillarbox.smtp.reply import Reply
from pillarbox.spool.base import Outbox
from pillarbox.telemetry.events import get_logger

GREETING_TIMEOUT: Final = 300.0
COMMAND_TIMEOUT: Final = 300.0
QUIT_TIMEOUT: Final = 5.0
MOST_CHALLENGES: Final = 8

_log = get_logger("delivery")


class Session:
    """An established session, between transactions. A Carrier."""

    def __init__(self, stream: SmtpStream, abilities: Abilities, outbox: Outbox, hop: str) -> None:
        self.carried = 0
        self._stream = stream
        self._abilities = abilities
        self._allowance = Allowance(abilities)
        self._outbox = outbox
        self._hop = hop
        self._usable = True

    async def deliver(self, consignment: Consignment) -> Report:
        """One attempt; see attempt.py."""
        report = await attempt(
            self._stream, self._abilities, consignment, self._outbox, self._hop, allowance=self._allowance
        )
        self.carried += 1
        self._usable = report.usable
        if report.rest or self._allowance.spent:
            report.usable = False  # but it can still say QUIT
        return report

    async def close(self) -> None:
        """Says QUIT and waits a moment for the answer (RFC 5321 4.1.1.10)."""
        if self._usable:
            await _quit(self._stream)

    def abort(self) -> None:
        self._stream.abort()


async def _quit(stream: SmtpStream) -> None:
    try:
        stream.send(Quit())
        stream.set_deadline(QUIT_TIMEOUT)
        await stream.next_event()
    except (ConnectionLost, DeadlineExceeded, RemoteProtocolError, LocalProtocolError):
        pass  # it was going anyway
    await stream.close()


async def open_session(
    route: SmarthostRoute,
    *,
    host: str,
    outbox: Outbox,
    secrets: Secrets,
    context: Callable[[], ssl.SSLContext],
    connect_timeout: float,
) -> Session:
    """Connects and prepares a session up to the first MAIL.

    ``host`` is our EHLO name; ``context`` gives the route's TLS context and is called only when one is needed.
    Raises NextHopUnavailable.
    """
    stream: SmtpStream | None = None
    where = "connecting"
    try:
        stream = await _connect(route, context, connect_timeout)
        setup = _Setup(stream, route, host, secrets, context)
        where = "setting up the session"
        abilities = await setup.run()
    except (ConnectionLost, OSError) as error:
        # OSError covers ssl.SSLError
        reason = f"{_status_of(error, connected=stream is not None)} {where}: {_words(error, server_name(route))}"
    except DeadlineExceeded:
        reason = f"{'4.4.2' if stream is not None else '4.4.1'} no answer in time while {where}"
    except (RemoteProtocolError, LocalProtocolError) as error:
        reason = f"4.5.0 the next hop broke the protocol while {where}: {error}"
    except PinMismatch as error:
        reason = f"4.7.5 {error}"
    except _Refused as error:
        reason = str(error)
    except TlsSettingsError as error:
        reason = f"4.3.5 {error}"
    except SecretUnavailable as error:
        reason = f"4.3.0 no secret to sign in with: {error}"
    else:
        return Session(stream, abilities, outbox, next_hop(route))
    if stream is not None:
        stream.abort()
    raise NextHopUnavailable(reason)


def _status_of(error: Exception, *, connected: bool) -> str:
    if isinstance(error, ssl.SSLError):
        return "4.7.5"
    return "4.4.2" if connected else "4.4.1"


def _words(error: Exception, name: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted for {name}: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


async def _connect(route: SmarthostRoute, context: Callable[[], ssl.SSLContext], timeout: float) -> SmtpStream:
    tls = context() if route.tls is TlsMode.TLS else None
    try:
        return await connect(
            route.host,
            route.port,
            tls=tls,
            server_hostname=server_name(route) if tls is not None else None,
            local_address=route.source_address,
            timeout=timeout,
        )
    except TimeoutError:
        raise DeadlineExceeded from None


class _Refused(Exception):
    """The set-up cannot go on; ``str()`` is the reason with its status."""


class _Setup:
    """The conversation before the first MAIL."""

    def __init__(
        self,
        stream: SmtpStream,
        route: SmarthostRoute,
        host: str,
        secrets: Secrets,
        context: Callable[[], ssl.SSLContext],
    ) -> None:
        self._stream = stream
        self._route = route
        self._host = host
        self._secrets = secrets
        self._context = context

    async def run(self) -> Abilities:
        """From the greeting to the sign-in."""
        route = self._route
        if route.tls is TlsMode.TLS:
            check_pin(route, self._stream.peer_certificate)
        greeting = await self._reply(None, GREETING_TIMEOUT)
        if not greeting.is_positive:
            raise _Refused(f"4.3.2 the next hop does not greet: {say(greeting)}")
        await self._hello()
        if route.tls is TlsMode.STARTTLS:
            await self._start_tls()
            await self._hello()
        if route.auth is not None:
            await self._sign_in(route.auth)
        return Abilities.of(self._stream.connection.extensions, assume_8bitmime=route.assume_8bitmime)

    async def _hello(self) -> None:
        reply = await self._reply(Hello(self._host, esmtp=True))
        if reply.is_permanent and self._route.auth is None and self._route.tls is not TlsMode.STARTTLS:
            reply = await self._reply(Hello(self._host, esmtp=False))
        if not reply.is_positive:
            raise _Refused(f"4.3.2 EHLO was refused: {say(reply)}")

    async def _start_tls(self) -> None:
        if "STARTTLS" not in self._stream.connection.extensions:
            raise _Refused("4.7.4 the route wants STARTTLS and the next hop does not offer it")
        reply = await self._reply(StartTls())
        if reply.code != 220:
            raise _Refused(f"4.7.4 STARTTLS was refused: {say(reply)}")
        await self._stream.start_tls(self._context(), server_hostname=server_name(self._route))
        check_pin(self._route, self._stream.peer_certificate)

    async def _sign_in(self, auth: AuthSettings) -> None:
        offered = self._stream.connection.extensions.get("AUTH", "").upper().split()
        if auth.mechanism not in offered:
            said = " ".join(offered) or "nothing"
            raise _Refused(f"4.7.0 the route signs in by {auth.mechanism}, the next hop offers {said}")
        secret = await self._secrets.get(auth)
        try:
            mechanism = client_mechanism(auth.mechanism, auth.user, secret, token_hex(16))
        except ValueError as error:
            raise _Refused(f"4.3.5 {error}") from None
        reply = await self._exchange(mechanism)
        if reply.code == 235 and not mechanism.complete:
            raise _Refused("4.7.0 the next hop says yes and has not proven that it knows the password")
        if reply.code != 235:
            self._secrets.forget(auth)
            _log.warning(
                "next_hop.sign_in_refused", next_hop=next_hop(self._route), mechanism=auth.mechanism, reply=say(reply)
            )
            raise _Refused(f"4.7.8 the sign-in as {auth.user} was refused: {say(reply)}")

    async def _exchange(self, mechanism: ClientMechanism) -> Reply:
        command: Command = Auth(mechanism.name, mechanism.initial_response())
        for _ in range(MOST_CHALLENGES):
            event = await self._ask(command)
            if isinstance(event, Reply):
                return event
            try:
                # a proof takes as long as the server's iterations say: not on the loop
                command = AuthResponse(await asyncio.to_thread(mechanism.step, event.challenge))
            except ExchangeError:
                command = AuthCancelled()
        raise RemoteProtocolError("the sign-in does not end")

    async def _reply(self, command: Command | None, seconds: float = COMMAND_TIMEOUT) -> Reply:
        event = await self._ask(command, seconds)
        if isinstance(event, Reply):
            return event
        raise RemoteProtocolError("a challenge where a reply was due")

    async def _ask(self, command: Command | None, seconds: float = COMMAND_TIMEOUT) -> Reply | Challenge:
        if command is not None:
            self._stream.send(command)
        self._stream.set_deadline(seconds)
        event = await self._stream.next_event()
        if isinstance(event, Reply | Challenge):
            return event
        if isinstance(event, ConnectionClosed):
            raise ConnectionLost("closed by the next hop")
        raise RemoteProtocolError(f"{type(event).__name__} where a reply was due")

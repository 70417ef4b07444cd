"""One signed-in session of the load client: opened, used for transactions, closed.

    session = await open_session(target)
    reply = await session.submit(mail, recipients, chunks, pipelining=True)
    await session.close()

STANDARDS
    RFC 5321 3.3, RFC 2920 3.1 (one group of MAIL, RCPT and DATA), RFC 3207, RFC 4954, RFC 8314 3.3.

ERRORS
    SessionFailed: the session is of no use any more; its text is for a person. A refusal of a message is a value.
"""

import ssl
from collections.abc import Sequence
from typing import Final

from pillarbox.bench.settings import Target
from pillarbox.net.stream import ConnectionLost, DeadlineExceeded, SmtpStream, connect
from pillarbox.sasl import ExchangeError, client_mechanism
from pillarbox.smtp.connection import LocalProtocolError, RemoteProtocolError
from pillarbox.smtp.events import (
    Auth,
    AuthCancelled,
    AuthResponse,
    Challenge,
    Command,
    Content,
    Data,
    EndOfContent,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Reset,
    StartTls,
)
from pillarbox.smtp.reply import Reply

HELLO: Final = "pillarbox-bench.invalid"
MECHANISMS: Final = ("PLAIN", "LOGIN")
"""In the order of preference."""

_DATA: Final = Data()
_END: Final = EndOfContent(size=0, defects=frozenset(), eight_bit=False)
_MOST_CHALLENGES: Final = 4
_FLUSH: Final = 65_536


class SessionFailed(Exception):
    """The session cannot be opened or go on. ``refused``: the server said so; else it was late, gone or odd."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


def in_short(reply: Reply) -> str:
    """Code, enhanced status and first line: what replies are counted by."""
    return " ".join(filter(None, (str(reply.code), reply.enhanced, reply.text[0] if reply.text else "")))


class Session:
    """See the module's text."""

    __slots__ = ("_patience", "pipelining", "stream")

    def __init__(self, stream: SmtpStream, patience: float) -> None:
        self.stream = stream
        self.pipelining = False
        self._patience = patience

    async def submit(
        self, mail: Mail, recipients: Sequence[Rcpt], chunks: Sequence[bytes], *, pipelining: bool = True
    ) -> Reply:
        """One transaction. Returns the reply that decided it: 250 to the content, or the first refusal."""
        commands: tuple[Command, ...] = (mail, *recipients, _DATA)
        together = pipelining and self.pipelining
        if together:
            for command in commands:
                self.stream.send(command)
        refusal: Reply | None = None
        admitted = 0
        for command in commands:
            if not together:
                self.stream.send(command)
            reply = await self._reply()
            if reply.code == 354:
                # with all recipients refused, a 354 is answered with the end alone (RFC 2920 3.1)
                final = await self._send_content(chunks if admitted else ())
                return refusal or final
            if reply.is_positive:
                admitted += type(command) is Rcpt
            else:
                refusal = refusal or reply
                if not together:
                    break
        await self.ask(Reset())
        if refusal is None:
            raise SessionFailed("DATA was answered with neither 354 nor a refusal")
        return refusal

    async def _send_content(self, chunks: Sequence[bytes]) -> Reply:
        stream = self.stream
        for chunk in chunks:
            stream.send(Content(chunk))
            if len(chunk) >= _FLUSH:
                await self._flush()
        stream.send(_END)
        return await self._reply()

    async def ask(self, command: Command) -> Reply:
        """Says one command and waits for its reply."""
        self.stream.send(command)
        return await self._reply()

    async def close(self) -> None:
        """QUIT, its reply, and the end of TLS. Raises SessionFailed."""
        try:
            await self.ask(Quit())
        finally:
            await self.stream.close()

    def abort(self) -> None:
        """Closes at once."""
        self.stream.abort()

    async def _reply(self) -> Reply:
        event = await self._event()
        if isinstance(event, Challenge):
            raise SessionFailed("a challenge where a reply was due")
        return event

    async def _event(self) -> Reply | Challenge:
        stream = self.stream
        stream.set_deadline(self._patience)
        try:
            event = await stream.next_event()
        except (ConnectionLost, DeadlineExceeded, RemoteProtocolError, LocalProtocolError) as error:
            raise _failure(error) from error
        if not isinstance(event, Reply | Challenge):  # ConnectionClosed
            raise SessionFailed("the server closed the connection")
        if isinstance(event, Reply) and event.code == 421:
            raise SessionFailed(in_short(event), refused=True)
        return event

    async def _flush(self) -> None:
        try:
            self.stream.set_deadline(self._patience)
            await self.stream.flush()
        except (ConnectionLost, DeadlineExceeded) as error:
            raise _failure(error) from error

    # --- from the greeting to the sign-in

    async def set_up(self, target: Target) -> None:
        """Greeting, EHLO, STARTTLS where wanted, sign-in where there is a user. Raises SessionFailed."""
        _require(await self._reply())
        await self._hello()
        if target.context is not None and target.starttls:
            if "STARTTLS" not in self.stream.connection.extensions:
                raise SessionFailed("STARTTLS is not offered", refused=True)
            _require(await self.ask(StartTls()))
            try:
                await self.stream.start_tls(target.context, server_hostname=target.server_hostname or target.host)
            except (ConnectionLost, DeadlineExceeded, LocalProtocolError, OSError) as error:
                raise _failure(error) from error
            await self._hello()
        if target.user:
            await self._sign_in(target.user, target.password)
        self.pipelining = "PIPELINING" in self.stream.connection.extensions

    async def _hello(self) -> None:
        _require(await self.ask(Hello(HELLO, esmtp=True)))

    async def _sign_in(self, user: str, password: str) -> None:
        offered = self.stream.connection.extensions.get("AUTH", "").upper().split()
        name = next((name for name in MECHANISMS if name in offered), None)
        if name is None:
            said = " ".join(offered) or "no mechanism"
            raise SessionFailed(f"the server offers {said}, not {' or '.join(MECHANISMS)}", refused=True)
        try:
            mechanism = client_mechanism(name, user, password)
        except ValueError as error:
            raise SessionFailed(str(error), refused=True) from None
        command: Command = Auth(name, mechanism.initial_response())
        for _ in range(_MOST_CHALLENGES):
            self.stream.send(command)
            event = await self._event()
            if isinstance(event, Reply):
                _require(event)
                return
            try:
                command = AuthResponse(mechanism.step(event.challenge))
            except ExchangeError:
                command = AuthCancelled()
        raise SessionFailed("the sign-in does not end")


def _require(reply: Reply) -> None:
    if not reply.is_positive:
        raise SessionFailed(in_short(reply), refused=True)


def _failure(error: Exception) -> SessionFailed:
    if isinstance(error, DeadlineExceeded):
        return SessionFailed("no reply in time")
    if isinstance(error, ssl.SSLCertVerificationError):
        return SessionFailed(f"the certificate is not trusted: {error.verify_message}", refused=True)
    if isinstance(error, ssl.SSLError):
        return SessionFailed(f"TLS: {error.reason or error}")
    return SessionFailed(str(error) or type(error).__name__)


async def open_session(target: Target) -> Session:
    """Connects and signs in. Raises SessionFailed; nothing is left open then."""
    try:
        stream = await connect(
            target.host,
            target.port,
            tls=target.context if not target.starttls else None,
            server_hostname=target.server_hostname,
            timeout=target.patience,
        )
    except (ConnectionLost, DeadlineExceeded, OSError) as error:
        raise _failure(error) from error
    session = Session(stream, target.patience)
    try:
        await session.set_up(target)
    except BaseException:
        session.abort()
        raise
    return session

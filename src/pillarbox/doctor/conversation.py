"""One conversation with a next hop, a command and its reply at a time: no pipelining, so each reply has its step.

ERRORS
    Ended: the next hop closed, was late, or broke the protocol; ``step`` is the command that waited.
"""

import ssl

from pillarbox.net.stream import ConnectionLost, DeadlineExceeded, SmtpStream
from pillarbox.sasl import ClientMechanism, ExchangeError
from pillarbox.smtp.connection import LocalProtocolError, RemoteProtocolError
from pillarbox.smtp.events import Auth, AuthCancelled, AuthResponse, Challenge, Command, ConnectionClosed
from pillarbox.smtp.reply import Reply

_MOST_CHALLENGES = 8
_STEPS = {"Hello": "EHLO", "StartTls": "STARTTLS", "Reset": "RSET"}


class Ended(Exception):
    """The conversation cannot go on; ``str()`` says why, ``step`` where."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(reason)
        self.step = step


class Conversation:
    """Over an open stream; ``timeout`` seconds for each reply."""

    def __init__(self, stream: SmtpStream, timeout: float) -> None:
        self._stream = stream
        self._timeout = timeout

    @property
    def keywords(self) -> dict[str, str]:
        """What the last EHLO reply offered."""
        return self._stream.connection.extensions

    @property
    def local(self) -> str:
        """Our address as the next hop sees it, unless something translates it on the way."""
        return self._stream.local[0]

    @property
    def tls_facts(self) -> tuple[str, str] | None:
        """Version and cipher."""
        return self._stream.tls_facts

    @property
    def certificate(self) -> bytes | None:
        """The next hop's certificate in DER."""
        return self._stream.peer_certificate

    def replace(self, other: "Conversation") -> None:
        """Goes on over another conversation's stream."""
        self._stream = other._stream

    async def greeting(self) -> Reply:
        """The first reply."""
        return self._reply(await self._event("greeting"), "greeting")

    async def ask(self, command: Command) -> Reply:
        """Says a command and waits for its reply."""
        name = type(command).__name__
        step = _STEPS.get(name, name.upper())
        self._stream.send(command)
        return self._reply(await self._event(step), step)

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """The handshake after 220. Raises ssl.SSLError, Ended."""
        try:
            await self._stream.start_tls(context, server_hostname=name)
        except (ConnectionLost, DeadlineExceeded, LocalProtocolError) as error:
            raise Ended("TLS", str(error) or "too slow") from None

    async def sign_in(self, mechanism: ClientMechanism) -> Reply:
        """A whole SASL exchange; the last reply."""
        command: Command = Auth(mechanism.name, mechanism.initial_response())
        for _ in range(_MOST_CHALLENGES):
            self._stream.send(command)
            event = await self._event("AUTH")
            if isinstance(event, Reply):
                return event
            try:
                command = AuthResponse(mechanism.step(event.challenge))
            except ExchangeError:
                command = AuthCancelled()
        raise Ended("AUTH", "the exchange does not end")

    async def close(self) -> None:
        """Closes, in good order where possible."""
        await self._stream.close()

    async def _event(self, step: str) -> Reply | Challenge:
        self._stream.set_deadline(self._timeout)
        try:
            event = await self._stream.next_event()
        except ConnectionLost as error:
            raise Ended(step, str(error)) from None
        except DeadlineExceeded:
            raise Ended(step, f"no reply within {self._timeout:g} s") from None
        except (RemoteProtocolError, LocalProtocolError) as error:
            raise Ended(step, f"it broke the protocol: {error}") from None
        if isinstance(event, ConnectionClosed):
            raise Ended(step, "it closed the connection")
        if not isinstance(event, Reply | Challenge):
            raise Ended(step, "it broke the protocol")
        return event

    @staticmethod
    def _reply(event: Reply | Challenge, step: str) -> Reply:
        if isinstance(event, Challenge):
            raise Ended(step, "it sent a challenge where a reply was due")
        return event

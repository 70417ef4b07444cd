"""One session: pumps events from its stream and answers each; what posts mail is in posting.py, made at sign-in.

    session = Session(stream, plan, services, admission, on_signed_in)
    await session.run()

A command's method is named for it; the order of commands, and what may be said before sign-in, is the protocol
core's (smtp/state.py). Nothing raised in a session leaves it: a bug is answered 451 and ends that one alone.

STANDARDS
    RFC 5321 (4.5.3.2 time limits), RFC 6409, RFC 3207, RFC 4954.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from pillarbox.directory.base import Identity
from pillarbox.guard.prefix import prefix
from pillarbox.net.stream import (
    READ_AHEAD,
    READ_AHEAD_BEFORE_SIGN_IN,
    ConnectionLost,
    DeadlineExceeded,
    Interrupted,
    SmtpStream,
)
from pillarbox.smtp.connection import LocalProtocolError, RemoteProtocolError
from pillarbox.smtp.events import (
    Auth,
    Chunk,
    ConnectionClosed,
    Data,
    Hello,
    Help,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Reset,
    StartTls,
    Verify,
)
from pillarbox.smtp.reply import Reply
from pillarbox.submission import replies, rights
from pillarbox.submission.admission import Admission
from pillarbox.submission.authentication import Asker, authenticate, recognise
from pillarbox.submission.help import help_reply
from pillarbox.submission.mechanisms import offered
from pillarbox.submission.posting import Posting
from pillarbox.submission.refusals import REFUSED, Refusals
from pillarbox.submission.replies import Refused
from pillarbox.submission.site import Plan, Services, Site
from pillarbox.submission.turns import COMMAND, HANDSHAKE
from pillarbox.telemetry.counters import counter
from pillarbox.telemetry.events import Logger, get_logger

SESSIONS = counter("sessions_total", "Sessions opened", labels=("listener",))

MAX_SIGN_IN_FAILURES = 5
"""Failed or cancelled sign-ins in one session before it is closed; mail programs try each mechanism with the same
password."""

MAX_COMMANDS_BEFORE_SIGN_IN = 50
"""Commands, good or bad, before a sign-in; a mail program says six. A stranger's flood costs no more than these."""

MAX_COMMANDS_WITHOUT_MESSAGE = 1000
"""Commands of who has signed in, good or bad, until a message is accepted; new recipients are not counted, which
have limits of their own. NOOP, RSET and HELP in an endless row end here."""

PATIENT_COMMANDS = 32
"""Commands without a sign-in or a message after which a session shares its time with others like it."""

COMMANDS_IN_A_ROW = 64
"""After as many a session that has more in its buffer lets the others run. Who pays for a step is turns.py's."""


class Session:
    """See the module's text."""

    __slots__ = (
        "_admission",
        "_closing",
        "_commands",
        "_cut",
        "_draining",
        "_failures",
        "_forgotten_messages",
        "_hello",
        "_log",
        "_on_signed_in",
        "_only_looks",
        "_opened_at",
        "_plan",
        "_posting",
        "_refusals",
        "_services",
        "_site",
        "_stranger_since",
        "_stream",
        "account_changed",
        "identity",
        "session_id",
        "shaking_hands",
    )  # fmt: skip

    def __init__(
        self,
        stream: SmtpStream,
        plan: Plan,
        services: Services,
        admission: "Admission[Session]",
        on_signed_in: "Callable[[Session], None]",
        *,
        only_looks: bool = False,
    ) -> None:
        """``only_looks``: the peer is a load balancer outside a legacy site's networks: nobody signs in here."""
        self.session_id = services.random(6).hex()
        self.identity: Identity | None = None
        self.account_changed = False
        self.shaking_hands = False
        self._stream = stream
        self._plan = plan
        self._site: Site = plan.default
        self._services = services
        self._admission = admission
        self._log = self._nameless_log()
        self._hello = Hello("", False)
        self._opened_at = self._stranger_since = services.now()
        self._failures = 0
        self._forgotten_messages = 0
        self._commands = 0
        self._posting: Posting | None = None
        self._refusals = Refusals()
        self._closing = False
        self._cut = False
        self._draining = False
        self._on_signed_in = on_signed_in
        self._only_looks = only_looks

    def _nameless_log(self) -> Logger:
        return get_logger("submission").bind(session=self.session_id, peer=self._stream.peer[0])

    @property
    def _messages(self) -> int:
        return self._forgotten_messages + (0 if self._posting is None else self._posting.messages)

    @property
    def _in_transaction(self) -> bool:
        return self._posting is not None and self._posting.transaction is not None

    def describe(self) -> dict[str, object]:
        """What an operator sees of it."""
        return {
            "session": self.session_id,
            "peer": self._stream.peer[0],
            "listener": self._plan.listener,
            "site": self._site.settings.name,
            "login": self.identity.login if self.identity is not None else "",
            "seconds": round(self._services.now() - self._opened_at, 1),
            "messages": self._messages,
            "in_transaction": self._in_transaction,
        }

    def drain(self) -> None:
        """Ends the session after the transaction in hand, at once when there is none."""
        self._draining = True
        if not self._in_transaction:
            self._stream.interrupt()

    def cut(self, task: "asyncio.Task[None]") -> None:
        """Ends the session at once, without a word; ``task`` is the one that runs it."""
        self._cut = True
        task.cancel()

    async def run(self) -> None:
        """The whole session, from the first octet to the last. Never raises but CancelledError."""
        plan = self._plan
        SESSIONS.add(1, plan.listener)
        origin = self._stream.origin
        through = {} if origin is None else {"proxy": origin.proxy}
        site = plan.default.settings.name
        port = self._stream.peer[1]
        # A load balancer looks every other second whether we are there: that is no news.
        is_news = origin is None or origin.named
        if is_news:
            self._log.info("session.opened", port=port, listener=plan.listener, site=site, **through)
        how = "error"
        try:
            how = await self._converse()
        except (ConnectionLost, DeadlineExceeded) as error:
            how = str(error) or "timeout"
        except asyncio.CancelledError:
            how = "cut"
            if self._cut:  # not before: the handshake in hand ends first
                self._stream.abort()
            raise
        except Exception:
            self._log.exception("session.failed")
            self._send_last(replies.OUR_FAULT)
        finally:
            await self._end_transaction()
            await self._stream.close()
            seconds = round(self._services.now() - self._opened_at, 3)
            more = {"unlogged": self._refusals.unlogged} if self._refusals.unlogged else {}
            if is_news or self.identity is not None:
                self._log.info("session.closed", how=how, seconds=seconds, messages=self._messages, **more)

    async def _converse(self) -> str:
        """Returns how the session ended, in words."""
        if self._plan.implicit_tls and not await self._shake_hands():
            return "TLS handshake failed"
        self._stream.send(replies.greeting(self._site.settings.name))
        try:
            while not self._closing:
                try:
                    await self._next_command()
                except RemoteProtocolError as error:
                    self._on_protocol_error(error)
                except Refused as refused:
                    self._refuse(refused)
        except DeadlineExceeded:
            place = self._stream.connection.unfinished
            self._send_last(replies.TIMEOUT)
            return f"timeout inside {place}" if place else "timeout"
        except Interrupted:
            self._send_last(replies.SHUTTING_DOWN)
            return "drained"
        except LocalProtocolError as error:
            self._log.warning("session.broken", reason=str(error))
            self._stream.abort()
            return str(error)
        return "quit"

    async def _next_command(self) -> None:
        stream = self._stream
        self._commands += 1
        self._check_number()
        if self._commands % COMMANDS_IN_A_ROW == 0:
            await asyncio.sleep(0)
        posting = self._posting
        if posting is not None:
            if posting.fruitless > PATIENT_COMMANDS:
                await posting.take_turn()
        elif self._commands > 1:  # for the one before: who has said nothing pays nothing
            await self._take_turn(COMMAND)
        if self._draining and not self._in_transaction:  # nobody was there to be interrupted
            raise Refused(replies.SHUTTING_DOWN, "draining", closes=True)
        stream.set_deadline(self._time_allowed())
        event = await stream.next_event()
        if self.account_changed:
            raise Refused(replies.ACCOUNT_CHANGED, "the account was changed", closes=True)
        if self._draining and not self._in_transaction:
            raise Refused(replies.SHUTTING_DOWN, "draining", closes=True)
        await _COMMANDS[type(event)](self, event)

    @property
    def _pays(self) -> bool:
        return self._admission.is_stranger(self) or self._commands > PATIENT_COMMANDS

    async def _take_turn(self, cost: float) -> None:
        """For a step of a session in which nobody has signed in yet: a stranger waits for it, and so does who goes on
        and on from a known place."""
        if self._pays:
            await self._admission.strangers_turns.wait(prefix(self._stream.peer[0]), cost)

    def _check_number(self) -> None:
        posting = self._posting
        if posting is None:
            if self._commands > MAX_COMMANDS_BEFORE_SIGN_IN:
                raise Refused(replies.TOO_MANY_COMMANDS, "too many commands before a sign-in", closes=True)
            return
        posting.fruitless += 1
        if posting.fruitless > MAX_COMMANDS_WITHOUT_MESSAGE:
            raise Refused(replies.NOTHING_SENT, "too many commands without a message", closes=True)

    def _time_allowed(self) -> float:
        """Seconds for the next command: whoever has not signed in has one budget for the whole session."""
        settings = self._site.settings
        if self.identity is not None:
            return settings.idle_timeout
        return max(0.0, self._stranger_since + settings.unauthenticated_timeout - self._services.now())

    # --- commands

    async def _on_hello(self, event: Hello) -> None:
        self._hello = event
        await self._end_transaction()
        stream, tls = self._stream, self._stream.connection.tls
        if self._only_looks:
            stream.connection.offer(())
        elif self.identity is None and (tls or self._site.limits.plaintext_sign_in):
            implicit = self._plan.implicit_tls
            stream.connection.offer(
                offered(self._site, implicit_tls=implicit, tls=tls, certificate=lambda: stream.peer_certificate)
            )
        stream.send(stream.connection.hello_reply(self._site.settings.name, self._services.now()))

    async def _on_starttls(self, _: StartTls) -> None:
        self._stream.send(replies.GO_AHEAD_TLS)
        self._hello = Hello("", False)
        if self.identity is not None:
            await self._end_transaction()
            self._forget_sign_in()
        await self._shake_hands()

    async def _on_auth(self, event: Auth) -> None:
        asker = self._asker(self._stream.peer_certificate if event.mechanism == "EXTERNAL" else None)
        try:
            identity = await authenticate(self._stream, event, asker)
        except Refused as refused:
            if refused.reply not in (replies.SIGN_IN_FAILED, replies.SIGN_IN_CANCELLED):
                raise
            self._failures += 1
            if self._failures >= MAX_SIGN_IN_FAILURES:
                raise Refused(replies.TOO_MANY_FAILURES, "too many failures in one session", closes=True) from None
            raise
        self._sign_in(identity, event.mechanism)
        self._stream.send(replies.SIGNED_IN)

    async def _on_mail(self, event: Mail) -> None:
        await self._signed_in().mail(event, self._hello)

    async def _on_rcpt(self, event: Rcpt) -> None:
        await self._signed_in().rcpt(event)

    async def _on_data(self, _: Data) -> None:
        await self._signed_in().data()

    async def _on_chunk(self, _: Chunk) -> None:
        await self._signed_in().take_content()

    async def _on_reset(self, _: Reset) -> None:
        await self._end_transaction()
        self._stream.send(replies.OK)

    async def _on_noop(self, _: Noop) -> None:
        self._stream.send(replies.OK)

    async def _on_help(self, event: Help) -> None:
        self._stream.send(help_reply(event.topic, self._site.limits, signed_in=self.identity is not None))

    async def _on_verify(self, _: Verify) -> None:
        self._stream.send(replies.CANNOT_VERIFY)

    async def _on_quit(self, _: Quit) -> None:
        self._stream.send(replies.BYE)
        self._closing = True

    async def _on_closed(self, _: ConnectionClosed) -> None:
        raise ConnectionLost("the peer closed the connection")

    # --- inside

    def _asker(self, certificate: bytes | None = None) -> Asker:
        return Asker(self._stream.peer[0], self._site, self._services, self._admission, self._log, certificate)

    def _forget_sign_in(self) -> None:
        """A legacy site's client signed in outside TLS and now begins it: what was said before is void, and there is
        anew what a stranger gets of time and commands (RFC 3207 4.2)."""
        self._forgotten_messages = self._messages
        self.identity = self._posting = None
        self._stream.read_ahead = READ_AHEAD_BEFORE_SIGN_IN
        self._stranger_since = self._services.now()
        self._commands = 0
        self._log = self._nameless_log()

    def _sign_in(self, identity: Identity, mechanism: str) -> None:
        if self._only_looks:  # AUTH was not offered: a second lock on the same door
            raise AssertionError("a sign-in from outside a legacy site's networks")
        legacy, domains = self._site.settings.legacy, self._site.settings.domains
        if domains:
            identity = rights.narrowed(identity, domains)
        if legacy is not None:
            identity = rights.widened(identity, legacy)
        self.identity = identity
        self._stream.read_ahead = READ_AHEAD
        self._on_signed_in(self)
        self._log = self._log.bind(login=identity.login)
        self._log.info("signin.succeeded", mechanism=mechanism, site=self._site.settings.name)
        self._posting = Posting(
            self._stream,
            identity,
            self._site,
            self._services,
            self._admission,
            self._refusals,
            self.session_id,
            self._log,
        )

    def _signed_in(self) -> Posting:
        if self._posting is None:  # the protocol core refuses this before: a second lock on the same door (R1)
            raise AssertionError("a mail command before sign-in")
        return self._posting

    def _handshake_time(self) -> float:
        return min(self._time_allowed(), self._plan.default.settings.handshake_timeout) or 0.001

    async def _shake_hands(self) -> bool:
        """TLS, implicit or after the 220 of STARTTLS; False: it failed and the transport is gone."""
        stream, plan = self._stream, self._plan
        self.shaking_hands = True
        try:
            if plan.implicit_tls and self._pays:  # a connection that says nothing takes nobody's turn
                await stream.wait_for_hello(self._handshake_time())
            await self._take_turn(HANDSHAKE)
            if not self._admission.begin_handshake(self, plan.default.settings):
                self._log.info("tls.failed", reason="too many handshakes at a time", listener=plan.listener)
                self._closing = True
                return False
            timeout = self._handshake_time()
            if plan.implicit_tls:
                await stream.shake_hands(plan.context, server_side=True, timeout=timeout)
            else:
                await stream.start_tls(plan.context, timeout=timeout)
        except (ssl.SSLError, ConnectionLost) as error:
            reason = getattr(error, "reason", None) or str(error)
            self._log.info("tls.failed", reason=reason, listener=plan.listener)
            self._closing = True
            return False
        finally:
            self.shaking_hands = False
            self._admission.end_handshake(self)
        if plan.switches and (context := stream.tls_context) is not None:
            self._site = site = plan.by_context.get(context, plan.default)
            stream.connection.serve_as(site.limits, site.settings.mechanisms_of(implicit_tls=plan.implicit_tls))
        signs_in = self._site.settings.certificate_signs_in and not self._only_looks
        if signs_in and (certificate := stream.peer_certificate) is not None:
            identity = await recognise(certificate, self._asker())
            if identity is not None:
                stream.connection.sign_in()
                self._sign_in(identity, "certificate")
        return True

    async def _end_transaction(self) -> None:
        if self._posting is not None:
            await self._posting.end_transaction()

    def _refuse(self, refused: Refused) -> None:
        self._refusals.refused(self._log, refused, self._message())
        self._stream.send(refused.reply)
        self._closing = self._closing or refused.closes

    def _on_protocol_error(self, error: RemoteProtocolError) -> None:
        hint = error.reply_hint or replies.OUR_FAULT
        self._refusals.broken(self._log, error, hint, self._message())
        self._stream.send(hint)
        self._closing = self._closing or error.fatal

    def _message(self) -> dict[str, Any]:
        return {} if self._posting is None else self._posting.named()

    def _send_last(self, reply: Reply) -> None:
        with contextlib.suppress(LocalProtocolError):  # no reply is due (inside the content): closing says it
            self._stream.send(reply)
            REFUSED.add(1, str(reply.code))


_COMMANDS: dict[type[Any], Callable[[Session, Any], Awaitable[None]]] = {
    Hello: Session._on_hello,
    StartTls: Session._on_starttls,
    Auth: Session._on_auth,
    Mail: Session._on_mail,
    Rcpt: Session._on_rcpt,
    Data: Session._on_data,
    Chunk: Session._on_chunk,
    Reset: Session._on_reset,
    Noop: Session._on_noop,
    Help: Session._on_help,
    Verify: Session._on_verify,
    Quit: Session._on_quit,
    ConnectionClosed: Session._on_closed,
}
"""One line a command; a dispatch by type, since a chain of cases costs more the later the case."""

"""One session: pumps events from its stream and answers each; what a transaction holds lives in the transaction.

    session = Session(stream, plan, services, admission, on_signed_in)
    await session.run()

A command's method is named for it; the order of commands, and what may be said before sign-in, is the protocol
core's (smtp/state.py). Nothing raised in a session leaves it: a bug is answered 451 and ends this session alone.

STANDARDS
    RFC 5321 (4.5.3.2 time limits), RFC 6409, RFC 3207, RFC 4954.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from pillarbox.directory.base import Identity
from pillarbox.message.envelope import queue_id
from pillarbox.net.stream import READ_AHEAD, ConnectionLost, DeadlineExceeded, Interrupted, SmtpStream
from pillarbox.smtp.connection import LocalProtocolError, RemoteProtocolError
from pillarbox.smtp.events import (
    Auth,
    Chunk,
    ConnectionClosed,
    Data,
    EndOfContent,
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
from pillarbox.submission.mechanisms import offered
from pillarbox.submission.reception import receive, tell_accepted
from pillarbox.submission.refusals import REFUSED, Refusals
from pillarbox.submission.replies import Refused
from pillarbox.submission.site import Plan, Services, Site
from pillarbox.submission.terms import agree
from pillarbox.submission.transaction import Origin, Transaction, refusal_of
from pillarbox.telemetry.counters import counter
from pillarbox.telemetry.events import get_logger

SESSIONS = counter("sessions_total", "Sessions opened", labels=("listener",))

MAX_SIGN_IN_FAILURES = 5
"""Failed sign-ins in one session before it is closed; mail programs try each mechanism with the same password."""

MAX_COMMANDS_BEFORE_SIGN_IN = 50
"""Commands, good or bad, before a sign-in; a mail program says six. A stranger's flood costs no more than these."""

MAX_COMMANDS_WITHOUT_MESSAGE = 1000
"""Commands of who has signed in, good or bad, until a message is accepted; new recipients are not counted, which
have limits of their own. NOOP, RSET and HELP in an endless row end here."""

TURN = 64
"""Commands after which a session that has more in its buffer lets the others have their turn."""


class Session:
    """See the module's text."""

    __slots__ = (
        "_admission",
        "_closing",
        "_commands",
        "_draining",
        "_failures",
        "_fruitless",
        "_hello",
        "_log",
        "_messages",
        "_on_signed_in",
        "_opened_at",
        "_plan",
        "_refusals",
        "_services",
        "_site",
        "_stream",
        "_transaction",
        "account_changed",
        "identity",
        "session_id",
    )  # fmt: skip

    def __init__(
        self,
        stream: SmtpStream,
        plan: Plan,
        services: Services,
        admission: "Admission[Session]",
        on_signed_in: "Callable[[Session], None]",
    ) -> None:
        self.session_id = services.random(6).hex()
        self.identity: Identity | None = None
        self.account_changed = False
        self._stream = stream
        self._plan = plan
        self._site: Site = plan.default
        self._services = services
        self._admission = admission
        self._log = get_logger("submission").bind(session=self.session_id, peer=stream.peer[0])
        self._hello = Hello("", False)
        self._transaction: Transaction | None = None
        self._opened_at = services.now()
        self._messages = 0
        self._failures = 0
        self._commands = 0
        self._fruitless = 0
        self._refusals = Refusals()
        self._closing = False
        self._draining = False
        self._on_signed_in = on_signed_in

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
            "in_transaction": self._transaction is not None,
        }

    def drain(self) -> None:
        """Ends the session after the transaction in hand, at once when there is none."""
        self._draining = True
        if self._transaction is None:
            self._stream.interrupt()

    def cut(self, task: "asyncio.Task[None]") -> None:
        """Ends the session at once, without a word; ``task`` is the one that runs it."""
        self._stream.abort()
        task.cancel()

    async def run(self) -> None:
        """The whole session, from the first octet to the last. Never raises but CancelledError."""
        plan = self._plan
        SESSIONS.add(1, plan.listener)
        origin = self._stream.origin
        # A load balancer looks every other second whether we are there: that is no news.
        tell = self._log.info if origin is None or origin.named else self._log.debug
        through = {} if origin is None else {"proxy": origin.proxy}
        site = plan.default.settings.name
        tell("session.opened", port=self._stream.peer[1], listener=plan.listener, site=site, **through)
        how = "error"
        try:
            how = await self._converse()
        except (ConnectionLost, DeadlineExceeded) as error:
            how = str(error) or "timeout"
        except asyncio.CancelledError:
            how = "cut"
            raise
        except Exception:
            self._log.exception("session.failed")
            self._send_last(replies.OUR_FAULT)
        finally:
            await self._end_transaction()
            await self._stream.close()
            seconds = round(self._services.now() - self._opened_at, 3)
            more = {"unlogged": self._refusals.unlogged} if self._refusals.unlogged else {}
            tell("session.closed", how=how, seconds=seconds, messages=self._messages, **more)

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
            self._send_last(replies.TIMEOUT)
            return "timeout"
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
        self._fruitless += 1
        if self._fruitless > MAX_COMMANDS_BEFORE_SIGN_IN:
            self._check_fruitless()
        if self._commands % TURN == 0:
            await asyncio.sleep(0)
        stream.set_deadline(self._time_allowed())
        event = await stream.next_event()
        if self.account_changed:
            raise Refused(replies.ACCOUNT_CHANGED, "the account was changed", closes=True)
        if self._draining and self._transaction is None:
            raise Refused(replies.SHUTTING_DOWN, "draining", closes=True)
        await _COMMANDS[type(event)](self, event)

    def _check_fruitless(self) -> None:
        if self.identity is None:
            raise Refused(replies.TOO_MANY_COMMANDS, "too many commands before a sign-in", closes=True)
        if self._fruitless > MAX_COMMANDS_WITHOUT_MESSAGE:
            raise Refused(replies.NOTHING_SENT, "too many commands without a message", closes=True)

    def _time_allowed(self) -> float:
        """Seconds for the next command: whoever has not signed in has one budget for the whole session."""
        settings = self._site.settings
        if self.identity is not None:
            return settings.idle_timeout
        return max(0.0, self._opened_at + settings.unauthenticated_timeout - self._services.now())

    # --- commands

    async def _on_hello(self, event: Hello) -> None:
        self._hello = event
        await self._end_transaction()
        stream = self._stream
        if self.identity is None and stream.connection.tls:
            implicit = self._plan.implicit_tls
            stream.connection.offer(
                offered(self._site, implicit_tls=implicit, certificate=lambda: stream.peer_certificate)
            )
        stream.send(stream.connection.hello_reply(self._site.settings.name))

    async def _on_starttls(self, _: StartTls) -> None:
        self._stream.send(replies.GO_AHEAD_TLS)
        self._hello = Hello("", False)
        await self._shake_hands()

    async def _on_auth(self, event: Auth) -> None:
        asker = self._asker(self._stream.peer_certificate if event.mechanism == "EXTERNAL" else None)
        try:
            identity = await authenticate(self._stream, event, asker)
        except Refused as refused:
            if refused.reply is not replies.SIGN_IN_FAILED:
                raise
            self._failures += 1
            if self._failures >= MAX_SIGN_IN_FAILURES:
                raise Refused(replies.TOO_MANY_FAILURES, "too many failures in one session", closes=True) from None
            raise
        self._sign_in(identity, event.mechanism)
        self._stream.send(replies.SIGNED_IN)

    async def _on_mail(self, event: Mail) -> None:
        identity = self._signed_in()
        reverse_path = "" if event.reverse_path is None else str(event.reverse_path)
        parameters = event.parameters
        refusal = self._services.intake.refusal(parameters.size or 0)
        if refusal is not None:
            raise refusal_of(refusal)
        rights.check_reverse_path(identity, reverse_path, smtputf8=parameters.smtputf8)
        now = self._services.now()
        terms = agree(parameters, now, self._site.settings.max_hold)
        await self._end_transaction()  # of one whose chunk was refused
        self._transaction = Transaction(
            identity=identity,
            reverse_path=reverse_path,
            parameters=parameters,
            terms=terms,
            queue_id=queue_id(now, self._services.random(10)),
            now=now,
            site=self._site.settings,
            origin=Origin(
                self.session_id, self._hello.argument, self._hello.esmtp, self._stream.peer[0], self._stream.tls_facts
            ),
            intake=self._services.intake,
        )
        self._log.debug("transaction.opened", queue_id=self._transaction.queue_id, reverse_path=reverse_path)
        self._stream.send(replies.SENDER_OK)

    async def _on_rcpt(self, event: Rcpt) -> None:
        transaction = self._open_transaction()
        forward_path = str(event.forward_path)
        if transaction.add_recipient(forward_path, event.parameters):
            if not await self._take_quota(transaction.identity):
                del transaction.forward_paths[forward_path]
                raise Refused(replies.OVER_QUOTA, "over the hourly quota of recipients")
            self._fruitless -= 1
        self._stream.send(replies.RECIPIENT_OK)

    async def _take_quota(self, identity: Identity) -> bool:
        limit = identity.recipients_per_hour
        if limit is None:
            limit = self._site.settings.recipients_per_hour
        services = self._services
        if await services.guard.take(identity.login, 1, limit, services.now()):
            return True
        if self._admission.tells_over_quota(identity.login, services.now()):
            self._log.warning("quota.exceeded", limit=limit, **self._message())
        return False

    async def _on_data(self, _: Data) -> None:
        transaction = self._open_transaction()
        if not transaction.forward_paths:
            raise Refused(replies.NO_RECIPIENTS, "DATA without a recipient")
        self._stream.send(replies.START_CONTENT)
        await self._take_content(transaction)

    async def _on_chunk(self, _: Chunk) -> None:
        await self._take_content(self._open_transaction())

    async def _take_content(self, transaction: Transaction) -> None:
        try:
            end = await receive(self._stream, transaction, self._site.settings)
        except RemoteProtocolError as error:  # a chunk that failed: nothing of this transaction may be committed
            transaction.content_refusal = Refused(
                error.reply_hint or replies.OUR_FAULT, "an earlier chunk was refused"
            )
            raise
        if isinstance(end, EndOfContent):
            await self._finish(transaction, end)
        elif end is None:
            self._closing = True  # the peer left inside the content: nothing was promised
        elif transaction.content_refusal is not None:
            await self._give_up(transaction.content_refusal)
        else:
            self._stream.send(replies.chunk_received(end.size))

    async def _finish(self, transaction: Transaction, end: EndOfContent) -> None:
        """Commits and answers: the 250 is sent after commit has returned, never before (R6)."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._stream.set_deadline(None)
        try:
            envelope = await transaction.commit(end)
        except Refused as refused:
            await self._give_up(refused)
            return
        self._transaction = None
        self._messages += 1
        self._fruitless = 0
        self._refusals.forget()
        tell_accepted(self._log, envelope, loop.time() - began)
        self._stream.send(replies.queued(envelope.queue_id))

    async def _give_up(self, refused: Refused) -> None:
        self._refuse(refused)  # while the transaction is there, so that the line has its queue id
        await self._end_transaction()

    async def _on_reset(self, _: Reset) -> None:
        await self._end_transaction()
        self._stream.send(replies.OK)

    async def _on_noop(self, _: Noop) -> None:
        self._stream.send(replies.OK)

    async def _on_help(self, _: Help) -> None:
        self._stream.send(replies.HELP)

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

    def _sign_in(self, identity: Identity, mechanism: str) -> None:
        self.identity = identity
        self._stream.read_ahead = READ_AHEAD
        self._fruitless = 0
        self._on_signed_in(self)
        self._log = self._log.bind(login=identity.login)
        self._log.info("signin.succeeded", mechanism=mechanism, site=self._site.settings.name)

    def _signed_in(self) -> Identity:
        if self.identity is None:  # the protocol core refuses this before: a second lock on the same door (R1)
            raise AssertionError("a mail command before sign-in")
        return self.identity

    def _open_transaction(self) -> Transaction:
        if self._transaction is None:
            raise AssertionError("a command of a transaction outside one")
        return self._transaction

    async def _shake_hands(self) -> bool:
        """TLS, implicit or after the 220 of STARTTLS; False: it failed and the transport is gone."""
        stream, plan = self._stream, self._plan
        if not self._admission.begin_handshake(self, plan.default.settings):
            self._log.info("tls.failed", reason="too many handshakes at a time", listener=plan.listener)
            self._closing = True
            return False
        timeout = min(self._time_allowed(), plan.default.settings.handshake_timeout) or 0.001
        try:
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
            self._admission.end_handshake(self)
        if plan.switches and (context := stream.tls_context) is not None:
            self._site = site = plan.by_context.get(context, plan.default)
            stream.connection.serve_as(site.limits, site.settings.mechanisms_of(implicit_tls=plan.implicit_tls))
        if self._site.settings.certificate_signs_in and (certificate := stream.peer_certificate) is not None:
            identity = await recognise(certificate, self._asker())
            if identity is not None:
                stream.connection.sign_in()
                self._sign_in(identity, "certificate")
        return True

    async def _end_transaction(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            services = self._services
            services.guard.give_back(transaction.identity.login, len(transaction.forward_paths), services.now())
            await transaction.abandon()

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
        """What names the message of the open transaction in a line of the log."""
        return {} if self._transaction is None else {"queue_id": self._transaction.queue_id}

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

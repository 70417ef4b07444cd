"""What who has signed in does in a session: MAIL, RCPT, and content by DATA or BDAT, transaction after transaction.

Made at sign-in, so before it there is nothing to post with (R1). A method per command; each answers its command, or
raises Refused and the session answers.

STANDARDS
    RFC 5321 3.3, RFC 6409, RFC 3030 2 (BDAT).

ERRORS
    Refused; RemoteProtocolError and what else SmtpStream.next_event raises.
"""

import asyncio
from typing import Any

from pillarbox.directory.base import Identity
from pillarbox.message.envelope import queue_id
from pillarbox.net.stream import SmtpStream
from pillarbox.smtp.connection import RemoteProtocolError
from pillarbox.smtp.events import EndOfContent, Hello, Mail, Rcpt
from pillarbox.submission import replies, rights
from pillarbox.submission.admission import Admission
from pillarbox.submission.reception import receive, tell_accepted
from pillarbox.submission.refusals import Refusals
from pillarbox.submission.replies import Refused
from pillarbox.submission.site import Services, Site
from pillarbox.submission.terms import agree
from pillarbox.submission.transaction import Origin, Transaction, refusal_of
from pillarbox.submission.turns import COMMAND

PATIENT_RECIPIENTS = 100
"""Recipients of one message (RFC 5321 4.5.3.1.8 asks for as many at least) after which more share their time."""


class Posting:
    """See the module's text. ``transaction``: the open one; ``messages``: how many were accepted; ``fruitless``:
    commands since the last of them, new recipients not counted."""

    __slots__ = (
        "_admission",
        "_hello",
        "_log",
        "_origin",
        "_refusals",
        "_services",
        "_session_id",
        "_site",
        "_stream",
        "fruitless",
        "identity",
        "messages",
        "transaction",
    )  # fmt: skip

    def __init__(
        self,
        stream: SmtpStream,
        identity: Identity,
        site: Site,
        services: Services,
        admission: Admission[Any],
        refusals: Refusals,
        session_id: str,
        log: Any,
    ) -> None:
        self.identity = identity
        self.transaction: Transaction | None = None
        self.messages = 0
        self.fruitless = 0
        self._hello: Hello | None = None
        self._origin: Origin | None = None
        self._stream = stream
        self._site = site
        self._services = services
        self._admission = admission
        self._refusals = refusals
        self._session_id = session_id
        self._log = log

    async def mail(self, event: Mail, hello: Hello) -> None:
        """MAIL: opens a transaction."""
        reverse_path = "" if event.reverse_path is None else str(event.reverse_path)
        parameters, services, settings = event.parameters, self._services, self._site.settings
        refusal = services.intake.refusal(parameters.size or 0)
        if refusal is not None:
            raise refusal_of(refusal)
        rights.check_reverse_path(self.identity, reverse_path, smtputf8=parameters.smtputf8)
        now = services.now()
        terms = agree(parameters, now, settings.max_hold)
        await self.end_transaction()  # of one whose chunk was refused
        self.transaction = Transaction(
            identity=self.identity,
            reverse_path=reverse_path,
            parameters=parameters,
            terms=terms,
            queue_id=queue_id(now, services.random(10), services.intake.tag()),
            now=now,
            site=settings,
            origin=self._origin_of(hello),
            intake=services.intake,
        )
        self._log.debug("transaction.opened", queue_id=self.transaction.queue_id, reverse_path=reverse_path)
        self._stream.send(replies.SENDER_OK)

    def _origin_of(self, hello: Hello) -> Origin:
        """The same for all messages behind one EHLO, so made once: whoever begins TLS has to sign in anew."""
        if self._origin is None or self._hello is not hello:
            stream = self._stream
            self._origin = Origin(self._session_id, hello.argument, hello.esmtp, stream.peer[0], stream.tls_facts)
            self._hello = hello
        return self._origin

    async def rcpt(self, event: Rcpt) -> None:
        """RCPT: one more recipient, within the message's number and the hour's quota."""
        transaction = self._open()
        forward_path = str(event.forward_path)
        legacy = self._site.settings.legacy
        if legacy is not None:
            rights.check_forward_path(legacy, forward_path, smtputf8=transaction.parameters.smtputf8)
        if transaction.add_recipient(forward_path, event.parameters):
            if not await self._take_quota():
                del transaction.forward_paths[forward_path]
                raise Refused(replies.OVER_QUOTA, "over the hourly quota of recipients")
            self.fruitless -= 1
            if len(transaction.forward_paths) > PATIENT_RECIPIENTS:
                await self.take_turn()
        self._stream.send(replies.RECIPIENT_OK)

    async def take_turn(self) -> None:
        """Before a command of a session that has long sent nothing, or has very many recipients."""
        await self._admission.idlers_turns.wait(self.identity.login, COMMAND)

    async def _take_quota(self) -> bool:
        login, limit = self.identity.login, self.identity.recipients_per_hour
        if limit is None:
            limit = self._site.settings.recipients_per_hour
        services = self._services
        if await services.guard.take(login, 1, limit, services.now()):
            return True
        if self._admission.tells_over_quota(login, services.now()):
            self._log.warning("quota.exceeded", limit=limit, **self.named())
        return False

    async def data(self) -> None:
        """DATA: the whole content."""
        if not self._open().forward_paths:
            raise Refused(replies.NO_RECIPIENTS, "DATA without a recipient")
        self._stream.send(replies.START_CONTENT)
        await self.take_content()

    async def take_content(self) -> None:
        """The content, or after BDAT a chunk of it: taken to its end and answered."""
        transaction = self._open()
        try:
            end = await receive(self._stream, transaction, self._site.settings)
        except RemoteProtocolError as error:  # a chunk that failed: nothing of this transaction may be committed
            reply = error.reply_hint or replies.OUR_FAULT
            transaction.content_refusal = Refused(reply, "an earlier chunk was refused")
            raise
        if isinstance(end, EndOfContent):
            await self._finish(transaction, end)
        elif (refused := transaction.refusal_so_far(end.defects)) is not None:
            await self._give_up(refused)
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
        self.transaction = None
        self.messages += 1
        self.fruitless = 0
        self._refusals.forget()
        tell_accepted(self._log, envelope, loop.time() - began)
        self._stream.send(replies.queued(envelope.queue_id))

    async def _give_up(self, refused: Refused) -> None:
        """Answers while the transaction is there, so that the line in the log has its queue id; then ends it."""
        self._refusals.refused(self._log, refused, self.named())
        self._stream.send(refused.reply)
        await self.end_transaction()

    async def end_transaction(self) -> None:
        """Without a commit; nothing when none is open."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None:
            services = self._services
            services.guard.give_back(self.identity.login, len(transaction.forward_paths), services.now())
            await transaction.abandon()

    def named(self) -> dict[str, Any]:
        """What names the message of the open transaction in a line of the log."""
        return {} if self.transaction is None else {"queue_id": self.transaction.queue_id}

    def _open(self) -> Transaction:
        if self.transaction is None:
            raise AssertionError("a command of a transaction outside one")
        return self.transaction

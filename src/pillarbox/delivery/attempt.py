"""One attempt: a message's recipients, one connection, MAIL to the final reply, one verdict per recipient.

MAIL, the RCPTs and DATA leave in one write where the next hop offers PIPELINING; content and final dot in another.
Refused recipients get their own verdict and the others go on; the final reply is the verdict of all that were
accepted. Recipients beyond the next hop's limit (452 or 552 at RCPT while others were accepted) follow at once in
a transaction of their own. Binary content leaves by BDAT behind the RCPTs' replies, everything else by DATA.

Before the final dot the lease is asked for: when it is lost the connection is cut and nothing is said of the
recipients, for another worker has them. A connection that ends between final dot and final reply leaves the
message deferred, and a next hop that had taken it gets it twice (RFC 1047): at least once, never not at all.

STANDARDS
    RFC 5321 3.3, 4.5.3.1.10, 4.5.3.2 (time limits), RFC 2920 (PIPELINING: a 354 without a valid recipient is
    ended by a lone dot), RFC 3030 (BDAT), RFC 3463; abilities.py has those of the parameters.

ERRORS
    None: whatever the next hop does ends as verdicts. The spool's errors while reading content defer.
"""

import re
import time
from collections.abc import Callable, Sequence
from typing import Final

from pillarbox.delivery.abilities import Abilities, Allowance
from pillarbox.delivery.consignment import Consignment, Report, TryLater, Verdict
from pillarbox.net.stream import ConnectionLost, DeadlineExceeded, Stream
from pillarbox.smtp.connection import RemoteProtocolError
from pillarbox.smtp.events import (
    Chunk,
    Command,
    ConnectionClosed,
    Content,
    Data,
    EndOfContent,
    Mail,
    Rcpt,
    Reset,
)
from pillarbox.smtp.path import Mailbox
from pillarbox.smtp.reply import Reply
from pillarbox.spool.base import Delivered, Failed, Lease, Outbox, Recipient, SpoolError, UnknownQueueId

MAIL_TIMEOUT: Final = 300.0
RCPT_TIMEOUT: Final = 300.0
DATA_TIMEOUT: Final = 120.0
BLOCK_TIMEOUT: Final = 180.0
FINAL_TIMEOUT: Final = 600.0
RESET_TIMEOUT: Final = 60.0

LONGEST_REASON: Final = 500
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_DATA: Final = Data()
_RESET: Final = Reset()
_LAST: Final = Chunk(0, last=True)
_END: Final = EndOfContent(size=0, defects=frozenset(), eight_bit=False)


def say(reply: Reply) -> str:
    """A reply in one line, as outcomes, log and bounces show it."""
    enhanced = f" {reply.enhanced}" if reply.enhanced else ""
    return f"{reply.code}{enhanced} {' '.join(reply.text)}".rstrip()[:LONGEST_REASON]


def judge(reply: Reply, hop: str) -> Verdict:
    """What a reply means for a recipient that it speaks of."""
    if reply.is_positive:
        return Delivered(say(reply), hop)
    if reply.is_transient:
        return TryLater(say(reply))
    enhanced = reply.enhanced
    # the code decides; a status of another class beside it is the next hop's mistake
    status = enhanced if enhanced is not None and enhanced.startswith("5.") else "5.0.0"
    return Failed(say(reply), hop, status)


def read_path(path: str) -> Mailbox:
    """The mailbox of a path as an envelope holds it: wire form without brackets, checked when it came in."""
    local_part, at, domain = path.rpartition("@")
    if not at:
        return Mailbox(path, "")
    if local_part.startswith('"'):
        local_part = _QUOTED_PAIR.sub(r"\1", local_part[1:-1])
    return Mailbox(local_part, domain)


async def attempt(
    stream: Stream,
    abilities: Abilities,
    consignment: Consignment,
    outbox: Outbox,
    hop: str,
    clock: Callable[[], float] = time.time,
    allowance: Allowance | None = None,
) -> Report:
    """Tries the consignment's recipients over an established session between two transactions. ``clock`` gives
    seconds since the epoch; ``allowance`` is what the session may still have, None: it is new."""
    now = clock()
    envelope = consignment.lease.envelope
    report = Report(tls=stream.tls_facts)
    report.success = "" if abilities.dsn else "relayed"
    report.relaying_told = abilities.tells_of_relaying(envelope)
    impediment = abilities.impediment(consignment.lease, hop, now=now, tls=stream.tls_facts is not None)
    if impediment is not None:
        report.verdicts = dict.fromkeys((recipient.key for recipient in consignment.recipients), impediment)
        return report
    waiting: Sequence[Recipient] = consignment.recipients
    allowance = allowance or Allowance(abilities)
    mail = Mail(
        read_path(envelope.reverse_path) if envelope.reverse_path else None, abilities.mail_parameters(envelope, now)
    )
    while waiting:
        these, later = allowance.share(waiting)
        if not these:
            report.rest = tuple(waiting)
            return report
        transaction = _Transaction(stream, abilities, consignment.lease, mail, these, outbox, hop, report)
        await transaction.run()
        waiting = [*transaction.over_limit, *later]
        if not report.usable or report.stopped:
            break
    if not report.stopped:
        lost = TryLater("4.4.2 the connection ended before this recipient's turn")
        for recipient in waiting:
            report.verdicts.setdefault(recipient.key, lost)
    return report


class _Leaving(Exception):
    """The next hop said 421: the connection is over, and ``args[0]`` is the reason."""


class _Stopped(Exception):
    """The lease is lost."""


class _Transaction:
    """One MAIL and what follows it; thrown away at its end."""

    def __init__(
        self,
        stream: Stream,
        abilities: Abilities,
        lease: Lease,
        mail: Mail,
        recipients: Sequence[Recipient],
        outbox: Outbox,
        hop: str,
        report: Report,
    ) -> None:
        self._stream = stream
        self._abilities = abilities
        self._lease = lease
        self._mail = mail
        self._recipients = recipients
        self._outbox = outbox
        self._hop = hop
        self._report = report
        self._accepted: list[Recipient] = []
        self._where = "MAIL"
        self._heard = False
        self._open = False
        self.over_limit: list[Recipient] = []
        """Recipients for a transaction of their own; empty unless others went through."""

    async def run(self) -> None:
        """Fills the report in; raises nothing that the peer or the spool can cause."""
        try:
            await self._speak()
        except _Leaving as reason:
            self._end(str(reason))
        except ConnectionLost as error:
            self._end(f"4.4.2 connection lost at {self._where}: {error}")
        except DeadlineExceeded:
            self._end(f"4.4.2 no answer in time at {self._where}")
        except RemoteProtocolError as error:
            self._end(f"4.5.0 the next hop broke the protocol at {self._where}: {error}")
        except (_Stopped, UnknownQueueId):
            self._stream.abort()
            self._report.usable = False
            self._report.stopped = True
        except SpoolError as error:
            self._end(f"4.3.0 the content cannot be read now: {error}")

    def _end(self, reason: str) -> None:
        """The connection is of no further use; whoever has no verdict yet is deferred."""
        self._stream.abort()
        report = self._report
        report.usable = False
        report.unheard = not self._heard and not report.verdicts
        verdict = TryLater(reason[:LONGEST_REASON])
        for recipient in self._recipients:
            report.verdicts.setdefault(recipient.key, verdict)
        self.over_limit.clear()

    async def _speak(self) -> None:
        stream = self._stream
        abilities, envelope, mail = self._abilities, self._lease.envelope, self._mail
        rcpts = [
            Rcpt(read_path(recipient.forward_path), abilities.rcpt_parameters(envelope, recipient))
            for recipient in self._recipients
        ]
        if envelope.binary:
            if await self._take_mail(mail):
                await self._take_rcpts(rcpts)
                await (self._send_chunk() if self._accepted else self._leave_open_transaction())
        elif abilities.pipelining:
            stream.send(mail)
            for rcpt in rcpts:
                stream.send(rcpt)
            stream.send(_DATA)
            if await self._take_mail(None):
                await self._take_rcpts([None] * len(rcpts))
            else:
                for _ in rcpts:
                    await self._reply(None, "RCPT", RCPT_TIMEOUT)
            await self._take_data(None)
        elif await self._take_mail(mail):
            await self._take_rcpts(rcpts)
            if self._accepted:
                await self._take_data(_DATA)
            else:
                await self._leave_open_transaction()

    async def _take_mail(self, mail: Mail | None) -> bool:
        reply = await self._reply(mail, "MAIL", MAIL_TIMEOUT)
        self._open = reply.is_positive
        if not self._open:
            self._give_all(self._recipients, reply)
        return self._open

    async def _take_rcpts(self, rcpts: Sequence[Rcpt | None]) -> None:
        for recipient, rcpt in zip(self._recipients, rcpts, strict=True):
            self._take_rcpt(recipient, await self._reply(rcpt, "RCPT", RCPT_TIMEOUT))

    async def _take_data(self, data: Data | None) -> None:
        reply = await self._reply(data, "DATA", DATA_TIMEOUT)
        if reply.code == 354:
            await self._finish()
            return
        if reply.is_positive:
            raise RemoteProtocolError(f"DATA was answered {reply.code}")
        self._give_all(self._accepted, reply)
        await self._leave_open_transaction()

    async def _leave_open_transaction(self) -> None:
        """No final dot was due: RSET, so that the connection can carry another."""
        self._settle_over_limit(carried=False)
        if self._open:
            await self._reply(_RESET, "RSET", RESET_TIMEOUT)

    def _take_rcpt(self, recipient: Recipient, reply: Reply) -> None:
        if reply.is_positive:
            self._accepted.append(recipient)
            return
        if reply.code == 452 or (reply.code == 552 and reply.enhanced in (None, "5.5.3")):
            # too many recipients (RFC 5321 4.5.3.1.10); 552 is what RFC 821 had for it
            self.over_limit.append(recipient)
            reply = Reply(452, reply.text, "4.5.3" if reply.code == 552 else reply.enhanced)
        self._report.verdicts[recipient.key] = judge(reply, self._hop)

    async def _finish(self) -> None:
        """After 354: content and final dot, or the lone dot when nobody was accepted."""
        self._where = "the final dot"
        stream = self._stream
        if not self._accepted:
            stream.send(_END)
            await self._reply(None, "the final dot", FINAL_TIMEOUT)
            self._settle_over_limit(carried=False)
            return
        content = self._lease.content
        if content is None:
            await self._stream_content()
        if not self._outbox.extend(self._lease):
            raise _Stopped
        if content is not None:
            stream.send(Content(content))
        stream.send(_END)
        reply = await self._reply(None, "the final dot", FINAL_TIMEOUT)
        self._give_all(self._accepted, reply)
        self._settle_over_limit(carried=reply.is_positive)

    async def _send_chunk(self) -> None:
        """The whole content as one last chunk; what has to be read first, as one chunk and an empty last one, which
        is kept back, like a final dot, until the lease was asked for."""
        self._where = "the last chunk"
        stream, content = self._stream, self._lease.content
        if content is None:
            stream.send(Chunk(self._lease.envelope.size))
            await self._stream_content()
            reply = await self._reply(None, "the content", FINAL_TIMEOUT)
            if not reply.is_positive:
                await self._refuse_chunk(reply)
                return
        if not self._outbox.extend(self._lease):
            raise _Stopped
        stream.send(_LAST if content is None else Chunk(len(content), last=True))
        if content is not None:
            stream.send(Content(content))
        reply = await self._reply(None, "the last chunk", FINAL_TIMEOUT)
        if not reply.is_positive:
            await self._refuse_chunk(reply)
            return
        self._give_all(self._accepted, reply)
        self._settle_over_limit(carried=True)

    async def _refuse_chunk(self, reply: Reply) -> None:
        """What state a refused chunk leaves behind is not known: RSET clears it (RFC 3030 2)."""
        self._give_all(self._accepted, reply)
        await self._leave_open_transaction()

    async def _stream_content(self) -> None:
        self._where = "the content"
        stream = self._stream
        async for octets in self._outbox.open(self._lease.envelope.queue_id):
            stream.send(Content(octets))
            stream.set_deadline(BLOCK_TIMEOUT)
            await stream.flush()

    def _settle_over_limit(self, *, carried: bool) -> None:
        if not carried:
            self.over_limit.clear()  # their verdicts stand: deferred
        for recipient in self.over_limit:
            self._report.verdicts.pop(recipient.key, None)

    def _give_all(self, recipients: Sequence[Recipient], reply: Reply) -> None:
        verdict = judge(reply, self._hop)
        verdicts = self._report.verdicts
        for recipient in recipients:
            verdicts[recipient.key] = verdict

    async def _reply(self, command: Command | None, where: str, seconds: float) -> Reply:
        """The next reply, to ``command`` when it was not sent before."""
        self._where = where
        stream = self._stream
        if command is not None:
            stream.send(command)
        stream.set_deadline(seconds)
        event = await stream.next_event()
        if isinstance(event, Reply):
            if event.code == 421:
                raise _Leaving(say(event))
            self._heard = True
            return event
        if isinstance(event, ConnectionClosed):
            raise ConnectionLost("closed by the next hop")
        raise RemoteProtocolError(f"{type(event).__name__} where a reply was due")

"""A load: connections side by side, each sending one message after another, until so many or so long.

    tally = await run(target, load)

One session is tried first, alone: a wrong password must not be tried by every connection at once, for that is what
attackers do and what servers block. Each attempt counts, whatever came of it, so a run by count has an end although
nothing is accepted; after a failed session its place rests for a moment. What is in hand when the time is over is
finished, and counts.

ERRORS
    SessionFailed: the first session cannot be opened; nothing was sent then.
"""

import asyncio
import secrets
import time
from email.utils import formatdate

from pillarbox.bench.content import Messages
from pillarbox.bench.session import Session, SessionFailed, in_short, open_session
from pillarbox.bench.settings import Load, Target
from pillarbox.bench.tally import Tally
from pillarbox.smtp.events import Mail, MailParameters, Rcpt

REST = 0.1
"""Seconds that a connection's place rests after a session that failed."""


async def run(target: Target, load: Load) -> Tally:
    """Runs it to its end. Raises SessionFailed."""
    await (await open_session(target)).close()
    runner = _Runner(target, load)
    began = time.perf_counter()
    if load.seconds is not None:
        runner.until = began + load.seconds
    async with asyncio.TaskGroup() as tasks:
        for _ in range(load.connections):
            tasks.create_task(runner.work())
    runner.tally.seconds = time.perf_counter() - began
    return runner.tally


class _Runner:
    """What the connections of one load share."""

    def __init__(self, target: Target, load: Load) -> None:
        self.tally = Tally()
        self.until = float("inf")
        self._left = load.messages
        self._target = target
        self._load = load
        self._mail = Mail(load.sender, MailParameters())
        self._recipients = tuple(Rcpt(recipient) for recipient in load.recipients)
        self._messages = Messages(
            load.sender, load.recipients, load.size, formatdate(localtime=True), secrets.token_hex(6)
        )

    async def work(self) -> None:
        """One connection's place: session after session."""
        while self._take():
            began = time.perf_counter()
            try:
                session = await open_session(self._target)
            except SessionFailed as failure:
                self.tally.fail(str(failure))
                await asyncio.sleep(REST)
                continue
            self.tally.sessions += 1
            try:
                await self._send(session)
                await session.close()
            except SessionFailed as failure:
                self.tally.fail(str(failure))
                await asyncio.sleep(REST)
            else:
                self.tally.session_times.append(time.perf_counter() - began)
            finally:
                session.abort()

    async def _send(self, session: Session) -> None:
        """The message that was taken before the session was opened, and more."""
        tally, load = self.tally, self._load
        for number in range(load.per_connection):
            if number and not self._take():
                return
            chunks = self._messages.next()
            began = time.perf_counter()
            reply = await session.submit(self._mail, self._recipients, chunks, pipelining=load.pipelining)
            if reply.is_positive:
                tally.accepted += 1
                tally.transaction_times.append(time.perf_counter() - began)
            else:
                tally.refuse(in_short(reply))

    def _take(self) -> bool:
        """Whether there is another message to send; it is taken then, and what fails it is its outcome."""
        if self._left is None:
            return time.perf_counter() < self.until
        self._left -= 1
        return self._left >= 0

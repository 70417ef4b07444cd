"""Sessions that only ask, beside the clients: MAIL and RSET four times a second, one at each submission machine; and
people who sign in there, a new connection each second.

    async with Probes(addresses, context, response) as probes: ...
    probes.put_off(since, until)      # seconds until each 451 or 452 at MAIL
    probes.ended(since, until)        # how many of their sessions ended
    probes.signed_in(since, until)    # what came of each new sign-in: SignedIn(good, refused, no_answer)

A client that waits for the reply to its content says nothing about a refusal at once; these do. And one that stays
signed in says nothing about who comes anew.
"""

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

from tests.cluster.load import SENDER, Lost, open_session, sign_in

EACH = 0.25
"""Seconds between two questions."""
TURN = 400
"""Questions of one session: who says 1,000 commands without a message is told to go."""
ANEW = 1.0
"""Seconds between two sign-ins."""


class SignedIn(NamedTuple):
    """Sign-ins with the right password: 235; another reply; none, as where no process listens."""

    good: int
    refused: int
    no_answer: int


@dataclass(slots=True)
class Probes:
    """See the module's text. ``response``: of AUTH PLAIN. Times are of time.monotonic()."""

    addresses: Sequence[tuple[str, int]]
    context: ssl.SSLContext
    response: str
    refusals: list[tuple[float, str, float]] = field(default_factory=list)
    """(when, reply, how long it took) of each MAIL that was not taken."""
    lost: list[float] = field(default_factory=list)
    """When a session ended that had been signed in."""
    taken: int = 0
    sign_ins: list[tuple[float, str]] = field(default_factory=list)
    """(when, reply or "") of each new sign-in."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        for work in (self._ask, self._sign_in):
            self._tasks += [asyncio.create_task(work(*address)) for address in self.addresses]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def put_off(self, since: float, until: float, codes: Sequence[str] = ("451", "452")) -> list[float]:
        """Seconds until each such refusal in that span, sorted."""
        return sorted(took for when, reply, took in self.refusals if since <= when < until and reply[:3] in codes)

    def ended(self, since: float, until: float) -> int:
        """Sessions that ended in that span."""
        return sum(since <= when < until for when in self.lost)

    def signed_in(self, since: float, until: float) -> SignedIn:
        """What came of the sign-ins that ended in that span."""
        replies = [reply for when, reply in self.sign_ins if since <= when < until]
        refused, no_answer = len(self.refused_sign_ins(since, until)), replies.count("")
        return SignedIn(len(replies) - refused - no_answer, refused, no_answer)

    def refused_sign_ins(self, since: float, until: float) -> list[str]:
        """What they were told in that span, other than 235."""
        return [reply for when, reply in self.sign_ins if since <= when < until and reply and reply[:3] != "235"]

    async def _sign_in(self, host: str, port: int) -> None:
        while True:
            try:
                reply, session = await sign_in(host, port, self.context, self.response)
                session.close()
            except Lost:
                reply = ""
            self.sign_ins.append((time.monotonic(), reply))
            await asyncio.sleep(ANEW)

    async def _ask(self, host: str, port: int) -> None:
        session, asked = None, 0
        while True:
            try:
                if session is not None and asked >= TURN:
                    session.close()
                    session = None
                if session is None:
                    session, asked = await open_session(host, port, self.context, self.response), 0
                asked += 1
                began = time.monotonic()
                reply = await session.say(f"MAIL FROM:<{SENDER}>".encode())
                if reply.startswith("250"):
                    self.taken += 1
                    await session.say(b"RSET")
                else:
                    self.refusals.append((time.monotonic(), reply, time.monotonic() - began))
                    if reply.startswith("421"):
                        session.close()
                        raise Lost(after_dot=False)
            except Lost:
                if session is not None:
                    self.lost.append(time.monotonic())
                session = None
            await asyncio.sleep(EACH)

"""Idle signed-in sessions: opened, held, let go.

    async with hold(target, 10_000) as sessions: ...

STANDARDS
    RFC 5321 4.5.3.2.7: a server waits at least 5 minutes for the next command; nothing is said here meanwhile.

ERRORS
    SessionFailed: one could not be opened; those that were are closed.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pillarbox.bench.session import Session, open_session
from pillarbox.bench.settings import Target

AT_ONCE = 32
"""Handshakes at a time."""


@asynccontextmanager
async def hold(target: Target, count: int) -> AsyncIterator[list[Session]]:
    """``count`` sessions that are signed in and say nothing. Raises SessionFailed."""
    sessions: list[Session] = []
    waiting = iter(range(count))

    async def work() -> None:
        for _ in waiting:
            sessions.append(await open_session(target))

    try:
        if count:
            sessions.append(await open_session(target))  # alone: see load.py
            next(waiting)
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(AT_ONCE, count)):
                    tasks.create_task(work())
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        yield sessions
    finally:
        for session in sessions:
            session.abort()
        await asyncio.sleep(0)  # the transports close on the next turn of the loop

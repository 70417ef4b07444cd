"""The whole product over a real cell: the primary's machine dies under load, mail goes on by itself, nothing is lost.

What is printed (pytest -s) is what was seen; its times decide nothing.
"""

import asyncio
import time

import pytest
from tests.cluster.load import Session, open_session, percentile
from tests.cluster.stage import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]

FAILED = ("submission", "cell.failed")


async def session_of(stage: Stage) -> Session:
    """A session of one's own at the first submission machine."""
    return await open_session(*stage.load.addresses[0], stage.load.context, stage.load.response)


async def mail(session: Session) -> str:
    """The reply to MAIL, and the transaction undone."""
    reply = await session.say(b"MAIL FROM:<ada@example.org>")
    if reply.startswith("250"):
        await session.say(b"RSET")
    return reply


async def test_the_primary_is_killed_and_mail_is_451_at_once_until_it_goes_on_by_itself(
    stage: Stage,
) -> None:
    session = await session_of(stage)
    before = {machine.name: machine.events[FAILED] for machine in stage.submission()}
    killed_at = time.monotonic()
    killed = await asyncio.to_thread(stage.cell.kill, stage.cell.primary())
    refused: list[float] = []
    async with asyncio.timeout(120):
        while True:
            began = time.monotonic()
            reply = await mail(session)  # the same session all the time: it stays
            if refused and reply.startswith("250"):
                break
            if not reply.startswith("250"):
                assert reply.startswith("451 4.3.2 "), reply
                refused.append(time.monotonic() - began)
            await asyncio.sleep(0.1)
    resumed = time.monotonic() - killed_at
    accepted = len(stage.books.accepted)
    async with asyncio.timeout(60):
        while len(stage.books.accepted) < accepted + 30:  # noqa: ASYNC110  # clients set no event
            await asyncio.sleep(0.1)
    session.close()
    await asyncio.to_thread(killed.start)
    said = {m.name: m.events[FAILED] - before[m.name] for m in stage.submission()}
    pause = stage.books.pause(killed_at, time.monotonic())
    balance = await stage.settle()
    print(
        f"\nrefused {len(refused)} times, p99 {1000 * percentile(sorted(refused), 0.99):.0f} ms; MAIL was taken "
        f"again after {resumed:.1f} s; longest time without an acceptance {pause:.1f} s; {balance}"
    )
    assert max(refused) < 10  # at once: no refusal waited for the cell
    assert said == {"sub1": 1, "sub2": 1}  # once, not per message
    assert balance.lost == 0
    assert balance.doubles["unexplained"] == 0
    assert balance.accepted == balance.delivered + balance.bounced + balance.queued

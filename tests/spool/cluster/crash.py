"""A program for test_crash: kills a process at each of the steps by which it speaks to a cell.

    python -m tests.spool.cluster.crash DSN [EVERY]

One process that has imported everything forks a child for each number N (each EVERY-th of them). The child does the
same work in an empty cell and kills itself (SIGKILL) just before its N-th step: whenever the driver is about to send
or to read on. What it was told is done it says through a pipe. When the server has noticed its end, another child
opens what is left. One JSON line for each N; the first N at which the work got to its end is the last.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Generator
from typing import Any

import psycopg
from tests.spool.crash import BIG, LARGE, NOW, REST, SMALL, Steps, go_on, in_child, whole_messages

import pillarbox.store.postgresql
from pillarbox.spool.cluster.spool import ClusterSpool, open_cluster
from pillarbox.spool.settings import ClusterSettings

VICTIM = "pillarbox victim"


def count(steps: Steps) -> None:
    """From now on every turn of the driver is a step."""
    connection = pillarbox.store.postgresql._Connection
    wait = connection.wait

    def stepped(conversation: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        steps()
        wanted = next(conversation)
        while True:
            ready = yield wanted
            steps()
            try:
                wanted = conversation.send(ready)
            except StopIteration as end:
                return end.value

    async def counted(self: Any, conversation: Any, *arguments: Any) -> Any:
        try:
            return await wait(self, stepped(conversation), *arguments)
        except RuntimeError as error:  # a conversation that ended at its first turn
            if isinstance(error.__cause__, StopIteration):
                return error.__cause__.value
            raise

    setattr(connection, "wait", counted)  # noqa: B010  # the driver's types are its own


async def work(dsn: str, steps: Steps, say: Callable[[str], None]) -> None:
    """Commits, settlements and an operator's verb, each said when it was promised."""
    spool = await open_cluster(ClusterSettings(dsn, VICTIM, 1), clock=lambda: NOW)
    count(steps)
    await spool.commit(SMALL, b"small")
    say("committed SMALL")
    writer = spool.writer(BIG.queue_id)
    for start in range(0, len(LARGE), 200_000):
        await writer.write(LARGE[start : start + 200_000])
    await writer.commit(BIG)
    say("committed BIG")
    await go_on(spool, say)
    await spool.close()
    say("closed")


async def look(dsn: str) -> dict[str, Any]:
    """What the next process finds, before and after those that died count as dead; what it finds when the commits are
    asked for again, and when everything old was swept."""
    spool = await open_cluster(ClusterSettings(dsn, "pillarbox look"), clock=lambda: NOW)
    found = await whole_messages(spool)
    early = [lease.envelope.queue_id for lease in await spool.lease(NOW, 100)]
    await _execute(spool, "UPDATE worker SET seen = seen - interval '1 minute' WHERE name = %s", VICTIM)
    late = [lease.envelope.queue_id for lease in await spool.lease(NOW, 100)]
    for message, content in ((SMALL, b"small"), (REST, b"rest")):
        await spool.commit(message, content)
    writer = spool.writer(BIG.queue_id)
    await writer.write(LARGE)
    await writer.commit(BIG)
    again = await whole_messages(spool)
    await _execute(spool, "UPDATE content_chunk SET written_at = written_at - interval '2 days'")
    while not await spool.removal.look():
        pass
    (rows,) = await spool.cell.read(("SELECT DISTINCT content_id FROM content_chunk", ()))
    await spool.close()
    return {"found": found, "early": early, "late": late, "again": again, "contents": len(rows)}


async def _execute(spool: ClusterSpool, query: str, *values: object) -> None:
    async def change(transaction: pillarbox.store.postgresql.Transaction) -> None:
        transaction.add(query, values)

    await spool.cell.change(change)


def crash_at(step: int, dsn: str) -> list[str]:
    """What the child that is killed before its ``step``-th step had said."""
    reading, writing = os.pipe()

    def say(said: str) -> None:
        os.write(writing, f"{said}\n".encode())

    status = in_child(writing, lambda: asyncio.run(work(dsn, Steps(step), say)))
    with os.fdopen(reading) as pipe:
        said = pipe.read().splitlines()
    return [*said, "killed"] if os.WIFSIGNALED(status) else said


def look_after(dsn: str) -> dict[str, Any]:
    """look() in a child of its own."""
    reading, writing = os.pipe()
    in_child(writing, lambda: os.write(writing, json.dumps(asyncio.run(look(dsn))).encode()))
    with os.fdopen(reading) as pipe:
        return dict(json.loads(pipe.read()))


def main() -> None:
    """All steps, or some of them."""
    dsn, every = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    for step in range(1, 2000, every):
        with psycopg.connect(dsn, autocommit=True) as administrator:
            for table in (b"message", b"recipient", b"content_chunk", b"worker"):
                administrator.execute(b"DELETE FROM pillarbox." + table)  # quicker than TRUNCATE for a few rows
        said = crash_at(step, dsn)
        with psycopg.connect(dsn, autocommit=True) as administrator:
            there = b"SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
            while administrator.execute(there, (VICTIM,)).fetchone() != (0,):
                time.sleep(0.005)  # the server notices the end of its client
        print(json.dumps({"step": step, "said": said, **look_after(dsn)}), flush=True)
        if "killed" not in said:
            break


if __name__ == "__main__":
    main()

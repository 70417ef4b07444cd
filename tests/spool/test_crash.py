"""kill -9 at every step: what was acknowledged is there, once, and nothing is half done."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.spool.messages import envelope, opened, read_all

from pillarbox.control.link import Link
from pillarbox.spool.base import Filter
from pillarbox.spool.remote import RemoteIntake
from pillarbox.spool.service import ERRORS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """For each step: what was said before the kill, and what a new start found."""
    directory = tmp_path_factory.mktemp("crash")
    made = asyncio.run(_run(str(directory)))
    yield [json.loads(line) for line in made.splitlines()]


async def _run(directory: str) -> str:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.spool.crash", directory, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    made, _ = await program.communicate()
    return made.decode()


def test_the_work_was_killed_at_every_step_and_then_got_to_its_end(crashes: list[dict[str, Any]]) -> None:
    assert len(crashes) > 100
    assert [crash["step"] for crash in crashes] == list(range(1, len(crashes) + 1))
    assert all(crash["said"][-1] == "killed" for crash in crashes[:-1])
    assert crashes[-1]["said"][-1] == "closed"


def test_whatever_is_found_is_whole(crashes: list[dict[str, Any]]) -> None:
    for crash in crashes:
        assert crash["aside"] == 0, "a kill damages no file"
        assert all(message["whole"] and message["content"] for message in crash["found"].values()), crash


def test_what_was_acknowledged_is_found(crashes: list[dict[str, Any]]) -> None:
    for crash in crashes:
        said, found = crash["said"], crash["found"]
        if "committed SMALL" in said and "settling SMALL" not in said:
            assert "010000000000000000000SMA11" in found, crash
        if "committed BIG" in said and "settling BIG" not in said:
            assert "02000000000000000000000B1G" in found, crash
        if "committed REST" in said:
            assert "0400000000000000000000REST" in found, crash
        if "deferred BIG" in said and "settling BIG" not in said:
            assert found["02000000000000000000000B1G"]["recipients"] == {"1": "due"}, crash
        if "held REST" in said:
            assert found["0400000000000000000000REST"]["recipients"] == {"0": "held"}, crash


def test_what_was_settled_is_gone(crashes: list[dict[str, Any]]) -> None:
    for crash in crashes:
        said, found = crash["said"], crash["found"]
        assert "settled SMALL" not in said or "010000000000000000000SMA11" not in found, crash
        assert "settled BIG" not in said or "02000000000000000000000B1G" not in found, crash


def test_a_message_leaves_with_its_bounce_or_not_at_all(crashes: list[dict[str, Any]]) -> None:
    settled = [crash for crash in crashes if "settling BIG" in crash["said"]]
    assert settled
    for crash in settled:
        assert ("02000000000000000000000B1G" in crash["found"]) != ("03000000000000000000N0T1CE" in crash["found"]), (
            crash
        )


def test_no_lease_and_no_file_outlives_the_process(crashes: list[dict[str, Any]]) -> None:
    for crash in crashes:
        due = {name for name, message in crash["found"].items() if "due" in message["recipients"].values()}
        assert set(crash["leased"]) == due, crash
        assert crash["files"] == (1 if "02000000000000000000000B1G" in crash["found"] else 0), crash


def test_a_worker_that_outlives_the_crash_has_its_large_content_adopted_once(crashes: list[dict[str, Any]]) -> None:
    """Whichever step was the last: the part, or what it became, is found again, and asking twice doubles nothing."""
    repeated = [crash for crash in crashes if crash["repeated"]]
    lost_their_reply = [crash for crash in repeated if "committed BIG" not in crash["said"]]
    assert len(lost_their_reply) >= 8
    assert any("02000000000000000000000B1G" in crash["found"] for crash in lost_their_reply)
    assert any("02000000000000000000000B1G" not in crash["found"] for crash in lost_their_reply)
    for crash in repeated:
        assert crash["repeated"] == ["one whole"] * 2, crash
        assert crash["parts"] == [], crash


@contextlib.asynccontextmanager
async def _served(directory: Path, socket: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The spool's own process, killed at the end."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.spool.server",
        str(directory),
        str(socket),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert program.stdout is not None
        while (line := await program.stdout.readline()) != b"ready\n":
            assert line, "the spool process did not start"
        yield program
    finally:
        program.kill()
        await program.communicate()


async def test_commits_that_go_on_while_the_spool_process_is_killed_are_neither_lost_nor_doubled(
    tmp_path: Path,
) -> None:
    """Four producers outlive three kills of the spool's process: each 250 is one message."""
    socket = tmp_path / "s"
    link = Link(socket, errors=ERRORS)
    intake = RemoteIntake(link, tmp_path / "spool" / "incoming")
    acknowledged: list[str] = []
    stop = asyncio.Event()

    async def produce() -> None:
        while not stop.is_set():
            each = envelope()
            await intake.commit(each, os.urandom(2000))  # Unavailable would fail the test: patience bridges a restart
            acknowledged.append(each.queue_id)

    await link.start()
    producers = [asyncio.create_task(produce()) for _ in range(4)]
    for _ in range(3):
        before = len(acknowledged)
        async with _served(tmp_path / "spool", socket), asyncio.timeout(60):
            while len(acknowledged) < before + 50:  # noqa: ASYNC110  # the producers set no event
                await asyncio.sleep(0.01)
    async with _served(tmp_path / "spool", socket):
        stop.set()
        await asyncio.gather(*producers)
    await intake.close()
    await link.close()
    async with opened(tmp_path / "spool") as spool:
        found = [message.envelope.queue_id for message in await spool.list(Filter(), 0.0, 1_000_000)]
    assert sorted(found) == sorted(acknowledged), "with patience every commit was acknowledged in the end"
    assert len(acknowledged) >= 150


async def test_large_uploads_that_go_on_while_the_spool_process_is_killed_are_neither_lost_nor_doubled(
    tmp_path: Path,
) -> None:
    """Its death costs no large message, whether it is being written or adopted at the time."""
    socket, incoming = tmp_path / "s", tmp_path / "spool" / "incoming"
    link = Link(socket, errors=ERRORS)
    intake = RemoteIntake(link, incoming)
    acknowledged: dict[str, bytes] = {}
    stop = asyncio.Event()

    async def produce() -> None:
        while not stop.is_set():
            content = os.urandom(1000) * 1500
            each = envelope(size=len(content))
            writer = intake.writer(each.queue_id)
            for start in range(0, len(content), 60_000):
                await writer.write(content[start : start + 60_000])
                await asyncio.sleep(0)
            await writer.commit(each)  # Unavailable would fail the test
            acknowledged[each.queue_id] = content[:1000]

    incoming.mkdir(parents=True)
    await link.start()
    half = os.urandom(300_000)
    long = intake.writer("090000000000000000000010NG")
    await long.write(half)
    producers = [asyncio.create_task(produce()) for _ in range(4)]
    for _ in range(3):
        before = len(acknowledged)
        async with _served(tmp_path / "spool", socket), asyncio.timeout(60):
            while len(acknowledged) < before + 10:  # noqa: ASYNC110  # the producers set no event
                await asyncio.sleep(0.01)
    async with _served(tmp_path / "spool", socket):
        await long.write(half)
        await long.commit(envelope(queue_id="090000000000000000000010NG", size=2 * len(half)))
        stop.set()
        await asyncio.gather(*producers)
    await intake.close()
    await link.close()
    async with opened(tmp_path / "spool") as spool:
        found = [message.envelope.queue_id for message in await spool.list(Filter(), 0.0, 1_000_000)]
        assert sorted(found) == sorted([*acknowledged, "090000000000000000000010NG"])
        assert await read_all(spool.open("090000000000000000000010NG")) == half * 2, (
            "its upload outlived three restarts"
        )
        for queue_id, beginning in acknowledged.items():
            assert await read_all(spool.open(queue_id)) == beginning * 1500
    assert os.listdir(incoming) == []

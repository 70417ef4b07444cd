"""kill -9 of a process at every step of its talk with a cell: what was promised is there, once, nothing half done."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.spool.cells import empty_cell
from tests.spool.crash import BIG, NOTICE, REST, SMALL
from tests.support.postgres import Postgres

EVERY = int(os.environ.get("PILLARBOX_CRASH_EVERY", "4"))
"""One step in so many: each takes a while, since two processes connect anew. 1 for all of them."""
pytestmark = pytest.mark.timeout(600)  # the first test waits for the whole run
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def crashes(postgres: Postgres) -> Iterator[list[dict[str, Any]]]:
    """For each step: what was said before the kill, and what the next process found."""
    made = asyncio.run(_run(postgres))
    yield [json.loads(line) for line in made.splitlines()]


async def _run(node: Postgres) -> str:
    dsn = await empty_cell(node)
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.spool.cluster.crash", dsn, str(EVERY), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    made, _ = await program.communicate()
    return made.decode()


def test_the_work_was_killed_at_every_step_and_then_got_to_its_end(crashes: list[dict[str, Any]]) -> None:
    assert len(crashes) > 200 / EVERY
    assert [crash["step"] for crash in crashes] == list(range(1, 1 + len(crashes) * EVERY, EVERY))
    assert all(crash["said"][-1] == "killed" for crash in crashes[:-1])
    assert crashes[-1]["said"][-1] == "closed"


def test_whatever_is_found_is_whole(crashes: list[dict[str, Any]]) -> None:
    for crash in crashes:
        for found in (crash["found"], crash["again"]):
            assert all(message["whole"] and message["content"] for message in found.values()), crash


def test_what_was_acknowledged_is_found(crashes: list[dict[str, Any]]) -> None:
    for crash in crashes:
        said, found = crash["said"], crash["found"]
        if "committed SMALL" in said and "settling SMALL" not in said:
            assert SMALL.queue_id in found, crash
        if "committed BIG" in said and "settling BIG" not in said:
            assert BIG.queue_id in found, crash
        if "committed REST" in said:
            assert REST.queue_id in found, crash
        if "deferred BIG" in said and "settling BIG" not in said:
            assert found[BIG.queue_id]["recipients"] == {"1": "due"}, crash
        if "held REST" in said:
            assert found[REST.queue_id]["recipients"] == {"0": "held"}, crash


def test_what_was_settled_is_gone(crashes: list[dict[str, Any]]) -> None:
    for crash in crashes:
        said, found = crash["said"], crash["found"]
        assert "settled SMALL" not in said or SMALL.queue_id not in found, crash
        assert "settled BIG" not in said or BIG.queue_id not in found, crash


def test_a_message_leaves_with_its_bounce_or_not_at_all(crashes: list[dict[str, Any]]) -> None:
    settled = [crash for crash in crashes if "settling BIG" in crash["said"]]
    assert any(BIG.queue_id in crash["found"] for crash in settled)
    for crash in settled:
        assert (BIG.queue_id in crash["found"]) != (NOTICE.envelope.queue_id in crash["found"]), crash


def test_what_a_dead_process_held_is_lent_once_it_counts_as_dead(
    crashes: list[dict[str, Any]],
) -> None:
    assert any(crash["late"] for crash in crashes)
    for crash in crashes:
        due = [name for name, message in crash["found"].items() if "due" in message["recipients"].values()]
        assert sorted(crash["early"] + crash["late"]) == sorted(due), crash
        if crash["said"][-2:] == ["settling BIG", "killed"] and BIG.queue_id in crash["found"]:
            assert crash["late"] == [BIG.queue_id], "its attempt may be under way"


def test_a_commit_that_is_repeated_doubles_nothing_and_brings_nothing_back(crashes: list[dict[str, Any]]) -> None:
    for crash in crashes:
        said, again = crash["said"], crash["again"]
        for message in (SMALL, BIG):
            settled = f"settling {'SMALL' if message is SMALL else 'BIG'}" in said and (
                message.queue_id not in crash["found"]
            )
            assert (message.queue_id in again) != settled, crash
        assert REST.queue_id in again, crash


def test_chunks_of_messages_that_never_came_about_are_swept(crashes: list[dict[str, Any]]) -> None:
    for crash in crashes:
        settled_big = "settling BIG" in crash["said"] and BIG.queue_id not in crash["found"]
        # a message that was settled lingers with its content until it is removed
        assert crash["contents"] == 1, (settled_big, crash)

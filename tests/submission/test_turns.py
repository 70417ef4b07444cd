"""The worker's time as it is shared by those who cost much: at once while there is time, then in turn."""

import asyncio
import contextlib
from collections import Counter
from pathlib import Path

import pytest
from tests.support.submission import ANNA, signed_in, submission, talker

from pillarbox.guard.prefix import prefix
from pillarbox.submission.posting import PATIENT_RECIPIENTS
from pillarbox.submission.session import PATIENT_COMMANDS
from pillarbox.submission.turns import COMMAND, HANDSHAKE, Turns

PLACE = prefix("127.0.0.1")


async def test_a_step_is_free_to_go_while_there_is_time_to_spend() -> None:
    turns = Turns(0.5)
    waiting = asyncio.ensure_future(turns.wait("a", 0.000001))
    await asyncio.sleep(0)  # one step of the task is all it needs
    assert waiting.done()


async def test_all_together_get_their_share_of_the_time_and_no_more() -> None:
    turns = Turns(0.25)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(turns.wait(f"place {number}", 0.002) for number in range(30)))
    # 30 steps of 2 ms at a quarter of the time are 240 ms, less the last one and what had been saved before
    assert loop.time() - began >= 0.2


async def test_a_place_with_one_waits_no_longer_than_a_place_with_a_thousand() -> None:
    turns = Turns(1.0)
    order: list[str] = []

    async def step(place: str) -> None:
        await turns.wait(place, 0.001)
        order.append(place)

    crowd = [asyncio.ensure_future(step("crowd")) for _ in range(1000)]
    await asyncio.sleep(0)
    await step("alone")
    assert order.count("crowd") < 20
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)


async def test_whoever_came_last_is_next() -> None:
    """Under a flood who waits long is not served anyway; who comes now has a chance, and the next time again."""
    turns = Turns(0.1)
    order: list[int] = []

    async def step(number: int) -> None:
        await turns.wait(f"place {number}", 0.001)
        order.append(number)

    await turns.wait("first", 0.001)
    await asyncio.gather(*(step(number) for number in range(5)))
    assert order == [4, 3, 2, 1, 0]


async def test_a_flood_of_those_who_come_and_go_leaves_nothing() -> None:
    turns = Turns(0.001)
    await turns.wait("first", 0.01)
    for number in range(200):
        waiting = [asyncio.ensure_future(turns.wait(f"place {number % 7}", 1.0)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert not turns._lines


async def test_a_connection_that_says_nothing_pays_nothing(tmp_path: Path, paid: Counter[tuple[str, float]]) -> None:
    async with submission(tmp_path) as server:
        async with await talker(server.submission) as client:
            await client.expect(220)
            reader, writer = await asyncio.open_connection("127.0.0.1", server.submissions)
            await client.command("QUIT", 221)  # and meanwhile the other one was accepted
            assert await client.ended()
        assert not paid
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await reader.read()


async def test_who_is_cancelled_while_waiting_costs_the_others_nothing() -> None:
    turns = Turns(0.01)
    await turns.wait("first", 0.0005)  # 50 ms of waiting for whoever follows
    gone = [asyncio.ensure_future(turns.wait("gone", 10.0)) for _ in range(100)]
    stays = asyncio.ensure_future(turns.wait("stays", 0.0001))
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    async with asyncio.timeout(5):  # each of those gone would have cost 1,000 s
        await stays


async def test_time_that_nobody_used_is_not_saved_for_long() -> None:
    turns = Turns(0.5)
    await turns.wait("a", 0.0001)
    await asyncio.sleep(0.3)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(40):
        await turns.wait("a", 0.001)
    assert loop.time() - began >= 0.06  # 80 ms, less a burst: not at once, as 300 saved ms would allow


async def test_at_the_end_nobody_is_kept_waiting() -> None:
    turns = Turns(0.01)
    waiting = [asyncio.ensure_future(turns.wait(f"place {number}", 100.0)) for number in range(5)]
    await asyncio.sleep(0)
    turns.end()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
        await turns.wait("late", 100.0)


def test_a_share_is_a_part_of_the_whole() -> None:
    for wrong in (0.0, -1.0, 1.5):
        with pytest.raises(ValueError, match="share"):
            Turns(wrong)


@pytest.fixture
def paid(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, float]]:
    """Who paid for what, and how often."""
    bill: Counter[tuple[str, float]] = Counter()
    wait = Turns.wait

    async def count(turns: Turns, key: str, cost: float) -> None:
        bill[key, cost] += 1
        await wait(turns, key, cost)

    monkeypatch.setattr(Turns, "wait", count)
    return bill


async def test_a_stranger_pays_for_each_step_until_it_signs_in(
    tmp_path: Path, paid: Counter[tuple[str, float]]
) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        before = paid.copy()
        assert before == {(PLACE, HANDSHAKE): 1, (PLACE, COMMAND): 1}  # EHLO, when AUTH came; AUTH made it a friend
        await client.command("MAIL FROM:<anna@example.org>", 250)
        await client.command("NOOP", 250)
    assert paid == before


async def test_errors_are_steps_too(tmp_path: Path, paid: Counter[tuple[str, float]]) -> None:
    async with submission(tmp_path) as server, await talker(server.submission) as client:
        await client.expect(220)
        for _ in range(5):
            await client.command("XYZZY", 500)
        assert paid[PLACE, COMMAND] >= 4  # each when the next one is asked for


async def test_who_comes_from_a_known_place_pays_only_for_going_on_and_on(
    tmp_path: Path, paid: Counter[tuple[str, float]]
) -> None:
    async with submission(tmp_path) as server:
        server.guard.known_places.add("127.0.0.1")
        async with await talker(server.submission) as client:
            await client.expect(220)
            for _ in range(PATIENT_COMMANDS):
                await client.command("NOOP", 250)
            assert paid.total() <= 1
            for _ in range(5):
                await client.command("NOOP", 250)
            assert paid[PLACE, COMMAND] >= 5


async def test_who_has_signed_in_pays_for_sending_nothing(tmp_path: Path, paid: Counter[tuple[str, float]]) -> None:
    async with submission(tmp_path) as server, await signed_in(server) as client:
        for _ in range(PATIENT_COMMANDS + 5):
            await client.command("RSET", 250)
        assert 5 <= paid[ANNA.login, COMMAND] <= 6


async def test_a_message_to_very_many_pays_for_the_recipients_beyond_a_hundred(
    tmp_path: Path, paid: Counter[tuple[str, float]]
) -> None:
    async with (
        submission(tmp_path, max_recipients=PATIENT_RECIPIENTS + 7) as server,
        await signed_in(server) as client,
    ):
        await client.command("MAIL FROM:<anna@example.org>", 250)
        for number in range(PATIENT_RECIPIENTS + 7):
            await client.command(f"RCPT TO:<r{number}@example.net>", 250)
        assert paid[ANNA.login, COMMAND] == 7

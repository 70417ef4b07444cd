"""The worker's time as it is shared by those who cost much: at once while there is time, then in turn."""

import asyncio

import pytest

from pillarbox.submission.turns import Turns


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


def test_a_share_is_a_part_of_the_whole() -> None:
    for wrong in (0.0, -1.0, 1.5):
        with pytest.raises(ValueError, match="share"):
            Turns(wrong)

"""servers.py: fail-over, the shares of the time, and the breaker's states."""

import asyncio

import pytest
from tests.directory.scripted import until
from tests.support.clock import FakeClock

from pillarbox.directory.base import NotReached, Unavailable
from pillarbox.directory.servers import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Breaker, ServerFailed, Servers
from pillarbox.telemetry.counters import snapshot


class Fleet:
    """Servers by name that answer with it, fail, or hang; and who was asked."""

    def __init__(self, *names: str, timeout: float = 10.0) -> None:
        self.clock = FakeClock()
        self.servers = Servers(names, timeout, directory="corp", clock=self.clock.monotonic)
        self.failing: dict[str, Exception] = {}
        self.hanging: set[str] = set()
        self.asked: list[str] = []

    async def work(self, server: str) -> str:
        self.asked.append(server)
        if server in self.hanging:
            await asyncio.Event().wait()
        if server in self.failing:
            raise self.failing[server]
        return server

    async def asked_often(self, count: int) -> None:
        """Until so many questions have come."""
        await until(lambda: len(self.asked) == count)

    async def ask(self, *, again: bool = True) -> str:
        """Who answered; "-": nobody, and nothing reached any; "?": nobody."""
        try:
            return await self.servers.ask(self.work, again=again)
        except NotReached:
            return "-"
        except Unavailable:
            return "?"


def paused(server: str) -> float:
    """What the metric says of it."""
    (row,) = (row for row in snapshot() if row[1] == "directory_servers_paused")
    return row[5]["corp", server][0]


async def test_the_first_in_order_is_asked_and_the_next_when_it_fails() -> None:
    fleet = Fleet("a", "b")
    assert await fleet.ask() == "a"
    fleet.failing["a"] = ServerFailed("refused")
    assert await fleet.ask() == "b"
    assert fleet.asked == ["a", "a", "b"]


async def test_one_that_failed_a_moment_ago_comes_last_and_then_first_again() -> None:
    fleet = Fleet("a", "b")
    fleet.failing["a"] = ServerFailed("refused")
    await fleet.ask()
    fleet.failing.clear()
    assert await fleet.ask() == "b"
    fleet.clock.advance(FIRST_PAUSE)
    assert await fleet.ask() == "a"


async def test_nobody_who_can_say_is_told_with_all_causes() -> None:
    fleet = Fleet("a", "b")
    fleet.failing = {"a": ServerFailed("refused"), "b": ServerFailed("no certificate")}
    with pytest.raises(NotReached, match=r"a: refused; b: no certificate"):
        await fleet.servers.ask(fleet.work)


async def test_a_password_that_may_have_arrived_is_not_given_to_the_next_server() -> None:
    fleet = Fleet("a", "b")
    fleet.failing["a"] = ServerFailed("cut", reached=True)
    assert await fleet.ask(again=False) == "?"
    assert fleet.asked == ["a"]
    fleet.clock.advance(FIRST_PAUSE)
    fleet.failing["a"] = ServerFailed("refused")
    assert await fleet.ask(again=False) == "b"


async def test_one_that_hangs_gets_its_share_and_may_have_got_the_password() -> None:
    fleet = Fleet("a", "b", timeout=0.1)
    fleet.hanging.add("a")
    assert await fleet.ask() == "b"
    fleet.clock.advance(FIRST_PAUSE)
    assert await fleet.ask(again=False) == "?"
    assert fleet.asked == ["a", "b", "a"]


async def test_after_some_failures_on_end_it_is_left_alone_for_longer_and_longer() -> None:
    fleet = Fleet("a")
    fleet.failing["a"] = ServerFailed("refused")
    for _ in range(FAILURES):
        assert await fleet.ask() == "-"
    pause = FIRST_PAUSE
    for _ in range(8):
        asked = len(fleet.asked)
        fleet.clock.advance(pause - 0.01)
        with pytest.raises(NotReached, match="not asked for a while: refused"):
            await fleet.servers.ask(fleet.work)
        assert len(fleet.asked) == asked
        fleet.clock.advance(0.02)
        await fleet.ask()
        assert len(fleet.asked) == asked + 1
        pause = min(2 * pause, LONGEST_PAUSE)
    assert paused("a") == 1
    fleet.failing.clear()
    fleet.clock.advance(LONGEST_PAUSE)
    assert [await fleet.ask() for _ in range(3)] == ["a"] * 3
    assert paused("a") == 0


async def test_many_that_fail_together_begin_one_pause_and_no_longer_one() -> None:
    fleet = Fleet("a", timeout=0.05)
    fleet.hanging.add("a")
    await asyncio.gather(*(fleet.ask() for _ in range(40)))
    fleet.clock.advance(FIRST_PAUSE)
    fleet.hanging.clear()
    assert await fleet.ask() == "a"


async def test_failures_between_answers_never_add_up() -> None:
    fleet = Fleet("a")
    for _ in range(5):
        for _ in range(FAILURES - 1):
            fleet.failing["a"] = ServerFailed("refused")
            await fleet.ask()
        fleet.failing.clear()
        assert await fleet.ask() == "a"


async def test_after_a_pause_one_question_at_a_time_is_asked_until_there_is_an_answer() -> None:
    fleet = Fleet("a")
    fleet.failing["a"] = ServerFailed("refused")
    for _ in range(FAILURES):
        await fleet.ask()
    fleet.clock.advance(FIRST_PAUSE)
    fleet.failing.clear()
    fleet.hanging.add("a")
    probe = asyncio.create_task(fleet.ask())
    await until(lambda: len(fleet.asked) == FAILURES + 1)
    assert await fleet.ask() == "-"
    probe.cancel()
    await asyncio.wait((probe,))
    fleet.hanging.clear()
    assert await fleet.ask() == "a", "who left said nothing: the next one may ask"


async def test_who_gives_up_early_says_nothing_and_who_gives_up_late_says_that_it_hangs() -> None:
    for waits, answer in ((1.0, "a"), (6.0, "-")):
        fleet = Fleet("a", timeout=10.0)
        fleet.hanging.add("a")
        for number in range(FAILURES):
            asking = asyncio.create_task(fleet.ask())
            await fleet.asked_often(number + 1)
            fleet.clock.advance(waits)
            asking.cancel()
            await asyncio.wait((asking,))
        fleet.hanging.clear()
        assert await fleet.ask() == answer


async def test_one_that_answers_others_meanwhile_is_slow_with_this_question_and_not_down() -> None:
    fleet = Fleet("a", timeout=0.05)
    for _ in range(FAILURES + 1):
        fleet.hanging.add("a")
        asked = len(fleet.asked)
        slow = asyncio.create_task(fleet.ask())
        await fleet.asked_often(asked + 1)
        fleet.hanging.clear()
        fleet.clock.advance(1)
        assert await fleet.ask() == "a"
        assert await slow == "?"
    assert await fleet.ask() == "a"
    assert paused("a") == 0


async def test_a_paused_one_takes_no_share_of_the_time() -> None:
    fleet = Fleet("a", "b", timeout=0.2)
    fleet.failing["b"] = ServerFailed("refused")
    fleet.failing["a"] = ServerFailed("refused")
    for _ in range(FAILURES):
        await fleet.ask()
    fleet.clock.advance(2 * FIRST_PAUSE)
    del fleet.failing["a"]
    assert await fleet.ask() == "a"
    fleet.failing["b"] = ServerFailed("refused again")
    fleet.hanging.add("a")
    with pytest.raises(Unavailable, match=r"a: no answer within 0.1 s"):
        await fleet.servers.ask(fleet.work)  # b might be asked: half for it
    fleet.clock.advance(FIRST_PAUSE)
    with pytest.raises(Unavailable, match=r"a: no answer within 0.2 s"):
        await fleet.servers.ask(fleet.work)  # b is paused: all for a


async def test_a_bug_passes_and_leaves_the_breaker_as_it_was() -> None:
    fleet = Fleet("a")
    for _ in range(FAILURES + 1):
        fleet.failing["a"] = KeyError("a bug")
        with pytest.raises(KeyError):
            await fleet.ask()
    fleet.failing.clear()
    assert await fleet.ask() == "a"


def test_a_question_from_before_the_pause_neither_ends_nor_prolongs_it() -> None:
    breaker = Breaker()
    probes = [breaker.begins() for _ in range(FAILURES + 1)]
    assert not any(probes)
    assert [breaker.failed(100.0, "x", False) for _ in range(FAILURES)] == [0.0] * (FAILURES - 1) + [FIRST_PAUSE]
    assert breaker.failed(104.0, "late", False) == 0.0
    assert breaker.allows(105.0)
    assert breaker.begins()
    assert not breaker.allows(105.0)
    breaker.left(False)
    assert not breaker.allows(105.0), "the probe is still under way"
    assert breaker.failed(106.0, "y", True) == 2 * FIRST_PAUSE
    breaker.succeeded(106.0)
    assert breaker.allows(106.0) and not breaker.paused and not breaker.doubtful(106.0)

"""budget.py: never more than the set number within any window, whatever dies, leaves or comes back."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.clock import FakeClock

from pillarbox.control.channel import ChannelServer, serve
from pillarbox.control.link import Link
from pillarbox.directory import budget as asking
from pillarbox.directory import tries as module
from pillarbox.directory.base import NotReached
from pillarbox.directory.budget import RemoteBudget, Try
from pillarbox.directory.tries import Tries, budget_handlers
from pillarbox.store.sqlite import DiskFull, StoreError

WINDOW = 100.0
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(1, 4)),
        st.tuples(st.just("give back"), st.integers(0, 40)),
        st.tuples(st.just("wait"), st.sampled_from((0, 1, 30, 99, 100))),
    ),
    max_size=50,
)


async def reserve(tries: Tries | RemoteBudget, allowed: int = 3, person: str = "anna") -> Try | None:
    return await tries.reserve("corp", person, allowed, WINDOW)


@given(STEPS)
def test_no_window_ever_holds_more_tries_than_were_allowed(steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        clock = FakeClock()
        tries = Tries(clock.monotonic)
        made: list[tuple[float, Try]] = []
        for step, number in steps:
            now = clock.monotonic()
            inside = [one for one in made if one[0] > now - WINDOW]
            if step == "wait":
                clock.advance(number)
            elif step == "give back" and number < len(made):
                tries.give_back(made.pop(number)[1])
            elif step == "reserve":
                try_ = await reserve(tries, number)
                assert (try_ is not None) == (len(inside) < number), "neither more nor fewer"
                if try_ is not None:
                    made.append((now, try_))

    asyncio.run(play())


async def test_people_and_directories_are_counted_apart() -> None:
    tries = Tries(FakeClock().monotonic)
    assert await tries.reserve("corp", "anna", 1, WINDOW)
    assert await tries.reserve("corp", "anna", 1, WINDOW) is None
    assert await tries.reserve("corp", "bob", 1, WINDOW)
    assert await tries.reserve("other", "anna", 1, WINDOW)


async def test_what_is_given_back_twice_or_was_never_there_makes_no_room() -> None:
    tries = Tries(FakeClock().monotonic)
    first = await reserve(tries, 2)
    assert first is not None and await reserve(tries, 2) is not None
    for _ in range(3):
        tries.give_back(first)
    tries.give_back(Try("corp", "nobody", 1))
    tries.give_back(Try("corp", "anna", 1))
    assert await reserve(tries, 2) is not None
    assert await reserve(tries, 2) is None


async def test_people_are_bounded_and_those_given_back_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEOPLE_CEILING", 10)
    tries = Tries(FakeClock().monotonic)
    for number in range(30):
        await reserve(tries, 1, f"user{number}")
    assert len(tries._people) == 10
    assert await reserve(tries, 1, "user29") is None
    for number in range(5):
        try_ = await reserve(tries, 1, f"right{number}")
        assert try_ is not None
        tries.give_back(try_)
    assert len(tries._people) <= 10
    assert not any(name.startswith("right") for _, name in tries._people)


async def test_made_up_names_push_out_each_other_and_no_spent_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEOPLE_CEILING", 10)
    tries = Tries(FakeClock().monotonic)
    for _ in range(3):
        assert await reserve(tries, 3, "victim") is not None
    for number in range(1000):
        await reserve(tries, 3, f"made-up-{number}")
    assert await reserve(tries, 3, "victim") is None


# -- a cluster's machines


@pytest.mark.parametrize(
    ("machines", "allowed", "share"),
    [(1, 5, 5), (2, 5, 2), (3, 5, 1), (5, 5, 1), (9, 5, 1), (None, 5, 1), (2, 3, 1)],
)
async def test_each_machine_hands_out_its_share(machines: int | None, allowed: int, share: int) -> None:
    tries = Tries(FakeClock().monotonic, machines=lambda: machines)
    handed = [await reserve(tries, allowed) for _ in range(9)]
    assert sum(try_ is not None for try_ in handed) == share


# -- over restarts


class Kept:
    """Tries in a file, on a clock; ``again`` is the next life of the spool process."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, FakeClock()
        self.boot = 0.0

    async def open(self) -> Tries:
        return await Tries.open(self.path, clock=lambda: self.clock.monotonic() - self.boot, wall=self.clock.wall)


async def test_a_restart_forgets_nothing_and_windows_end_as_if_there_had_been_none(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "directories.db")
    tries = await kept.open()
    right = await reserve(tries)
    assert right is not None
    for _ in range(2):
        assert await reserve(tries)
    tries.give_back(right)
    await tries.close()
    kept.boot = kept.clock.monotonic()  # monotonic time begins anew
    kept.clock.advance(60)
    tries = await kept.open()
    assert await reserve(tries) is not None
    assert await reserve(tries) is None
    kept.clock.advance(40)
    assert [await reserve(tries) is not None for _ in range(3)] == [True, True, False]
    await tries.close()


async def test_a_try_is_on_stable_storage_before_it_is_handed_out(tmp_path: Path) -> None:
    """kill -9 at that moment: the file as it lies there is what the next process finds."""
    kept = Kept(tmp_path / "directories.db")
    tries = await kept.open()
    for number in range(1, 4):
        assert await reserve(tries)
        copy = tmp_path / f"copy{number}"
        copy.mkdir()
        for name in ("directories.db", "directories.db-wal"):
            (copy / name).write_bytes((tmp_path / name).read_bytes())
        other = await Tries.open(copy / "directories.db", clock=kept.clock.monotonic, wall=kept.clock.wall)
        assert [await reserve(other) is not None for _ in range(4)] == [True] * (3 - number) + [False] * (number + 1)
        await other.close()
    await tries.close()


@settings(max_examples=25)
@given(st.lists(st.sampled_from(("reserve", "give back", "wait", "restart")), max_size=25))
def test_no_window_holds_more_over_restarts(steps: list[str]) -> None:
    async def play(path: Path) -> None:
        kept = Kept(path)
        tries = await kept.open()
        made: list[tuple[float, Try]] = []
        for step in steps:
            now = kept.clock.wall()
            if step == "wait":
                kept.clock.advance(30)
            elif step == "restart":
                await tries.close()
                kept.boot = kept.clock.monotonic() - 7
                tries = await kept.open()
            elif step == "give back" and made:
                tries.give_back(made.pop()[1])
            elif step == "reserve":
                inside = [one for one in made if one[0] > now - WINDOW]
                try_ = await reserve(tries)
                assert (try_ is not None) == (len(inside) < 3)
                made += [(now, try_)] if try_ is not None else []
        await tries.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(play(Path(directory) / "directories.db"))


async def test_a_clock_that_was_set_back_makes_no_room(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "directories.db")
    tries = await kept.open()
    for _ in range(3):
        await reserve(tries)
    await tries.close()
    kept.clock.set_wall(kept.clock.wall() - 86_400)
    tries = await kept.open()
    assert await reserve(tries) is None
    kept.clock.advance(WINDOW)
    assert await reserve(tries) is not None, "and nothing lasts for ever"
    await tries.close()


async def test_ended_windows_leave_the_file(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "directories.db")
    tries = await kept.open()
    for number in range(20):
        await reserve(tries, 1, f"user{number}")
    kept.clock.advance(WINDOW + module.EXPIRE_EVERY)
    await reserve(tries, 1, "another")
    assert tries._store is not None
    rows = await tries._store.read(lambda db: list(db.execute("SELECT person FROM tries")))
    assert rows == [("another",)]
    await tries.close()


async def test_while_the_file_cannot_be_written_memory_counts_and_the_log_says_so_once() -> None:
    class Full:
        full = True

        async def _answer(self) -> None:
            if self.full:
                raise DiskFull("directories.db: full")

        def write(self, work: Callable[[Any], Any]) -> Any:
            return self._answer()

        def read(self, work: Callable[[Any], Any]) -> Any:
            raise StoreError("not here")

        async def close(self) -> None: ...

    store = Full()
    tries = Tries(FakeClock().monotonic, store=store)
    assert [await reserve(tries) is not None for _ in range(4)] == [True] * 3 + [False]
    assert tries._failing
    store.full = False
    assert await reserve(tries, 1, "bob")
    assert not tries._failing
    await tries.close()


# -- over the channel, from workers that die


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[tuple[Tries, ChannelServer, Path]]:
    tries = await Tries.open(tmp_path / "directories.db")
    path = tmp_path / "spool.sock"
    handlers = budget_handlers(tries)
    server = await serve(path, lambda _peer: handlers)
    yield tries, server, path
    await server.close()
    await tries.close()


async def worker(path: Path) -> tuple[Link, RemoteBudget]:
    link = Link(path)
    await link.start(patience=5)
    return link, RemoteBudget(link)


async def test_workers_share_one_count_however_they_hurry(spool: tuple[Tries, ChannelServer, Path]) -> None:
    workers = [await worker(spool[2]) for _ in range(3)]
    handed = await asyncio.gather(*(reserve(workers[number % 3][1]) for number in range(60)))
    assert sum(try_ is not None for try_ in handed) == 3
    for link, _ in workers:
        await link.close()


async def test_a_worker_that_dies_or_gives_up_waiting_gives_nothing_back(
    spool: tuple[Tries, ChannelServer, Path],
) -> None:
    link, budget = await worker(spool[2])
    assert await reserve(budget)
    leaving = asyncio.create_task(reserve(budget))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait((leaving,))
    await link.close()
    link, budget = await worker(spool[2])
    handed = [await reserve(budget) is not None for _ in range(3)]
    assert sum(handed) <= 2, "the one that is not known to have been made may count"
    await link.close()


async def test_what_is_given_back_over_the_channel_makes_room(spool: tuple[Tries, ChannelServer, Path]) -> None:
    link, budget = await worker(spool[2])
    for _ in range(10):
        try_ = await reserve(budget, 1)
        assert try_ is not None
        budget.give_back(try_)
        await asyncio.wait(tuple(budget._telling))
    await link.close()


async def test_without_the_spool_process_nothing_is_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.05)
    link = Link(tmp_path / "nobody.sock")
    await link.start(patience=0.01)
    budget = RemoteBudget(link)
    with pytest.raises(NotReached, match="the spool process cannot count the try"):
        await reserve(budget)
    budget.give_back(Try("corp", "anna", 1))
    await asyncio.wait(tuple(budget._telling))
    await link.close()

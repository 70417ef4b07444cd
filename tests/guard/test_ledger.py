"""ledger.py: what is counted outlives restarts, crashes and a failing disk."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from tests.support.clock import FakeClock

from pillarbox.guard.base import Attempt
from pillarbox.guard.ledger import PLACES_TOLD, Change, Ledger
from pillarbox.guard.settings import GuardSettings
from pillarbox.guard.tables import MIGRATIONS, Deltas, Loaded
from pillarbox.store.sqlite import Database, DiskFull, SchemaTooNew, StoreLike, open_store

T = TypeVar("T")
HERE, THERE = "192.0.2.1", "2001:db8::1"
SETTINGS = GuardSettings()


def fail(ledger: Ledger, clock: FakeClock, address: str, login: str, times: int, first: int = 0) -> None:
    for number in range(first, first + times):
        ledger.failed(Attempt(address, login, number.to_bytes(16, "big"), clock()))


def succeed(ledger: Ledger, clock: FakeClock, address: str, login: str) -> None:
    ledger.succeeded(Attempt(address, login, b"\0" * 16, clock()))


async def test_a_restart_keeps_counts_blocks_places_and_quota(tmp_path: Path) -> None:
    clock = FakeClock()
    first = await Ledger.open(tmp_path / "guard.db", SETTINGS, clock=clock)
    fail(first, clock, HERE, "bob", 12)
    fail(first, clock, "198.51.100.1", "bob", 5, first=100)
    succeed(first, clock, THERE, "alice")
    assert await first.take("alice", 400, 500, clock())
    await first.close()

    clock.advance(60)
    second = await Ledger.open(tmp_path / "guard.db", SETTINGS, clock=clock)
    blocked = second.admit(HERE, clock())
    assert blocked is not None and blocked.failures == 12
    assert (await second.ask("198.51.100.1", "carol", clock())).delay == 2.0
    assert (await second.ask("203.0.113.1", "bob", clock())).delay == 15.0, "the login's own window too"
    assert (await second.ask(THERE, "alice", clock())).known_place
    assert not await second.take("alice", 101, 500, clock())
    assert await second.take("alice", 100, 500, clock())
    await second.close()


async def test_a_restart_forgets_what_was_lifted_cleared_and_given_back(tmp_path: Path) -> None:
    clock = FakeClock()
    first = await Ledger.open(tmp_path / "guard.db", SETTINGS, clock=clock)
    fail(first, clock, HERE, "bob", 12)
    fail(first, clock, THERE, "bob", 12, first=100)
    assert await first.take("bob", 500, 500, clock())
    await first.flush()
    succeed(first, clock, HERE, "bob")
    assert first.unblock_prefix(THERE, clock()) == (True, 12)
    first.give_back("bob", 500, clock())
    await first.close()

    second = await Ledger.open(tmp_path / "guard.db", SETTINGS, clock=clock)
    assert second.standings(clock(), 10) == ([], [])
    assert second.blocks(clock()) == {}
    assert second.used("bob", clock()) == 0
    await second.close()


async def test_expired_rows_leave_the_file(tmp_path: Path) -> None:
    clock = FakeClock()
    ledger = await Ledger.open(tmp_path / "guard.db", SETTINGS, clock=clock)
    fail(ledger, clock, HERE, "bob", 12)
    succeed(ledger, clock, THERE, "alice")
    await ledger.take("alice", 5, 500, clock())
    await ledger.flush()
    clock.advance(604_801)
    await ledger.flush()
    await ledger.close()
    store = await open_store(tmp_path / "guard.db", MIGRATIONS)
    rows = await store.read(
        lambda db: db.execute(
            "SELECT (SELECT count(*) FROM failures), (SELECT count(*) FROM places), "
            "(SELECT count(*) FROM blocks), (SELECT count(*) FROM quotas)"
        ).fetchone()
    )
    assert rows == (0, 0, 0, 0)
    await store.close()


CHILD = """
import asyncio, sys
from pathlib import Path
from pillarbox.guard.base import Attempt
from pillarbox.guard.ledger import Ledger
from pillarbox.guard.settings import GuardSettings

async def main():
    ledger = await Ledger.open(Path(sys.argv[1]), GuardSettings(), clock=lambda: 1000000.0, flush_every=3600)
    def fail(address, times):
        for number in range(times):
            ledger.failed(Attempt(address, "bob", number.to_bytes(16, "big"), 1000000.0))
    fail("192.0.2.1", 12)
    await ledger.take("bob", 500, 500, 1000000.0)
    await ledger.flush()
    fail("198.51.100.1", 12)
    print("counted", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


async def test_kill_9_keeps_the_counts_up_to_the_last_write(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(tmp_path / "guard.db"), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    line = b"log"
    while line not in (b"counted\n", b""):
        line = await child.stdout.readline()
    assert line == b"counted\n"
    child.send_signal(signal.SIGKILL)
    assert await child.wait() == -signal.SIGKILL

    ledger = await Ledger.open(tmp_path / "guard.db", SETTINGS, clock=lambda: 1_000_000.0)
    assert ledger.admit("192.0.2.1", 1_000_000.0) is not None
    assert not await ledger.take("bob", 1, 500, 1_000_000.0)
    assert ledger.admit("198.51.100.1", 1_000_000.0) is None, "counted after the last write: lost, as documented"
    await ledger.close()


class WatchedStore:
    """A store that says when it wrote, and whose disk can be full."""

    def __init__(self, store: StoreLike) -> None:
        self._store = store
        self.full = False
        self.tried = asyncio.Event()
        self.writes = 0

    async def write(self, work: Callable[[Database], T]) -> T:
        try:
            if self.full:
                raise DiskFull("guard.db: no room")
            self.writes += 1
            return await self._store.write(work)
        finally:
            self.tried.set()

    def read(self, work: Callable[[Database], T]) -> Awaitable[T]:
        return self._store.read(work)

    async def close(self) -> None:
        await self._store.close()

    async def wait_written(self) -> None:
        await asyncio.wait_for(self.tried.wait(), 10)
        self.tried.clear()


async def watched(tmp_path: Path, clock: FakeClock) -> tuple[Ledger, WatchedStore]:
    store = WatchedStore(await open_store(tmp_path / "guard.db", MIGRATIONS))
    return Ledger(SETTINGS, store, Loaded(), clock=clock), store


async def test_changes_are_written_behind_many_in_one_transaction(tmp_path: Path) -> None:
    clock = FakeClock()
    ledger, store = await watched(tmp_path, clock)
    ledger.start(flush_every=0.0)
    for number in range(200):
        fail(ledger, clock, f"198.51.100.{number}", "bob", 3)
    await store.wait_written()
    assert store.writes == 1
    rows = await store.read(lambda db: db.execute("SELECT count(*) FROM failures").fetchone())
    assert rows == (600,)
    await ledger.close()


async def test_a_full_disk_stops_no_counting_and_loses_nothing_once_there_is_room(tmp_path: Path) -> None:
    clock = FakeClock()
    ledger, store = await watched(tmp_path, clock)
    ledger.start(flush_every=0.0)
    store.full = True
    fail(ledger, clock, HERE, "bob", 11)
    await store.wait_written()
    fail(ledger, clock, HERE, "bob", 1, first=11)
    await store.wait_written()
    assert ledger.admit(HERE, clock()) is not None, "memory decides"
    store.full = False
    await store.wait_written()
    while store.writes == 0:  # the attempt that was under way when room came
        await store.wait_written()
    await ledger.close()
    again = await Ledger.open(tmp_path / "guard.db", SETTINGS, clock=clock)
    blocked = again.admit(HERE, clock())
    assert blocked is not None and blocked.failures == 12
    await again.close()


async def test_what_waits_for_the_disk_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pillarbox.guard.tables.PENDING_CEILING", 10)
    merged = Deltas(places={f"old {n}": 1.0 for n in range(20)}).merged(Deltas(places={"new": 2.0}))
    assert len(merged.places) == 10
    assert merged.places["new"] == 2.0


async def test_an_attack_within_one_window_cannot_fill_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pillarbox.guard.tables.FAILURES_CEILING", 50)
    clock = FakeClock()
    ledger, store = await watched(tmp_path, clock)
    for number in range(300):
        fail(ledger, clock, f"2001:db8:0:{number:x}::1", "bob", 1, first=number)
        clock.advance(0.01)
    await ledger.flush()
    clock.advance(60)
    await ledger.flush()
    rows = await store.read(lambda db: db.execute("SELECT count(*), min(at) FROM failures").fetchone())
    assert rows == (50, pytest.approx(FakeClock()() + 2.5))
    assert len(ledger.standings(clock(), 1000)[0]) == 300, "memory has its own ceiling"
    await ledger.close()


async def test_sign_ins_from_one_place_are_written_once_a_minute(tmp_path: Path) -> None:
    clock = FakeClock()
    ledger, store = await watched(tmp_path, clock)
    for _ in range(30):
        succeed(ledger, clock, HERE, "bob")
        await ledger.flush()
        clock.advance(1)
    assert store.writes == 1
    clock.advance(60)
    succeed(ledger, clock, HERE, "bob")
    await ledger.flush()
    assert store.writes == 2
    await ledger.close()


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "guard.db", [*MIGRATIONS, "CREATE TABLE later (x INTEGER)"])
    await store.close()
    with pytest.raises(SchemaTooNew):
        await Ledger.open(tmp_path / "guard.db", SETTINGS)


async def test_listeners_hear_of_blocks_liftings_and_new_places_only(tmp_path: Path) -> None:
    clock = FakeClock()
    ledger = await Ledger.open(tmp_path / "guard.db", SETTINGS, clock=clock)
    heard: list[Change] = []
    stop = ledger.listen(heard.append)
    fail(ledger, clock, HERE, "bob", 12)
    ledger.unblock_prefix(HERE, clock())
    succeed(ledger, clock, THERE, "alice")
    succeed(ledger, clock, THERE, "alice")
    ledger.forget_login("bob")
    stop()
    fail(ledger, clock, HERE, "bob", 12, first=50)
    await ledger.close()
    assert [list(change.blocked) for change in heard] == [["192.0.2.1/32"], [], []]
    assert [change.lifted for change in heard] == [(), ("192.0.2.1/32",), ()]
    assert [list(change.known) for change in heard] == [[], [], ["2001:db8::/64"]]


async def test_the_fingerprints_key_is_new_with_each_start_and_never_in_the_file(tmp_path: Path) -> None:
    first = await Ledger.open(tmp_path / "guard.db", SETTINGS)
    attempt = Attempt(HERE, "bob", first.fingerprint("bob", "hunter2"), FakeClock()())
    first.failed(attempt)
    key = first.key
    await first.close()
    second = await Ledger.open(tmp_path / "guard.db", SETTINGS)
    assert second.fingerprint("bob", "hunter2") != attempt.fingerprint
    await second.close()
    octets = await asyncio.to_thread(lambda: b"".join(file.read_bytes() for file in tmp_path.iterdir()))
    assert len(octets) > 4096
    assert key not in octets and b"hunter2" not in octets


async def test_a_worker_is_told_of_a_bounded_number_of_places(tmp_path: Path) -> None:
    clock = FakeClock()
    ledger = await Ledger.open(tmp_path / "guard.db", SETTINGS, clock=clock)
    for number in range(PLACES_TOLD + 100):
        succeed(ledger, clock, f"2001:db8:0:{number:x}::1", "alice")
    places = ledger.known_places(clock())
    assert len(places) == PLACES_TOLD
    assert f"2001:db8:0:{PLACES_TOLD + 99:x}::/64" in places
    await ledger.close()

"""remote.py and service.py: workers and the ledger, with a real UNIX socket between them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.clock import FakeClock

from pillarbox.control.channel import ChannelServer, Handlers, RemoteError, serve
from pillarbox.control.link import Link
from pillarbox.guard import purses, remote
from pillarbox.guard.base import Attempt
from pillarbox.guard.ledger import Ledger
from pillarbox.guard.purses import BATCH, IDLE
from pillarbox.guard.remote import CLEAN_FOR, RemoteGuard
from pillarbox.guard.service import guard_handlers, operator_handlers
from pillarbox.guard.settings import GuardSettings

HERE, THERE, OFFICE = "192.0.2.1", "198.51.100.7", "203.0.113.5"
SETTINGS = GuardSettings()


class Worker:
    """One worker's guard and its link."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self.clock = clock
        handlers: dict[str, Any] = {}
        self.link = Link(path, handlers)
        self.guard = RemoteGuard(self.link, SETTINGS, clock=clock)
        handlers.update(self.guard.handlers())

    async def settle(self) -> None:
        """What was said before, by both sides, has been heard."""
        await self.link.request("guard.ask", ("203.0.113.254", "nobody"))

    async def fail(self, address: str, login: str, times: int, first: int = 0) -> None:
        for number in range(first, first + times):
            self.guard.failed(Attempt(address, login, number.to_bytes(16, "big"), self.clock()))
        if self.link.connected:
            await self.settle()

    async def succeed(self, address: str, login: str) -> None:
        self.guard.succeeded(Attempt(address, login, b"\0" * 16, self.clock()))
        if self.link.connected:
            await self.settle()

    async def wait_for_link(self, connected: bool) -> None:
        async with asyncio.timeout(10):
            while self.link.connected != connected:  # noqa: ASYNC110  a link has no event for its end
                await asyncio.sleep(0.002)

    async def close(self) -> None:
        self.guard.close()
        await self.link.close()


class House:
    """A ledger, its socket, its workers, and how often each verb was used."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.path = directory / "spool.sock"
        self.file = directory / "guard.db"
        self.verbs: Counter[str] = Counter()
        self.workers: list[Worker] = []
        self.ledger: Ledger
        self.server: ChannelServer | None = None

    async def open(self) -> None:
        self.ledger = await Ledger.open(self.file, SETTINGS, clock=self.clock)

    async def serve(self) -> None:
        both = {
            **guard_handlers(self.ledger, clock=self.clock),
            **operator_handlers(self.ledger, clock=self.clock),
        }
        self.server = await serve(self.path, lambda _peer: self._counted(both))

    def _counted(self, handlers: Handlers) -> Handlers:
        def counted(verb: str) -> Any:
            def handler(channel: Any, body: Any) -> Any:
                self.verbs[verb] += 1
                return handlers[verb](channel, body)

            return handler

        return {verb: counted(verb) for verb in handlers}

    async def stop_serving(self) -> None:
        assert self.server is not None
        await self.server.close()
        self.server = None

    async def worker(self) -> Worker:
        worker = Worker(self.path, self.clock)
        self.workers.append(worker)
        await worker.link.start(patience=5)
        return worker

    async def close(self) -> None:
        for worker in self.workers:
            await worker.close()
        if self.server is not None:
            await self.server.close()
        await self.ledger.close()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    built = House(tmp_path)
    await built.open()
    await built.serve()
    yield built
    await built.close()


async def test_what_one_worker_sees_every_worker_counts(house: House) -> None:
    one, two = await house.worker(), await house.worker()
    await one.fail(HERE, "bob", 6)
    await two.fail(HERE, "bob", 5, first=6)
    assert two.guard.admit(HERE, house.clock()) is None
    await two.fail(HERE, "bob", 1, first=11)
    await one.settle()
    three = await house.worker()  # the whole list comes with the connection
    for worker in (one, two, three):
        blocked = worker.guard.admit(HERE, house.clock())
        assert blocked is not None and blocked.failures == 12


async def test_unblocking_is_heard_by_every_worker(house: House) -> None:
    one, two = await house.worker(), await house.worker()
    await one.fail(HERE, "bob", 12)
    assert await two.link.request("guard.unblock", {"prefix": HERE}) == {"blocked": True, "forgotten": 12}
    await one.settle()
    for worker in (one, two):
        assert worker.guard.admit(HERE, house.clock()) is None
    assert (await one.guard.ask(HERE, "bob", house.clock())).delay == 0


async def test_a_usual_message_costs_no_round_trip(house: House) -> None:
    worker = await house.worker()
    for _ in range(400):
        assert await worker.guard.take("bob", 1, 500, house.clock())
    assert house.verbs["guard.take"] <= 400 / BATCH + 3
    assert house.ledger.used("bob", house.clock()) <= 400 + BATCH


async def test_the_sum_over_workers_never_exceeds_the_limit_and_reaches_it(house: House) -> None:
    workers = [await house.worker() for _ in range(3)]
    taken = 0
    for turn in range(400):
        worker = workers[turn * 7 % 3]
        taken += await worker.guard.take("bob", 1, 200, house.clock())
        assert house.ledger.used("bob", house.clock()) <= 200
    assert 200 - 3 * BATCH <= taken <= 200
    house.clock.advance(IDLE)
    for worker in workers:
        worker.guard.return_idle(house.clock())
        await worker.settle()
    assert house.ledger.used("bob", house.clock()) == taken
    while await workers[0].guard.take("bob", 1, 200, house.clock()):
        taken += 1
    assert taken == 200


async def test_concurrent_takes_of_one_login_share_what_is_granted(house: House) -> None:
    worker = await house.worker()
    results = await asyncio.gather(*(worker.guard.take("bob", 3, 100, house.clock()) for _ in range(60)))
    assert sum(results) == 33
    house.clock.advance(IDLE)
    worker.guard.return_idle(house.clock())
    await worker.settle()
    assert house.ledger.used("bob", house.clock()) == 3 * sum(results)


async def test_closing_a_worker_returns_what_it_has_in_hand(house: House) -> None:
    worker = await house.worker()
    assert await worker.guard.take("bob", 1, 500, house.clock())
    assert house.ledger.used("bob", house.clock()) == BATCH
    worker.guard.close()
    await worker.settle()
    assert house.ledger.used("bob", house.clock()) == 1


async def test_what_is_idle_returns_by_itself(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purses, "IDLE", 0.01)
    worker = await house.worker()
    assert await worker.guard.take("bob", 1, 500, house.clock())
    house.clock.advance(1)
    async with asyncio.timeout(10):
        while house.ledger.used("bob", house.clock()) != 1:  # noqa: ASYNC110  what is awaited is a timer's note
            await asyncio.sleep(0.005)


async def test_a_known_place_without_failures_is_not_asked_about_again_at_once(house: House) -> None:
    worker = await house.worker()
    await worker.succeed(OFFICE, "alice")
    house.verbs.clear()
    for _ in range(100):
        assert (await worker.guard.ask(OFFICE, "alice", house.clock())).known_place
        worker.guard.succeeded(Attempt(OFFICE, "alice", b"\0" * 16, house.clock()))
    assert (house.verbs["guard.ask"], house.verbs["guard.succeeded"]) == (1, 0)
    house.clock.advance(CLEAN_FOR)
    await worker.guard.ask(OFFICE, "alice", house.clock())
    assert house.verbs["guard.ask"] == 2


async def test_an_own_failure_is_asked_about_at_once(house: House) -> None:
    worker = await house.worker()
    await worker.succeed(OFFICE, "alice")
    assert (await worker.guard.ask(OFFICE, "bob", house.clock())).delay == 0
    await worker.fail(OFFICE, "bob", 4)
    assert (await worker.guard.ask(OFFICE, "bob", house.clock())).delay == 1.0


async def test_out_of_reach_strangers_are_slowed_and_blocked_by_the_workers_own_counts(house: House) -> None:
    worker = await house.worker()
    await worker.fail(HERE, "bob", 3)
    await house.stop_serving()
    await worker.wait_for_link(False)
    await worker.fail(HERE, "bob", 1, first=3)
    assert (await worker.guard.ask(HERE, "bob", house.clock())).delay == 1.0
    await worker.fail(HERE, "bob", 8, first=4)
    assert worker.guard.admit(HERE, house.clock()) is not None
    assert (await worker.guard.ask(HERE, "bob", house.clock())).blocked is not None
    assert worker.guard.admit(THERE, house.clock()) is None, "and nobody else is"


async def test_out_of_reach_known_places_of_any_worker_are_never_refused(house: House) -> None:
    one, two = await house.worker(), await house.worker()
    await one.succeed(OFFICE, "alice")
    await two.settle()
    await house.stop_serving()
    await two.wait_for_link(False)
    await two.fail(OFFICE, "bob", 40)
    verdict = await two.guard.ask(OFFICE, "bob", house.clock())
    assert (verdict.known_place, verdict.delay, verdict.blocked) == (True, 15.0, None)
    assert two.guard.admit(OFFICE, house.clock()) is None


async def test_out_of_reach_blocks_that_were_told_stay_in_force_and_end(house: House) -> None:
    one, two = await house.worker(), await house.worker()
    await one.fail(HERE, "bob", 12)
    await two.settle()
    await house.stop_serving()
    await two.wait_for_link(False)
    assert two.guard.admit(HERE, house.clock()) is not None
    assert (await two.guard.ask(HERE, "bob", house.clock())).blocked is not None
    house.clock.advance(901)
    assert two.guard.admit(HERE, house.clock()) is None
    assert (await two.guard.ask(HERE, "bob", house.clock())).blocked is None


async def test_out_of_reach_the_quota_goes_on_from_what_this_worker_has_taken(house: House) -> None:
    worker = await house.worker()
    assert await worker.guard.take("bob", 90, 100, house.clock())
    await house.stop_serving()
    await worker.wait_for_link(False)
    assert not await worker.guard.take("bob", 11, 100, house.clock())
    assert await worker.guard.take("bob", 10, 100, house.clock())
    assert not await worker.guard.take("bob", 1, 100, house.clock())
    worker.guard.give_back("bob", 4, house.clock())
    assert await worker.guard.take("bob", 4, 100, house.clock())


async def test_what_was_counted_out_of_reach_is_told_at_the_next_connection(house: House) -> None:
    worker = await house.worker()
    await house.stop_serving()
    await worker.wait_for_link(False)
    await worker.fail(HERE, "bob", 12)
    await worker.succeed(OFFICE, "alice")
    assert await worker.guard.take("bob", 40, 100, house.clock())
    worker.guard.give_back("bob", 10, house.clock())
    await house.serve()
    await worker.wait_for_link(True)
    assert house.ledger.admit(HERE, house.clock()) is not None
    assert (await house.ledger.ask(OFFICE, "bob", house.clock())).known_place
    assert house.ledger.used("bob", house.clock()) == 30
    assert worker.guard.admit(HERE, house.clock()) is not None


async def test_a_restarted_ledger_is_heard_by_its_workers(house: House) -> None:
    """Another key, and the blocks as they were stored."""
    worker = await house.worker()
    await worker.fail(HERE, "bob", 12)
    before = worker.guard.fingerprint("bob", "secret")
    await house.stop_serving()
    await worker.wait_for_link(False)
    await house.ledger.close()
    await house.open()
    await house.serve()
    await worker.wait_for_link(True)
    assert worker.guard.fingerprint("bob", "secret") == house.ledger.fingerprint("bob", "secret") != before
    assert worker.guard.admit(HERE, house.clock()) is not None


async def test_a_ledger_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PATIENCE", 0.02)
    never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    stuck = {"guard.hello": lambda *_: b"k" * 32, "guard.ask": lambda *_: never, "guard.take": lambda *_: never}
    server = await serve(tmp_path / "spool.sock", lambda _peer: stuck)
    worker = Worker(tmp_path / "spool.sock", FakeClock())
    await worker.link.start(patience=5)
    for number in range(4):
        worker.guard.failed(Attempt(HERE, "bob", number.to_bytes(16, "big"), worker.clock()))
    assert (await worker.guard.ask(HERE, "bob", worker.clock())).delay == 1.0
    assert await worker.guard.take("bob", 10, 10, worker.clock())
    assert not await worker.guard.take("bob", 1, 10, worker.clock())
    await worker.close()
    never.cancel()
    await server.close()


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("guard.ask", None),
        ("guard.ask", ["192.0.2.1"]),
        ("guard.ask", [1, 2]),
        ("guard.failed", ["192.0.2.1", "bob", "text", 1.0]),
        ("guard.failed", ["192.0.2.1", "bob", b"x" * 16, "now"]),
        ("guard.take", ["bob", -5, 32, 500]),
        ("guard.take", ["bob", 5, 1, 500]),
        ("guard.take", ["bob", 1.5, 32, 500]),
        ("guard.hello", {"took": {"bob": "many"}}),
        ("guard.hello", {"failed": [[]]}),
    ],
)
async def test_a_body_of_the_wrong_shape_counts_nothing_and_the_next_is_served(
    house: House, verb: str, body: Any
) -> None:
    worker = await house.worker()
    with pytest.raises(RemoteError):
        await worker.link.request(verb, body)
    assert house.ledger.standings(house.clock(), 10) == ([], [])
    assert house.ledger.used("bob", house.clock()) == 0
    assert not (await worker.guard.ask(HERE, "bob", house.clock())).known_place


async def test_a_workers_clock_cannot_age_or_postpone_a_count(house: House) -> None:
    worker = await house.worker()
    for number, at in enumerate((0.0, 1e12, float("inf"), house.clock() - 10)):
        worker.link.note("guard.failed", (HERE, "bob", number.to_bytes(16, "big"), at))
    await worker.settle()
    prefixes, _ = house.ledger.standings(house.clock(), 10)
    assert prefixes[0].failures == 3, "one was an hour old, none lies in the future"
    assert prefixes[0].last_at <= house.clock()


async def test_the_operator_sees_and_lifts(house: House) -> None:
    worker = await house.worker()
    await worker.fail(HERE, "Bob", 12)
    await worker.succeed(OFFICE, "alice")
    await worker.fail(OFFICE, "carol", 1)
    assert await worker.guard.take("carol", 500, 500, house.clock())
    ask = worker.link.request
    found = await ask("guard.list", {"limit": 10})
    now = house.clock()
    assert found["blocks"] == [{"prefix": "192.0.2.1/32", "until": now + 900, "failures": 12}]
    assert found["prefixes"] == [
        {"name": "203.0.113.5/32", "failures": 1, "last_at": now, "known": True},
        {"name": "192.0.2.1/32", "failures": 12, "last_at": now, "known": False},
    ]
    assert found["logins"] == [{"name": "bob", "failures": 12, "last_at": now, "known": False}]
    assert await ask("guard.quota", {"login": "carol"}) == {"used": 500}
    assert await ask("guard.unblock", {"login": "BOB"}) == {"blocked": False, "forgotten": 12}
    assert await ask("guard.unblock", {"prefix": "192.0.2.1/32"}) == {"blocked": True, "forgotten": 0}
    assert await ask("guard.unblock", {"prefix": "nonsense"}) == {"blocked": False, "forgotten": 0}
    assert (await ask("guard.list"))["blocks"] == []


async def test_workers_that_left_are_not_told_and_not_kept(house: House) -> None:
    stay = await house.worker()
    for _ in range(5):
        worker = await house.worker()
        await worker.close()
    await stay.fail(HERE, "bob", 12)
    assert stay.guard.admit(HERE, house.clock()) is not None


async def test_the_workers_copy_of_the_blocks_is_bounded_by_those_in_force(house: House) -> None:
    worker = await house.worker()
    for round_ in range(4):
        body = {"blocked": [[f"{round_}.{number}", house.clock() + 900, 12] for number in range(1000)]}
        worker.guard._take_change(worker, body)  # type: ignore[arg-type]  # the channel is not looked at
        house.clock.advance(901)
    assert len(worker.guard._blocks) <= 2000

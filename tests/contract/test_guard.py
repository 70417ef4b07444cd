"""What every guard promises: one suite over the ledger itself, over workers behind a real UNIX socket, and over two
machines of a cluster: counted on one, judged on the other."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.guard.machines import Machine, make_tables
from tests.support.clock import FakeClock
from tests.support.postgres import Postgres

from pillarbox.control.channel import serve
from pillarbox.control.link import Link
from pillarbox.guard.base import Attempt, Guard
from pillarbox.guard.ledger import Ledger
from pillarbox.guard.remote import RemoteGuard
from pillarbox.guard.service import guard_handlers
from pillarbox.guard.settings import GuardSettings

HERE, THERE = "192.0.2.1", "198.51.100.7"


class Site:
    """A guard as the submission role has it, and what a test needs around it."""

    def __init__(
        self,
        guard: Guard,
        ledger: Ledger,
        clock: FakeClock,
        link: Link | None = None,
        machines: Sequence[Machine] = (),
    ) -> None:
        self.guard, self.ledger, self.clock, self._link = guard, ledger, clock, link
        self._machines = machines
        self.clocks_differ = 30.0 if machines else 0.0  # a busy machine between two questions for the server's time

    async def settle(self) -> None:
        """Notes keep their order with requests: when this one is answered, those before it were heard."""
        if self._link is not None:
            await self._link.request("guard.ask", ("203.0.113.254", "nobody"))
        for machine in self._machines:
            await machine.run()

    async def fail(self, address: str, login: str, password: str) -> None:
        attempt = Attempt(address, login, self.guard.fingerprint(login, password), self.clock())
        self.guard.failed(attempt)
        await self.settle()

    async def succeed(self, address: str, login: str) -> None:
        # machines tell each other ages: by a clock that stands still, what a busy one hears later looks older
        self.clock.advance(self.clocks_differ)
        self.guard.succeeded(Attempt(address, login, self.guard.fingerprint(login, "right"), self.clock()))
        await self.settle()

    async def fail_often(self, address: str, login: str, times: int) -> None:
        for number in range(times):
            await self.fail(address, login, f"guess {number}")


class Apart:
    """A guard that counts on one machine of a cluster and judges on another."""

    def __init__(self, one: Machine, two: Machine) -> None:
        self._machines = [one, two]
        self._one, self._two = one.ledger, two.ledger
        self.fingerprint, self.failed, self.succeeded = (
            one.ledger.fingerprint,
            one.ledger.failed,
            one.ledger.succeeded,
        )
        self.admit, self.known, self.ask = two.ledger.admit, two.ledger.known, two.ledger.ask
        self._took = one.ledger

    async def take(self, login: str, recipients: int, limit: int, now: float) -> bool:
        """From each in turn, after they have exchanged."""
        for machine in (*self._machines, *self._machines):
            await machine.run()
        if not await self._one.take(login, recipients, limit, now):
            return False
        self._took = self._one
        self._one, self._two = self._two, self._one
        return True

    def give_back(self, login: str, recipients: int, now: float) -> None:
        """Where they were taken."""
        self._took.give_back(login, recipients, now)


@pytest.fixture(params=["ledger", "behind a socket", "cluster"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    clock = FakeClock()
    if request.param == "cluster":
        postgres: Postgres = request.getfixturevalue("postgres")
        dsn = await asyncio.to_thread(postgres.create_database)
        await make_tables(dsn)
        one, two = [await Machine.open(tmp_path / name, dsn, clock) for name in ("one", "two")]
        yield Site(Apart(one, two), one.ledger, clock, machines=(one, two))
        await one.close()
        await two.close()
        return
    settings = GuardSettings()
    ledger = await Ledger.open(tmp_path / "guard.db", settings, clock=clock)
    if request.param == "ledger":
        yield Site(ledger, ledger, clock)
        await ledger.close()
        return
    server = await serve(tmp_path / "spool.sock", lambda _peer: guard_handlers(ledger, clock=clock))
    handlers: dict[str, Any] = {}
    link = Link(tmp_path / "spool.sock", handlers)
    guard = RemoteGuard(link, settings, clock=clock)
    handlers.update(guard.handlers())
    await link.start(patience=5)
    assert link.connected
    yield Site(guard, ledger, clock, link)
    guard.close()
    await link.close()
    await server.close()
    await ledger.close()


async def test_a_fresh_address_is_let_try_without_delay(site: Site) -> None:
    verdict = await site.guard.ask(HERE, "bob", site.clock())
    assert (verdict.known_place, verdict.delay, verdict.blocked) == (False, 0.0, None)
    assert site.guard.admit(HERE, site.clock()) is None


async def test_failures_beyond_the_free_ones_double_the_delay_up_to_its_ceiling(site: Site) -> None:
    delays = []
    for number in range(11):
        await site.fail(HERE, "bob", f"guess {number}")
        delays.append((await site.guard.ask(HERE, "bob", site.clock())).delay)
    assert delays == [0, 0, 0, 1, 2, 4, 8, 15, 15, 15, 15]


async def test_the_twelfth_distinct_failure_blocks_at_connect_and_before_the_hash_and_ends_by_itself(
    site: Site,
) -> None:
    await site.fail_often(HERE, "bob", 11)
    assert site.guard.admit(HERE, site.clock()) is None
    await site.fail(HERE, "bob", "one more")
    blocked = site.guard.admit(HERE, site.clock())
    assert blocked is not None and blocked.failures == 12
    assert blocked.until == pytest.approx(site.clock() + 900, abs=site.clocks_differ)
    assert (await site.guard.ask(HERE, "carol", site.clock())).blocked == blocked
    assert site.guard.admit(THERE, site.clock()) is None
    site.clock.advance(901)
    assert site.guard.admit(HERE, site.clock()) is None


async def test_one_typing_error_repeated_by_a_mail_program_counts_once(site: Site) -> None:
    for _ in range(50):
        await site.fail(HERE, "bob", "the same typing error")
    assert (await site.guard.ask(HERE, "bob", site.clock())).delay == 0
    assert site.guard.admit(HERE, site.clock()) is None


async def test_every_address_of_an_ipv6_network_counts_as_one(site: Site) -> None:
    for number in range(12):
        await site.fail(f"2001:db8:1:2::{number:x}", "bob", f"guess {number}")
    assert site.guard.admit("2001:db8:1:2:ffff::1", site.clock()) is not None
    assert site.guard.admit("2001:db8:1:3::1", site.clock()) is None


async def test_mapped_ipv4_is_ipv4(site: Site) -> None:
    await site.fail_often(f"::ffff:{HERE}", "bob", 12)
    assert site.guard.admit(HERE, site.clock()) is not None
    assert site.guard.admit(f"::ffff:{THERE}", site.clock()) is None


async def test_failures_leave_the_window(site: Site) -> None:
    await site.fail_often(HERE, "bob", 8)
    site.clock.advance(3601)
    assert (await site.guard.ask(HERE, "bob", site.clock())).delay == 0


async def test_a_known_place_is_slowed_and_never_refused(site: Site) -> None:
    """The office behind one address: one good sign-in, then a colleague's program gone wild."""
    await site.succeed(HERE, "alice")
    await site.fail_often(HERE, "bob", 40)
    verdict = await site.guard.ask(HERE, "bob", site.clock())
    assert (verdict.known_place, verdict.delay, verdict.blocked) == (True, 15.0, None)
    assert site.guard.admit(HERE, site.clock()) is None


async def test_a_place_is_known_for_seven_days(site: Site) -> None:
    await site.succeed(HERE, "alice")
    site.clock.advance(7 * 86_400 - 1)
    assert (await site.guard.ask(HERE, "alice", site.clock())).known_place
    site.clock.advance(10)
    assert not (await site.guard.ask(HERE, "alice", site.clock())).known_place


async def test_a_login_under_attack_slows_strangers_but_not_its_owner(site: Site) -> None:
    """Never a lock on the account: a hundred addresses guess at bob, bob's own place is as quick as ever."""
    await site.succeed(HERE, "bob")
    for number in range(100):
        await site.fail(f"203.0.113.{number}", "bob", f"guess {number}")
    owner = await site.guard.ask(HERE, "bob", site.clock())
    assert (owner.known_place, owner.delay, owner.blocked) == (True, 0.0, None)
    stranger = await site.guard.ask(THERE, "BOB", site.clock())
    assert (stranger.delay, stranger.blocked) == (15.0, None)
    assert (await site.guard.ask(THERE, "carol", site.clock())).delay == 0


async def test_a_known_places_failures_do_not_slow_the_login_elsewhere(site: Site) -> None:
    await site.succeed(HERE, "alice")
    await site.fail_often(HERE, "bob", 30)
    assert (await site.guard.ask(THERE, "bob", site.clock())).delay == 0


async def test_success_clears_the_failures_of_that_login_only(site: Site) -> None:
    await site.fail_often(HERE, "bob", 4)
    await site.fail_often(HERE, "mallory", 4)
    await site.succeed(HERE, "bob")
    assert (await site.guard.ask(HERE, "bob", site.clock())).delay == 1.0


async def test_success_lifts_a_block(site: Site) -> None:
    """Two sessions race: one fails for the twelfth time, the other's right password was already on its way."""
    await site.fail_often(HERE, "bob", 12)
    await site.succeed(HERE, "bob")
    assert site.guard.admit(HERE, site.clock()) is None
    assert (await site.guard.ask(HERE, "bob", site.clock())).blocked is None


async def test_fingerprints_are_keyed_and_separate_login_from_password(site: Site) -> None:
    print_ = site.guard.fingerprint("bob", "secret")
    assert len(print_) == 16
    assert print_ == site.guard.fingerprint("bob", "secret")
    assert print_ != site.guard.fingerprint("bobs", "ecret")
    assert print_ == site.ledger.fingerprint("bob", "secret"), "all workers of a machine share the key"
    assert site.guard.fingerprint("\udce9", "\ud800") != site.guard.fingerprint("\udce9", "")


async def test_the_quota_is_all_or_nothing_and_exact(site: Site) -> None:
    now = site.clock()
    assert await site.guard.take("bob", 6, 10, now)
    assert not await site.guard.take("bob", 5, 10, now)
    assert await site.guard.take("bob", 4, 10, now)
    assert not await site.guard.take("bob", 1, 10, now)
    assert await site.guard.take("carol", 10, 10, now)
    assert not await site.guard.take("dave", 11, 10, now)


async def test_the_quota_slides_over_sixty_minutes(site: Site) -> None:
    for _ in range(10):
        assert await site.guard.take("bob", 1, 10, site.clock())
        site.clock.advance(60)
    assert not await site.guard.take("bob", 1, 10, site.clock())
    site.clock.advance(51 * 60)
    assert await site.guard.take("bob", 1, 10, site.clock())
    assert not await site.guard.take("bob", 1, 10, site.clock()), "only the first of the ten has become free"


async def test_what_is_given_back_can_be_taken_again(site: Site) -> None:
    now = site.clock()
    assert await site.guard.take("bob", 10, 10, now)
    site.guard.give_back("bob", 4, now)
    assert not await site.guard.take("bob", 5, 10, now)
    assert await site.guard.take("bob", 4, 10, now)
    assert not await site.guard.take("bob", 1, 10, now)


async def test_more_given_back_than_taken_opens_no_credit(site: Site) -> None:
    now = site.clock()
    site.guard.give_back("bob", 1000, now)
    assert not await site.guard.take("bob", 11, 10, now)
    assert await site.guard.take("bob", 10, 10, now)


async def test_hostile_logins_and_addresses_are_counted_like_any_other(site: Site) -> None:
    for login in ("", "x" * 100_000, "a\0b", "'; DROP TABLE failures; --", "ſ", "\N{SNOWMAN}" * 500):
        await site.fail_often(HERE, login, 1)
    assert (await site.guard.ask(HERE, "bob", site.clock())).delay == 4.0
    for address in ("", "not an address", "1.2.3.4.5", "fe80::1%eth0", "[::1]"):
        await site.fail(address, "bob", "guess")
        assert site.guard.admit(address, site.clock()) is None

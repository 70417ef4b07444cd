"""counts.py: windows, places and blocks as plain data with time as an argument."""

import sys
import tracemalloc

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pillarbox.guard.base import Blocked
from pillarbox.guard.counts import LOGIN_CEILING, Counts, login_key
from pillarbox.guard.settings import GuardSettings

NOW = 1_767_225_600.0
PLACE = "192.0.2.1/32"


def print_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_memory_is_bounded_under_100_000_different_addresses() -> None:
    counts = Counts(GuardSettings(), prefixes=4096)
    tracemalloc.start()
    try:
        for number in range(100_000):
            counts.failed(
                f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64", f"login {number}", print_of(number), NOW
            )
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    prefixes, logins = counts.standings(NOW, 1_000_000)
    assert (len(prefixes), len(logins)) == (4096, 4096)
    assert prefixes[0].name.endswith(f"{99_999 & 0xFFFF:x}::/64"), "the latest ones stay"
    assert used < 8 * 1024 * 1024


def test_memory_is_bounded_under_one_address_with_100_000_passwords() -> None:
    counts = Counts(GuardSettings(), prefixes=4096)
    counts.remember(PLACE, NOW)
    for number in range(100_000):
        counts.failed(PLACE, "bob", print_of(number), NOW)
    prefixes, _ = counts.standings(NOW, 10)
    assert prefixes[0].failures < 50
    assert counts.verdict(PLACE, "bob", NOW).delay == 15.0


def test_memory_of_places_and_blocks_is_bounded() -> None:
    counts = Counts(GuardSettings(), prefixes=64)
    for number in range(1000):
        counts.remember(f"place {number}", NOW + number / 1000)
        counts.block(f"block {number}", Blocked(NOW + 100 + number / 1000, 12))
    places = counts.known_places(NOW + 1, 10_000)
    assert list(places) == [f"place {number}" for number in range(1000 - 256, 1000)], "the longest unseen leave"
    assert set(counts.blocks(NOW + 1)) == {f"block {number}" for number in range(968, 1000)}


def test_new_settings_judge_what_was_counted_before() -> None:
    counts = Counts(GuardSettings(block_failures=12))
    for number in range(3):
        assert counts.failed(PLACE, "anna", print_of(number), NOW) == (True, None)
    counts.apply(GuardSettings(block_failures=4, block_time=60.0))
    _, blocked = counts.failed(PLACE, "anna", print_of(9), NOW)
    assert blocked == Blocked(NOW + 60.0, 4)


def test_prune_looks_at_one_entry_of_each_table_when_nothing_has_expired() -> None:
    """It runs every minute, beside a full table: its steps are counted, not timed."""
    counts = Counts(GuardSettings(), prefixes=2048)
    steps = 0

    def tracer(_frame: object, event: str, _arg: object) -> None:
        nonlocal steps
        steps += event == "call"

    for number in range(20_000):
        counts.failed(f"address {number}", "bob", print_of(number), NOW)
    sys.setprofile(tracer)
    counts.prune(NOW)
    sys.setprofile(None)
    assert 0 < steps < 50


def test_prune_drops_what_expired_and_tells_whose_block_ended() -> None:
    counts = Counts(GuardSettings())
    for number in range(12):
        counts.failed(PLACE, "bob", print_of(number), NOW)
    counts.failed("198.51.100.1/32", "bob", print_of(77), NOW + 3000)
    counts.remember("203.0.113.1/32", NOW)
    assert counts.prune(NOW + 901) == [PLACE]
    assert counts.prune(NOW + 3601) == []
    prefixes, logins = counts.standings(NOW + 3601, 10)
    assert [standing.name for standing in prefixes] == ["198.51.100.1/32"]
    assert [(standing.name, standing.failures) for standing in logins] == [("bob", 1)]
    counts.prune(NOW + 604_801)
    assert counts.known_places(NOW + 1, 10) == {}


def test_a_clock_set_back_neither_blocks_nor_knows_anybody_for_ever() -> None:
    counts = Counts(GuardSettings())
    future = NOW + 10 * 365 * 86_400
    for number in range(12):
        counts.failed(PLACE, "bob", print_of(number), future)
    counts.remember("203.0.113.1/32", future)
    verdict = counts.verdict(PLACE, "bob", NOW)
    assert (verdict.blocked, verdict.delay) == (None, 0.0)
    assert not counts.known("203.0.113.1/32", NOW)


def test_after_a_block_the_next_new_failure_blocks_again_and_a_repeated_one_does_not() -> None:
    counts = Counts(GuardSettings())
    for number in range(12):
        counts.failed(PLACE, "bob", print_of(number), NOW)
    later = NOW + 901
    assert counts.failed(PLACE, "bob", print_of(0), later) == (False, None)
    fresh, blocked = counts.failed(PLACE, "bob", print_of(99), later)
    assert fresh and blocked is not None and blocked.until == later + 900


def test_forgetting_a_prefix_forgets_it_for_its_logins_too() -> None:
    counts = Counts(GuardSettings())
    for number in range(12):
        counts.failed(PLACE, "bob", print_of(number), NOW)
    assert len(counts.forget_prefix(PLACE)) == 12
    assert counts.standings(NOW, 10) == ([], [])
    assert counts.blocked(PLACE, NOW) is None


def test_forgetting_a_login_leaves_blocks_and_other_logins() -> None:
    counts = Counts(GuardSettings())
    for number in range(11):
        counts.failed(PLACE, "bob", print_of(number), NOW)
    counts.failed(PLACE, "carol", print_of(50), NOW)
    assert len(counts.forget_login("bob")) == 11
    prefixes, logins = counts.standings(NOW, 10)
    assert [(standing.name, standing.failures) for standing in prefixes] == [(PLACE, 1)]
    assert [standing.name for standing in logins] == ["carol"]
    assert counts.blocked(PLACE, NOW) is not None


@pytest.mark.parametrize(("one", "other"), [("Bob", "bOB"), ("STRASSE", "stra\u00dfe"), ("\uff22ob", "bob")])
def test_spellings_of_a_login_count_as_one(one: str, other: str) -> None:
    assert login_key(one) == login_key(other)


def test_login_keys_are_short() -> None:
    assert len(login_key("x" * 1_000_000)) == LOGIN_CEILING
    assert len(login_key("\ufdfa" * 1_000_000)) == LOGIN_CEILING


class CountsBesideAModel(RuleBasedStateMachine):
    """Against the rules written the slow way: every attempt kept, every answer counted afresh."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = GuardSettings(free_failures=1, block_failures=4, login_failures=2, window=100, block_time=30)
        self.counts = Counts(self.settings)
        self.now = NOW
        self.failures: dict[tuple[str, int], tuple[str, float, bool]] = {}
        self.good: dict[str, float] = {}
        self.until: dict[str, float] = {}

    def known(self, place: str) -> bool:
        return place in self.good and self.now - self.good[place] < self.settings.good_for

    def young(self, place: str) -> list[int]:
        return [
            number
            for (where, number), (_, at, _) in self.failures.items()
            if where == place and self.now - at < self.settings.window
        ]

    @rule(place=st.sampled_from("ab"), login=st.sampled_from("xy"), guess=st.integers(0, 9))
    def fail(self, place: str, login: str, guess: int) -> None:
        number = guess * 2 + (login == "y")  # a fingerprint is of the login too
        self.counts.failed(place, login, print_of(number), self.now)
        if number in self.young(place):
            return
        self.failures[place, number] = (login, self.now, not self.known(place))
        if len(self.young(place)) >= self.settings.block_failures and not self.known(place):
            self.until[place] = self.now + self.settings.block_time

    @rule(place=st.sampled_from("ab"), login=st.sampled_from("xy"))
    def succeed(self, place: str, login: str) -> None:
        self.counts.succeeded(place, login, self.now)
        self.good[place] = self.now
        self.until.pop(place, None)
        for key in [key for key, value in self.failures.items() if key[0] == place and value[0] == login]:
            del self.failures[key]

    @rule(seconds=st.sampled_from([1, 31, 50, 101, 604_801]), prune=st.booleans())
    def wait(self, seconds: float, prune: bool) -> None:
        self.now += seconds
        if prune:
            self.counts.prune(self.now)

    @invariant()
    def known_and_blocked_are_the_models(self) -> None:
        for place in "ab":
            verdict = self.counts.verdict(place, "z", self.now)
            assert verdict.known_place == self.known(place)
            blocked = self.until.get(place, 0) > self.now
            assert (self.counts.blocked(place, self.now) is not None) == blocked
            assert (verdict.blocked is not None) == (blocked and not self.known(place))
            excess = len(self.young(place)) - self.settings.free_failures
            assert verdict.delay == (min(2.0 ** (excess - 1), 15.0) if excess > 0 else 0.0)


CountsBesideAModel.TestCase.settings = hypothesis_settings(
    derandomize=True, deadline=None, max_examples=60, stateful_step_count=40
)
TestCountsBesideAModel = CountsBesideAModel.TestCase

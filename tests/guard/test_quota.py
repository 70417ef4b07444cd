"""quota.py: recipients per login, sliding."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pillarbox.guard.quota import Quota

NOW = 1_767_225_600.0


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 59, 60, 61, 600, 3599, 3600, 3660]), st.integers(1, 12)), max_size=60)
)
def test_no_sixty_minutes_ever_hold_more_than_the_limit(steps: list[tuple[int, int]]) -> None:
    quota, now = Quota(), NOW
    taken: list[tuple[float, int]] = []
    for seconds, recipients in steps:
        now += seconds
        allowed = quota.take("bob", recipients, 20, now)
        recent = sum(amount for at, amount in taken if now - at < 3600)
        assert not (allowed and recent + recipients > 20)
        older = sum(amount for at, amount in taken if now - at < 3660)
        assert allowed or older + recipients > 20, "refused although there was room for 61 minutes"
        if allowed:
            taken.append((now, recipients))


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(0, 200))
def test_grants_never_exceed_the_limit_and_refuse_only_beyond_it(needs: list[int], limit: int) -> None:
    quota, granted = Quota(), 0
    for need in needs:
        got = quota.grant("bob", need, max(need, 32), limit, NOW)
        if got == 0:
            assert granted + need > limit
        else:
            assert need <= got <= max(need, 32)
        granted += got
        assert granted <= limit
        assert quota.used("bob", NOW) == granted


def test_near_the_limit_hardly_anything_is_taken_in_advance() -> None:
    quota = Quota()
    quota.add("bob", 495, NOW)
    assert quota.grant("bob", 1, 32, 500, NOW) == 2
    assert quota.grant("bob", 1, 32, 500, NOW) == 1


def test_give_back_takes_from_the_latest_minutes_and_stops_at_nothing() -> None:
    quota = Quota()
    quota.add("bob", 5, NOW)
    quota.add("bob", 5, NOW + 60)
    minute = int(NOW // 60)
    assert quota.give_back("bob", 7, NOW + 60) == [minute + 1, minute]
    assert (quota.bucket("bob", minute), quota.bucket("bob", minute + 1)) == (3, 0)
    quota.give_back("bob", 1000, NOW + 60)
    assert quota.used("bob", NOW + 60) == 0
    assert quota.give_back("nobody", 1, NOW) == []


def test_logins_are_bounded_and_pruned() -> None:
    quota = Quota(logins=100)
    for number in range(1000):
        quota.add(f"login {number}", 1, NOW)
    assert quota.used("login 899", NOW) == 0
    assert quota.used("login 900", NOW) == 1
    quota.prune(NOW + 3700)
    assert quota.bucket("login 900", int(NOW // 60)) == 0


def test_a_clock_set_back_frees_what_was_taken_in_the_far_future() -> None:
    quota = Quota()
    quota.add("bob", 500, NOW + 86_400)
    assert quota.take("bob", 1, 500, NOW)

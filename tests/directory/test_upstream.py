"""upstream.py: what a server behind is asked, what it is spared, and what becomes of its failures."""

import asyncio

import pytest
from tests.directory.scripted import CUT, NOT_REACHED, Setting, until

from pillarbox.directory import upstream as module
from pillarbox.directory.base import Denied, Identity, Reason


async def test_the_right_password_yields_the_person_with_where_it_came_from() -> None:
    setting = Setting()
    identity = await setting.sign_in()
    assert isinstance(identity, Identity)
    assert (identity.login, identity.addresses, identity.source) == ("anna", frozenset(("anna@example.org",)), "corp")


async def test_a_verified_login_is_remembered_for_as_long_as_the_settings_say_and_no_longer() -> None:
    setting = Setting(cache=300.0, refresh=10_000.0)
    await setting.sign_in()
    setting.clock.advance(299)
    await setting.sign_in()
    assert len(setting.backend.checked) == 1
    setting.clock.advance(1)
    await setting.sign_in()
    assert len(setting.backend.checked) == 2


async def test_without_a_cache_the_server_is_asked_each_time() -> None:
    setting = Setting(cache=0.0, wrong_cache=0.0)
    for _ in range(2):
        await setting.sign_in()
        await setting.sign_in("wrong")
    assert len(setting.backend.checked) == 4


async def test_the_same_wrong_password_again_is_not_passed_on_until_its_time_is_over() -> None:
    setting = Setting(wrong_cache=1800.0)
    for login in ("anna", "ANNA", "anna"):
        assert await setting.sign_in("wrong", login) == Denied(Reason.WRONG, "anna")
    assert len(setting.backend.checked) == 1
    setting.clock.advance(1800)
    await setting.sign_in("wrong")
    assert len(setting.backend.checked) == 2


async def test_a_wrong_password_remembered_is_not_the_right_one_of_another() -> None:
    setting = Setting()
    setting.backend.add("bob", "wrong")
    await setting.sign_in("wrong")
    assert isinstance(await setting.sign_in("wrong", "bob"), Identity)


async def test_a_remembered_login_says_nothing_of_another_password() -> None:
    setting = Setting()
    await setting.sign_in()
    assert await setting.reason("righ") == "wrong"
    assert await setting.reason("right ") == "wrong"


@pytest.mark.parametrize("reason", [Reason.DISABLED, Reason.EXPIRED, Reason.LOCKED])
async def test_a_refusal_that_may_end_at_any_time_is_remembered_for_a_moment_only(reason: Reason) -> None:
    setting = Setting(refresh=60.0, wrong_cache=1800.0)
    setting.backend.answers["right"] = Denied(reason, "anna")
    for _ in range(2):
        assert await setting.sign_in() == Denied(reason, "anna")
    assert len(setting.backend.checked) == 1
    setting.clock.advance(60)
    del setting.backend.answers["right"]
    assert isinstance(await setting.sign_in(), Identity)


async def test_the_right_password_of_somebody_disabled_costs_none_of_the_tries() -> None:
    setting = Setting(wrong_tries=2, wrong_cache=0.0)
    setting.backend.answers["right"] = Denied(Reason.EXPIRED, "anna")
    for _ in range(5):
        assert await setting.reason("right") == "expired"
    assert await setting.reason("wrong") == "wrong"


async def test_whom_the_server_calls_disabled_beforehand_is_never_asked_for_the_password() -> None:
    setting = Setting()
    setting.backend.add("eve", "right", denied=Reason.DISABLED)
    assert await setting.sign_in(login="eve") == Denied(Reason.DISABLED, "eve")
    assert await setting.sign_in("wrong", "nobody") == Denied(Reason.UNKNOWN)
    assert setting.backend.checked == []


# -- the set number of wrong tries


async def test_no_more_than_the_set_number_of_wrong_passwords_is_passed_on_whatever_the_spelling() -> None:
    setting = Setting(wrong_tries=4)
    answers = [await setting.reason(f"guess {number}", ("anna", "A.Smith")[number % 2]) for number in range(10)]
    assert answers == ["wrong"] * 4 + ["locked"] * 6
    assert len(setting.backend.checked) == 4
    setting.clock.advance(setting.settings.wrong_window)
    assert await setting.reason("guess 11") == "wrong"


async def test_a_thousand_guesses_at_once_are_no_more_than_the_set_number() -> None:
    setting = Setting(wrong_tries=4)
    setting.backend.check_gate.clear()
    guesses = [asyncio.create_task(setting.reason(f"guess {number}")) for number in range(1000)]
    await until(lambda: sum(guess.done() for guess in guesses) == 996)
    setting.backend.check_gate.set()
    assert sorted(await asyncio.gather(*guesses)) == ["locked"] * 996 + ["wrong"] * 4
    assert len(setting.backend.checked) == 4


async def test_strangers_may_spend_half_of_it_and_the_owner_at_a_known_place_still_gets_in() -> None:
    setting = Setting(wrong_tries=4)
    answers = [await setting.reason(f"guess {number}", known=False) for number in range(10)]
    assert answers == ["wrong"] * 2 + ["locked"] * 8
    assert await setting.reason("right", known=False) == "locked", "nobody can tell that it is right"
    assert await setting.reason("a typing error") == "wrong"
    assert await setting.reason("right") == "in"
    assert await setting.reason("another typing error") == "wrong"
    assert await setting.reason("right", known=False) == "in", "what is remembered costs nothing"


async def test_an_attack_on_a_login_whose_tries_are_spent_costs_the_server_no_searches() -> None:
    setting = Setting(wrong_tries=4)
    for number in range(50):
        await setting.reason(f"guess {number}", known=False)
    assert len(setting.backend.found) == 3
    assert await setting.reason("right") == "in", "it is not the owner's business"
    setting.clock.advance(module.SPENT_TIME)
    assert await setting.reason("guess", known=False) == "locked"
    assert len(setting.backend.found) == 5
    setting.clock.advance(setting.settings.wrong_window)
    assert await setting.reason("another guess", known=False) == "wrong"


async def test_a_remembered_login_stays_good_while_an_attack_spends_everything() -> None:
    setting = Setting(wrong_tries=4, refresh=60.0)
    await setting.sign_in()
    for number in range(10):
        await setting.reason(f"guess {number}")
    setting.clock.advance(61)
    for known in (True, False):
        assert await setting.reason("right", known=known) == "in"


async def test_right_passwords_cost_nothing_however_many() -> None:
    setting = Setting(wrong_tries=2, cache=0.0)
    for _ in range(20):
        assert await setting.reason("right") == "in"


async def test_a_try_that_surely_did_not_arrive_costs_nothing_and_one_that_may_have_does() -> None:
    setting = Setting(wrong_tries=2)
    await setting.sign_in("wrong")
    setting.backend.check_raises = NOT_REACHED
    for _ in range(5):
        assert await setting.reason("right") == "unavailable"
    setting.backend.check_raises = None
    assert await setting.reason("another") == "wrong"
    assert await setting.reason("a third") == "locked"


async def test_a_connection_that_breaks_after_the_password_counts() -> None:
    setting = Setting(wrong_tries=2)
    setting.backend.check_raises = CUT
    for _ in range(2):
        assert await setting.reason("right") == "unavailable"
    setting.backend.check_raises = None
    assert await setting.reason("right") == "locked"


async def test_no_limit_where_the_directory_locks_nobody_out() -> None:
    setting = Setting(wrong_tries=None)
    for number in range(50):
        assert await setting.reason(f"guess {number}") == "wrong"


async def test_where_passwords_are_hashed_here_nobody_costs_what_somebody_costs() -> None:
    setting = Setting(wrong_tries=None, wrong_cache=0.0)
    setting.backend.add("eve", "right", denied=Reason.DISABLED)
    assert await setting.reason("right") == "in"
    for login, said in (("nobody", "unknown"), ("eve", "disabled"), ("anna", "in")):
        assert await setting.reason("right", login) == said
    assert setting.backend.checked == [("key-anna", "right")] * 3, "the last one is remembered"
    counted = Setting(wrong_tries=4)
    await counted.sign_in()
    await counted.sign_in("x", "nobody")
    assert len(counted.backend.checked) == 1, "never where failures are counted"


async def test_an_opaque_server_is_spared_by_login() -> None:
    setting = Setting(wrong_tries=2, opaque=True)
    assert [await setting.reason(f"guess {number}") for number in range(4)] == ["opaque"] * 2 + ["locked"] * 2
    assert await setting.reason("guess", "nobody at all") == "opaque"


async def test_nothing_is_passed_on_when_nobody_can_count() -> None:
    class Away:
        async def reserve(self, *_: object) -> None:
            raise NOT_REACHED

        def give_back(self, _: object) -> None:
            raise AssertionError("there was nothing to give back")

    setting = Setting(budget=Away())
    assert await setting.reason("right") == "unavailable"
    assert setting.backend.checked == []


# -- one question for all who ask the same


async def test_the_same_question_at_the_same_time_is_asked_once() -> None:
    setting = Setting()
    setting.backend.gate.clear()
    asking = [asyncio.create_task(setting.reason("right")) for _ in range(50)]
    wrong = [asyncio.create_task(setting.reason("wrong")) for _ in range(50)]
    await until(lambda: len(setting.backend.found) == 2)
    setting.backend.gate.set()
    assert await asyncio.gather(*asking) == ["in"] * 50
    assert await asyncio.gather(*wrong) == ["wrong"] * 50
    assert sorted(setting.backend.checked) == [("key-anna", "right"), ("key-anna", "wrong")]


async def test_a_session_that_leaves_does_not_end_the_question_of_the_others() -> None:
    setting = Setting()
    setting.backend.check_gate.clear()
    first = asyncio.create_task(setting.reason("right"))
    await until(lambda: len(setting.backend.checked) == 1)
    second = asyncio.create_task(setting.reason("right"))
    await asyncio.sleep(0)
    first.cancel()
    setting.backend.check_gate.set()
    assert await second == "in"
    assert first.cancelled()


async def test_what_was_asked_by_who_left_is_remembered_and_counted() -> None:
    setting = Setting(wrong_tries=2)
    seen: list[int] = []
    for number in range(2):
        setting.backend.check_gate.clear()
        asking = asyncio.create_task(setting.reason(f"guess {number}"))
        await until(lambda: bool(setting.upstream._asking) and len(setting.backend.checked) > len(seen))
        seen.append(number)
        asking.cancel()
        setting.backend.check_gate.set()
        await until(lambda: not setting.upstream._asking)
    assert await setting.reason("guess 0") == "wrong", "remembered"
    assert await setting.reason("right") == "locked"


async def test_strangers_questions_are_bounded_and_delay_no_known_place() -> None:
    setting = Setting(connections=4)
    setting.backend.gate.clear()
    strangers = [asyncio.create_task(setting.reason("guess", f"name{i}", known=False)) for i in range(300)]
    await until(lambda: len(setting.backend.found) == 2)
    await until(lambda: sum(each.done() for each in strangers) == 300 - module.STRANGERS_WAITING)
    assert {each.result() for each in strangers if each.done()} == {"unavailable"}
    known = asyncio.create_task(setting.reason("right"))
    await until(lambda: len(setting.backend.found) == 3)
    setting.backend.gate.set()
    assert await known == "in"
    await asyncio.gather(*strangers)
    assert setting.backend.most <= 3


async def test_no_more_questions_than_the_ceiling_wait_at_a_server_that_hangs() -> None:
    setting = Setting()
    setting.backend.gate.clear()
    asking = [asyncio.create_task(setting.reason("guess", f"name{i}")) for i in range(module.ASKING + 10)]
    await until(lambda: sum(each.done() for each in asking) == 10)
    setting.backend.gate.set()
    await asyncio.gather(*asking)
    assert not setting.upstream._asking


async def test_an_answer_that_does_not_come_within_the_time_is_unavailable_for_everybody() -> None:
    setting = Setting(timeout=0.05)
    setting.backend.check_gate.clear()
    for known in (True, False):
        assert await setting.reason("right", known=known) == "unavailable"
    assert setting.backend.ended == 4, "two found, two given up"
    setting.backend.check_gate.set()
    assert await setting.reason("right") == "in"


async def test_a_stranger_who_waited_in_vain_leaves_the_line() -> None:
    setting = Setting(timeout=0.05, connections=2)
    setting.backend.gate.clear()
    assert await asyncio.gather(*(setting.reason("x", f"n{i}", known=False) for i in range(5))) == ["unavailable"] * 5
    setting.backend.gate.set()
    assert await setting.reason("right", known=False) == "in"


async def test_unavailable_is_never_remembered() -> None:
    setting = Setting()
    setting.backend.raises = CUT
    assert await setting.reason("right") == "unavailable"
    setting.backend.raises = None
    assert await setting.reason("right") == "in"


# -- looked up again


async def test_new_addresses_count_once_the_remembered_ones_are_too_old() -> None:
    setting = Setting(refresh=60.0)
    await setting.sign_in()
    setting.backend.add("anna", "right", "a.smith", addresses=("new@example.org",))
    setting.clock.advance(59)
    old = await setting.sign_in()
    setting.clock.advance(1)
    new = await setting.sign_in()
    assert isinstance(old, Identity) and old.addresses == {"anna@example.org"}
    assert isinstance(new, Identity) and (new.addresses, new.source) == (frozenset(("new@example.org",)), "corp")
    assert len(setting.backend.checked) == 1, "no password was asked again"


async def test_who_was_disabled_or_removed_is_not_let_in_by_what_is_remembered() -> None:
    setting = Setting(refresh=60.0)
    await setting.sign_in()
    setting.backend.add("anna", "right", denied=Reason.DISABLED)
    setting.clock.advance(60)
    assert await setting.reason("right") == "disabled"
    setting.backend.add("anna", "right")
    assert await setting.reason("right") == "in"
    setting.backend.people.clear()
    setting.clock.advance(60)
    assert await setting.reason("right") == "unknown"


async def test_a_login_that_means_another_person_by_now_is_asked_for_that_ones_password() -> None:
    setting = Setting(refresh=60.0)
    await setting.sign_in(login="a.smith")
    setting.backend.add("adam", "his own", "a.smith")
    setting.clock.advance(60)
    assert await setting.sign_in(login="a.smith") == Denied(Reason.WRONG, "adam")


async def test_a_remembered_login_outlives_a_server_that_is_down_but_not_its_own_time() -> None:
    setting = Setting(refresh=60.0, cache=300.0)
    await setting.sign_in()
    setting.backend.raises = CUT
    for _ in range(4):
        setting.clock.advance(60)
        assert await setting.reason("right") == "in"
        assert await setting.reason("right") == "in"
    assert len(setting.backend.found) == 5, "asked in vain once a minute, not at each sign-in"
    setting.clock.advance(60)
    assert await setting.reason("right") == "unavailable"


async def test_a_server_that_hangs_delays_nobody_whom_we_know_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFRESH_PATIENCE", 0.01)
    setting = Setting(refresh=60.0)
    await setting.sign_in()
    setting.clock.advance(60)
    setting.backend.gate.clear()
    assert await asyncio.gather(*(setting.reason("right") for _ in range(20))) == ["in"] * 20
    assert len(setting.backend.found) == 2, "one looks it up for all"
    setting.upstream.close()
    await until(lambda: not setting.upstream._refreshing)


async def test_those_looked_up_again_at_a_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFRESH_PATIENCE", 0.01)
    monkeypatch.setattr(module, "REFRESHING", 3)
    setting = Setting(refresh=60.0)
    for number in range(5):
        setting.backend.add(f"user{number}", "right")
        await setting.sign_in(login=f"user{number}")
    setting.clock.advance(60)
    setting.backend.gate.clear()
    answers = await asyncio.gather(*(setting.reason("right", f"user{number}") for number in range(5)))
    assert answers == ["in"] * 5
    assert len(setting.backend.found) == 5 + 3
    setting.backend.gate.set()
    await until(lambda: not setting.upstream._refreshing)


async def test_an_opaque_server_is_not_asked_about_people_whom_it_takes_for_somebody() -> None:
    setting = Setting(opaque=True, refresh=0.0)
    for _ in range(2):
        assert await setting.reason("right") == "in"
    assert len(setting.backend.found) == 1, "nothing is looked up again"
    found = await setting.upstream.find_person("anybody")
    assert isinstance(found, Identity) and found.login == "anybody"
    assert len(setting.backend.checked) == 1


async def test_people_are_found_without_a_password() -> None:
    setting = Setting()
    setting.backend.add("eve", "x", denied=Reason.LOCKED)
    found = await setting.upstream.find_person("A.SMITH")
    assert isinstance(found, Identity) and (found.login, found.source) == ("anna", "corp")
    assert await setting.upstream.find_person("eve") == Denied(Reason.LOCKED, "eve")
    for nobody in ("nobody", "", "a\0", "x" * 300):
        assert await setting.upstream.find_person(nobody) == Denied(Reason.UNKNOWN)


# -- the end


async def test_closing_ends_what_is_asked_and_answers_whoever_comes_later() -> None:
    setting = Setting()
    setting.backend.gate.clear()
    asking = asyncio.create_task(setting.reason("right"))
    await until(lambda: len(setting.backend.found) == 1)
    setting.upstream.close()
    assert await asking == "unavailable"
    assert await setting.reason("right") == "unavailable"
    assert setting.backend.closed


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRONG_CEILING", 10)
    monkeypatch.setattr(module, "RIGHT_CEILING", 10)
    setting = Setting(wrong_tries=None)
    for number in range(30):
        setting.backend.add(f"user{number}", "right")
        await setting.sign_in(login=f"user{number}")
        await setting.sign_in(f"guess {number}")
    assert len(setting.upstream._right) == len(setting.upstream._wrong) == 10
    assert not setting.upstream._asking and not setting.upstream._refreshing


@pytest.mark.parametrize(
    ("login", "password", "authzid"),
    [
        ("", "right", ""),
        ("anna", "", ""),
        ("anna", "\N{SOFT HYPHEN}", ""),
        ("anna", "right\0", ""),
        ("an\0na", "right", ""),
        ("anna\r\n", "right", ""),
        ("a" * 256, "right", ""),
        ("anna", "r" * 1025, ""),
        ("anna", "right", "eve"),
        ("anna", "\ud800", ""),
    ],
)
async def test_what_nobody_can_have_never_comes_to_the_server(login: str, password: str, authzid: str) -> None:
    setting = Setting()
    assert await setting.sign_in(password, login, authzid=authzid) == Denied(Reason.WRONG)
    assert setting.backend.found == []


async def test_the_password_goes_as_it_was_typed_and_the_login_prepared() -> None:
    setting = Setting()
    setting.backend.passwords["key-anna"] = "cafe\u0301\u00a0x"
    assert isinstance(await setting.sign_in("cafe\u0301\u00a0x", "a\u00adnna", authzid="ANNA"), Identity)
    assert setting.backend.found == ["anna"]


async def test_a_bug_in_a_backend_is_not_taken_for_an_answer() -> None:
    setting = Setting()
    setting.backend.raises = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        await setting.sign_in()
    setting.backend.raises = None
    assert isinstance(await setting.sign_in(), Identity)

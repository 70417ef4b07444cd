"""oauth/keys.py: fetched when they are needed, not when somebody makes up a key id, and kept while the provider is
away."""

import asyncio

import pytest

from pillarbox.directory.base import Unavailable
from pillarbox.directory.oauth.keys import AGAIN, AGE, LONGEST, TRIED_CEILING, Keys
from pillarbox.directory.token import PublicKey, TokenHeader


class Provider:
    """Publishes keys; counts how often it is asked. ``gate``: answers wait for it."""

    def __init__(self, *kids: str) -> None:
        self.kids = list(kids)
        self.asked = 0
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.now = 1_000.0
        self.keys = Keys("corp", self.fetch, clock=lambda: self.now)

    async def fetch(self) -> tuple[PublicKey, ...]:
        self.asked += 1
        await self.gate.wait()
        if self.away:
            raise Unavailable("away")
        return tuple(PublicKey(kid, frozenset({"RS256"}), object()) for kid in self.kids)

    async def ids(self, kid: str, algorithm: str = "RS256", *, known_place: bool = True) -> list[str]:
        return [key.kid for key in await self.keys.fitting(TokenHeader(algorithm, kid), known_place=known_place)]


async def settle() -> None:
    """The turn of what runs in the background."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_they_are_fetched_once_for_everybody_at_the_first_need() -> None:
    provider = Provider("a", "b")
    assert await asyncio.gather(*(provider.ids("a") for _ in range(50))) == [["a"]] * 50
    assert await provider.ids("b") == ["b"]
    assert await provider.ids("a", "ES256") == []
    assert provider.asked <= 2


async def test_a_new_key_is_fetched_at_once_and_made_up_ids_cost_one_fetch_in_a_while() -> None:
    provider = Provider("a")
    assert await provider.ids("a") == ["a"]
    provider.kids = ["b"]
    assert await provider.ids("b") == ["b"] and provider.asked == 2
    for number in range(1_000):
        assert await provider.ids(f"made-up-{number}") == []
    assert provider.asked == 2
    provider.now += AGAIN
    for number in range(1_000):
        assert await provider.ids(f"made-up-{number}") == []
    assert provider.asked == 3


async def test_strangers_made_up_ids_do_not_spend_what_known_places_may_ask_for() -> None:
    provider = Provider("a")
    assert await provider.ids("a") == ["a"]
    for number in range(1_000):
        assert await provider.ids(f"made-up-{number}", known_place=False) == []
    assert provider.asked == 2
    provider.kids = ["b"]
    assert await provider.ids("b", known_place=False) == []
    assert await provider.ids("b") == ["b"]
    for number in range(1_000):
        assert await provider.ids(f"made-up-{number}", known_place=bool(number % 2)) == []
    assert provider.asked == 3


async def test_a_token_with_a_new_key_waits_for_the_fetch_that_a_made_up_id_began() -> None:
    provider = Provider("a")
    await provider.ids("a")
    provider.kids = ["b"]
    provider.gate.clear()
    made_up, honest = asyncio.create_task(provider.ids("x")), asyncio.create_task(provider.ids("b"))
    await settle()
    provider.gate.set()
    assert await made_up == [] and await honest == ["b"]
    assert provider.asked == 2


async def test_old_keys_are_fetched_again_in_the_background() -> None:
    provider = Provider("a")
    await provider.ids("a")
    provider.now += AGE
    provider.gate.clear()
    provider.kids = ["a", "b"]
    assert await provider.ids("a") == ["a"]
    provider.gate.set()
    await settle()
    assert await provider.ids("b") == ["b"] and provider.asked == 2


async def test_while_the_provider_is_away_its_keys_count_for_a_day_and_a_missing_one_may_be_new() -> None:
    provider = Provider("a")
    await provider.ids("a")
    provider.away = True
    for _ in range(20):
        provider.now += AGE
        assert await provider.ids("a") == ["a"]
        await settle()
        for _ in range(10):
            with pytest.raises(Unavailable, match="away"):
                await provider.ids("b")
    assert provider.asked <= 1 + 2 * 20
    provider.now = 1_000.0 + LONGEST
    with pytest.raises(Unavailable, match="away"):
        await provider.ids("a")
    provider.away = False
    assert await provider.ids("a") == ["a"]


async def test_without_any_keys_it_cannot_be_said() -> None:
    provider = Provider("a")
    provider.away = True
    for _ in range(3):
        with pytest.raises(Unavailable, match="away"):
            await provider.ids("a")


async def test_a_token_without_key_id_is_tried_with_a_few_keys() -> None:
    provider = Provider(*(f"k{number}" for number in range(100)))
    assert len(await provider.ids("")) == TRIED_CEILING
    assert provider.asked == 1


async def test_a_key_without_id_may_be_any() -> None:
    provider = Provider("")
    assert await provider.ids("whatever") == [""]


async def test_who_leaves_ends_the_fetch_for_nobody_else() -> None:
    provider = Provider("a")
    provider.gate.clear()
    one, other = asyncio.create_task(provider.ids("a")), asyncio.create_task(provider.ids("a"))
    await settle()
    one.cancel()
    provider.gate.set()
    assert await other == ["a"]
    with pytest.raises(asyncio.CancelledError):
        await one
    provider.keys.close()

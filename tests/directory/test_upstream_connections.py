"""upstream.py: a wrong try is taken when there is a connection for it."""

import asyncio

import pytest
from tests.directory.scripted import Setting, until

from pillarbox.directory.budget import Try
from pillarbox.directory.tries import Tries


class Counting(Tries):
    """Keeps whose tries were taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[str] = []

    async def reserve(self, directory: str, person: str, allowed: int, window: float) -> Try | None:
        self.taken.append(person)
        return await super().reserve(directory, person, allowed, window)


@pytest.mark.parametrize("known", [True, False])
async def test_whoever_waits_for_a_connection_in_vain_has_spent_no_try(known: bool) -> None:
    tries = Counting()
    setting = Setting(budget=tries, connections=4)
    people = [f"name{i}" for i in range(32)]
    for login in people:
        setting.backend.add(login, "right")
    setting.backend.check_gate.clear()
    asking = [asyncio.create_task(setting.reason("wrong", login, known=known)) for login in people]
    places = 4 if known else 2
    await until(lambda: len(setting.backend.checked) == places)
    for _ in range(100):  # whoever went on would have been there by now
        await asyncio.sleep(0)
    assert len(setting.backend.checked) == places == len(tries.taken)
    setting.upstream.close()
    assert set(await asyncio.gather(*asking)) == {"unavailable"}
    assert len(tries.taken) == places


async def test_more_people_than_connections_are_asked_about_one_after_the_other() -> None:
    tries = Counting()
    setting = Setting(budget=tries, connections=4)
    people = [f"name{i}" for i in range(32)]
    for login in people:
        setting.backend.add(login, "right")
    setting.backend.check_gate.clear()
    asking = [asyncio.create_task(setting.reason("right", login)) for login in people]
    await until(lambda: len(setting.backend.checked) == 4)
    assert len(tries.taken) == 4
    setting.backend.check_gate.set()
    assert set(await asyncio.gather(*asking)) == {"in"}
    assert setting.backend.most == 4


async def test_where_no_tries_are_counted_known_places_wait_for_no_turn() -> None:
    setting = Setting(connections=4, wrong_tries=None)
    setting.backend.gate.clear()
    asking = [asyncio.create_task(setting.reason("right", f"name{i}")) for i in range(9)]
    await until(lambda: setting.backend.most == 9)
    setting.backend.gate.set()
    await asyncio.gather(*asking)

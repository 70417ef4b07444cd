"""composite.py over two embedded spools: whatever has the methods of a spool can be a cell."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.spool.messages import NOW, Clock, envelope

from pillarbox.spool.base import Filter, Lease, Partial, SpoolError, Unavailable, UnknownCell
from pillarbox.spool.cluster import composite
from pillarbox.spool.cluster.composite import CompositeSpool
from pillarbox.spool.embedded import EmbeddedSpool, open_spool
from pillarbox.spool.settings import EmbeddedSettings


@pytest.fixture
async def cells(tmp_path: Path) -> AsyncIterator[dict[str, EmbeddedSpool]]:
    made = {name: await open_spool(EmbeddedSettings(tmp_path / name, 0), clock=Clock()) for name in ("a", "b")}
    yield made
    for cell in made.values():
        await cell.close()


def away(*_: object) -> SpoolError:
    return Unavailable("away")


async def test_a_cell_that_takes_nothing_is_not_chosen_and_mail_is_refused_when_none_does(
    cells: dict[str, EmbeddedSpool], monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter((0.0, 0.999, 0.0, 0.999))
    spool = CompositeSpool(cells, random=lambda: next(numbers))
    assert [spool.tag(), spool.tag()] == ["a", "b"]
    monkeypatch.setattr(cells["a"], "refusal", away)
    assert [spool.tag(), spool.tag()] == ["b", "b"]
    assert spool.refusal(0) is None
    monkeypatch.setattr(cells["b"], "refusal", away)
    assert isinstance(spool.refusal(0), Unavailable)


async def test_a_closed_cell_gets_no_new_mail_and_what_it_holds_is_lent_and_listed(
    cells: dict[str, EmbeddedSpool], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = "01TEST00000000000000000010-a"
    await cells["a"].commit(envelope(queue_id=held), b"text")
    spool = CompositeSpool(cells, random=lambda: 0.0, closed=("a",))
    assert spool.tag() == "b"
    assert spool.refusal(0) is None
    monkeypatch.setattr(cells["b"], "refusal", away)
    assert (spool.tag(), str(spool.refusal(0))) == ("b", "away")  # a could, and is not asked
    assert [each.envelope.queue_id for each in await spool.list(Filter(), NOW, 10)] == [held]
    assert [lease.envelope.queue_id for lease in await spool.lease(NOW, 10)] == [held]


async def test_two_open_cells_beside_a_closed_one_share_new_mail(
    cells: dict[str, EmbeddedSpool], tmp_path: Path
) -> None:
    third = await open_spool(EmbeddedSettings(tmp_path / "c", 0), clock=Clock())
    numbers = iter((0.0, 0.999))
    spool = CompositeSpool({**cells, "c": third}, random=lambda: next(numbers), closed=("b",))
    assert [spool.tag(), spool.tag()] == ["a", "c"]
    await third.close()


async def test_a_search_names_the_cell_that_is_missing_and_an_unknown_tag_is_told(
    cells: dict[str, EmbeddedSpool], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = CompositeSpool(cells)
    ids = {name: f"01TEST000000000000000000{number}-{name}" for number, name in enumerate(("ab"), 10)}
    for queue_id in ids.values():
        await spool.commit(envelope(queue_id=queue_id), b"text")
    assert [each.envelope.queue_id for each in await spool.list(Filter(), NOW, 10)] == [ids["a"], ids["b"]]

    async def fail(*_: object) -> object:
        raise away()

    monkeypatch.setattr(cells["b"].ledger, "list", fail)
    monkeypatch.setattr(cells["b"].ledger, "change_page", fail)
    with pytest.raises(Partial) as listed:
        await spool.list(Filter(), NOW, 10)
    assert [each.envelope.queue_id for each in listed.value.found] == [ids["a"]]
    with pytest.raises(Partial) as held:
        await spool.hold(Filter(), NOW)
    assert (held.value.found, held.value.missing) == ([ids["a"]], {"b": "away"})
    with pytest.raises(UnknownCell, match=r"cell z, and no \[\[spool.cell\]\] has this name"):
        await spool.show(ids["a"][:-1] + "z")


class Late:
    """A cell's lease that is answered when the test says so."""

    def __init__(self, cell: EmbeddedSpool) -> None:
        self._lease = cell.lease
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def __call__(self, now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[Lease]:
        self.asked.set()
        await self.answer.wait()
        return await self._lease(now, limit, skip)


async def test_what_a_late_cell_lends_comes_with_a_later_call_also_after_one_that_was_cancelled(
    cells: dict[str, EmbeddedSpool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composite, "PATIENCE", 0.01)
    spool = CompositeSpool(cells)
    queue_id = "01TEST00000000000000000010-b"
    await spool.commit(envelope(queue_id=queue_id), b"text")
    late = {name: Late(cell) for name, cell in cells.items()}
    for name, cell in cells.items():
        monkeypatch.setattr(cell, "lease", late[name])
    late["a"].answer.set()
    assert await spool.lease(NOW, 10) == []
    asked: list[str] = []

    async def due(timeout: float) -> None:
        asked.append("b")

    with monkeypatch.context() as patched:
        patched.setattr(cells["b"], "wait_due", due)
        await spool.wait_due(0.01)
    assert asked == [], "it would say that something is due, again and again, and lend nothing"
    late["b"].answer.set()
    await spool.wait_due(60.0)
    monkeypatch.setattr(composite, "PATIENCE", 60.0)
    for each in late.values():
        each.answer.clear()
        each.asked.clear()
    leasing = asyncio.create_task(spool.lease(NOW, 10))
    await late["a"].asked.wait()
    leasing.cancel()
    await asyncio.gather(leasing, return_exceptions=True)
    for each in late.values():
        each.answer.set()
    (lease,) = await spool.lease(NOW, 10)
    assert lease.envelope.queue_id == queue_id
    await spool.release_lease(lease)


@pytest.mark.parametrize("error", [away(), ZeroDivisionError()], ids=["away", "a bug"])
async def test_a_cell_that_failed_while_it_was_asked_whether_something_is_due_is_asked_again_soon(
    cells: dict[str, EmbeddedSpool], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """And not taken for one that has something due, which would be asked for a lease at once, again and again."""
    spool = CompositeSpool(cells)
    asked = 0

    async def due(timeout: float) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise error

    monkeypatch.setattr(composite, "ASK_AGAIN", 0.01, raising=False)
    monkeypatch.setattr(cells["a"], "wait_due", due)
    async with asyncio.timeout(20):
        await spool.wait_due(600.0)
    assert asked == 2


async def test_what_a_cell_lends_is_not_lost_when_another_one_breaks(
    cells: dict[str, EmbeddedSpool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a bug: an error that is none of the spool's. Its cell is away for this round, as with any failure."""
    spool = CompositeSpool(cells)
    ids = [f"01TEST0000000000000000001{number}-{name}" for number, name in enumerate("ab")]
    for queue_id in ids:
        await spool.commit(envelope(queue_id=queue_id), b"text")

    async def broken(*_: object) -> list[Lease]:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(cells["b"], "lease", broken)
        assert [lease.envelope.queue_id for lease in await spool.lease(NOW, 10)] == ids[:1]
    assert [lease.envelope.queue_id for lease in await spool.lease(NOW, 10)] == ids[1:]
    for cell in cells.values():
        monkeypatch.setattr(cell, "lease", broken)
    with pytest.raises(Unavailable):
        await spool.lease(NOW, 10)


async def test_a_cell_that_breaks_after_it_was_waited_for_is_told_of(
    cells: dict[str, EmbeddedSpool], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(composite, "PATIENCE", 0.01)
    spool = CompositeSpool(cells)
    late = Late(cells["b"])

    async def broken(now: float, limit: int, skip: frozenset[str] = frozenset()) -> list[Lease]:
        await late(now, limit, skip)
        raise ZeroDivisionError

    monkeypatch.setattr(cells["b"], "lease", broken)
    assert await spool.lease(NOW, 10) == []
    late.answer.set()
    await asyncio.wait((spool._late[1],))
    assert 1 not in spool._late, "it is asked again"
    assert "cell.failed" in capfd.readouterr().out

"""Faults that chaos has too, each once and with what must come of it: a full disk, a whole cell that is away."""

import asyncio
import os

import pytest
from tests.cluster.chaos import one
from tests.cluster.faults import FAULTS
from tests.cluster.stage import Stage

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="session")]


async def happened(stage: Stage, name: str) -> list[str]:
    """The codes that asking sessions got at MAIL meanwhile, no session of which ended."""
    taken = stage.probes.taken
    row = await one(stage, FAULTS[name])
    assert row.problem == ""
    assert stage.probes.taken > taken
    assert stage.probes.ended(row.began, row.ended) == 0
    return [reply[:9] for when, reply, _ in stage.probes.refusals if row.began <= when < row.ended]


async def none_lost(stage: Stage) -> None:
    balance = await stage.settle()
    assert (balance.lost, balance.doubles["unexplained"], balance.bounced_twice) == (0, 0, 0)
    assert balance.accepted == balance.delivered + balance.bounced + balance.queued


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which needs root")
async def test_a_full_disk_of_the_primary_is_a_452_and_mail_goes_on_by_itself_when_there_is_room(
    stage: Stage,
) -> None:
    codes = await happened(stage, "full_disk_of_primary")
    assert "452 4.3.1" in codes
    assert set(codes) <= {"452 4.3.1", "451 4.3.2"}
    await none_lost(stage)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which needs root")
async def test_a_full_disk_of_a_standby_is_nothing_that_clients_see(stage: Stage) -> None:
    assert await happened(stage, "full_disk_of_standby") == []
    await none_lost(stage)


async def test_a_second_cell_that_is_away_refuses_nothing_and_its_mail_is_delivered_when_it_is_back(
    stage_of_two_cells: Stage,
) -> None:
    assert await happened(stage_of_two_cells, "second_cell") == []
    await asyncio.wait_for(none_lost(stage_of_two_cells), 200)


@pytest.mark.parametrize("name", ["first_cell", "first_cell_without_quorum", "processes_without_first_cell"])
async def test_without_the_first_cell_people_sign_in_and_mail_goes_on_and_the_guard_counts_are_merged_later(
    stage_of_two_cells: Stage, name: str
) -> None:
    row = await one(stage_of_two_cells, FAULTS[name])
    assert row.problem == ""
    (seen,) = stage_of_two_cells.notes
    print(seen)
    await asyncio.wait_for(none_lost(stage_of_two_cells), 200)

"""What goes wrong on purpose: each fault breaks something of the stage, leaves it so for a while, and repairs it.

    fault = FAULTS["power"]
    await asyncio.to_thread(fault.happen, stage)       # blocks: seconds to half a minute
    await stage.healthy()

What a service manager would start again (a role of Pillarbox) is started by the machine; what an administrator would
(a node without power) by the fault itself. Synchronous; they use only what threads may use of the stage.
"""

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.cluster.disks import SmallDisk, small_disk
from tests.cluster.first_cell import first_cell, first_cell_without_quorum, processes_without_first_cell
from tests.cluster.machine import Machine
from tests.cluster.stage import Stage
from tests.support.cell_node import Node

AWAY = 25.0
"""Seconds that a machine stays dead: more than the TTL, so that another primary is made."""

RANDOM = random.Random()
"""Which machine it hits."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``what`` is a line for people; ``cells``: how many there must be."""

    name: str
    what: str
    happen: Callable[[Stage], None]
    needs_root: bool = False
    cells: int = 1


def _others(stage: Stage, primary: Node) -> list[Node]:
    return [node for node in stage.cell.nodes if node is not primary]


def _die_and_return(stage: Stage, node: Node, seconds: float) -> None:
    stage.cell.kill(node)
    try:
        stage.hurry.wait(seconds)
    finally:
        node.start()


def power_of_primary(stage: Stage) -> None:
    """kill -9 of everything on the primary's machine; it is back after another one is the primary."""
    _die_and_return(stage, stage.cell.primary(), AWAY)


def postgres_of_primary(stage: Stage) -> None:
    """kill -9 of the primary's PostgreSQL; its Patroni is there."""
    stage.cell.kill(stage.cell.primary(), "postgres")


def standbys_in_turn(stage: Stage) -> None:
    """kill -9 of all on one standby's machine, and of the other's when it is back."""
    for node in stage.cell.standbys():
        _die_and_return(stage, node, 5.0)
        stage.cell.wait_for_members(3)


def patroni_of_primary(stage: Stage) -> None:
    """kill -9 of the primary's Patroni; PostgreSQL goes on as one that nobody watches over."""
    node = stage.cell.primary()
    stage.cell.kill(node, "patroni")
    try:
        stage.hurry.wait(AWAY)
    finally:
        node.start("patroni")


def member_of_etcd(stage: Stage) -> None:
    """kill -9 of one member of etcd, the primary's."""
    node = stage.cell.primary()
    stage.cell.kill(node, "etcd")
    try:
        stage.hurry.wait(8.0)
    finally:
        node.start("etcd")


def stale_primary(stage: Stage) -> None:
    """SIGSTOP of the primary's machine for 30 s; it wakes and believes that it is the primary still."""
    node = stage.cell.primary()
    stage.cell.stop_signal(node)
    try:
        stage.hurry.wait(30.0)
    finally:
        stage.cell.cont(node)


def switchover(stage: Stage) -> None:
    """A switchover by hand."""
    stage.cell.switchover()


def two_of_three(stage: Stage) -> None:
    """kill -9 of both other machines: no quorum, of PostgreSQL nor etcd; both are back after 15 s."""
    dead = _others(stage, stage.cell.primary())
    for node in dead:
        stage.cell.kill(node)
    try:
        stage.hurry.wait(15.0)
    finally:
        # together: one alone finds no quorum of etcd to start with
        for node in dead:
            node.start("etcd")
        for node in dead:
            node.start()


def disk_of_standby(stage: Stage) -> None:
    """A standby loses its disk and rejoins with an empty one."""
    node = RANDOM.choice(stage.cell.standbys())
    node.lose_disk()
    node.start()


def disk_of_primary(stage: Stage) -> None:
    """The primary loses its disk and rejoins, as a standby, with an empty one."""
    node = stage.cell.primary()
    node.lose_disk()
    try:
        stage.cell.wait_for_primary(other_than=node)
    finally:
        node.start()


FULL = 20.0
"""Seconds that a disk stays full."""


def _fill(stage: Stage, disk: SmallDisk) -> None:
    """Full for a while, whatever is freed on it; back by itself when there is room."""
    until = time.monotonic() + FULL
    try:
        while time.monotonic() < until and not stage.hurry.is_set():
            disk.fill()
            stage.hurry.wait(0.5)
    finally:
        disk.make_room()
    stage.cell.wait_for_members(3)


def full_disk_of_standby(stage: Stage) -> None:
    """A standby's disk is full for 20 s; the standby comes back by itself when there is room again."""
    with small_disk(RANDOM.choice(stage.cell.standbys())) as disk:
        stage.cell.wait_for_members(3)
        _fill(stage, disk)


def full_disk_of_primary(stage: Stage) -> None:
    """The primary's disk is full for 20 s; it comes back by itself, as what it then is, when there is room again."""
    node = RANDOM.choice(stage.cell.standbys())
    with small_disk(node) as disk:
        stage.cell.wait_for_members(3)
        stage.cell.switchover(to=node)
        stage.cell.wait_for_members(3)
        _fill(stage, disk)


def second_cell(stage: Stage) -> None:
    """kill -9 of all three machines of the second cell, for 20 s; mail goes on in the first."""
    nodes = stage.cells[1].nodes
    assert any(queue_id.endswith("-b") for queue_id in tuple(stage.books.accepted)), "the second cell takes no mail"
    for node in nodes:
        stage.cells[1].kill(node)
    try:
        stage.hurry.wait(20.0)
    finally:
        for node in nodes:
            node.start("etcd")
        for node in nodes:
            node.start()


def _cut(stage: Stage, machines: list[Machine], seconds: float) -> None:
    for machine in machines:
        machine.link.cut()
    try:
        stage.hurry.wait(seconds)
    finally:
        for machine in machines:
            machine.link.mend()


def submission_cut_off(stage: Stage) -> None:
    """One submission machine does not reach the cell for 20 s (silence); the other one does."""
    _cut(stage, [RANDOM.choice(stage.submission())], 20.0)


def delivery_cut_off(stage: Stage) -> None:
    """One delivery machine does not reach the cell for 45 s: its leases go to the other one."""
    _cut(stage, [RANDOM.choice(stage.delivery())], 45.0)


def all_cut_off(stage: Stage) -> None:
    """No machine with Pillarbox reaches the cell for 20 s."""
    _cut(stage, stage.machines, 20.0)


def _kill_role(stage: Stage, role: str) -> None:
    machine = RANDOM.choice([each for each in stage.machines if role in each.roles])
    machine.kill(role)
    stage.hurry.wait(2.0)


def submission_process(stage: Stage) -> None:
    """kill -9 of a submission process."""
    _kill_role(stage, "submission")


def delivery_process(stage: Stage) -> None:
    """kill -9 of a delivery process."""
    _kill_role(stage, "delivery")


def spool_process(stage: Stage) -> None:
    """kill -9 of a spool process."""
    _kill_role(stage, "spool")


def power_of_delivery(stage: Stage) -> None:
    """kill -9 of everything of Pillarbox on a delivery machine; it stays away for 35 s."""
    machine = RANDOM.choice(stage.delivery())
    machine.lose_power()
    try:
        stage.hurry.wait(35.0)
    finally:
        machine.start()


def power_of_submission(stage: Stage) -> None:
    """kill -9 of everything of Pillarbox on a submission machine; it stays away for 5 s."""
    machine = RANDOM.choice(stage.submission())
    machine.lose_power()
    try:
        stage.hurry.wait(5.0)
    finally:
        machine.start()


OF_TWO_CELLS = (second_cell, first_cell, first_cell_without_quorum, processes_without_first_cell)

FAULTS = {
    happen.__name__: Fault(
        happen.__name__,
        " ".join(str(happen.__doc__).split()),
        happen,
        needs_root=happen in (full_disk_of_standby, full_disk_of_primary),
        cells=2 if happen in OF_TWO_CELLS else 1,
    )
    for happen in (
        power_of_primary,
        postgres_of_primary,
        standbys_in_turn,
        patroni_of_primary,
        member_of_etcd,
        stale_primary,
        switchover,
        two_of_three,
        disk_of_standby,
        disk_of_primary,
        full_disk_of_standby,
        full_disk_of_primary,
        *OF_TWO_CELLS,
        submission_cut_off,
        delivery_cut_off,
        all_cut_off,
        submission_process,
        delivery_process,
        spool_process,
        power_of_delivery,
        power_of_submission,
    )
}
"""By name."""


def repair(stage: Stage) -> None:
    """Whatever an interrupted fault left: everything awake, connected and started."""
    for machine in stage.machines:
        machine.link.mend()
        machine.start()
    nodes = [node for cell in stage.cells for node in cell.nodes]
    for node in nodes:
        node.thaw()
        with contextlib.suppress(AssertionError):
            node.start("etcd")
    for node in nodes:
        with contextlib.suppress(AssertionError):
            node.start()

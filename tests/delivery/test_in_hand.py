"""What is in hand of each cell, and how much room that leaves; pure."""

from dataclasses import replace

from tests.delivery.memory import make_envelope

from pillarbox.delivery.in_hand import MOST, MOST_OCTETS, InHand
from pillarbox.spool.base import Lease


def lease(cell: str = "", content: bytes = b"") -> Lease:
    envelope = make_envelope()
    return Lease(1, replace(envelope, queue_id=envelope.queue_id + (f"-{cell}" if cell else "")), (), content)


def test_one_spool_lends_nothing_while_a_settlement_waits() -> None:
    hand, mine = InHand(("",)), lease()
    hand.took(mine)
    assert (hand.room(), hand.waits(mine)) == (MOST - 1, False)
    assert [hand.unsettled(mine, change) for change in (+1, +1, -1)] == [True, False, False]
    assert (hand.room(), hand.waits(mine)) == (0, True)
    assert hand.unsettled(mine, -1)
    hand.gave(mine)
    assert (hand.room(), hand.waits(mine)) == (MOST, False)


def test_one_cell_is_all_there_is_whatever_its_messages_are_called() -> None:
    hand = InHand(("a",))
    hand.unsettled(lease("before"), +1)
    assert (hand.room(), hand.waits(lease("a"))) == (0, True)


def test_of_several_cells_only_the_one_waits_and_what_it_has_in_hand_takes_no_room_of_the_others() -> None:
    hand, held = InHand(("a", "b")), lease("a", b"x" * (MOST_OCTETS // MOST))
    for _ in range(MOST):
        hand.took(held)
    assert hand.room() == 0
    assert not hand.half_empty()
    hand.unsettled(held, +1)
    assert (hand.waits(held), hand.waits(lease("b"))) == (True, False)
    assert hand.room() == MOST
    assert hand.half_empty()
    hand.unsettled(lease("b"), +1)
    assert hand.room() == 0


def test_a_cell_that_lends_and_never_settles_fills_no_memory() -> None:
    hand, held = InHand(("a", "b")), lease("a")
    hand.unsettled(held, +1)
    for _ in range(2 * MOST):
        hand.took(held)
    assert hand.room() == 0


def test_octets_are_bounded_as_messages_are() -> None:
    hand, large = InHand(("a", "b")), lease("b", b"x" * (MOST_OCTETS // 2))
    hand.took(large)
    assert hand.room() == MOST - 1
    hand.took(large)
    assert hand.room() == 0

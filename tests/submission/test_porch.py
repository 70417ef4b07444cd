"""The porch: strangers' connections wait as bare sockets while there is no time for them."""

import asyncio
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.support.submission import submission

from pillarbox.submission.porch import Porch
from pillarbox.submission.turns import Turns

STRANGER, KNOWN = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Connected sockets: ours and the peer's."""
    made = [socket.socketpair() for _ in range(6)]
    for ours, peers in made:
        ours.setblocking(False)
        peers.setblocking(False)
    yield made
    for pair in made:
        for sock in pair:
            sock.close()


def _busy() -> Turns:
    """Turns with no time left, for an hour."""
    turns = Turns(0.2)
    assert turns.spend(3600.0)
    return turns


async def test_a_stranger_is_let_in_at_once_while_there_is_time(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    came: list[int] = []
    porch = Porch(Turns(0.2), lambda _: False)
    porch.come(STRANGER, pairs[0][0], lambda: came.append(0))
    assert came == [0]
    assert len(porch) == 0


async def test_a_known_place_never_waits(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    came: list[int] = []
    porch = Porch(_busy(), lambda peer: peer == KNOWN)
    porch.come(STRANGER, pairs[0][0], lambda: came.append(0))
    porch.come(KNOWN, pairs[1][0], lambda: came.append(1))
    assert came == [1]
    assert len(porch) == 1


async def test_who_came_last_is_let_in_first(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    came: list[int] = []
    all_in = asyncio.Event()
    turns = Turns(0.2)
    assert turns.spend(0.01)
    porch = Porch(turns, lambda _: False)

    def enter(number: int) -> None:
        came.append(number)
        if len(came) == 3:
            all_in.set()

    for number in range(3):
        porch.come(f"192.0.2.{number}", pairs[number][0], partial(enter, number))
    async with asyncio.timeout(10):
        await all_in.wait()
    assert came == [2, 1, 0]
    assert len(porch) == 0


async def test_when_too_many_wait_the_one_that_has_waited_longest_is_closed(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    turns = _busy()
    porch = Porch(turns, lambda _: False, most=2)
    for number in range(3):
        porch.come(f"192.0.2.{number}", pairs[number][0], lambda: None)
    assert len(porch) == 2
    assert pairs[0][1].recv(1) == b""
    for _, peer in pairs[1:3]:
        with pytest.raises(BlockingIOError):
            peer.recv(1)
    # nothing is left of it in the line, or its turn would be somebody's who is gone
    turns.end()
    assert len(porch) == 0


async def test_a_worker_that_ends_says_so_to_those_who_wait(tmp_path: Path) -> None:
    async with submission(tmp_path, ceiling=400) as server:
        assert server.role.porch.turns.spend(3600.0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.submission)
        while len(server.role.porch) == 0:  # noqa: ASYNC110  # the porch tells nobody
            await asyncio.sleep(0)
        draining = asyncio.ensure_future(server.role.drain(5.0))
        assert (await reader.readline())[:3] == b"421"
        await draining
        writer.close()

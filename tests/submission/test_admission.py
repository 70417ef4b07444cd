"""The room and its lobbies: strangers cannot fill it, and those who only wait push out each other."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.submission import Talker, signed_in, submission

from pillarbox.submission.admission import Admission, Lobby
from pillarbox.submission.settings import SiteSettings

SITE = SiteSettings("mail.example.org", (), (), Path(), Path())


async def from_address(source: str, port: int) -> Talker:
    return Talker(*await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))


def test_lobby_counts_by_prefix_and_lets_the_longest_waiting_go() -> None:
    lobby = Lobby[str]()
    assert [lobby.enter(who, who[0], 3) for who in ("a1", "b1", "a2", "b2", "b3")] == [None, None, None, "a1", "b1"]
    assert (lobby.of("a"), lobby.of("b"), len(lobby)) == (1, 2, 3)
    lobby.leave("a2")
    lobby.leave("a2")
    assert (lobby.of("a"), len(lobby)) == (0, 2)
    assert "b3" in lobby
    assert lobby.place_of("b3") == "b"


def test_strangers_have_at_most_half_of_the_room_and_known_places_the_whole() -> None:
    cut: list[int] = []
    admission = Admission[int](10, cut.append)
    for number in range(20):
        address = f"192.0.2.{number}"
        assert admission.enter(address, SITE, known=False)
        admission.wait(number, address, SITE)
        while len(cut) + 5 < number + 1:
            pytest.fail("more than half of the room is strangers'")
        for gone in cut[-1:] if number >= 5 else []:
            admission.leave(gone, f"192.0.2.{gone}")
    assert cut == list(range(15))
    assert all(admission.enter("198.51.100.1", SITE, known=True) for _ in range(5))
    assert not admission.enter("198.51.100.1", SITE, known=True)


def test_who_signed_in_is_never_pushed_out() -> None:
    cut: list[int] = []
    admission = Admission[int](None, cut.append)
    site = replace(SITE, max_unauthenticated_sessions=2)
    for number in range(6):
        assert admission.enter("192.0.2.1", site, known=False)
        admission.wait(number, "192.0.2.1", site)
        if number == 0:
            admission.signed_in(number)
    assert cut == [1, 2, 3]


def test_handshakes_of_a_prefix_have_a_ceiling_and_the_oldest_of_all_makes_room() -> None:
    cut: list[int] = []
    admission = Admission[int](None, cut.append)
    site = replace(SITE, max_handshakes=4, max_handshakes_per_address=2)
    begun = []
    for number in range(9):
        address = f"192.0.2.{number // 3}"
        assert admission.enter(address, site, known=False)
        admission.wait(number, address, site)
        begun.append(admission.begin_handshake(number, site))
    assert begun == [True, True, False] * 3
    assert cut == [0, 1]
    admission.end_handshake(7)
    assert admission.begin_handshake(8, site)
    assert admission.enter("198.51.100.1", site, known=True)
    assert all(admission.begin_handshake(number, site) for number in range(100, 110))  # a known place's


async def test_strangers_sessions_of_an_address_are_limited_and_those_signed_in_do_not_count(tmp_path: Path) -> None:
    async with (
        submission(tmp_path, max_unauthenticated_sessions_per_address=1) as server,
        await signed_in(server),
        await signed_in(server),
        await from_address("127.0.0.1", server.submission) as one,
    ):
        await one.expect(220)
        async with await from_address("127.0.0.1", server.submission) as second:
            await second.expect(421)
            assert await second.ended()
        async with await from_address("127.0.0.9", server.submission) as other:
            await other.expect(220)
        server.guard.known_places.add("127.0.0.1")
        async with await from_address("127.0.0.1", server.submission) as third:
            await third.expect(220)


async def test_the_newest_stranger_takes_the_place_of_the_oldest(tmp_path: Path) -> None:
    async with submission(tmp_path, max_unauthenticated_sessions=3) as server, await signed_in(server) as client:
        silent = [await from_address(f"127.0.1.{number}", server.submission) for number in range(1, 4)]
        for waiting in silent:
            await waiting.expect(220)
        async with await from_address("127.0.2.1", server.submission) as newest:
            await newest.expect(220)
            assert await silent[0].ended()
            for waiting in silent[1:]:
                await waiting.command("NOOP", 250)
            await newest.command("EHLO x", 250)
            await client.command("NOOP", 250)
        for waiting in silent:
            waiting.writer.close()


@pytest.mark.parametrize("implicit", [True, False])
async def test_half_open_handshakes_push_out_each_other_and_no_honest_stranger(
    tmp_path: Path, implicit: bool
) -> None:
    async with submission(tmp_path, max_handshakes=3, max_handshakes_per_address=2) as server:
        half: list[Talker] = []
        for number in range(8):
            client = await from_address(
                f"127.0.1.{number + 1}", server.submissions if implicit else server.submission
            )
            if not implicit:
                await client.expect(220)
                await client.command("EHLO x", 250)
                await client.command("STARTTLS", 220)
            client.say(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
            half.append(client)
        async with await signed_in(server) as honest:
            await honest.command("NOOP", 250)
        for client in half[:5]:
            assert await client.ended()
        for client in half:
            client.writer.close()


async def test_a_handshake_has_a_time_of_its_own(tmp_path: Path) -> None:
    async with (
        submission(tmp_path, handshake_timeout=0.2, unauthenticated_timeout=600.0) as server,
        await from_address("127.0.0.1", server.submissions) as client,
    ):
        client.say(b"\x16\x03\x01\x02\x00\x01")
        assert await client.ended()

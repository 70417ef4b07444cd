"""Channels over real UNIX sockets: requests, notes, errors, ends, limits."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pillarbox.control.channel import (
    MAX_FRAME,
    ChannelClosed,
    ChannelServer,
    Handlers,
    RemoteError,
    UnixChannel,
    connect,
    serve,
)
from pillarbox.control.frames import HEADER, append_frame


class Full(Exception):
    """Listed: crosses by name."""


class FullerThanFull(Full):
    """Not listed itself, but its base is."""


class Bench:
    """A server whose handlers a test sets, and channels to it; all closed at the end."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "s.sock"
        self.handlers: dict[str, Any] = {}
        self.server: ChannelServer
        self.opened: list[UnixChannel] = []
        self.clients: list[UnixChannel] = []

    async def start(self, **options: Any) -> None:
        self.server = await serve(
            self.path, lambda _: self.handlers, errors=(Full,), on_open=self.opened.append, **options
        )

    async def client(self, handlers: Handlers | None = None) -> UnixChannel:
        channel = await connect(self.path, handlers)
        self.clients.append(channel)
        return channel


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    await bench.start()
    yield bench
    for channel in bench.clients:
        channel.close()
    await bench.server.close()
    await asyncio.sleep(0)


async def test_a_plain_value_a_future_and_a_coroutine_are_replies(bench: Bench) -> None:
    loop = asyncio.get_running_loop()

    def future(_channel: object, body: int) -> asyncio.Future[int]:
        result = loop.create_future()
        loop.call_soon(result.set_result, body + 1)
        return result

    async def coroutine(_channel: object, body: int) -> int:
        await asyncio.sleep(0)
        return body + 2

    bench.handlers.update(plain=lambda _, body: body, future=future, coroutine=coroutine)
    client = await bench.client()
    assert await client.request("plain", 1) == 1
    assert await client.request("future", 1) == 2
    assert await client.request("coroutine", 1) == 3


async def test_replies_find_their_requests_whatever_their_order(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    held: dict[int, asyncio.Future[str]] = {}

    def hold(_channel: object, body: int) -> asyncio.Future[str]:
        held[body] = loop.create_future()
        if len(held) == 50:
            for number in reversed(range(50)):
                held[number].set_result(f"reply {number}")
        return held[body]

    bench.handlers["hold"] = hold
    client = await bench.client()
    assert await asyncio.gather(*(client.request("hold", n) for n in range(50))) == [f"reply {n}" for n in range(50)]


async def test_both_ends_ask_and_note(bench: Bench) -> None:
    noted = asyncio.Event()
    bench.handlers["say"] = lambda _, body: noted.set() if body == "hello" else None
    client = await bench.client({"who": lambda _, body: f"client {body}"})
    client.note("say", "hello")
    await asyncio.wait_for(noted.wait(), 5)
    assert await bench.opened[0].request("who", 7) == "client 7"


async def test_errors_that_are_listed_cross_by_name_and_others_say_nothing(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(_channel: object, _body: object) -> None:
        raise FullerThanFull("no room left")

    async def bug(_channel: object, _body: object) -> None:
        raise KeyError("private matter")

    def forwarded(_channel: object, _body: object) -> None:
        raise RemoteError("UnknownQueueId", "ABC")

    bench.handlers.update(full=full, bug=bug, forwarded=forwarded, odd=lambda *_: object())
    client = await bench.client()
    for verb, kind, text in (
        ("full", "Full", "no room left"),
        ("bug", "internal", "internal error; see the log"),
        ("forwarded", "UnknownQueueId", "ABC"),
        ("odd", "internal", "internal error; see the log"),
        ("missing", "unknown_verb", "missing"),
    ):
        with pytest.raises(RemoteError) as caught:
            await client.request(verb)
        assert (caught.value.kind, str(caught.value)) == (kind, text)
    logged = capfd.readouterr().out
    assert "request.failed" in logged and "private matter" in logged


async def test_a_failing_note_harms_nothing(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    async def later(_channel: object, _body: object) -> None:
        raise ValueError("later")

    def now(_channel: object, _body: object) -> None:
        raise ValueError("now")

    bench.handlers.update(now=now, later=later, ping=lambda *_: "pong")
    client = await bench.client()
    client.note("now")
    client.note("later")
    client.note("missing")
    assert await client.request("ping") == "pong"
    assert capfd.readouterr().out.count("note.failed") == 2


async def test_the_end_of_a_channel_fails_what_waits_and_is_told_once(bench: Bench) -> None:
    never = asyncio.get_running_loop().create_future()
    arrived = asyncio.Event()

    def wait(_channel: object, _body: object) -> asyncio.Future[None]:
        arrived.set()
        return never

    bench.handlers["wait"] = wait
    client = await bench.client()
    told: list[str] = []
    client.on_close(lambda: told.append("client"))
    waiting = asyncio.create_task(client.request("wait"))
    await arrived.wait()
    bench.opened[0].on_close(lambda: told.append("server"))
    bench.opened[0].close()
    with pytest.raises(ChannelClosed):
        await waiting
    assert not never.cancelled()
    with pytest.raises(ChannelClosed):
        await client.request("wait")
    client.note("wait")
    client.on_close(lambda: told.append("late"))
    await asyncio.sleep(0)
    assert sorted(told) == ["client", "late", "server"]
    assert not bench.server.channels


async def test_a_handler_goes_on_when_its_channel_ends(bench: Bench) -> None:
    began, go_on, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(_channel: object, _body: object) -> None:
        began.set()
        await go_on.wait()
        finished.set()

    bench.handlers["work"] = work
    client = await bench.client()
    client.note("work")
    request = asyncio.create_task(client.request("work"))
    await began.wait()
    client.close()
    with pytest.raises(ChannelClosed):
        await request
    go_on.set()
    await asyncio.wait_for(finished.wait(), 5)


async def test_a_cancelled_request_leaves_the_channel_in_order(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    replies: list[asyncio.Future[str]] = []

    def hold(_channel: object, _body: object) -> asyncio.Future[str]:
        replies.append(loop.create_future())
        return replies[-1]

    bench.handlers.update(hold=hold, ping=lambda *_: "pong")
    client = await bench.client()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.request("hold"), 0.05)
    replies[0].set_result("too late")
    assert await client.request("ping") == "pong"


@pytest.mark.parametrize("size", [0, 1, 65_535, 262_144, 262_145, 1_000_000, MAX_FRAME - 64])
async def test_bodies_of_every_size_come_back_whole(bench: Bench, size: int) -> None:
    bench.handlers["echo"] = lambda _, body: body
    client = await bench.client()
    body = os.urandom(size)
    assert await client.request("echo", body) == body
    assert await client.request("echo", b"small") == b"small"


async def test_frames_are_found_however_the_octets_are_cut(bench: Bench) -> None:
    seen: list[Any] = []
    done = asyncio.Event()

    def take(_channel: object, body: Any) -> None:
        seen.append(body)
        if body == "last":
            done.set()

    bench.handlers["take"] = take
    stream = bytearray()
    for body in ("first", b"x" * 300, {"a": [1, None]}, "last"):
        append_frame(stream, 3, 0, "take", body)
    _, writer = await asyncio.open_unix_connection(bench.path)
    for octet in stream:
        writer.write(bytes((octet,)))
        await writer.drain()
        await asyncio.sleep(0)
    await asyncio.wait_for(done.wait(), 5)
    assert seen == ["first", b"x" * 300, {"a": [1, None]}, "last"]
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "octets",
    [
        (MAX_FRAME + 1).to_bytes(HEADER, "big"),
        b"\x00\x00\x00\x03\xc1\xc1\xc1",
        b"\x00\x00\x00\x05hello",
        b"\x00\x00\x00\x02\x92\x01",
        b"\x00\x00\x00\x00",
    ],
)
async def test_octets_that_are_no_frame_end_that_channel_only(bench: Bench, octets: bytes) -> None:
    bench.handlers["ping"] = lambda *_: "pong"
    other = await bench.client()
    reader, writer = await asyncio.open_unix_connection(bench.path)
    writer.write(octets)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    assert await other.request("ping") == "pong"


async def test_a_peer_with_too_many_unanswered_requests_is_not_read_from(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[int]] = []
    most = 0

    def hold(_channel: object, _body: object) -> asyncio.Future[int]:
        nonlocal most
        waiting.append(loop.create_future())
        most = max(most, len(waiting))
        return waiting[-1]

    server = await serve(tmp_path / "s.sock", lambda _: {"hold": hold}, max_outstanding=8)
    client = await connect(tmp_path / "s.sock")
    requests = [asyncio.create_task(client.request("hold", n)) for n in range(100)]
    answered = 0
    while answered < 100:
        await asyncio.sleep(0)
        while waiting:
            waiting.pop(0).set_result(answered)
            answered += 1
            if len(waiting) % 3 == 0:
                await asyncio.sleep(0)
    assert len(await asyncio.gather(*requests)) == 100
    assert most == 8
    client.close()
    await server.close()


async def test_requests_wait_for_a_peer_that_does_not_read(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    channel = await connect(ours)
    bulk = [asyncio.create_task(channel.request("bulk", bytes(1_000_000))) for _ in range(8)]
    drained = asyncio.create_task(channel.drain())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not drained.done()
    late = asyncio.create_task(channel.request("late"))
    theirs.setblocking(False)
    received = bytearray()
    while b"late" not in received:
        received += await asyncio.get_running_loop().sock_recv(theirs, 1 << 20)
    assert len(received) > 8_000_000
    await asyncio.wait_for(drained, 5)
    theirs.close()
    for request in (*bulk, late):
        with pytest.raises(ChannelClosed):
            await request
    channel.close()
    await asyncio.sleep(0)


async def test_the_peer_is_known_by_its_credentials(bench: Bench) -> None:
    client = await bench.client()
    mine = (os.getpid(), os.geteuid(), os.getegid())
    assert client.peer == mine
    bench.handlers["ping"] = lambda *_: "pong"
    await client.request("ping")
    assert bench.opened[0].peer == mine


async def test_a_peer_that_may_do_nothing_is_turned_away(tmp_path: Path) -> None:
    server = await serve(tmp_path / "s.sock", lambda peer: None if peer.uid == os.geteuid() else {})
    client = await connect(tmp_path / "s.sock")
    with pytest.raises(ChannelClosed):
        await client.request("anything")
    assert not server.channels
    await server.close()


async def test_channels_beyond_the_ceiling_are_refused_until_one_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pillarbox.control.channel.MAX_CHANNELS", 2)
    server = await serve(tmp_path / "s", lambda _: {"ping": lambda *_: "pong"})
    channels = [await connect(tmp_path / "s") for _ in range(2)]
    for channel in channels:
        assert await channel.request("ping") == "pong"
    third = await connect(tmp_path / "s")
    with pytest.raises(ChannelClosed):
        await third.request("ping")
    ended = asyncio.Event()
    next(iter(server.channels)).on_close(ended.set)
    for channel in channels:
        channel.close()
    await ended.wait()
    fourth = await connect(tmp_path / "s")
    assert await fourth.request("ping") == "pong"
    fourth.close()
    await server.close()


async def test_a_socket_has_its_mode_before_anyone_can_connect_and_goes_with_its_server(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    server = await serve(path, lambda _: {}, mode=0o620)
    assert stat.S_IMODE(path.stat().st_mode) == 0o620
    await server.close()
    assert not path.exists()


async def test_a_dead_socket_is_taken_over_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = await serve(path, lambda _: {"who": lambda *_: "first"})
    with pytest.raises(OSError, match=r"s\.sock: Address already in use"):
        await serve(path, lambda _: {})
    client = await connect(path)
    assert await client.request("who") == "first"
    client.close()
    await server.close()


async def test_a_path_that_is_a_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match=r"s\.sock"):
        await serve(path, lambda _: {})
    assert path.read_text() == "precious"

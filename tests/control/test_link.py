"""Links: a channel that outlives the other side."""

import asyncio
from pathlib import Path

import pytest

from pillarbox.control.channel import ChannelClosed, RemoteError, UnixChannel, serve
from pillarbox.control.link import Link


async def test_a_request_waits_for_the_other_side_as_long_as_it_says(tmp_path: Path) -> None:
    link = Link(tmp_path / "s.sock")
    await link.start()
    with pytest.raises(ChannelClosed):
        await link.request("ping")
    with pytest.raises(ChannelClosed, match=r"within 0\.05 s"):
        await link.request("ping", patience=0.05)
    waiting = asyncio.create_task(link.request("ping", patience=10))
    server = await serve(tmp_path / "s.sock", lambda _: {"ping": lambda *_: "pong"})
    assert await waiting == "pong"
    assert link.connected
    await link.close()
    assert not link.connected
    await server.close()


async def test_a_link_comes_back_and_greets_before_others_ask(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(_channel: object, body: str) -> str:
        asked.append(body)
        return body

    handlers = {"hello": answer, "ask": answer}
    server = await serve(tmp_path / "s.sock", lambda _: handlers)
    link = Link(tmp_path / "s.sock")

    async def greet() -> None:
        assert await link.request("hello", "hello") == "hello"

    link.on_connect(greet)
    await link.start(5)
    assert await link.request("ask", "one") == "one"
    await server.close()
    waiting = asyncio.create_task(link.request("ask", "two", patience=10, repeat=True))
    server = await serve(tmp_path / "s.sock", lambda _: handlers)
    assert await waiting == "two"
    assert asked == ["hello", "one", "hello", "two"]
    await link.close()
    await server.close()


async def test_a_greeting_that_fails_is_tried_on_a_new_channel(tmp_path: Path) -> None:
    tries = 0

    def hello(_channel: object, _body: object) -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise RemoteError("Unavailable", "not yet")
        return "hello"

    server = await serve(tmp_path / "s.sock", lambda _: {"hello": hello, "ask": lambda *_: "answer"})
    link = Link(tmp_path / "s.sock")

    async def greet() -> None:
        await link.request("hello")

    link.on_connect(greet)
    await link.start()
    assert await link.request("ask", patience=10) == "answer"
    assert tries == 3
    await link.close()
    await server.close()


class Dropper:
    """A server that ends the channel at the first ``drops`` requests instead of answering."""

    def __init__(self, drops: int) -> None:
        self.drops = drops
        self.asked = 0

    def ask(self, channel: UnixChannel, _body: object) -> str:
        self.asked += 1
        if self.asked <= self.drops:
            channel.close()
        return "answer"


async def test_only_a_repeatable_request_is_sent_again(tmp_path: Path) -> None:
    dropper = Dropper(1)
    server = await serve(tmp_path / "s.sock", lambda _: {"ask": dropper.ask})
    link = Link(tmp_path / "s.sock")
    await link.start(5)
    with pytest.raises(ChannelClosed):
        await link.request("ask", patience=10)
    assert dropper.asked == 1
    dropper.drops = 3
    assert await link.request("ask", patience=10, repeat=True) == "answer"
    assert dropper.asked == 4
    await link.close()
    await server.close()


async def test_a_request_that_always_kills_the_other_side_is_not_repeated_for_ever(tmp_path: Path) -> None:
    dropper = Dropper(1000)
    server = await serve(tmp_path / "s.sock", lambda _: {"ask": dropper.ask})
    link = Link(tmp_path / "s.sock")
    await link.start(5)
    with pytest.raises(ChannelClosed):
        await link.request("ask", patience=10, repeat=True)
    assert dropper.asked == 5
    await link.close()
    await server.close()


async def test_notes_without_a_connection_are_dropped(tmp_path: Path) -> None:
    link = Link(tmp_path / "s.sock")
    link.note("before the start")
    await link.start()
    link.note("not connected")
    assert not link.connected
    await link.close()

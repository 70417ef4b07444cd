"""password.py: hashes, and who waits for whom."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator

import pytest

from pillarbox.directory import password as module
from pillarbox.directory.base import Unavailable
from pillarbox.directory.password import KNOWN_THREADS, STRANGERS_CEILING, Passwords
from pillarbox.directory.settings import LocalSettings

CHEAP = LocalSettings(argon2_memory=64, argon2_time=1)


class SlowHash:
    """A verification that blocks its thread until it is let go, and keeps count."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.running: list[str] = []
        self.most = 0
        self.done: list[str] = []

    def __call__(self, stored: str, password: str) -> bool:
        with self.lock:
            self.running.append(password)
            self.most = max(self.most, len(self.running))
        self.gate.acquire()
        with self.lock:
            self.running.remove(password)
            self.done.append(password)
        return True

    async def wait_running(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.running) < count:  # noqa: ASYNC110  threads set no event of this loop
                await asyncio.sleep(0.002)


@pytest.fixture
async def slow() -> AsyncIterator[tuple[Passwords, SlowHash]]:
    hash_ = SlowHash()
    passwords = Passwords(CHEAP, hash_)
    yield passwords, hash_
    hash_.gate.release(10_000)
    passwords.close()


async def test_a_hash_verifies_its_password_only_and_says_its_parameters() -> None:
    passwords = Passwords(LocalSettings())
    stored = await passwords.hash("correct horse")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify(stored, "correct horse", known_place=True)
    assert not await passwords.verify(stored, "correct hors", known_place=False)
    assert not await passwords.verify(None, "correct horse", known_place=False)
    assert await passwords.hash("correct horse") != stored, "salted"
    passwords.close()


async def test_a_hash_of_other_parameters_verifies_and_is_seen_as_old() -> None:
    old, new = Passwords(CHEAP), Passwords(LocalSettings(argon2_memory=128, argon2_time=1))
    stored = await old.hash("pencil")
    assert await new.verify(stored, "pencil", known_place=True)
    assert old.is_current(stored) and not new.is_current(stored) and not new.is_current("rubbish")
    old.close()
    new.close()


async def test_an_unknown_login_costs_a_real_hash_of_todays_parameters() -> None:
    seen: list[str] = []

    def verify(stored: str, password: str) -> bool:
        seen.append(stored)
        return True

    passwords = Passwords(LocalSettings(), verify)
    assert not await passwords.verify(None, "x", known_place=False), "even if it verified"
    assert seen[0].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    passwords.close()


@pytest.mark.parametrize("stored", ["", "rubbish", "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$", "{PLAIN}secret"])
async def test_an_unreadable_hash_is_unavailable_not_wrong(stored: str) -> None:
    passwords = Passwords(CHEAP)
    with pytest.raises(Unavailable):
        await passwords.verify(stored, "secret", known_place=True)
    assert await passwords.verify(await passwords.hash("next"), "next", known_place=True)
    passwords.close()


async def test_strangers_are_hashed_one_at_a_time_first_come_first_served(
    slow: tuple[Passwords, SlowHash],
) -> None:
    passwords, hash_ = slow
    tasks = [asyncio.create_task(passwords.verify("h", str(n), known_place=False)) for n in range(10)]
    await hash_.wait_running(1)
    hash_.gate.release(10)
    assert all(await asyncio.gather(*tasks))
    assert hash_.most == 1
    assert hash_.done == [str(n) for n in range(10)]


async def test_a_known_place_never_waits_for_strangers(slow: tuple[Passwords, SlowHash]) -> None:
    passwords, hash_ = slow
    strangers = [
        asyncio.create_task(passwords.verify("h", f"stranger {n}", known_place=False))
        for n in range(STRANGERS_CEILING)
    ]
    await hash_.wait_running(1)
    known = [asyncio.create_task(passwords.verify("h", f"known {n}", known_place=True)) for n in range(KNOWN_THREADS)]
    await hash_.wait_running(1 + KNOWN_THREADS)  # all of them run although a hundred strangers came first
    assert sorted(hash_.running)[:KNOWN_THREADS] == [f"known {n}" for n in range(KNOWN_THREADS)]
    hash_.gate.release(1000)
    await asyncio.gather(*strangers, *known)


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a niceness of its own")
@pytest.mark.parametrize("forbidden", [False, True])
async def test_strangers_are_hashed_in_a_thread_that_gives_way_where_it_may(
    monkeypatch: pytest.MonkeyPatch, forbidden: bool
) -> None:
    niceness: dict[str, int] = {}

    def verify(stored: str, password: str) -> bool:
        niceness[password] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return True

    def forbid(*_: int) -> None:
        raise PermissionError("not in this sandbox")

    if forbidden:
        monkeypatch.setattr(os, "setpriority", forbid)
    passwords = Passwords(CHEAP, verify)
    for who, known_place in (("known", True), ("stranger", False)):
        assert await passwords.verify("h", who, known_place=known_place)
    passwords.close()
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness == {"known": ours, "stranger": ours if forbidden else min(ours + 10, 19)}


async def test_the_strangers_line_has_an_end_and_opens_again(slow: tuple[Passwords, SlowHash]) -> None:
    passwords, hash_ = slow
    tasks = [asyncio.create_task(passwords.verify("h", str(n), known_place=False)) for n in range(STRANGERS_CEILING)]
    await hash_.wait_running(1)
    with pytest.raises(Unavailable):
        await passwords.verify("h", "one too many", known_place=False)
    hash_.gate.release(1000)
    await asyncio.gather(*tasks)
    assert await passwords.verify("h", "later", known_place=False)


async def test_who_hangs_up_leaves_the_line(slow: tuple[Passwords, SlowHash]) -> None:
    passwords, hash_ = slow
    tasks = [asyncio.create_task(passwords.verify("h", str(n), known_place=False)) for n in range(STRANGERS_CEILING)]
    await hash_.wait_running(1)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks[1:], return_exceptions=True)
    last = asyncio.create_task(passwords.verify("h", "last", known_place=False))
    hash_.gate.release(2)
    assert await tasks[0] and await last
    assert hash_.done == ["0", "last"], "nothing was hashed for those who left"


async def test_the_loop_goes_on_while_a_password_is_hashed(slow: tuple[Passwords, SlowHash]) -> None:
    passwords, hash_ = slow
    task = asyncio.create_task(passwords.verify("h", "p", known_place=True))
    await hash_.wait_running(1)  # this very wait runs on the loop while the thread is blocked
    assert not task.done()
    names = {thread.name.rsplit("_", 1)[0] for thread in threading.enumerate()}
    assert "password-known" in names
    hash_.gate.release()
    assert await task


def test_the_defaults_leave_known_places_more_threads_than_strangers() -> None:
    assert module.KNOWN_THREADS >= 2

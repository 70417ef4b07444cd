"""blocking.py: threads of one directory's own."""

import asyncio
import threading

import pytest

from pillarbox.directory import blocking as module
from pillarbox.directory.blocking import Threads
from pillarbox.directory.servers import ServerFailed


async def test_results_and_errors_come_back() -> None:
    threads = Threads("corp", 2)
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)
    name = await threads.run(lambda: threading.current_thread().name)
    assert name.startswith("directory-corp")
    threads.close()


async def test_one_directory_that_hangs_takes_none_of_anothers_threads_nor_the_loop() -> None:
    slow, quick = Threads("slow", 1), Threads("quick", 1)
    release = threading.Event()
    hanging = asyncio.create_task(slow.run(release.wait, 30))
    assert await quick.run(abs, -1) == 1
    assert not hanging.done()
    release.set()
    assert await hanging is True
    slow.close()
    quick.close()


async def test_beyond_the_ceiling_nobody_waits_and_places_come_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 3)
    threads = Threads("corp", 1)
    release = threading.Event()
    held = [asyncio.create_task(threads.run(release.wait, 30)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(ServerFailed, match="too many questions"):
        await threads.run(abs, -1)
    for one in held[1:]:  # sessions that leave while they wait in line
        one.cancel()
    await asyncio.wait(held[1:])
    assert all(one.cancelled() for one in held[1:])
    release.set()
    await held[0]
    for _ in range(8):
        assert await threads.run(abs, -1) == 1
    threads.close()


async def test_who_gives_up_leaves_the_thread_and_not_its_place() -> None:
    threads = Threads("corp", 1)
    release, entered = threading.Event(), threading.Event()

    def work() -> bool:
        entered.set()
        return release.wait(30)

    asking = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(entered.wait, 30)
    asking.cancel()
    await asyncio.wait((asking,))
    behind = asyncio.create_task(threads.run(abs, -1))
    await asyncio.sleep(0)
    assert not behind.done()
    release.set()
    assert await behind == 1
    threads.close()


async def test_after_the_end_it_says_so() -> None:
    threads = Threads("corp", 1)
    threads.close()
    for _ in range(3):
        with pytest.raises(ServerFailed, match="closed"):
            await threads.run(abs, -1)

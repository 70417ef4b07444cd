"""Threads of one directory's own, for libraries that block: a slow server never takes those of another's.

    threads = Threads("corp", 8)
    answer = await threads.run(connection.login, user, password)

Whoever gives up waiting leaves the thread to end by the library's own time limit, which must be there.

ERRORS
    ServerFailed: more than ``WAITING`` questions are waiting for a thread, or the directory was closed.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pillarbox.directory.servers import ServerFailed

WAITING = 256

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Threads:
    """See the module's text."""

    def __init__(self, name: str, count: int) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix=f"directory-{name}")
        self._places = threading.Semaphore(count + WAITING)

    async def run(
        self, work: Callable[Arguments, Result], /, *args: Arguments.args, **keywords: Arguments.kwargs
    ) -> Result:
        """What ``work`` returns or raises. Raises ServerFailed."""
        if not self._places.acquire(blocking=False):
            raise ServerFailed("too many questions are waiting already")
        try:
            future = self._pool.submit(work, *args, **keywords)
        except RuntimeError:  # a reload replaced the directory, and somebody still had it
            self._places.release()
            raise ServerFailed("the directory was closed") from None
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Takes no more work and does not wait for what runs."""
        self._pool.shutdown(wait=False, cancel_futures=True)

"""The loop every process of ours runs on, and its limits. The only importer of uvloop.

uvloop: protocol classes on it cost a third of asyncio's own loop, and its TLS a tenth of the memory.
"""

import resource
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs ``main`` to its end on a fresh loop of this process."""
    return uvloop.run(main)


def raise_file_limit() -> int:
    """Open files: the soft limit becomes the hard one (a session is a file). Returns the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def forbid_core_dumps() -> None:
    """A crash writes no memory to the disk: there may be passwords, mail and keys in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

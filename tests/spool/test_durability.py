"""Since the page cache survives kill -9: follows the system calls of a commit up to its acknowledgement."""

import sys
from pathlib import Path

import pytest
from tests.spool.messages import envelope, opened, read_all
from tests.spool.syscalls import Log, strace_is_usable, trace

from pillarbox.spool.base import INLINE_LIMIT, Filter

REASON = strace_is_usable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

PROGRAM = """
import asyncio, os, sys
from pathlib import Path
from pillarbox.spool.embedded import open_spool
from pillarbox.spool.settings import EmbeddedSettings
from tests.spool.messages import envelope

async def main(directory, size):
    spool = await open_spool(EmbeddedSettings(Path(directory), 0))
    for number in range(3):
        await spool.commit(envelope(queue_id=f"0{number}BEFORE"), b"before")
    writer = spool.writer("09MESSAGE")
    content = b"x" * size
    for start in range(0, size, 100_000):
        await writer.write(content[start:start + 100_000])
    await writer.commit(envelope(queue_id="09MESSAGE", size=size))
    os.write(1, b"ACKNOWLEDGED")
    os._exit(0)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def traced(tmp_path: Path, size: int) -> Log:
    """The files' state when a message of ``size`` octets was acknowledged."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "spool"), str(size)]
    return trace(command, under=tmp_path / "spool", output=tmp_path / "strace", marker=b"ACKNOWLEDGED")


@pytest.mark.parametrize("size", [5000, INLINE_LIMIT + 100_000])
async def test_every_file_and_directory_of_a_message_is_synced_before_its_acknowledgement(
    tmp_path: Path, size: int
) -> None:
    log = traced(tmp_path, size)
    assert log.unsynced() == []
    assert log.syncs >= 2
    (tmp_path / "after").mkdir()
    log.restore(tmp_path / "after")
    async with opened(tmp_path / "after") as spool:
        found = {m.envelope.queue_id: m.envelope for m in await spool.list(Filter(), 0.0, 10)}
        assert found["09MESSAGE"] == envelope(queue_id="09MESSAGE", size=size)
        assert sorted(found) == ["00BEFORE", "01BEFORE", "02BEFORE", "09MESSAGE"]
        assert await read_all(spool.open("09MESSAGE")) == b"x" * size


async def test_the_judge_itself_finds_a_missing_sync(tmp_path: Path) -> None:
    """The same program without fsync of content files and directories: what it acknowledged would be lost."""
    careless = "import os; os.fsync = lambda descriptor: None\n" + PROGRAM
    command = [sys.executable, "-c", careless, str(tmp_path / "spool"), str(INLINE_LIMIT + 100_000)]
    log = trace(command, under=tmp_path / "spool", output=tmp_path / "strace", marker=b"ACKNOWLEDGED")
    assert any("09MESSAGE" in name for name in log.unsynced())

"""Since the page cache survives kill -9: follows the system calls of a commit up to its acknowledgement."""

import sys
from pathlib import Path

import pytest
from tests.spool.messages import envelope, opened, read_all
from tests.spool.syscalls import Log, record, replay, strace_is_usable, trace

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
        await spool.commit(envelope(queue_id=f"0{number}000000000000000000BEF0RE"), b"before")
    writer = spool.writer("0900000000000000000MESSAGE")
    content = b"x" * size
    for start in range(0, size, 100_000):
        await writer.write(content[start:start + 100_000])
    await writer.commit(envelope(queue_id="0900000000000000000MESSAGE", size=size))
    os.write(1, b"ACKNOWLEDGED")
    os._exit(0)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""

REAL = """
import asyncio, os, subprocess, sys
from pathlib import Path
from pillarbox.control.link import Link
from pillarbox.spool.remote import RemoteIntake
from pillarbox.spool.service import ERRORS
from pillarbox.store.sqlite import sync_directory
from tests.spool.messages import envelope

async def main(directory, size):
    command = [sys.executable, "-m", "tests.spool.server", directory, directory + ".s"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    while server.stdout.readline() != b"ready\\n":
        assert server.poll() is None
    link = Link(Path(directory + ".s"), errors=ERRORS)
    intake = RemoteIntake(link, Path(directory, "incoming"))
    await link.start(20.0)
    writer = intake.writer("0900000000000000000MESSAGE")
    content = b"x" * size
    for start in range(0, size, 100_000):
        await writer.write(content[start:start + 100_000])
    await writer.finish()
    sync_directory(Path(directory, "incoming"))  # as another message's adoption does: the part's name is durable now
    await intake.adopt(envelope(queue_id="0900000000000000000MESSAGE", size=size))
    os.write(1, b"ACKNOWLEDGED")
    server.kill()
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
        assert found["0900000000000000000MESSAGE"] == envelope(queue_id="0900000000000000000MESSAGE", size=size)
        assert sorted(found) == [
            "00000000000000000000BEF0RE",
            "01000000000000000000BEF0RE",
            "02000000000000000000BEF0RE",
            "0900000000000000000MESSAGE",
        ]
        assert await read_all(spool.open("0900000000000000000MESSAGE")) == b"x" * size


async def test_the_judge_itself_finds_a_missing_sync(tmp_path: Path) -> None:
    """The same program without fsync of content files and directories: what it acknowledged would be lost."""
    careless = "import os; os.fsync = lambda descriptor: None\n" + PROGRAM
    command = [sys.executable, "-c", careless, str(tmp_path / "spool"), str(INLINE_LIMIT + 100_000)]
    log = trace(command, under=tmp_path / "spool", output=tmp_path / "strace", marker=b"ACKNOWLEDGED")
    assert any("0900000000000000000MESSAGE" in name for name in log.unsynced())


async def test_a_large_message_is_synced_before_its_row_and_its_row_before_the_acknowledgement(
    tmp_path: Path,
) -> None:
    """The real path: a worker's process writes the part, the spool's process adopts it."""
    size = 2 * INLINE_LIMIT
    spool, output = tmp_path / "spool", tmp_path / "strace"
    record([sys.executable, "-c", REAL, str(spool), str(size)], output)
    part, final = f"{spool}/incoming/0900000000000000000MESSAGE.part", f"{spool}/content/0900000000000000000MESSAGE"

    row = replay(output, under=spool, marker=b"0900000000000000000MESSAGE", call="pwrite64")
    assert row.names[final].synced == b"x" * size, "the octets are durable before the row begins to be written"
    assert row.durable_names[final] is row.names[final], "and so is their name"
    assert part not in row.durable_names, "and that the old name is gone"

    acknowledged = replay(output, under=spool, marker=b"ACKNOWLEDGED")
    assert acknowledged.unsynced() == []
    (tmp_path / "after").mkdir()
    acknowledged.restore(tmp_path / "after")
    async with opened(tmp_path / "after") as after:
        assert [message.envelope.queue_id for message in await after.list(Filter(), 0.0, 10)] == [
            "0900000000000000000MESSAGE",
        ]
        assert await read_all(after.open("0900000000000000000MESSAGE")) == b"x" * size

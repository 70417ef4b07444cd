"""The drop directory: what a worker may put there, what the owner adopts of it, and what is swept."""

import asyncio
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tests.spool.messages import RemoteSpool, envelope, open_remote, opened, read_all, soon

from pillarbox.spool import embedded as embedded_module
from pillarbox.spool.base import INLINE_LIMIT, Full, QueueIdTaken, SpoolError, Unavailable
from pillarbox.spool.part import PartWriter

ROOT = Path(__file__).parents[2]
LARGE = os.urandom(INLINE_LIMIT + 100_000)
SENT = envelope(queue_id="0100000000000000000001ARGE", size=len(LARGE))


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[RemoteSpool]:
    remote = await open_remote(tmp_path / "spool", 0, lambda: 5_000.0)
    yield remote
    await remote.close()


async def written(remote: RemoteSpool, queue_id: str = "0100000000000000000001ARGE") -> PartWriter:
    """A writer whose content is whole in its file, and not adopted yet."""
    writer = remote.writer(queue_id)
    for start in range(0, len(LARGE), 50_000):
        await writer.write(LARGE[start : start + 50_000])
    await writer.finish()
    return writer


def names(directory: Path) -> list[str]:
    """What lies there."""
    return sorted(os.listdir(directory))


# -- writing


async def test_the_octets_do_not_cross_the_channel(remote: RemoteSpool) -> None:
    asked: list[tuple[str, Any]] = []
    request = remote.link.request

    async def listen(verb: str, body: Any = None, **options: Any) -> Any:
        asked.append((verb, body))
        return await request(verb, body, **options)

    with mock.patch.object(remote.link, "request", listen):
        writer = await written(remote)
        await remote.adopt(SENT)
        await writer.abandon()
    assert [verb for verb, _ in asked if verb != "intake.status"] == ["intake.adopt"]
    assert all(len(repr(body)) < 1000 for _, body in asked)
    assert await read_all(remote.open("0100000000000000000001ARGE")) == LARGE


async def test_abandoned_parts_are_unlinked(remote: RemoteSpool, tmp_path: Path) -> None:
    writer = remote.writer("0100000000000000000001ARGE")
    await writer.write(LARGE)
    await writer.abandon()
    assert names(tmp_path / "spool" / "incoming") == []
    with pytest.raises(Unavailable):
        await writer.write(b"more")
    with pytest.raises(Unavailable):
        await writer.commit(SENT)


async def test_an_upload_that_is_cancelled_leaves_no_part(remote: RemoteSpool, tmp_path: Path) -> None:
    writer = remote.writer("0100000000000000000001ARGE")
    await writer.write(LARGE)
    entered = asyncio.Event()

    async def adopt(envelope: object) -> None:
        entered.set()
        await asyncio.Event().wait()

    with mock.patch.object(remote, "adopt", adopt):
        committing = asyncio.create_task(writer.commit(SENT))
        await entered.wait()
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
    await soon(lambda: names(tmp_path / "spool" / "incoming") == [])


async def test_thousands_of_small_chunks_are_one_content(remote: RemoteSpool) -> None:
    writer = remote.writer("0100000000000000000001ARGE")
    for start in range(0, len(LARGE), 100):
        await writer.write(LARGE[start : start + 100])
    await writer.commit(SENT)
    assert await read_all(remote.open("0100000000000000000001ARGE")) == LARGE


async def test_a_short_write_is_gone_on_with(remote: RemoteSpool) -> None:
    real = os.writev
    with mock.patch.object(os, "writev", lambda to, chunks: real(to, [b"".join(chunks)[:1000]])):
        writer = await written(remote)
    await remote.adopt(SENT)
    await writer.abandon()
    assert await read_all(remote.open("0100000000000000000001ARGE")) == LARGE


async def test_a_name_that_is_taken_is_left_to_its_owner(remote: RemoteSpool, tmp_path: Path) -> None:
    first = await written(remote)
    second = remote.writer("0100000000000000000001ARGE")
    await second.write(b"x" * (INLINE_LIMIT + 1))
    with pytest.raises(Unavailable):
        await second.commit(envelope(queue_id="0100000000000000000001ARGE", size=INLINE_LIMIT + 1))
    await remote.adopt(SENT)
    assert await read_all(remote.open("0100000000000000000001ARGE")) == LARGE
    await first.abandon()


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, Full), (errno.EDQUOT, Full), (errno.EIO, Unavailable)])
async def test_a_failed_write_is_said_in_the_room_s_words_and_leaves_nothing(
    remote: RemoteSpool, tmp_path: Path, number: int, kind: type[SpoolError]
) -> None:
    writer = remote.writer("0100000000000000000001ARGE")
    with mock.patch.object(os, "writev", side_effect=OSError(number, os.strerror(number))):
        await writer.write(LARGE)
        with pytest.raises(kind):
            await writer.commit(SENT)
    assert names(tmp_path / "spool" / "incoming") == []


async def test_a_writer_hears_while_it_writes_that_the_disk_is_filling_up(
    remote: RemoteSpool, tmp_path: Path
) -> None:
    writer = remote.writer("0100000000000000000001ARGE")
    await writer.write(LARGE)
    with mock.patch.object(remote.spool.intake, "refusal", return_value=Full("below the reserve")):
        await soon(lambda: isinstance(remote.refusal(1), Full))
        with pytest.raises(Full):
            await writer.write(LARGE)
    assert names(tmp_path / "spool" / "incoming") == []


# -- adopting


def link_to_the_database(part: Path) -> None:
    """Another name of the spool's own file, which is as long as announced."""
    part.unlink()
    os.link(part.parents[1] / "spool.db", part)


def symbolic_link(part: Path) -> None:
    """To a file that is as long as announced."""
    elsewhere = part.with_name("elsewhere")
    part.rename(elsewhere)
    part.symlink_to(elsewhere)


def second_name(part: Path) -> None:
    """The part itself, under two names."""
    os.link(part, part.with_name("second"))


def pipe(part: Path) -> None:
    """Whoever opens it waits for ever."""
    part.unlink()
    os.mkfifo(part)


def directory(part: Path) -> None:
    """No file at all."""
    part.unlink()
    part.mkdir()


def shorter(part: Path) -> None:
    """The last octet is missing."""
    os.truncate(part, len(LARGE) - 1)


def longer(part: Path) -> None:
    """One octet too many."""
    with part.open("ab") as file:
        file.write(b"x")


REASONS: dict[Callable[[Path], None], str] = {
    link_to_the_database: "a file with 2 names",
    symbolic_link: "a symbolic link",
    second_name: "a file with 2 names",
    pipe: "not a regular file",
    directory: "not a regular file",
    shorter: f"{len(LARGE) - 1} octets, not {len(LARGE)}",
    longer: f"{len(LARGE) + 1} octets, not {len(LARGE)}",
}


@pytest.mark.parametrize("spoil", REASONS)
async def test_what_is_not_the_file_that_was_announced_is_refused(
    remote: RemoteSpool, tmp_path: Path, spoil: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    writer = await written(remote)
    spoil(tmp_path / "spool" / "incoming" / "0100000000000000000001ARGE.part")
    database = (tmp_path / "spool" / "spool.db").stat()
    size = database.st_size if spoil is link_to_the_database else len(LARGE)
    async with asyncio.timeout(20):
        with pytest.raises(Unavailable):
            await remote.adopt(envelope(queue_id="0100000000000000000001ARGE", size=size))
    assert (tmp_path / "spool" / "spool.db").stat().st_ino == database.st_ino
    assert names(tmp_path / "spool" / "content") == []
    assert (await remote.depth(0.0)).messages == 0
    (said,) = [line for line in capfd.readouterr().out.splitlines() if "content.refused" in line]
    assert REASONS[spoil] in said
    await writer.abandon()
    for queue_id in ("0200000000000000000000NEXT", "0300000000000000000000NEXT"):  # served as before
        next_writer = await written(remote, queue_id)
        await remote.adopt(envelope(queue_id=queue_id, size=len(LARGE)))
        await next_writer.abandon()


@pytest.mark.parametrize("swap", [link_to_the_database, symbolic_link, pipe, directory])
async def test_a_part_that_is_swapped_after_it_was_looked_at_is_refused(
    remote: RemoteSpool, tmp_path: Path, swap: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """Between the look at the file and its renaming a taken-over worker may be quick."""
    writer = await written(remote)
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        with mock.patch.object(os, "fsync", real):
            swap(tmp_path / "spool" / "incoming" / "0100000000000000000001ARGE.part")

    with mock.patch.object(os, "fsync", fsync), pytest.raises(Unavailable):
        await remote.adopt(SENT)
    assert "another file by the time it was taken" in capfd.readouterr().out
    assert names(tmp_path / "spool" / "content") == []
    assert (tmp_path / "spool" / "spool.db").stat().st_nlink == 1
    assert (await remote.depth(0.0)).messages == 0
    await writer.abandon()


async def test_a_part_whose_sync_failed_is_not_tried_again(remote: RemoteSpool, tmp_path: Path) -> None:
    """A second sync would succeed and mean nothing: the system has dropped the pages."""
    writer = await written(remote)
    failing = mock.patch.object(os, "fsync", side_effect=OSError(errno.EIO, "Input/output error"))
    with failing, pytest.raises(Unavailable):
        await remote.adopt(SENT)
    with pytest.raises(Unavailable):
        await remote.adopt(SENT)
    assert names(tmp_path / "spool" / "incoming") == names(tmp_path / "spool" / "content") == []
    await writer.abandon()


async def test_two_requests_to_adopt_the_same_at_the_same_time_are_one_message(remote: RemoteSpool) -> None:
    writer = await written(remote)
    await asyncio.gather(*(remote.adopt(SENT) for _ in range(5)))
    assert (await remote.depth(0.0)).messages == 1
    assert await read_all(remote.open("0100000000000000000001ARGE")) == LARGE
    await writer.abandon()


async def test_a_part_under_the_queue_id_of_another_message_changes_nothing(remote: RemoteSpool) -> None:
    writer = await written(remote)
    await writer.abandon()
    writer = await written(remote)
    await remote.adopt(SENT)
    other = remote.writer("0100000000000000000001ARGE")
    await other.write(b"x" * (INLINE_LIMIT + 1))
    with pytest.raises(QueueIdTaken):
        await other.commit(envelope(queue_id="0100000000000000000001ARGE", size=INLINE_LIMIT + 1, login="eve"))
    assert await read_all(remote.open("0100000000000000000001ARGE")) == LARGE
    await writer.abandon()


async def test_without_a_part_nothing_is_adopted(remote: RemoteSpool) -> None:
    with pytest.raises(Unavailable):
        await remote.adopt(SENT)
    for name in ("../../etc/passwd", "a/b", "", "ſ", "x" * 65):
        with pytest.raises(SpoolError):
            await remote.adopt(envelope(queue_id=name, size=1))
    assert (await remote.depth(0.0)).messages == 0


# -- sweeping


def age(path: Path, seconds: float) -> None:
    """The last write was so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


async def test_parts_are_swept_at_start_and_later_when_a_day_old_and_never_before(tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"

    def make() -> None:
        for name, old in (
            ("010000000000000000000Y0VNG.part", 23.9),
            ("0200000000000000000000001D.part", 24.1),
            ("03000000000000000000FVTVRE.part", -1),
        ):
            (incoming / name).write_bytes(b"x")
            age(incoming / name, old * 3600)
        (incoming / "040000000000000000000011NK.part").symlink_to(tmp_path / "spool.db")
        age(incoming / "040000000000000000000011NK.part", 25 * 3600)
        (incoming / "05000000000000000000F01DER.part").mkdir()
        age(incoming / "05000000000000000000F01DER.part", 25 * 3600)

    async with opened(tmp_path):
        make()
    async with opened(tmp_path):
        assert names(incoming) == ["010000000000000000000Y0VNG.part", "03000000000000000000FVTVRE.part"]
    with mock.patch.object(embedded_module, "SWEEP_EVERY", 0.0):
        async with opened(tmp_path):
            make()
            await soon(
                lambda: names(incoming) == ["010000000000000000000Y0VNG.part", "03000000000000000000FVTVRE.part"]
            )
            assert (tmp_path / "spool.db").exists()


async def test_what_a_crash_left_among_the_contents_goes_back_to_its_worker_or_away(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    for name, old in (
        ("010000000000000000000Y0VNG", 60),
        ("0200000000000000000000001D", 700),
        ("030000000000000000000TAKEN", 60),
    ):
        (tmp_path / "content" / name).write_bytes(b"left")
        age(tmp_path / "content" / name, old)
    (tmp_path / "incoming" / "030000000000000000000TAKEN.part").write_bytes(b"newer")
    async with opened(tmp_path):
        assert names(tmp_path / "content") == []
        assert names(tmp_path / "incoming") == ["010000000000000000000Y0VNG.part", "030000000000000000000TAKEN.part"]
        assert (tmp_path / "incoming" / "030000000000000000000TAKEN.part").read_bytes() == b"newer"


# -- a user for each role


async def test_the_drop_directory_is_made_for_its_owner_only_and_left_as_it_is_when_it_is_there(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "spool"):
        assert (tmp_path / "spool" / "incoming").stat().st_mode & 0o7777 == 0o700
    (tmp_path / "spool" / "incoming").chmod(0o2730)
    async with opened(tmp_path / "spool"):
        assert (tmp_path / "spool" / "incoming").stat().st_mode & 0o7777 == 0o2730


OWNER, WORKER, GROUP = 41_001, 41_002, 41_003
"""The spool's user, the worker's, and the group of the drop directory; nobody's, so no sysusers are needed."""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory as contrib/systemd's tmpfiles make it, where users other than root can reach it."""
    if os.geteuid() != 0:
        pytest.skip("becoming two users needs root")
    directory = Path(tempfile.mkdtemp(prefix="pillarbox-roles"))
    directory.chmod(0o755)
    for name, mode in (("run", 0o777), ("spool", 0o710), ("spool/incoming", 0o2730)):
        (directory / name).mkdir()
        os.chown(directory / name, OWNER, GROUP)
        (directory / name).chmod(mode)  # after chown, which may take the set-group bit
    yield directory
    shutil.rmtree(directory)


def test_with_a_user_for_each_role_the_worker_writes_and_the_owner_adopts_and_saves(shared: Path) -> None:
    """Two real processes of two users; the kernel's own answers to what the worker tries."""
    program = [sys.executable, "-m", "tests.spool.two_users", str(shared), str(OWNER), str(WORKER), str(GROUP)]
    done = subprocess.run(program, capture_output=True, text=True, cwd=ROOT, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split("FACTS ")[1].split() == [
        "committed",
        "list:EACCES",
        "content:EACCES",
        "database:EACCES",
        "replace:EACCES",
        "salvaged",
    ]

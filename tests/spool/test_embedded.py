"""What is the embedded spool's own: its files, its lock, damage, room, and cost at depth."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from tests.spool.messages import envelope, lanes, opened, read_all, settlement, soon

from pillarbox.spool.base import INLINE_LIMIT, Deferred, Delivered, Filter, SpoolError, Unavailable
from pillarbox.spool.embedded import open_spool
from pillarbox.spool.lending import LEASE_OCTETS
from pillarbox.spool.settings import EmbeddedSettings
from pillarbox.store.sqlite import PAGE_SIZE

NOW = 10.0**10
LARGE = os.urandom(INLINE_LIMIT + 1)


def tree(directory: Path) -> list[Path]:
    """Everything below."""
    return list(directory.rglob("*"))


async def commit_large(spool: object, queue_id: str) -> None:
    """A message whose content is a file."""
    writer = spool.writer(queue_id)  # type: ignore[attr-defined]  # any spool
    await writer.write(LARGE)
    await writer.commit(envelope(queue_id=queue_id, size=len(LARGE)))


async def test_a_second_owner_of_a_directory_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(SpoolError, match="in use by another process"):
            await open_spool(EmbeddedSettings(tmp_path, 0))
    async with opened(tmp_path) as spool:
        assert spool.unhealthy_reason() is None


async def test_a_directory_that_cannot_be_made_is_said_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match=r"file/spool: Not a directory"):
        await open_spool(EmbeddedSettings(tmp_path / "file" / "spool", 0))


async def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        async with opened(tmp_path / "spool") as spool:
            await commit_large(spool, "0100000000000000000001ARGE")
            modes = {path.name: path.stat().st_mode & 0o077 for path in tree(tmp_path / "spool")}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0}, modes


async def test_a_queue_id_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as spool:
        for name in ("../../outside", "a/b", "", "a\x00b", "ſ", "x" * 200):
            writer = spool.writer(name)
            with pytest.raises(ValueError, match="not a queue id"):
                await writer.write(LARGE)
    assert os.listdir(tmp_path) == ["spool"]


async def test_orphaned_files_are_swept_at_start_and_others_stay(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await commit_large(spool, "0100000000000000000000KEPT")
    (tmp_path / "content" / "020000000000000000000RPHAN.abc").write_bytes(b"x")
    (tmp_path / "content" / "0300000000000000000000PART.abc.part").write_bytes(b"x")
    async with opened(tmp_path) as spool:
        assert [name.partition(".")[0] for name in os.listdir(tmp_path / "content")] == ["0100000000000000000000KEPT"]
        assert await read_all(spool.open("0100000000000000000000KEPT")) == LARGE


async def test_a_missing_content_file_fails_alone_and_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with opened(tmp_path) as spool:
        await commit_large(spool, "0100000000000000000001ARGE")
        await spool.commit(envelope(queue_id="020000000000000000000SMA11"), b"small")
    for name in os.listdir(tmp_path / "content"):
        os.unlink(tmp_path / "content" / name)
    async with opened(tmp_path) as spool:
        assert "content.missing" in capfd.readouterr().out
        with pytest.raises(Unavailable):
            await read_all(spool.open("0100000000000000000001ARGE"))
        assert await read_all(spool.open("020000000000000000000SMA11")) == b"small"


async def test_a_file_is_unlinked_after_its_message_left(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await commit_large(spool, "0100000000000000000001ARGE")
        await commit_large(spool, "0200000000000000000001ARGE")
        first, _ = sorted(await spool.lease(NOW, 10), key=lambda lease: lease.envelope.queue_id)
        await spool.settle(first, settlement(first, Delivered("250 ok", "hop")))
        await soon(lambda: len(os.listdir(tmp_path / "content")) == 1)
        assert os.listdir(tmp_path / "content")[0].startswith("0200000000000000000001ARGE")


# -- damage


def zero_the_header(path: Path) -> None:
    """No database any more."""
    with path.open("r+b") as file:
        file.write(bytes(200))


def truncate(path: Path) -> None:
    """The end is gone."""
    os.truncate(path, PAGE_SIZE * 2 + 100)


def garbage(path: Path) -> None:
    """Another kind of file."""
    path.write_bytes(os.urandom(50_000))


@pytest.mark.parametrize("damage", [zero_the_header, truncate, garbage])
async def test_a_damaged_file_is_set_aside_and_the_rest_is_served(
    tmp_path: Path, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    async with opened(tmp_path) as spool:
        await asyncio.gather(*(spool.commit(envelope(), os.urandom(3000)) for _ in range(50)))
        await commit_large(spool, "0100000000000000000001ARGE")
    damage(tmp_path / "spool.db")
    before = (tmp_path / "spool.db").read_bytes()
    async with opened(tmp_path) as spool:
        said = capfd.readouterr().out
        assert said.count("spool.set_aside") == 1
        await spool.commit(envelope(queue_id="05000000000000000000000NEW"), b"new")
        assert "05000000000000000000000NEW" in [
            message.envelope.queue_id for message in await spool.list(Filter(), 0.0, 100)
        ]
        assert spool.unhealthy_reason() is None
    (aside,) = [
        path for path in tree(tmp_path) if ".db.corrupt-" in path.name and path.name[-4:] not in ("-wal", "-shm")
    ]
    assert str(aside) in said
    assert aside.read_bytes() == before, "the damaged file stays as it was"
    (contents,) = tmp_path.glob("content.corrupt-*")  # noqa: ASYNC240  # as above
    assert [name.partition(".")[0] for name in os.listdir(contents)] == ["0100000000000000000001ARGE"]


async def test_messages_that_can_be_read_in_a_damaged_file_are_taken_over(tmp_path: Path) -> None:
    """One page in the middle is lost: the messages on other pages are delivered, large ones too."""
    async with opened(tmp_path) as spool:
        for number in range(400):
            await spool.commit(envelope(queue_id=f"1{number:05d}"), bytes([number % 256]) * 3000)
        await commit_large(spool, "200000000000000000000ARGE2")
        pages = await spool.owner.read(lambda db: int(db.pragma("page_count")))
    with (tmp_path / "spool.db").open("r+b") as file:
        file.seek(pages // 2 * PAGE_SIZE)
        file.write(b"\xff" * PAGE_SIZE)
    (tmp_path / "spool.db.suspect").touch()
    async with opened(tmp_path) as spool:
        found = {message.envelope.queue_id for message in await spool.list(Filter(), 0.0, 1000)}
        assert len(found) > 200
        for queue_id in found - {"200000000000000000000ARGE2"}:
            assert await read_all(spool.open(queue_id)) == bytes([int(queue_id[1:]) % 256]) * 3000
        assert await read_all(spool.open("200000000000000000000ARGE2")) == LARGE
        leases = []
        while more := await spool.lease(NOW, 100):
            leases += more
        assert {lease.envelope.queue_id for lease in leases} == found
    assert not (tmp_path / "spool.db.suspect").exists()


async def test_damage_found_while_serving_stops_lending_and_is_set_aside_at_the_next_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await asyncio.gather(*(spool.commit(envelope(), os.urandom(3000)) for _ in range(300)))
    async with opened(tmp_path) as spool:
        with (tmp_path / "spool.db").open("r+b") as file:
            for page in range(5, file.seek(0, os.SEEK_END) // PAGE_SIZE):
                file.seek(page * PAGE_SIZE)
                file.write(b"\xff" * PAGE_SIZE)
        with pytest.raises(Unavailable):
            await spool.lease(NOW, 100)
        assert "malformed" in (spool.unhealthy_reason() or "")
        assert isinstance(spool.refusal(0), Unavailable)
        assert await spool.lease(NOW, 100) == []
    async with opened(tmp_path) as spool:
        assert spool.unhealthy_reason() is None
        await spool.commit(envelope(), b"on it goes")


async def test_a_missing_file_beside_contents_keeps_the_contents(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await commit_large(spool, "0100000000000000000001ARGE")
    os.unlink(tmp_path / "spool.db")
    async with opened(tmp_path) as spool:
        assert (await spool.depth(0.0)).messages == 0
    (contents,) = tmp_path.glob("content.corrupt-*")  # noqa: ASYNC240  # a test may block
    assert len(os.listdir(contents)) == 1


async def test_a_newer_schema_is_refused_in_words_and_nothing_is_touched(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.commit(envelope(queue_id="0100000000000000000000KEPT"), b"x")
        await spool.owner.write(lambda db: db.pragma("user_version", 99))
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(SpoolError, match="written by a newer Pillarbox"):
        await open_spool(EmbeddedSettings(tmp_path, 0))
    assert sorted(os.listdir(tmp_path)) == before


# -- lending


async def test_a_lease_brings_content_up_to_its_ceiling(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await asyncio.gather(*(spool.commit(envelope(), bytes(200_000)) for _ in range(30)))
        leases = await spool.lease(NOW, 100)
        total = sum(len(lease.content or b"") for lease in leases)
        assert LEASE_OCTETS <= total < LEASE_OCTETS + INLINE_LIMIT
        assert len(await spool.lease(NOW, 100)) == len(leases)


async def test_leases_are_given_back_when_a_worker_ends_or_is_not_heard_of(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        for _ in range(2):
            await spool.commit(envelope(), b"x")
        quiet, quick = spool.outbox("quiet"), spool.outbox("quick")
        (one,) = await quiet.lease(NOW, 1)
        (two,) = await quick.lease(NOW, 1)
        epoch = quiet.heartbeat()
        quick.close()
        assert [lease.envelope for lease in await spool.lease(NOW, 10)] == [two.envelope]
        assert quiet.worker.seen is not None
        quiet.worker.seen -= 31.0
        await spool.owner.tick()
        assert not quiet.extend(one)
        assert quiet.heartbeat() != epoch
        assert [lease.envelope for lease in await spool.lease(NOW, 10)] == [one.envelope]
        quiet.close()


async def test_a_lease_that_is_being_settled_outlives_its_worker(tmp_path: Path) -> None:
    """Else another worker could be lent what the settlement is about to remove."""
    async with opened(tmp_path) as spool:
        await spool.commit(envelope(), b"x")
        worker = spool.outbox("worker")
        (lease,) = await worker.lease(NOW, 1)
        settling = worker.settle_soon(lease.lease_id, settlement(lease, Delivered("250 ok", "hop")))
        worker.close()
        assert await spool.lease(NOW, 10) == []
        await settling
        assert (await spool.depth(0.0)).messages == 0


async def test_a_search_that_ends_after_its_worker_leaves_nothing_leased(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.commit(envelope(), b"x")
        worker = spool.outbox("worker")
        leasing = asyncio.create_task(worker.lease(NOW, 1))
        await asyncio.sleep(0)
        worker.close()
        with pytest.raises(SpoolError):
            await leasing
        assert len(await spool.lease(NOW, 10)) == 1


async def test_lending_does_not_look_at_what_is_skipped_lent_or_not_yet_due(tmp_path: Path) -> None:
    """Counted in SQLite's own steps, not in time: 20,000 messages for a dead domain cost a lease nothing."""
    async with opened(tmp_path) as spool:
        for _ in range(10):
            await asyncio.gather(*(spool.commit(envelope("x@dead.example"), b"") for _ in range(2000)))
        await asyncio.gather(*(spool.commit(envelope(f"x@live{number}.example"), b"") for number in range(50)))
        skip = lanes("dead.example")
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        def watched(db: object) -> None:
            db.set_progress_handler(count, 100)  # type: ignore[attr-defined]  # the driver's connection

        for _ in range(2):  # both readers
            await asyncio.gather(*(spool.owner.read(watched) for _ in range(8)))
        assert len(await spool.lease(NOW, 50, skip)) == 50
        assert await spool.lease(NOW, 50, skip) == []
        assert steps < 200, "of 100 instructions each"


async def test_what_waits_in_lanes_of_before_is_lent_given_back_and_found(tmp_path: Path) -> None:
    """Sites did not wait apart then: a lane was the domain alone."""
    sent = [envelope("a@old.example", "b@old.example"), envelope("c@old.example", site="other.example")]
    async with opened(tmp_path) as spool:
        for each in sent:
            await spool.commit(each, b"x")
        await spool.owner.write(lambda db: list(db.execute("UPDATE recipient SET domain = 'old.example'")))
    async with opened(tmp_path) as spool:
        assert await spool.lease(NOW, 10, frozenset({"old.example"})) == []
        for _ in range(2):
            leases = await spool.lease(NOW, 10)
            assert [(lease.envelope, lease.recipients[0].lane) for lease in leases] == [
                (each, "old.example") for each in sent
            ]
            for lease in leases:
                await spool.release_lease(lease)
        assert len(await spool.list(Filter(domain="old.example"), NOW, 10)) == 2
        first, second = await spool.lease(NOW, 10)
        await spool.settle(first, settlement(first, Deferred("450 later", "hop", NOW + 5)))
        await spool.settle(second, settlement(second, Delivered("250 ok", "hop")))
        assert [lease.envelope for lease in await spool.lease(NOW + 5, 10)] == [sent[0]]


async def test_a_restart_finds_due_times_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.commit(envelope("a@one.example"), b"")
        await spool.commit(envelope("b@two.example"), b"")
        for lease in await spool.lease(NOW, 10):
            await spool.settle(lease, settlement(lease, Deferred("", "", NOW + len(lease.recipients[0].domain))))
    async with opened(tmp_path) as spool:
        assert await spool.lease(NOW, 10) == []
        assert len(await spool.lease(NOW + 100, 10)) == 2


async def test_room_inside_the_file_counts_for_small_messages(tmp_path: Path) -> None:
    """The file never shrinks: after a great queue has drained, mail must be taken again."""
    async with opened(tmp_path, min_free=1 << 30) as spool:
        space = spool.owner.space
        with mock.patch.object(space, "free", (1 << 30) - 1):
            space.inside = 0
            assert spool.refusal(1000) is not None
            space.inside = 1 << 29
            assert spool.refusal(1000) is None
            assert spool.refusal(INLINE_LIMIT + 1) is not None
            space.free = space.floor
            assert spool.refusal(1000) is not None, "the log needs room of its own"

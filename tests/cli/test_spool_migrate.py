"""`pillarbox spool migrate`: every message arrives once, whatever is killed, and both sides deliver meanwhile."""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.cli.conftest import PROGRAM, Run
from tests.cli.mover import move
from tests.cli.spools import CLUSTER, Kept, add, contents, dsn_of, fill, kept
from tests.support.postgres import Postgres

from pillarbox.spool.base import Delivered, Settlement
from pillarbox.spool.cluster.moving import CellSource
from pillarbox.spool.cluster.removal import LINGER
from pillarbox.spool.cluster.restoring import ClusterRestorer
from pillarbox.spool.cluster.spool import ClusterSpool, open_cluster
from pillarbox.spool.embedded import EmbeddedSpool, open_spool
from pillarbox.spool.settings import ClusterSettings, EmbeddedSettings
from pillarbox.store.sqlite import Corrupt, StoreError, connect, reading

ROUNDS = int(os.environ.get("PILLARBOX_MOVE_ROUNDS", "4"))
"""How often each move is killed."""


@pytest.fixture
def directory(site: Path) -> Path:
    """Of an embedded spool, not made yet."""
    directory = site.parent / "data" / "spool"
    directory.parent.mkdir()
    return directory


@pytest.fixture
def cluster(run: Run, site: Path, postgres: Postgres) -> Path:
    """A configuration of two empty cells, a and b."""
    path = site.with_name("cluster.toml")
    text = site.read_text().replace('"data"', '"data-c"').replace("[spool]\nmin_free = 0\n", "")
    path.write_text(text + CLUSTER.format(a=postgres.create_database(), b=postgres.create_database()))
    assert run("cluster", "init", "-c", path).code == 0
    return path


def renamed(found: dict[str, Kept], cell: str) -> dict[str, Kept]:
    """The same messages as they are called in another cell."""
    ids = {queue_id: queue_id[:26] + (f"-{cell}" if cell else "") for queue_id in found}
    return {
        ids[name]: Kept(replace(m, envelope=replace(m.envelope, queue_id=ids[name])), content)
        for name, (m, content) in found.items()
    }


def test_from_the_embedded_spool_to_a_cell_to_another_and_back_all_is_as_it_was(
    run: Run, site: Path, directory: Path, cluster: Path
) -> None:
    asyncio.run(fill(directory))
    before = asyncio.run(contents(directory))
    assert run("spool", "migrate", "--to", cluster, "-c", site).err == "6 messages moved\n"
    assert asyncio.run(kept(cluster, "a")) == renamed(before, "a")
    assert asyncio.run(contents(directory)) == {}
    assert list((directory / "content").iterdir()) == []
    a, b = dsn_of(cluster, "a"), dsn_of(cluster, "b")
    for source, there in ((a, b), (b, a), (a, b)):  # there, back and there again: nothing is in the way
        assert asyncio.run(move(source, "cell", there)).messages == 6
        assert asyncio.run(move(source, "cell", there)).messages == 0
    assert asyncio.run(kept(cluster, "b")) == renamed(before, "b")
    for table in ("message", "recipient", "content_chunk", "taken", "restored"):
        with psycopg.connect(a, options="-c search_path=pillarbox") as connection:
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)  # noqa: S608  # names above
    assert asyncio.run(move(b, "embedded", str(directory))).messages == 6
    assert asyncio.run(contents(directory)) == before


def test_the_command_moves_from_cell_to_cell_and_keeps_rows_while_commits_may_be_repeated(cluster: Path) -> None:
    a, b = dsn_of(cluster, "a"), dsn_of(cluster, "b")

    async def taken_a_while_ago() -> str:
        """As by a move that was cut off after its first step: 5 of the 60 seconds are left."""
        spool = await open_cluster(ClusterSettings(a))
        there = await open_cluster(ClusterSettings(b), leases=False)
        try:
            queue_id = await add(spool, b"hello", "a")
            source = CellSource(spool.cell)
            assert await source.take(await ClusterRestorer(there.cell).identity(), 10) == [queue_id]
            assert 55 < await source.quiet_in() <= LINGER == 60
        finally:
            await spool.close()
            await there.close()
        with psycopg.connect(a, options="-c search_path=pillarbox") as connection:
            connection.execute("UPDATE taken SET at = at - interval '55 s'")
        return queue_id

    queue_id = asyncio.run(taken_a_while_ago())
    words = ("spool", "migrate", "--from-cell", "a", "--to-cell", "b", "--json", "-c", str(cluster))
    with (
        psycopg.connect(a, options="-c search_path=pillarbox", autocommit=True) as connection,
        subprocess.Popen((PROGRAM, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        said = process.stderr.readline()
        while said and "everything is there" not in said:
            said = process.stderr.readline()
        assert re.search(r"waiting [0-5] s for clients that may repeat a commit", said), said
        assert connection.execute("SELECT queue_id FROM message").fetchall() == [(queue_id,)]
        out, _ = process.communicate(timeout=60)
    assert json.loads(out) == {"messages": 1, "refused": {}}
    assert list(asyncio.run(kept(cluster, "b"))) == [f"{queue_id[:26]}-b"]
    assert asyncio.run(kept(cluster, "a")) == {}


def test_what_is_being_delivered_stays(cluster: Path) -> None:
    a, b = dsn_of(cluster, "a"), dsn_of(cluster, "b")

    async def work() -> None:
        spool = await open_cluster(ClusterSettings(a))
        lent = await add(spool, b"one", "a")
        (lease,) = await spool.lease(time.time() + 1, 10)
        await add(spool, b"two", "a")
        assert (await move(a, "cell", b)).messages == 1
        assert (await spool.show(lent)).envelope.queue_id == lent
        await spool.settle(lease, Settlement(lent, {0: Delivered("250 ok", "hop")}))
        assert (await move(a, "cell", b)).messages == 0
        await spool.close()

    asyncio.run(work())
    assert len(asyncio.run(kept(cluster, "b"))) == 1


def test_one_spool_is_not_moved_into_itself_and_a_running_server_is_left_alone(
    run: Run, site: Path, directory: Path, cluster: Path
) -> None:
    asyncio.run(fill(directory))
    refused = run("spool", "migrate", "--from-cell", "a", "--to-cell", "a", "-c", cluster)
    assert (refused.code, refused.err) == (1, "error: source and destination are one and the same spool\n")
    assert run("spool", "migrate", "-c", site).code == 2

    async def beside() -> None:
        spool = await open_spool(EmbeddedSettings(directory, 0))
        try:
            done = await asyncio.to_thread(run, "spool", "migrate", "--to", cluster, "-c", site)
            assert done.code == 1
            assert "stop the server first" in done.err
        finally:
            await spool.close()

    asyncio.run(beside())


# -- killed


def committed(directory: Path | None, dsn: str, number: int) -> set[str]:
    """So many messages, due at once: the first 26 characters of their ids."""

    async def work() -> set[str]:
        spool = await opened(directory, dsn)
        try:
            names: set[str] = set()
            while len(names) < number:
                some = (add(spool, b"hello", "" if directory else "a") for _ in range(min(100, number - len(names))))
                names.update(name[:26] for name in await asyncio.gather(*some))
            return names
        finally:
            await spool.close()

    return asyncio.run(work())


async def opened(directory: Path | None, dsn: str) -> EmbeddedSpool | ClusterSpool:
    if directory is not None:
        return await open_spool(EmbeddedSettings(directory, 0))
    return await open_cluster(ClusterSettings(dsn))


def deliver(directory: Path | None, dsn: str, limit: int, delivered: Counter[str]) -> int:
    """As a server that was started there does, for up to ``limit`` messages."""

    async def work() -> int:
        spool = await opened(directory, dsn)
        try:
            leases = await spool.lease(time.time() + 3600, limit)
            for lease in leases:
                queue_id = lease.envelope.queue_id
                delivered[queue_id[:26]] += 1
                await spool.settle(lease, Settlement(queue_id, {0: Delivered("250 ok", "hop")}))
            if isinstance(spool, ClusterSpool):  # as if a minute had gone by
                await spool.removal.remove([lease.envelope.queue_id for lease in leases])
            return len(leases)
        finally:
            await spool.close()

    return asyncio.run(work())


def arrived(directory: Path | None, dsn: str) -> int:
    """How many were ever restored there."""
    if directory is None:
        with psycopg.connect(dsn, options="-c search_path=pillarbox") as connection:
            row = connection.execute("SELECT count(*) FROM restored").fetchone()
            assert row is not None
            return int(row[0])
    path = directory / "spool.db"
    if not path.exists() or not path.stat().st_size:
        return 0
    try:  # through the very SQLite that writes there: others may have its old faults
        db = connect(path)
        try:
            with reading(db):
                return int(db.execute("SELECT count(*) FROM restored").get)
        finally:
            db.close()
    except StoreError as error:
        assert not isinstance(error, Corrupt)
        return 0  # not made yet


def kill_at(command: Sequence[str | Path], directory: Path | None, dsn: str, target: int) -> bool:
    """kill -9 when so many have arrived; whether it was alive then."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and arrived(directory, dsn) < target:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("way", ["embedded to cell", "cell to cell", "cell to embedded"])
def test_killed_at_any_moment_each_message_is_delivered_once(
    run: Run, site: Path, directory: Path, cluster: Path, way: str
) -> None:
    a, b = dsn_of(cluster, "a"), dsn_of(cluster, "b")
    source, there = {
        "embedded to cell": ((directory, ""), (None, a)),
        "cell to cell": ((None, a), (None, b)),
        "cell to embedded": ((None, a), (directory, "")),
    }[way]
    mover: list[str | Path] = [sys.executable, "-m", "tests.cli.mover", a]
    commands: dict[str, list[str | Path]] = {
        "embedded to cell": [PROGRAM, "spool", "migrate", "--to", cluster, "-c", site],
        "cell to cell": [*mover, "cell", b],
        "cell to embedded": [*mover, "embedded", directory],
    }
    command = commands[way]
    sent = committed(*source, 100 * ROUNDS)
    chance, delivered, killed, target = random.Random(way), Counter[str](), 0, 0
    for _ in range(ROUNDS):
        target += chance.randint(1, 70)
        killed += kill_at(command, *there, target)
        deliver(*there, chance.randint(0, 20), delivered)
        deliver(*source, chance.randint(0, 20), delivered)
    assert killed >= ROUNDS // 2
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    assert deliver(*source, 1000, delivered) == 0
    while deliver(*there, 1000, delivered):
        pass
    assert delivered == Counter(dict.fromkeys(sent, 1))


def test_a_move_that_was_cut_off_goes_on_to_the_same_spool_or_is_given_back(
    run: Run, site: Path, directory: Path, cluster: Path
) -> None:
    sent = committed(directory, "", 300)
    command: list[str | Path] = [PROGRAM, "spool", "migrate", "--to", cluster, "-c", site]
    assert kill_at(command, None, dsn_of(cluster, "a"), 5)
    other = run("spool", "migrate", "--to", cluster, "--to-cell", "b", "-c", site)
    assert other.code == 1
    assert "an earlier move, to another spool, is not finished" in other.err
    assert "given back" in run("spool", "give-back", "--yes", "-c", site).err
    here = asyncio.run(contents(directory)).keys()
    assert here | {each[:26] for each in asyncio.run(kept(cluster, "a"))} == sent
    assert run("spool", "migrate", "--to", cluster, "--to-cell", "b", "-c", site).code == 0
    assert {each[:26] for each in asyncio.run(kept(cluster, "b"))} == here

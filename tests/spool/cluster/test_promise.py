"""A cell without its quorum, killed, or found with what nobody confirmed: what commit and settle say then."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.spool.messages import NOW, envelope, settlement, soon
from tests.support.administrator import Administrator
from tests.support.postgres import Postgres

import pillarbox.spool.cluster.cell
import pillarbox.spool.cluster.outbox
from pillarbox.spool.base import (
    Deferred,
    Delivered,
    Filter,
    Full,
    SpoolError,
    Unavailable,
    UnknownQueueId,
)
from pillarbox.spool.cluster.spool import ClusterSpool, make_tables, open_cluster
from pillarbox.spool.settings import ClusterSettings
from pillarbox.store.errors import DiskFull, StoreError
from pillarbox.store.postgresql import Store, Transaction


async def test_a_connection_that_ends_in_a_commit_is_no_second_message(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    """Unknown is asked for again under the queue id, until it is known."""
    sent = envelope()
    await administrator.demand_a_standby()
    committing = asyncio.create_task(spool.commit(sent, b"hello"))
    await administrator.end_waits("pg_terminate_backend", "SELECT count(*) FROM pillarbox.message")
    await administrator.until_a_commit_waits_for_a_standby()
    assert not committing.done(), "the row is there, and no standby has it"
    await administrator.demand_nothing()
    await committing
    assert [lease.envelope for lease in await spool.lease(NOW, 10)] == [sent]


async def test_a_row_that_is_found_is_not_success_while_nothing_is_confirmed(
    spool: ClusterSpool, other: ClusterSpool, administrator: Administrator
) -> None:
    sent = envelope()
    await administrator.demand_a_standby()
    spool.intake._patience = 1.0
    committing = asyncio.create_task(spool.commit(sent, b"hello"))
    await administrator.end_waits("pg_cancel_backend", "SELECT count(*) FROM pillarbox.message")
    with pytest.raises(Unavailable):
        await committing
    other.cell.trouble = None
    other.intake._patience = 1.0
    with pytest.raises(Unavailable):
        await other.commit(sent, b"hello")
    assert administrator.ask("SELECT count(*) FROM pillarbox.message") == [(1,)]
    await administrator.demand_nothing()
    await soon(lambda: other.refusal(0) is None)
    await other.commit(sent, b"hello")
    assert (await other.depth(NOW)).messages == 1


async def test_a_settlement_that_is_repeated_is_not_success_while_nothing_is_confirmed(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    await spool.commit(envelope(), b"")
    (lease,) = await spool.lease(NOW, 10)
    told = settlement(lease, Deferred("451", "hop", NOW + 60))
    await administrator.demand_a_standby()
    settling = asyncio.create_task(spool.settle(lease, told))
    await administrator.end_waits("pg_cancel_backend", "SELECT bool_and(due_at = 5060) FROM pillarbox.recipient")
    with pytest.raises(Unavailable):
        await settling
    spool.cell.trouble = None
    settling = asyncio.create_task(spool.settle(lease, told))
    await administrator.until_a_commit_waits_for_a_standby()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await asyncio.shield(settling)
    await administrator.demand_nothing()
    await settling
    (recipient,) = (await spool.show(lease.envelope.queue_id)).recipients
    assert recipient.attempts == 1


@pytest.mark.parametrize("verb", ["hold", "expunge"])
async def test_a_verb_that_is_repeated_and_finds_all_done_waits_for_the_quorum(
    spool: ClusterSpool, administrator: Administrator, verb: str
) -> None:
    """What it finds may be the work of a commit that nobody has confirmed."""
    sent = envelope()
    await spool.commit(sent, b"hello")
    which = Filter(queue_ids=(sent.queue_id,))
    await (spool.hold(which, NOW) if verb == "hold" else spool.expunge(sent.queue_id))
    await administrator.demand_a_standby()
    repeated = spool.hold(which, NOW) if verb == "hold" else spool.expunge(sent.queue_id)
    again = asyncio.ensure_future(repeated)
    await administrator.until_a_commit_waits_for_a_standby()
    assert not again.done()
    await administrator.demand_nothing()
    if verb == "hold":
        assert await again == []
    else:
        with pytest.raises(UnknownQueueId):
            await again


async def test_without_a_quorum_mail_is_refused_at_once_and_all_goes_on_by_itself_later(
    spool: ClusterSpool, administrator: Administrator
) -> None:
    sent = envelope()
    await spool.commit(sent, b"hello")
    (lease,) = await spool.lease(NOW, 10)
    await administrator.demand_a_standby()
    await soon(lambda: spool.refusal(0) is not None)
    assert isinstance(spool.refusal(0), Unavailable)
    assert spool.unhealthy_reason() is not None
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await spool.commit(envelope(), b"")
        with pytest.raises(Unavailable):
            await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
        assert await spool.lease(NOW, 10) == [], "what is tried now could not be recorded"
        with pytest.raises(Unavailable):
            await spool.hold(Filter(), NOW)
        assert len(await spool.list(Filter(), NOW, 10)) == 1, "it can be looked at all the same"
    await administrator.demand_nothing()
    await soon(lambda: spool.refusal(0) is None)
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    await spool.commit(envelope(), b"")
    assert (await spool.depth(NOW)).messages == 1


async def test_a_probe_that_hangs_is_not_joined_by_others(spool: ClusterSpool, administrator: Administrator) -> None:
    """Each would leave a process of the server that waits for a standby."""
    await administrator.demand_a_standby()
    await soon(lambda: spool.refusal(0) is not None)
    for _ in range(10):
        await asyncio.sleep(0.1)
        assert administrator.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == [(1,)]


async def test_messages_in_hand_outlive_a_server_that_is_killed_and_comes_back(
    node: Postgres, spool: ClusterSpool
) -> None:
    """As in a fail-over: what was being committed is committed once, what was confirmed is there."""
    confirmed: list[str] = []
    stop = asyncio.Event()

    async def produce() -> None:
        while not stop.is_set():
            each = envelope()
            try:
                await spool.commit(each, b"hello")
            except Unavailable:  # refused, nothing begun
                await asyncio.sleep(0.05)
                continue
            confirmed.append(each.queue_id)

    producers = [asyncio.create_task(produce()) for _ in range(4)]
    await soon(lambda: len(confirmed) > 20)
    await asyncio.to_thread(node.kill9)
    await asyncio.to_thread(node.start)
    before = len(confirmed)
    await soon(lambda: len(confirmed) > before + 20)
    stop.set()
    await asyncio.gather(*producers)
    found = [message.envelope.queue_id for message in await spool.list(Filter(), NOW, 100_000)]
    assert len(found) == len(set(found))
    assert set(confirmed) <= set(found)


async def test_one_message_that_cannot_be_stored_does_not_fail_its_neighbours(spool: ClusterSpool) -> None:
    sent = [envelope() for _ in range(20)]
    bad = [
        replace(envelope(), size=1 << 70),
        replace(envelope(), received_at=float("nan")),
        replace(envelope(), login="\ud800"),
        replace(envelope(), forward_paths=()),
        replace(envelope(), priority=40_000),
    ]
    results = await asyncio.gather(
        *(spool.commit(each, b"fine") for each in sent[:10]),
        *(spool.commit(each, b"bad") for each in bad),
        *(spool.commit(each, b"fine") for each in sent[10:]),
        return_exceptions=True,
    )
    assert results[:10] == results[15:] == [None] * 10
    kinds = [type(result) for result in results[10:15]]
    assert kinds == [Unavailable, ValueError, UnicodeEncodeError, ValueError, Unavailable]
    assert spool.refusal(0) is None, "the cell is well"
    assert [message.envelope for message in await spool.list(Filter(), NOW, 100)] == sent


async def test_a_full_disk_refuses_mail_as_full_and_settles_on(
    spool: ClusterSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await spool.commit(envelope(), b"")
    (lease,) = await spool.lease(NOW, 10)

    async def full(work: object, *, deadline: float) -> None:
        raise DiskFull("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(spool.cell.store, "write", full)
        with pytest.raises(Full):
            await spool.commit(envelope(), b"")
    assert isinstance(spool.refusal(0), Full)
    await spool.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    spool.cell._full_until = 0.0
    await soon(lambda: spool.refusal(0) is None)


async def test_a_cell_without_tables_or_with_those_of_a_newer_program_is_refused(node: Postgres) -> None:
    dsn = await asyncio.to_thread(node.create_database)
    with pytest.raises(SpoolError, match="schema 0 of spool"):
        await open_cluster(ClusterSettings(dsn))
    assert await make_tables(ClusterSettings(dsn)) == 0
    store = Store(dsn)

    async def newer(transaction: Transaction) -> None:
        transaction.add("INSERT INTO migration (room, number) VALUES ('spool', 99)")

    await store.write(newer)
    await store.close()
    for opening in (open_cluster(ClusterSettings(dsn)), make_tables(ClusterSettings(dsn))):
        with pytest.raises(SpoolError, match="newer Pillarbox"):
            await opening


async def test_a_server_that_is_not_there_is_said_with_its_name() -> None:
    with pytest.raises(SpoolError, match=r"127\.0\.0\.1:1/mail"):
        await open_cluster(ClusterSettings("host=127.0.0.1 port=1 dbname=mail"))


def test_without_the_driver_all_but_the_cluster_can_be_imported() -> None:
    program = (
        "import json, pkgutil, importlib, sys; sys.modules['psycopg'] = None; import pillarbox; failed = []\n"
        "for module in pkgutil.walk_packages(pillarbox.__path__, 'pillarbox.'):\n"
        "    if module.name.endswith('__main__'): continue\n"
        "    try: importlib.import_module(module.name)\n"
        "    except ImportError as error: failed += [module.name] * (error.name or '').startswith('psycopg')\n"
        "print(json.dumps(failed))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    failed = json.loads(done.stdout.splitlines()[-1])
    allowed = (
        "pillarbox.directory.sql.postgresql",
        "pillarbox.guard.cluster",
        "pillarbox.spool.cluster.",
        "pillarbox.store.postgresql",
        "pillarbox.store.migrations",
        "pillarbox.store.rights",
    )
    assert [name for name in failed if not name.startswith(allowed)] == []
    assert failed, "the driver was there after all"


def test_no_module_but_one_imports_the_driver() -> None:
    sources = Path(pillarbox.spool.cluster.cell.__file__).parents[2].rglob("*.py")
    importing = [path.name for path in sources if "import psycopg" in path.read_text()]
    assert importing == ["postgresql.py"]
    assert issubclass(psycopg.Error, Exception)
    assert issubclass(DiskFull, StoreError)

"""The users of a cell: each does its whole work with its own rights, and is refused everything else."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from tests.spool.messages import NOW, Clock, bounce, envelope, lanes, read_all, settlement
from tests.support.cell_users import make_owned
from tests.support.postgres import Postgres, running_postgres

from pillarbox.spool.base import INLINE_LIMIT, Deferred, Delivered, Failed, Filter, QueueIdTaken
from pillarbox.spool.cluster.removal import LINGER
from pillarbox.spool.cluster.schema import GRANTS
from pillarbox.spool.cluster.spool import ClusterSpool, open_cluster
from pillarbox.spool.settings import CellSettings, ClusterSettings, Role
from pillarbox.store.rights import EVERYBODY, Right, missing, rights


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    """A node of this module's own, for users are those of all its databases."""
    with running_postgres() as running:
        yield running


@pytest.fixture
async def cell(node: Postgres) -> CellSettings:
    return await make_owned(node)


async def opened(cell: CellSettings, role: Role, clock: Clock) -> ClusterSpool:
    settings = ClusterSettings(cell.of(role).dsn, role)
    return await open_cluster(settings, clock=clock, leases=role == "delivery")


@pytest.fixture
async def spools(cell: CellSettings) -> AsyncIterator[dict[str, ClusterSpool]]:
    clock = Clock()
    roles: tuple[Role, ...] = ("submission", "delivery", "keeper")
    made: dict[str, ClusterSpool] = {role: await opened(cell, role, clock) for role in roles}
    yield made
    for spool in made.values():
        await spool.close()


async def test_each_role_does_its_whole_work_with_its_own_rights(spools: dict[str, ClusterSpool]) -> None:
    submission, delivery, keeper = spools["submission"], spools["delivery"], spools["keeper"]
    small, large = envelope("bob@example.net", "carol@example.com"), b"x" * (INLINE_LIMIT + 300_000)
    await submission.commit(small, b"hello")
    await submission.commit(small, b"hello")  # repeated: compared by its digest
    with pytest.raises(QueueIdTaken):
        await submission.commit(envelope("eve@example.net", queue_id=small.queue_id), b"other")
    big = envelope(size=len(large))
    writer = submission.writer(big.queue_id)
    await writer.write(large)
    await writer.commit(big)
    given_up = submission.writer("X" * 26)
    await given_up.write(large)
    await given_up.abandon()
    assert {message.envelope for message in await keeper.list(Filter(), NOW, 10)} == {small, big}
    assert await keeper.hold(Filter(), NOW)
    assert await keeper.release(Filter(), NOW)
    assert await keeper.retry(Filter(), NOW) is not None
    leases = {lease.envelope.queue_id: lease for lease in await delivery.lease(NOW, 10)}
    assert await read_all(delivery.open(big.queue_id)) == large
    await delivery.settle(leases[big.queue_id], settlement(leases[big.queue_id], Delivered("250 ok", "hop")))
    lease = leases[small.queue_id]
    outcomes = (Deferred("451 later", "hop", NOW), Failed("550 no", "hop", "5.1.1"))
    await delivery.settle(lease, settlement(lease, *outcomes, messages=(bounce(),)))
    (warning,) = await delivery.lease(NOW, 10, lanes("example.net"))
    await delivery.settle(warning, settlement(warning, Delivered("250 ok", "hop")))
    await keeper.expunge(small.queue_id)
    later = delivery.cell.loop.time() + LINGER + 1
    await delivery.removal.tick(later)
    await keeper.removal.tick(later)
    while not await delivery.removal.look():
        pass
    assert (await keeper.depth(NOW)).messages == 0
    assert all(spool.unhealthy_reason() is None for spool in spools.values())


CONTENT = ("SELECT content FROM message", "SELECT octets FROM content_chunk", "TABLE message")
ACCOUNTS = ("SELECT password_hash FROM account", "SELECT scram FROM account", "DELETE FROM account")
OBJECTS = (
    "CREATE TABLE x ()",
    "CREATE TABLE public.x ()",
    "CREATE TEMPORARY TABLE x ()",
    "CREATE SCHEMA x",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1",
    "ALTER TABLE message DISABLE TRIGGER ALL",
    "ALTER TABLE recipient DISABLE TRIGGER recipient_added",
    "TRUNCATE recipient",
    "INSERT INTO migration VALUES ('spool', 99)",
    "ALTER TABLE message OWNER TO CURRENT_USER",
    "CREATE ROLE x",
)
ATTACKS = {
    "submission": (
        *CONTENT,
        *ACCOUNTS,
        *OBJECTS,
        "SELECT reverse_path FROM message",
        "SELECT content_id FROM message",
        "SELECT content_id FROM content_chunk",
        "SELECT forward_path FROM recipient",
        "SELECT FROM worker",
        "DELETE FROM message",
        "DELETE FROM recipient",
        "DELETE FROM content_chunk",
        "UPDATE message SET content = ''",
        "UPDATE recipient SET forward_path = 'eve@example.net'",
        "UPDATE recipient SET leased_by = 1",
        "INSERT INTO worker VALUES (1, 'eve', now())",
        # another's message, to be sent to somebody else
        "INSERT INTO recipient (queue_id, key, forward_path, domain, priority, state, due_at, notify, "
        "original_recipient) SELECT queue_id, 9, 'eve@example.net', 'example.net', 0, 'due', 0, '', '' FROM message",
        "INSERT INTO message SELECT * FROM message ON CONFLICT (queue_id) DO UPDATE SET reverse_path = 'eve'",
    ),
    "delivery": (
        *ACCOUNTS,
        *OBJECTS,
        "UPDATE message SET content = ''",
        "UPDATE message SET reverse_path = 'eve@example.net'",
        "UPDATE recipient SET forward_path = 'eve@example.net'",
        "INSERT INTO recipient (queue_id, key, forward_path, domain, priority, state, due_at, notify, "
        "original_recipient) SELECT queue_id, 9, 'eve@example.net', 'example.net', 0, 'due', 0, '', '' FROM message",
    ),
    "keeper": (
        *OBJECTS,
        "UPDATE message SET content = ''",
        "UPDATE recipient SET leased_by = 1",
        "UPDATE recipient SET forward_path = 'eve@example.net'",
        "DELETE FROM worker",
    ),
}


@pytest.mark.parametrize("role", list(ATTACKS))
async def test_each_role_is_refused_what_is_not_its_work(
    cell: CellSettings, spools: dict[str, ClusterSpool], role: Role
) -> None:
    await spools["submission"].commit(envelope(), b"secret")

    def attack() -> list[str]:
        succeeded = []
        with psycopg.connect(cell.of(role).dsn, autocommit=True, options="-c search_path=pillarbox") as connection:
            for statement in ATTACKS[role]:
                try:
                    connection.execute(statement.encode())
                    succeeded.append(statement)
                except psycopg.errors.InsufficientPrivilege:
                    continue
        return succeeded

    assert await asyncio.to_thread(attack) == []
    (message,) = await spools["keeper"].list(Filter(), NOW, 10)
    assert len(message.recipients) == 1


async def test_a_strange_user_of_the_same_server_may_not_even_connect(node: Postgres, cell: CellSettings) -> None:
    def knock() -> None:
        with psycopg.connect(node.dsn("postgres"), autocommit=True) as connection:
            connection.execute("CREATE ROLE stranger LOGIN")
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(cell.dsn.replace(cell.dsn.split("user=")[1].split()[0], "stranger"))

    await asyncio.to_thread(knock)


async def test_rights_that_were_taken_away_are_named_one_by_one(
    cell: CellSettings, spools: dict[str, ClusterSpool]
) -> None:
    user = psycopg.conninfo.conninfo_to_dict(cell.of("submission").dsn)["user"]

    def revoke() -> None:
        with psycopg.connect(cell.of("owner").dsn, autocommit=True) as connection:
            connection.execute(f'REVOKE INSERT ON pillarbox.recipient FROM "{user}"'.encode())
            connection.execute(f'REVOKE SELECT (digest) ON pillarbox.message FROM "{user}"'.encode())  # noqa: S608  # our own user

    store = spools["submission"].cell.store
    tails = (*EVERYBODY, *GRANTS["submission"])
    assert await missing(store, tails) == []
    await asyncio.to_thread(revoke)
    assert await missing(store, tails) == [
        Right("INSERT", "TABLE", "recipient"),
        Right("SELECT", "TABLE", "message", "digest"),
    ]


def test_what_grant_takes_is_read_right_by_right() -> None:
    assert [
        str(right) for right in rights(["SELECT (a, b), INSERT ON t, u", "EXECUTE ON FUNCTION f(int8, int4)"])
    ] == [
        "SELECT (a) on t",
        "SELECT (b) on t",
        "INSERT on t",
        "SELECT (a) on u",
        "SELECT (b) on u",
        "INSERT on u",
        "EXECUTE on f(int8, int4)",
    ]

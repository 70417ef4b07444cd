"""PostgreSQL through psycopg: transactions that are durable when they return, reads, a few connections per process.

    store = Store(dsn, name="pillarbox delivery 1")       # connects when first asked
    value = await store.write(work)                       # async def work(transaction): one transaction
    rows, = await store.read(("SELECT ...", values))      # each statement for itself, one round trip for all
    await store.close()                                   # what was asked is finished first

``work`` may be begun again by whoever called, so it must change nothing but the database. A statement given to
``Transaction.add`` waits and goes out together with the next ``fetch`` or with COMMIT; so a transaction that only
adds is one round trip, and the server holds its locks for no moment longer than it takes itself.

What a commit means. synchronous_commit is on for every connection, so COMMIT returns when the standbys that the
server is told to wait for have it. A COMMIT is never cancelled, neither by us nor by a time-out on the server: a
server whose wait is cancelled says COMMIT with a mere warning. A deadline shuts the socket down, and then, as with
any connection that ends after COMMIT was sent, or that warning, the outcome is Unknown. What is found later under
the same key proves nothing by itself: only after a later write on that server was confirmed (Transaction.mark makes
one) is it known to be durable. Cancelling who awaits ``write`` does not cancel the transaction.

A server that is told to wait for nobody confirms alone, without a word (Patroni can leave one so: ADR 0011). With
``quorum`` every transaction looks at that setting before its COMMIT, and is undone if it is empty, and after it: then
it is Unknown. COMMIT waits for no standby if nothing was written: then ``Transaction.waited`` is false.

Where it goes, and how the server is checked there, is what the DSN says: libpq's variables for that (PGHOST,
PGSERVICE, PGSSLMODE, PGSSLROOTCERT and the like) are taken out of the process's environment. Those of a password
(PGPASSFILE, PGPASSWORD) count where the DSN names none, and PGSERVICEFILE where it names a service.

Migrations are in migrations.py. Placeholders are psycopg's: %s, %b for binary.

ERRORS
    store.errors: Unreachable, Undone, Unknown, DiskFull, Conflict, Denied, SchemaTooOld (a table is missing),
    TooOld (the server), Closed. What a work function raises itself passes through, and the transaction is undone.
"""

import asyncio
import contextlib
import os
import re
import select
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pillarbox.store.errors import (
    Closed,
    Conflict,
    Denied,
    DiskFull,
    SchemaTooOld,
    StoreError,
    TooOld,
    Undone,
    Unknown,
    Unreachable,
)

T = TypeVar("T")
Rows = list[tuple[Any, ...]]
Values = Sequence[Any] | Mapping[str, Any]

SCHEMA = "pillarbox"
"""The PostgreSQL schema in which all our tables are."""
OLDEST_SERVER = 150_000
DEADLINE = 30.0
"""Seconds after which a transaction's connection is given up."""

_DEFAULTS: dict[str, str | int] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""A host that died without a word is noticed in some 15 seconds; a DSN may say otherwise."""
_ELSEWHERE = (
    *("PGDATABASE", "PGHOST", "PGHOSTADDR", "PGLOADBALANCEHOSTS", "PGOPTIONS", "PGPORT", "PGSERVICE", "PGUSER"),
    *("PGTARGETSESSIONATTRS", "PGSSLMODE", "PGREQUIRESSL", "PGSSLNEGOTIATION", "PGSSLROOTCERT", "PGSSLCRL"),
    *("PGSSLCRLDIR", "PGSSLSNI", "PGSSLCERT", "PGSSLKEY", "PGSSLCERTMODE", "PGSSLMINPROTOCOLVERSION"),
    *("PGSSLMAXPROTOCOLVERSION", "PGSSLCOMPRESSION", "PGGSSENCMODE", "PGGSSLIB", "PGGSSDELEGATION", "PGKRBSRVNAME"),
    *("PGREQUIREAUTH", "PGREQUIREPEER", "PGCHANNELBINDING"),
)
_SETTINGS = {
    "search_path": f"{SCHEMA}, pg_temp",
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "client_min_messages": "warning",  # the warning at COMMIT must come through
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "10s",  # a client that was stopped must not keep its locks
    "jit": "off",  # compiling costs our short statements more than it gives
}
_NAMES = "current_setting('synchronous_standby_names')"
_DEMAND = f"SELECT 1 / ({_NAMES} <> '')::int, pg_current_xact_id_if_assigned() IS NOT NULL"
"""Fails the transaction on a server that waits for nobody; says whether it wrote something."""


class Statement:
    """One statement of a transaction; ``rows`` are there once it was carried out."""

    __slots__ = ("query", "rows", "values")

    def __init__(self, query: str, values: Values = ()) -> None:
        self.query, self.values = query, values
        self.rows: Rows = []


class _Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """The driver's, which would ask the server to cancel what runs when a task is cancelled."""

    async def _try_cancel(self, *, timeout: float = 5.0) -> None:
        shut_down(self)


def shut_down(connection: psycopg.AsyncConnection[Any]) -> None:
    """Ends the connection under whoever waits for it, without a word to the server. The descriptor stays the
    driver's: closing it here could hit another connection's."""
    if connection.closed:
        return
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


class _Session:
    """A connection, and what was heard on it beside the results."""

    def __init__(self, connection: _Connection) -> None:
        self.connection = connection
        self.warned: str | None = None
        connection.add_notice_handler(self._notice)

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        state = diagnostic.sqlstate or ""
        if state == "01000" or state.startswith("57"):
            self.warned = f"{state} {diagnostic.message_primary}"

    @property
    def usable(self) -> bool:
        """Whether it can be given to the next one: an idle connection on which something arrives has ended."""
        connection = self.connection
        if connection.closed or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            return False
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return not poll.poll(0)

    async def run(self, statements: Sequence[Statement]) -> list[str]:
        """All in one round trip; their rows are set, their command tags returned. Raises psycopg.Error."""
        if len(statements) == 1:
            cursors = [await self._execute(statements[0])]
        else:
            async with self.connection.pipeline():
                cursors = [await self._execute(statement) for statement in statements]
        for statement, cursor in zip(statements, cursors, strict=True):
            if cursor.description is not None:
                statement.rows = await cursor.fetchall()
        return [cursor.statusmessage or "" for cursor in cursors]

    async def _execute(self, statement: Statement) -> psycopg.AsyncCursor[tuple[Any, ...]]:
        cursor = self.connection.cursor(binary=True)
        # our own text: what is not ours goes through the values
        query: Any = statement.query
        return await cursor.execute(query, statement.values or None, prepare=bool(statement.values))

    async def close(self) -> None:
        """Never raises."""
        with contextlib.suppress(psycopg.Error, OSError):
            await self.connection.close()


class Transaction:
    """What a work function gets; see the module's text."""

    def __init__(self, session: _Session, *, quorum: bool) -> None:
        self._session, self._quorum = session, quorum
        self._waiting: list[Statement] = []
        self._begun = False
        self.waited = False
        """Since its commit: whether that waited for the standbys; without a quorum nobody asks, and it is true."""

    def add(self, query: str, values: Values = ()) -> Statement:
        """Carried out with the next fetch or with COMMIT."""
        statement = Statement(query, values)
        self._waiting.append(statement)
        return statement

    async def fetch(self, query: str, values: Values = ()) -> Rows:
        """Carries out what waits and this; its rows."""
        statement = self.add(query, values)
        await self._session.run(self._take())
        return statement.rows

    def mark(self) -> None:
        """A write of no meaning: with it COMMIT waits for the standbys although nothing else is written, and then
        they have everything that was committed on this server before."""
        self.add("SELECT pg_logical_emit_message(true, 'pillarbox', '')")

    def verifier(self, user: str, password: str) -> str:
        """The SCRAM-SHA-256 verifier of a user's password, for CREATE ROLE: no quote is in it."""
        secret = self._session.connection.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256")
        return secret.decode()

    def _take(self) -> list[Statement]:
        statements, self._waiting = self._waiting, []
        if not self._begun:
            statements.insert(0, Statement("BEGIN"))
            self._begun = True
        return statements

    async def commit(self) -> None:
        """For the store only. Raises psycopg.Error, Unknown, Undone."""
        if not self._begun and not self._waiting:
            return
        session = self._session
        session.warned = None
        demand, end, names = Statement(_DEMAND), Statement("COMMIT"), Statement(f"SELECT {_NAMES}")
        statements = [*self._take(), demand, end, names] if self._quorum else [*self._take(), end]
        try:
            tags = await session.run(statements)
        except psycopg.errors.DivisionByZero as error:
            if not self._quorum:
                raise
            raise Undone("it waits for no standby: synchronous_standby_names is empty") from error
        except psycopg.Error as error:
            if _is_definite(error) and not session.connection.closed:
                raise
            raise Unknown(f"the connection ended during a commit: {_first_line(error)}") from error
        if session.warned is not None:
            raise Unknown(f"a commit was not confirmed: {session.warned}")
        if tags[statements.index(end)] != "COMMIT":
            raise Undone(f"the server answered COMMIT with {tags[statements.index(end)]}")
        if names.rows and not names.rows[0][0]:
            raise Unknown("a commit was not confirmed: synchronous_standby_names was emptied meanwhile")
        self.waited = not self._quorum or bool(demand.rows[0][1])

    async def rollback(self) -> None:
        """For the store only. Raises psycopg.Error."""
        if self._session.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            await self._session.run([Statement("ROLLBACK")])


class Store:
    """See the module's text. ``size``: connections at most; ``name`` is what pg_stat_activity shows; ``quorum``: a
    server that waits for no standby is not good enough (it may be set later); ``any_server``: to read, a standby
    is."""

    def __init__(
        self, dsn: str, *, name: str = "pillarbox", size: int = 4, quorum: bool = False, any_server: bool = False
    ) -> None:
        self.where = describe(dsn)
        self.quorum = quorum
        self._target = "any" if any_server else "read-write"
        self._dsn, self._name = dsn, name
        self._idle: list[_Session] = []
        self._slots = asyncio.Semaphore(size)
        self._busy: set[_Session] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def acting_as(self, role: str) -> "Store":
        """Another store of the same database, whose sessions act as another role that our user is a member of."""
        options = str(_parts(self._dsn).get("options") or "")
        named = re.sub(r"([\\\s])", r"\\\1", role)
        return Store(make_conninfo(self._dsn, options=f"{options} -c role={named}".strip()), name=self._name)

    def write(
        self, work: Callable[[Transaction], Awaitable[T]], *, deadline: float = DEADLINE
    ) -> "asyncio.Future[T]":
        """Runs ``work`` in a transaction; done when that is durable. ``deadline``: seconds for all of it."""
        return self._begin(self._write(work, deadline))

    def read(self, *statements: tuple[str, Values], deadline: float = DEADLINE) -> "asyncio.Future[list[Rows]]":
        """The rows of each statement, one round trip for all."""
        return self._begin(self._read([Statement(query, values) for query, values in statements], deadline))

    def _begin(self, running: Any) -> "asyncio.Future[Any]":
        """Makes it a task that only the loop's end can cancel."""
        task = asyncio.get_running_loop().create_task(running)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return asyncio.shield(task)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # heard, even if nobody waits any more

    async def close(self, *, patience: float = 5.0) -> None:
        """Finishes what was asked, for so many seconds, and closes the connections. Repeatable."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=patience)
        for session in self._busy:
            shut_down(session.connection)
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))
        await self._drop_idle()

    def abandon(self) -> None:
        """Closes it for whoever cannot wait: what is asked fails."""
        self._closed = True
        for session in self._busy:
            shut_down(session.connection)
        while self._idle:
            self._idle.pop().connection.pgconn.finish()

    async def _drop_idle(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    # -- one at a time

    async def _write(self, work: Callable[[Transaction], Awaitable[T]], deadline: float) -> T:
        async with self._session(deadline) as session:
            transaction = Transaction(session, quorum=self.quorum)
            try:
                result = await work(transaction)
                await transaction.commit()
            except psycopg.Error as error:
                raise translate(error, self.where, broken=session.connection.closed) from error
            except Undone as error:
                raise Undone(f"{self.where}: {error}") from error
            except Unknown as error:
                shut_down(session.connection)
                await self._drop_idle()  # they may lead to the same server, and another be the primary by now
                raise Unknown(f"{self.where}: {error}") from error
            finally:
                with contextlib.suppress(psycopg.Error):
                    await transaction.rollback()
            return result

    async def _read(self, statements: list[Statement], deadline: float) -> list[Rows]:
        async with self._session(deadline) as session:
            try:
                await session.run(statements)
            except psycopg.Error as error:
                raise translate(error, self.where, broken=session.connection.closed) from error
            return [statement.rows for statement in statements]

    @contextlib.asynccontextmanager
    async def _session(self, deadline: float) -> AsyncIterator[_Session]:
        """A connection for one piece of work, which is shut down after ``deadline`` seconds."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline
        try:
            async with asyncio.timeout(deadline):
                await self._slots.acquire()
                try:
                    session = await self._acquire()
                except BaseException:
                    self._slots.release()
                    raise
        except TimeoutError:
            raise Unreachable(f"{self.where}: no connection within {deadline:g} s") from None
        watch = loop.call_at(ends_at, shut_down, session.connection)
        self._busy.add(session)
        try:
            yield session
        finally:
            self._busy.discard(session)
            watch.cancel()
            if session.usable:
                self._idle.append(session)
            else:
                await session.close()
            self._slots.release()

    async def _acquire(self) -> _Session:
        if self._closed:
            raise Closed(f"{self.where}: closed")
        while self._idle:
            session = self._idle.pop()
            if session.usable:
                return session
            await session.close()
        return _Session(await _connect(self._dsn, self._name, self._target))


async def _connect(dsn: str, name: str, target: str) -> _Connection:
    """A connection with our settings to a server of the DSN; ``target``: target_session_attrs; autocommit.

    Raises Unreachable, TooOld.
    """
    where = describe(dsn)
    for variable in _ELSEWHERE:
        os.environ.pop(variable, None)
    try:
        parameters: dict[str, Any] = _DEFAULTS | conninfo_to_dict(dsn)
        parameters |= {"application_name": name, "client_encoding": "utf8", "target_session_attrs": target}
        if "," in str(parameters.get("host", "")) + str(parameters.get("hostaddr", "")):
            # a primary that lost its standbys takes connections, too: in the DSN's order it could be chosen for ever
            parameters.setdefault("load_balance_hosts", "random")
        connection = await _Connection.connect(**parameters, autocommit=True)
    except BaseException as error:
        # The driver's frames hold what is half made, and each other: it would be open until they are collected.
        traceback.clear_frames(error.__traceback__)
        if isinstance(error, psycopg.Error | OSError):
            raise Unreachable(f"{where}: {_first_line(error)}") from error
        raise
    version = connection.info.server_version
    try:
        if version < OLDEST_SERVER:
            raise TooOld(f"{where}: PostgreSQL {version // 10_000}; {OLDEST_SERVER // 10_000} or newer is needed")
        settings = _SETTINGS | ({"transaction_timeout": "0"} if version >= 170_000 else {})
        await connection.execute(
            "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS s(name, value)",
            (list(settings), list(settings.values())),
        )
    except BaseException as error:
        with contextlib.suppress(psycopg.Error, OSError):
            await connection.close()
        if isinstance(error, psycopg.Error):
            raise Unreachable(f"{where}: {_first_line(error)}") from error
        raise
    return connection


def describe(dsn: str) -> str:
    """The server and the database of a DSN, for messages: no password. Raises StoreError for what is no DSN."""
    parts = _parts(dsn)
    hosts = str(parts.get("host") or parts.get("hostaddr") or "local socket").split(",")
    ports = str(parts.get("port") or "").split(",")
    if len(ports) < len(hosts):  # one for all
        ports *= len(hosts)
    named = [f"{host}:{port}" if port and "/" not in host else host for host, port in zip(hosts, ports, strict=False)]
    return f"{','.join(named)}/{parts.get('dbname') or parts.get('user') or ''}"


def with_password(dsn: str, password: str) -> str:
    """The DSN with this password in it. Raises StoreError for what is no DSN."""
    try:
        return make_conninfo(dsn, password=password)
    except psycopg.Error as error:
        raise StoreError(f"not a PostgreSQL DSN: {_first_line(error)}") from error


def user_of(dsn: str) -> str:
    """The user that a DSN names; "" when it names none. Raises StoreError for what is no DSN."""
    return str(_parts(dsn).get("user") or "")


def hosts_of(dsn: str) -> list[tuple[str, str]]:
    """For each server that a DSN names, what describe() calls it, and a DSN that leads to it alone. Raises
    StoreError."""
    parts = _parts(dsn)
    key = "host" if parts.get("host") else "hostaddr"
    hosts, ports = str(parts.get(key) or "").split(","), str(parts.get("port") or "").split(",")
    if len(ports) < len(hosts):  # one for all
        ports *= len(hosts)
    alone = [make_conninfo(**{**parts, key: host, "port": port}) for host, port in zip(hosts, ports, strict=False)]
    return [(describe(each).rpartition("/")[0], each) for each in alone]


def replaced(dsn: str, other: str) -> str:
    """A DSN with what another one says instead. Raises StoreError for what is none."""
    parts, others = _parts(dsn), _parts(other)
    if not others.keys().isdisjoint(("host", "hostaddr")):
        parts = {key: value for key, value in parts.items() if key not in ("host", "hostaddr", "port")}
    return make_conninfo(**{**parts, **others})


def has_password(dsn: str) -> bool:
    """Whether one stands in it. Raises StoreError for what is no DSN."""
    return not _parts(dsn).keys().isdisjoint(("password", "sslpassword"))


def _parts(dsn: str) -> dict[str, Any]:
    try:
        return dict(conninfo_to_dict(dsn))
    except psycopg.Error as error:
        raise StoreError(f"not a PostgreSQL DSN: {_first_line(error)}") from error


_UNDONE = frozenset({"40001", "40P01", "55P03", "57014", "25006", "25P03", "25P04"})
_LOST = ("08", "57P")


def _is_definite(error: psycopg.Error) -> bool:
    """Whether the server itself said that a transaction failed."""
    state = error.sqlstate or ""
    return bool(state) and state != "40003" and not state.startswith(_LOST)


def translate(error: psycopg.Error, where: str, *, broken: bool = False) -> StoreError:
    """Our error for one of the driver's, of a transaction that was not committed."""
    state = error.sqlstate or ""
    text = f"{where}: {_first_line(error)}"
    kinds = {"53100": DiskFull, "53300": Unreachable, "42501": Denied, "42P01": SchemaTooOld, "3F000": SchemaTooOld}
    if state in kinds:
        return kinds[state](text)
    if broken or state in _UNDONE or state.startswith(_LOST):
        return Undone(text)
    return Conflict(text) if state.startswith("23") else StoreError(text)


def _first_line(error: BaseException) -> str:
    """What the driver says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__

"""Who may do what in a PostgreSQL database of ours: rights are given by its owner, and looked at by whoever has them.

    await create_users(store, {"pillarbox_delivery": "secret", ...})
    await give(store, {"pillarbox_delivery": ("SELECT, DELETE ON message", ...)})
    lacking = await missing(store, ("SELECT, DELETE ON message", ...))    # as one of these users

A tail is what stands between GRANT and TO. Each user gets what is listed, and what it had before and is not listed is
taken away, in one transaction, so that a process that serves meanwhile notices nothing. PUBLIC loses what PostgreSQL
gives it by default: to connect to this database, to make temporary tables, to make anything in the schema "public".

A password goes to the server as its SCRAM verifier, made here, as psql's \\password does: neither the server nor its
log ever sees it.

ERRORS
    Denied, and what store.postgresql raises otherwise.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pillarbox.store.errors import Denied
from pillarbox.store.migrations import TURN
from pillarbox.store.postgresql import SCHEMA, Store, Transaction

Tails = Sequence[str]

EVERYBODY = ("SELECT ON migration",)
"""What each user needs to know whether the tables are its program's."""


class Right(NamedTuple):
    """One thing that may be done. ``kind``: TABLE, SEQUENCE or FUNCTION; ``column``: "" for all."""

    privilege: str
    kind: str
    name: str
    column: str = ""

    def __str__(self) -> str:
        column = f" ({self.column})" if self.column else ""
        return f"{self.privilege}{column} on {self.name}"


_TAIL = re.compile(r"(?P<privileges>.+?) ON (?:(?P<kind>TABLE|SEQUENCE|FUNCTION) )?(?P<names>.+)", re.DOTALL)
_PRIVILEGE = re.compile(r"([A-Z]+)(?: \(([^()]*)\))?")


def rights(tails: Iterable[str]) -> Iterator[Right]:
    """Tails one by one. Raises ValueError for what is none: they are our own."""
    for tail in tails:
        match = _TAIL.fullmatch(tail)
        if match is None:
            raise ValueError(f"not what GRANT takes: {tail!r}")
        kind, names = match["kind"] or "TABLE", match["names"]
        for name in [names] if kind == "FUNCTION" else names.split(", "):
            for privilege, columns in _PRIVILEGE.findall(match["privileges"]):
                for column in columns.split(", "):
                    yield Right(privilege, kind, name, column)


_MISSING = """
SELECT w.number FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
    WITH ORDINALITY AS w(privilege, kind, name, col, number)
WHERE NOT coalesce(CASE
    WHEN w.kind = 'FUNCTION' THEN has_function_privilege(to_regprocedure(w.name), w.privilege)
    WHEN w.kind = 'SEQUENCE' THEN has_sequence_privilege(to_regclass(w.name), w.privilege)
    WHEN w.col = '' THEN has_table_privilege(to_regclass(w.name), w.privilege)
    ELSE has_column_privilege(to_regclass(w.name), w.col, w.privilege)
END, false)
ORDER BY w.number
"""


async def missing(store: Store, tails: Iterable[str]) -> list[Right]:
    """Which of these rights the user of this store lacks. The tables must be this program's. Raises StoreError."""
    wanted = list(rights(tails))
    columns = zip(*wanted, strict=True) if wanted else ((), (), (), ())
    values = [list(each) for each in columns]
    (rows,) = await store.read((_MISSING, [values[0], values[1], values[2], values[3]]))
    return [wanted[number - 1] for (number,) in rows]


async def missing_users(store: Store, names: Sequence[str]) -> list[str]:
    """Those that the server does not have. Raises StoreError."""
    query = "SELECT DISTINCT w FROM unnest(%s::text[]) w WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = w)"
    (rows,) = await store.read((query, (list(names),)))
    return sorted(name for (name,) in rows)


async def create_users(store: Store, passwords: Mapping[str, str | None]) -> list[str]:
    """Makes these users, who may sign in (None: without a password); their names.

    Raises Denied with the statements for somebody who may.
    """
    names = list(passwords)
    query = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    if names and await store.read((query, ())) != [[(True,)]]:
        statements = " ".join(f"CREATE ROLE {quoted(name)} LOGIN;" for name in names)
        raise Denied(f"{store.where}: users are missing, and we may not make them; as a superuser: {statements}")

    async def work(transaction: Transaction) -> None:
        for name in names:
            password = passwords[name]
            secret = "" if password is None else f" PASSWORD '{transaction.verifier(name, password)}'"
            transaction.add(f"CREATE ROLE {quoted(name)} LOGIN{secret}")

    if names:
        await store.write(work)
    return names


_PUBLIC = (
    f"REVOKE ALL ON SCHEMA {SCHEMA} FROM PUBLIC",
    f"REVOKE ALL ON ALL TABLES IN SCHEMA {SCHEMA} FROM PUBLIC",
    f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {SCHEMA} FROM PUBLIC",
)
_ABOUT = (
    "SELECT current_database(), EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public' "
    "AND pg_has_role(nspowner, 'USAGE'))"
)


async def give(store: Store, users: Mapping[str, Tails]) -> None:
    """Each user may do what its tails say, and nothing else here. ``store`` is the owner's. Raises StoreError."""

    async def work(transaction: Transaction) -> None:
        transaction.add("SET LOCAL lock_timeout = '10s'")
        transaction.add(TURN)
        ((name, has_public),) = await transaction.fetch(_ABOUT)
        database = quoted(name)
        transaction.add(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
        if has_public:
            transaction.add("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        for statement in _PUBLIC:
            transaction.add(statement)
        for user, tails in users.items():
            _give(transaction, database, quoted(user), tails)

    await store.write(work)


def _give(transaction: Transaction, database: str, user: str, tails: Tails) -> None:
    for what in (f"DATABASE {database}", f"SCHEMA {SCHEMA}"):
        transaction.add(f"REVOKE ALL ON {what} FROM {user}")
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        transaction.add(f"REVOKE ALL ON ALL {kind} IN SCHEMA {SCHEMA} FROM {user}")
    for tail in (f"CONNECT ON DATABASE {database}", f"USAGE ON SCHEMA {SCHEMA}", *EVERYBODY, *tails):
        transaction.add(f"GRANT {tail} TO {user}")


def quoted(name: str) -> str:
    """A name as SQL takes it whatever is in it."""
    return '"' + name.replace('"', '""') + '"'

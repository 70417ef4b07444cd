"""The cells of a cluster spool: the way to one, whether it keeps the promise, its tables.

    store = open_store(cell, "delivery", name="pillarbox delivery 0")
    found = await examine(store, cell, settings.durability)     # found.findings: what blocks, what is doubtful
    before = await upgrade(store)
    await store.close()

One judgement for the daemon, which refuses a cell that is weaker than promised, and for ``pillarbox cluster``.

ERRORS
    CellUnusable: no driver, no password, no DSN, in words. From the others what store.migrations and the store raise.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pillarbox.doctor.cell import Facts, judge, look
from pillarbox.doctor.report import Finding, Severity
from pillarbox.spool.settings import CellSettings, Durability, Role
from pillarbox.store.errors import StoreError

if TYPE_CHECKING:
    from pillarbox.store.postgresql import Store

DRIVER_MISSING = '[spool] kind = "cluster" needs the driver of PostgreSQL: pip install pillarbox[cluster]'
_LONGEST_PASSWORD = 4_096


class CellUnusable(Exception):
    """The cell cannot be used as configured; ``str()`` says what to change."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found. ``where``: server and database; ``schema`` and ``known``: the number of its tables' migrations,
    and ours; ``skew``: seconds that its clock is ahead of ours; ``promise`` and ``tables``: findings of either."""

    cell: str
    where: str
    schema: int
    known: int
    version: str
    skew: float
    promise: tuple[Finding, ...]
    tables: tuple[Finding, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them."""
        return (*self.promise, *self.tables)


def open_store(cell: CellSettings, role: Role, *, name: str, connections: int = 6) -> "Store":
    """The way to a cell as one of its roles; connects when first asked. Raises CellUnusable."""
    try:
        from pillarbox.store.postgresql import Store, with_password
    except ImportError:
        raise CellUnusable(DRIVER_MISSING) from None
    ours = cell.of(role)
    dsn = ours.dsn
    try:
        if ours.password_file is not None:
            dsn = with_password(dsn, _read_password(ours.password_file))
        return Store(dsn, name=name, size=connections)
    except StoreError as error:
        raise CellUnusable(f"cell {cell.name}: {error}") from None


async def examine(store: "Store", cell: CellSettings, durability: Durability) -> Examination:
    """Looks at the server that the DSN leads to, and changes nothing. Raises StoreError."""
    from pillarbox.spool.cluster.schema import MIGRATIONS

    number = await schema_number(store)
    facts = await look(store.read, cell.name)
    now = time.time()
    return Examination(
        cell=cell.name,
        where=store.where,
        schema=number,
        known=len(MIGRATIONS),
        version=_version(facts.settings.get("server_version_num", "0")),
        skew=facts.clock - now,
        promise=tuple(judge(facts, durability=durability, now=now)),
        tables=_tables(facts, number, len(MIGRATIONS)),
    )


async def schema_number(store: "Store") -> int:
    """How many migrations its tables have had; 0 when there are none. Raises StoreError."""
    from pillarbox.spool.cluster.spool import ROOM
    from pillarbox.store.migrations import applied

    return await applied(store, ROOM)


async def upgrade(store: "Store") -> tuple[int, int]:
    """Makes the tables or brings them up to this program's: how many migrations there were, and are. Raises
    StoreError."""
    from pillarbox.spool.cluster.schema import MIGRATIONS
    from pillarbox.spool.cluster.spool import ROOM
    from pillarbox.store.migrations import migrate

    return await migrate(store, ROOM, MIGRATIONS), len(MIGRATIONS)


def _tables(facts: Facts, number: int, known: int) -> tuple[Finding, ...]:
    if number == known:
        return ()
    if number > known:
        message = f"its tables are those of a newer Pillarbox (schema {number}; this one knows {known})"
        advice = "upgrade this one"
    elif number:
        message = f"its tables are those of an older Pillarbox (schema {number} of {known})"
        advice = "bring them up with `pillarbox cluster upgrade`"
    else:
        message = "it has no tables of Pillarbox, or we may not read them"
        advice = "make them with `pillarbox cluster init`"
    return (Finding(Severity.ERROR, f"cell {facts.cell}", message, advice, blocks=True),)


def _version(number: str) -> str:
    return f"{int(number) // 10_000}.{int(number) % 10_000}"


def _read_password(path: Path) -> str:
    """One line end at the end is not part of it. Raises CellUnusable, which never shows a word of it."""
    try:
        with path.open("rb") as file:
            octets = file.read(_LONGEST_PASSWORD + 1)
        password = octets.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise CellUnusable(f"password_file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CellUnusable(f"password_file {path}: not UTF-8") from None
    if not password or len(octets) > _LONGEST_PASSWORD or not password.isprintable():
        raise CellUnusable(f"password_file {path}: expected one line with the password and nothing else")
    return password

"""The cells of a cluster spool: the way to one, and whether it keeps the promise.

    store = open_store(cell, "delivery", name="pillarbox delivery 0")
    found = await examine(store, cell, settings.durability)     # found.findings: what blocks, what is doubtful
    await store.close()
    for looked in await look_at(settings, patience=10): ...     # all cells, each host of them, each role

One judgement for the daemon, which refuses a cell that is weaker than promised, for ``pillarbox check`` and for
``pillarbox cluster``. way.py leads to a cell; tables.py makes its tables.

ERRORS
    CellUnusable: no driver, no password, no DSN, in words. From the others what store.migrations and the store raise.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pillarbox.console.tables import ROLES, grants, numbers
from pillarbox.console.way import DRIVER_MISSING, CellUnusable, open_dsn, open_store
from pillarbox.doctor.cell import Host, advice_for, judge, look, one_cluster, same_cluster
from pillarbox.doctor.report import Finding, Severity, worst
from pillarbox.spool.settings import CellSettings, CellsSettings, Durability, Role
from pillarbox.store.errors import StoreError

if TYPE_CHECKING:
    from pillarbox.store.postgresql import Store

T = TypeVar("T")

__all__ = [
    "DRIVER_MISSING",
    "CellUnusable",
    "Examination",
    "Look",
    "examine",
    "look_at",
    "open_store",
    "refusal",
]


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found. ``where``: server and database; ``system``: the cluster's own identifier; ``schemas``: for each
    room the number of its tables' migrations, and ours; ``skew``: seconds that its clock is ahead of ours;
    ``promise`` and ``tables``: findings of either."""

    cell: str
    where: str
    system: int
    schemas: Mapping[str, tuple[int, int]]
    version: str
    skew: float
    promise: tuple[Finding, ...]
    tables: tuple[Finding, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them."""
        return (*self.promise, *self.tables)


async def examine(
    store: "Store", cell: CellSettings, durability: Durability, *, role: Role | None = None, first: bool = False
) -> Examination:
    """Looks at the server that the DSN leads to, and changes nothing. ``role``: also whether the store's user may do
    what that role does; ``first``: also the tables that only the first cell has. Raises StoreError."""
    schemas = await numbers(store, first=first)
    facts = await look(store.read, cell.name)
    now = time.time()
    tables = _tables(cell.name, schemas)
    if not tables and role is not None:
        tables = await _rights(store, cell, role, first=first)
    return Examination(
        cell=cell.name,
        where=store.where,
        system=facts.system,
        schemas=schemas,
        version=_version(facts.settings.get("server_version_num", "0")),
        skew=facts.clock - now,
        promise=tuple(judge(facts, durability=durability, now=now)),
        tables=tables,
    )


async def _rights(store: "Store", cell: CellSettings, role: Role, *, first: bool) -> tuple[Finding, ...]:
    """Whether the store's user may do what its role does."""
    from pillarbox.store.postgresql import user_of
    from pillarbox.store.rights import EVERYBODY, missing

    lacking = await missing(store, [*EVERYBODY, *grants(role, first=first)])
    if not lacking:
        return ()
    who = user_of(cell.of(role).dsn) or "its user"
    return (
        _error(
            cell.name,
            f"{who}, who is its {role}, lacks rights: {', '.join(map(str, lacking))}",
            "`pillarbox cluster upgrade` gives each user its own",
        ),
    )


def _tables(cell: str, schemas: Mapping[str, tuple[int, int]]) -> tuple[Finding, ...]:
    if all(number == known for number, known in schemas.values()):
        return ()
    for room, (number, known) in schemas.items():
        if number > known:
            message = f"its tables are those of a newer Pillarbox (schema {number} of {room}; this one knows {known})"
            return (_error(cell, message, "upgrade this one"),)
    if not any(number for number, _ in schemas.values()):
        message = "it has no tables of Pillarbox, or we may not read them"
        return (_error(cell, message, "make them with `pillarbox cluster init`"),)
    behind = [f"schema {number} of {known} of {room}" for room, (number, known) in schemas.items() if number < known]
    message = f"its tables are those of an older Pillarbox ({', '.join(behind)})"
    return (_error(cell, message, "bring them up with `pillarbox cluster upgrade`"),)


def refusal(cell: str, error: Exception) -> str:
    """Why a cell was not to be had, and what to change."""
    advice = advice_for(str(error))
    return f"cell {cell}: {error}" + (f"; {advice}" if advice else "")


# -- all of them


@dataclass(frozen=True, slots=True)
class Look:
    """One cell as it was found; ``found`` is None when it was not reached. ``findings``: everything."""

    cell: str
    found: Examination | None
    findings: tuple[Finding, ...]


async def look_at(settings: CellsSettings, *, patience: float) -> list[Look]:
    """Every cell, at the same time: as each role whose way is another, and each host of it. ``patience``: seconds for
    each. Changes nothing, raises nothing."""
    looks = await asyncio.gather(
        *(
            _look_at(cell, settings.durability, patience, first=number == 0)
            for number, cell in enumerate(settings.cells)
        )
    )
    shared = same_cluster([(look.cell, look.found.system) for look in looks if look.found is not None])
    return [
        Look(
            look.cell,
            look.found,
            (*look.findings, *(one for one in shared if one.subject == f"cell {look.cell}")),
        )
        for look in looks
    ]


async def _look_at(cell: CellSettings, durability: Durability, patience: float, *, first: bool) -> Look:
    async def whole(store: "Store") -> Examination:
        return await examine(store, cell, durability, role="keeper", first=first)

    found, trouble = await _asked(cell, "keeper", whole, patience)
    findings = list(found.findings if found is not None else trouble)
    for role in ROLES:
        if role != "keeper" and cell.of(role) != cell.of("keeper"):
            findings += await _sign_in(cell, role, patience)
    findings += await _hosts(cell, patience)
    if worst(findings) is Severity.ERROR:  # then what is fine besides need not be said
        findings = [finding for finding in findings if finding.severity is not Severity.OK]
    return Look(cell.name, found, tuple(dict.fromkeys(findings)))


async def _sign_in(cell: CellSettings, role: Role, patience: float) -> Sequence[Finding]:
    async def rights(store: "Store") -> tuple[Finding, ...]:
        return _tables(cell.name, await numbers(store, first=False)) or await _rights(store, cell, role, first=False)

    found, trouble = await _asked(cell, role, rights, patience)
    return trouble if found is None else found


async def _asked(
    cell: CellSettings, role: Role, work: "Callable[[Store], Awaitable[T]]", patience: float
) -> "tuple[T | None, tuple[Finding, ...]]":
    """What a cell answered to a role, or why it did not."""
    try:
        store = open_store(cell, role, name="pillarbox check", connections=1)
    except CellUnusable as error:
        return None, (_error(cell.name, f"as {role}: {error}"),)
    try:
        async with asyncio.timeout(patience):
            return await work(store), ()
    except TimeoutError:
        return None, (_error(cell.name, f"as {role}: no answer within {patience:g} s", _UNREACHABLE),)
    except StoreError as error:
        return None, (_error(cell.name, f"as {role}: {error}", advice_for(str(error))),)
    finally:
        await store.close(patience=0.0)


_UNREACHABLE = "is one of its hosts up, and does a firewall let us through?"


async def _hosts(cell: CellSettings, patience: float) -> list[Finding]:
    """Each server that the DSN names, if they are several."""
    from pillarbox.store.postgresql import hosts_of

    try:
        named = hosts_of(cell.of("keeper").dsn)
    except StoreError:
        return []  # it was said
    if len(named) < 2:
        return []
    hosts = await asyncio.gather(*(_host(cell, name, dsn, patience) for name, dsn in named))
    return one_cluster(cell.name, hosts)


async def _host(cell: CellSettings, name: str, dsn: str, patience: float) -> Host:
    try:
        store = open_dsn(
            cell.name, dsn, cell.of("keeper").password_file, name="pillarbox check", connections=1, any_server=True
        )
    except CellUnusable as error:
        return Host(name, None, str(error))
    try:
        async with asyncio.timeout(patience):
            return Host(name, await look(store.read, cell.name), "")
    except TimeoutError:
        return Host(name, None, f"no answer within {patience:g} s")
    except StoreError as error:
        return Host(name, None, str(error))
    finally:
        await store.close(patience=0.0)


def _error(cell: str, message: str, advice: str = "") -> Finding:
    return Finding(Severity.ERROR, f"cell {cell}", message, advice, blocks=True)


def _version(number: str) -> str:
    return f"{int(number) // 10_000}.{int(number) % 10_000}"

"""A cell's tables, of all rooms that have some, and the users that may use them: made and brought up by its owner.

    made = await make(store, cell, first=True)        # store: the owner's, or a superuser's
    found = await numbers(store, first=True)          # {"spool": (2, 2)}: migrations that it had, and that we know

Every cell has the spool's tables; the first one those of the guard and the accounts as well. Users are those that
the cell's dsn names for submission, delivery and keeper; each may do what its rooms grant it and nothing else. One
that is the owner itself needs nothing.

ERRORS
    CellUnusable, Denied, and what store.migrations and the store raise otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pillarbox.console.way import CellUnusable, read_password
from pillarbox.directory import schema as directory_schema
from pillarbox.guard import schema as guard_schema
from pillarbox.spool.cluster import schema as spool_schema
from pillarbox.spool.settings import CellSettings, Role
from pillarbox.store.errors import Denied

if TYPE_CHECKING:
    from pillarbox.store.postgresql import Store

ROLES: tuple[Role, ...] = ("submission", "delivery", "keeper")
"""As whom processes ask a cell."""


@dataclass(frozen=True, slots=True)
class Room:
    """A room with tables. ``grants``: tails of GRANT by role."""

    name: str
    migrations: Sequence[Sequence[str]]
    grants: Mapping[str, Sequence[str]]


_IN_EVERY_CELL = (Room(spool_schema.ROOM, spool_schema.MIGRATIONS, spool_schema.GRANTS),)
_IN_THE_FIRST = (
    Room(directory_schema.ROOM, directory_schema.MIGRATIONS, directory_schema.GRANTS),
    Room(guard_schema.ROOM, guard_schema.MIGRATIONS, guard_schema.GRANTS),
)


def rooms(*, first: bool) -> tuple[Room, ...]:
    """Those that have tables in the first cell, or in any other."""
    return _IN_EVERY_CELL + _IN_THE_FIRST if first else _IN_EVERY_CELL


def grants(role: Role, *, first: bool) -> list[str]:
    """What a role may do with all of their tables."""
    return [tail for room in rooms(first=first) for tail in room.grants.get(role, ())]


async def numbers(store: "Store", *, first: bool) -> dict[str, tuple[int, int]]:
    """For each room how many migrations its tables have had, and how many we know. Raises StoreError."""
    from pillarbox.store.migrations import all_applied

    found = await all_applied(store)
    return {room.name: (found.get(room.name, 0), len(room.migrations)) for room in rooms(first=first)}


@dataclass(frozen=True, slots=True)
class Made:
    """What was done. ``rooms``: migrations before and after; ``users``: by role, who is not the owner; ``created``:
    those of them that were not there."""

    cell: str
    rooms: Mapping[str, tuple[int, int]]
    users: Mapping[Role, str]
    created: Sequence[str]


_WHO = (
    "SELECT current_user::text, pg_get_userbyid(datdba)::text, pg_has_role(datdba, 'MEMBER') "
    "FROM pg_database WHERE datname = current_database()"
)


async def make(store: "Store", cell: CellSettings, *, first: bool) -> Made:
    """Makes what is missing and brings up what is there, forward only; servers of the version before may run."""
    from pillarbox.store.migrations import migrate
    from pillarbox.store.rights import create_users, give

    ((name, owner, may_act),) = (await store.read((_WHO, ())))[0]
    if not may_act:
        raise Denied(f"{store.where}: {name} does not own the database, {owner} does")
    users = _users(cell, owner)
    created = await create_users(store, await _passwords(store, cell, users))
    owning = store if name == owner else store.acting_as(owner)
    try:
        done = {}
        for room in rooms(first=first):
            done[room.name] = (await migrate(owning, room.name, room.migrations), len(room.migrations))
        wanted: dict[str, list[str]] = {}
        for role, user in users.items():
            wanted.setdefault(user, []).extend(grants(role, first=first))
        await give(owning, wanted)
    finally:
        if owning is not store:
            await owning.close()
    return Made(cell.name, done, users, created)


def _users(cell: CellSettings, owner: str) -> dict[Role, str]:
    """Who is not the owner. Raises CellUnusable."""
    from pillarbox.store.postgresql import user_of

    users = {role: user_of(cell.of(role).dsn) for role in ROLES}
    if not all(users.values()):
        raise CellUnusable(f"cell {cell.name}: its dsn names no user; add user=..., to whom its rights are given")
    return {role: user for role, user in users.items() if user != owner}


async def _passwords(store: "Store", cell: CellSettings, users: Mapping[Role, str]) -> dict[str, str | None]:
    """For each user that is not there yet. Raises CellUnusable."""
    from pillarbox.store.rights import missing_users

    missing = await missing_users(store, list(users.values()))
    passwords: dict[str, str | None] = {}
    for role, user in users.items():
        if user in missing:
            secret = cell.of(role).password_file
            passwords[user] = None if secret is None else read_password(secret)
    return passwords

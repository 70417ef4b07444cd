"""``pillarbox cluster``: the cells of ``[spool] kind = "cluster"``: their tables and users, and whether they keep the
promise.

It asks the cells themselves, with the DSNs of the configuration; a daemon may run or not.

ERRORS
    CommandError: no cell in the configuration, a cell that cannot be reached or refuses; with what to change.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pillarbox.cli.configuration import load, run
from pillarbox.cli.framework import CommandError, ConfigOption, Exit, JsonOption, Option, example, group
from pillarbox.cli.output import mark, remark, say, say_json
from pillarbox.console.cells import CellUnusable, Look, look_at, refusal
from pillarbox.console.tables import Made, make, numbers
from pillarbox.console.way import open_owners
from pillarbox.doctor.report import Severity, as_data, worst
from pillarbox.spool.settings import CellSettings, CellsSettings
from pillarbox.store.errors import Denied, StoreError

if TYPE_CHECKING:
    from pillarbox.store.postgresql import Store

app = group("cluster", 'The PostgreSQL cells of [spool] kind = "cluster".', "pillarbox cluster check")

PATIENCE = 30.0
"""Seconds that a look at a cell may take."""

AdminDsn = Annotated[
    str | None,
    Option(
        "--admin-dsn",
        metavar="DSN",
        help="What to say instead of parts of the cell's dsn, to be its owner or a superuser: 'user=postgres'. "
        "Default: the dsn with {role} = owner.",
        show_default=False,
    ),
]
AdminPasswordFile = Annotated[
    Path | None,
    Option("--admin-password-file", metavar="FILE", help="A file with that user's password.", show_default=False),
]


@example(app, "init", "pillarbox cluster init --config /etc/pillarbox/pillarbox.toml")
def init(
    admin_dsn: AdminDsn = None,
    admin_password_file: AdminPasswordFile = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make the tables in each cell's database, as its owner, and the users that its dsn names, with their rights.

    What is there already stays.
    """
    _make(_cells(config), admin_dsn, admin_password_file, as_json, first=True)


@example(app, "upgrade", "pillarbox cluster upgrade")
def upgrade_tables(
    admin_dsn: AdminDsn = None,
    admin_password_file: AdminPasswordFile = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Bring the tables up to this program's, forward only, and give each user its rights.

    Servers of the version before may run meanwhile.
    """
    _make(_cells(config), admin_dsn, admin_password_file, as_json, first=False)


@example(app, "check", "pillarbox cluster check --json")
def check(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show whether each cell keeps the promise of a 250, its tables, users, hosts and clock.

    Exit code 1 when one does not.
    """
    settings = _cells(config)
    looks = run(look_at(settings, patience=PATIENCE))
    ok = all(worst(look.findings) is not Severity.ERROR for look in looks)
    if as_json:
        say_json({"ok": ok, "durability": settings.durability, "cells": [_as_json(look) for look in looks]})
    else:
        for look in looks:
            _show(look, settings.durability)
    if not ok:
        raise Exit(1)


def _show(look: Look, durability: str) -> None:
    found = look.found
    if found is None:
        say(f"cell       {look.cell}")
    else:
        say(f"cell       {found.cell}, PostgreSQL {found.version} at {found.where}")
        say(f"durability {durability}")
        for room, (number, known) in found.schemas.items():
            say(f"tables     {room}: schema {number}; this program's is {known}")
        say(f"clock      {found.skew:+.1f} s from ours")
    for finding in look.findings:
        say(f"{mark(finding.severity)} {finding.message}" + (f"; {finding.advice}" if finding.advice else ""))


def _as_json(look: Look) -> dict[str, Any]:
    shown: dict[str, Any] = {"cell": look.cell, "findings": as_data(look.findings)}
    if look.found is not None:
        schemas = {room: {"schema": number, "known": known} for room, (number, known) in look.found.schemas.items()}
        shown |= {key: getattr(look.found, key) for key in ("where", "version", "skew")} | {"tables": schemas}
    return shown


def _cells(config: Any) -> CellsSettings:
    settings = load(config).spool
    if not isinstance(settings, CellsSettings):
        raise CommandError('the spool is embedded: there is no cell; see docs/howto/cluster.md for kind = "cluster"')
    return settings


@asynccontextmanager
async def _opened(cell: CellSettings, dsn: str | None, password_file: Path | None) -> "AsyncIterator[Store]":
    """The owner's way to the cell; what goes wrong with it becomes a CommandError."""
    try:
        store = open_owners(cell, dsn, password_file, name="pillarbox cluster")
        try:
            yield store
        finally:
            await store.close()
    except CellUnusable as error:
        raise CommandError(str(error)) from None
    except Denied as error:
        raise CommandError(
            f"cell {cell.name}: {error}",
            "whoever makes the tables must own the database (ALTER DATABASE ... OWNER TO ...): "
            "name that user with --admin-dsn",
        ) from None
    except StoreError as error:
        raise CommandError(refusal(cell.name, error)) from None


def _make(
    settings: CellsSettings, dsn: str | None, password_file: Path | None, as_json: bool, *, first: bool
) -> None:
    async def work() -> list[Made]:
        done = []
        for number, cell in enumerate(settings.cells):
            async with _opened(cell, dsn, password_file) as store:
                there = await numbers(store, first=False)
                if not first and not any(before for before, _ in there.values()):
                    raise CommandError(f"cell {cell.name} has no tables yet; make them with `pillarbox cluster init`")
                done.append(await make(store, cell, first=number == 0))
        return done

    made = run(work())
    if as_json:
        say_json({"cells": [_made_as_json(one) for one in made]})
        return
    for one in made:
        for room, (before, after) in one.rooms.items():
            if before == after:
                remark(f"cell {one.cell}: the tables of {room} are this program's already (schema {after})")
            else:
                remark(f"cell {one.cell}: {room} schema {after}" + (f", it was {before}" if before else ""))
        for role, user in one.users.items():
            new = " (made)" if user in one.created else ""
            remark(f"cell {one.cell}: {user}{new} has the rights of {role}")


def _made_as_json(made: Made) -> dict[str, Any]:
    tables = {room: {"before": before, "after": after} for room, (before, after) in made.rooms.items()}
    return {"cell": made.cell, "tables": tables, "users": dict(made.users), "created": list(made.created)}

"""``pillarbox cluster``: the cell of ``[spool] kind = "cluster"``: its tables, and whether it keeps the promise.

It asks the cell itself, with the DSN of the configuration; a daemon may run or not.

ERRORS
    CommandError: no cell in the configuration, a cell that cannot be reached or refuses; with what to change.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pillarbox.cli.configuration import load, run
from pillarbox.cli.framework import CommandError, ConfigOption, Exit, JsonOption, example, group
from pillarbox.cli.output import mark, remark, say, say_json
from pillarbox.console.cells import CellUnusable, Examination, examine, open_store, schema_number, upgrade
from pillarbox.doctor.report import Severity, as_data, worst
from pillarbox.spool.settings import CellSettings, CellsSettings
from pillarbox.store.errors import Denied, StoreError

if TYPE_CHECKING:
    from pillarbox.store.postgresql import Store

app = group("cluster", 'The PostgreSQL cell of [spool] kind = "cluster".')

PATIENCE = 30.0
"""Seconds that a look at a cell may take."""


@example(app, "init", "pillarbox cluster init --config /etc/pillarbox/pillarbox.toml")
def init(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Make the tables in the cell's database, whose owner the user of its dsn is. What is there already stays."""
    _make(_cells(config), as_json, first=True)


@example(app, "upgrade", "pillarbox cluster upgrade")
def upgrade_tables(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Bring the tables up to this program's, forward only. Servers of the version before may run meanwhile."""
    _make(_cells(config), as_json, first=False)


@example(app, "check", "pillarbox cluster check --json")
def check(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show whether the cell keeps the promise of a 250, its tables and its clock. Exit code 1 when it does not."""
    settings = _cells(config)
    (cell, *_) = settings.cells

    async def work() -> Examination:
        async with _opened(cell) as store, asyncio.timeout(PATIENCE):
            return await examine(store, cell, settings.durability)

    found = run(work())
    ok = worst(found.findings) is not Severity.ERROR
    if as_json:
        shown = {key: getattr(found, key) for key in ("cell", "where", "version", "schema", "known", "skew")}
        say_json({"ok": ok, "durability": settings.durability, **shown, "findings": as_data(found.findings)})
    else:
        say(f"cell       {found.cell}, PostgreSQL {found.version} at {found.where}")
        say(f"durability {settings.durability}")
        say(f"tables     schema {found.schema}; this program's is {found.known}")
        say(f"clock      {found.skew:+.1f} s from ours")
        for finding in found.findings:
            say(f"{mark(finding.severity)} {finding.message}" + (f"; {finding.advice}" if finding.advice else ""))
    if not ok:
        raise Exit(1)


def _cells(config: Any) -> CellsSettings:
    settings = load(config).spool
    if not isinstance(settings, CellsSettings):
        raise CommandError('the spool is embedded: there is no cell; see docs/howto/cluster.md for kind = "cluster"')
    return settings


@asynccontextmanager
async def _opened(cell: CellSettings) -> "AsyncIterator[Store]":
    """The way to the cell; what goes wrong with it becomes a CommandError."""
    try:
        store = open_store(cell, "keeper", name="pillarbox cluster")
        try:
            yield store
        finally:
            await store.close()
    except CellUnusable as error:
        raise CommandError(str(error)) from None
    except TimeoutError:
        raise CommandError(f"cell {cell.name}: no answer within {PATIENCE:g} s") from None
    except Denied as error:
        raise CommandError(
            f"cell {cell.name}: {error}", "the user of its dsn must own the database: ALTER DATABASE ... OWNER TO ..."
        ) from None
    except StoreError as error:
        raise CommandError(f"cell {cell.name}: {error}") from None


def _make(settings: CellsSettings, as_json: bool, *, first: bool) -> None:
    (cell, *_) = settings.cells

    async def work() -> tuple[int, int]:
        async with _opened(cell) as store:
            if not first and not await schema_number(store):
                raise CommandError(f"cell {cell.name} has no tables yet; make them with `pillarbox cluster init`")
            return await upgrade(store)

    before, after = run(work())
    if as_json:
        say_json({"cell": cell.name, "before": before, "after": after})
    elif before == after:
        remark(f"cell {cell.name}: its tables are this program's already (schema {after})")
    else:
        remark(f"cell {cell.name}: schema {after}" + (f", it was {before}" if before else ""))

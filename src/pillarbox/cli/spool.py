"""``pillarbox spool``: every message to a file, back, and to another spool.

It works on the files and the cells themselves: those of cells as their owner, as `pillarbox cluster init` does. An
embedded spool is read while the server runs, and written to only while it is stopped.

ERRORS
    CommandError: what cannot be reached, read or written, and what to do.
"""

import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

from pillarbox.cli.cluster import AdminDsn, AdminPasswordFile
from pillarbox.cli.configuration import load, log_to_stderr, run
from pillarbox.cli.framework import (
    Argument,
    CommandError,
    ConfigOption,
    Exit,
    JsonOption,
    Option,
    UsageError,
    YesOption,
    confirm,
    example,
    group,
)
from pillarbox.cli.output import count, remark, say_json
from pillarbox.config import Settings
from pillarbox.console.archives import Brought, Exported, Place, bring_in, export
from pillarbox.console.cells import CellUnusable, refusal
from pillarbox.console.migration import Moved, Refused, migrate
from pillarbox.console.way import open_owners
from pillarbox.spool.archive import ArchiveError
from pillarbox.spool.base import Reader, Restorer, Source, SpoolError
from pillarbox.spool.settings import CellSettings, CellsSettings, EmbeddedSettings
from pillarbox.store.errors import StoreError

if TYPE_CHECKING:
    from pillarbox.spool.cluster.cell import Cell
    from pillarbox.spool.embedded import EmbeddedSpool

app = group(
    "spool",
    "Every message of the spool: to a file, back, and to another spool.",
    "pillarbox spool export /var/backups/pillarbox/spool.tar",
)

File = Annotated[str, Argument(help="The file; - for a pipe.", metavar="FILE", show_default=False)]


@example(app, "export", "pillarbox spool export /var/backups/pillarbox/spool.tar")
def export_file(
    file: File,
    cell: Annotated[
        str | None, Option("--cell", metavar="NAME", help="Only this cell. Default: all.", show_default=False)
    ] = None,
    admin_dsn: AdminDsn = None,
    admin_password_file: AdminPasswordFile = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Write every message, with its recipients' states, to a file. The server may run.

    Exit code 1 when a message could not be read; the others are in the file then.
    """
    settings = load(config)

    async def work(out: BinaryIO) -> Exported:
        async with _readers(settings, cell, admin_dsn, admin_password_file) as readers:
            with _progress("exported") as tell:
                return await export(readers, out.write, random=os.urandom(16), made_at=time.time(), tell=tell)

    with _in_words():
        exported = _to_file(file, work)
    for queue_id, reason in exported.unreadable.items():
        remark(f"NOT in the file: {queue_id}: {reason}")
    if as_json and file != "-":
        say_json({"messages": exported.messages, "left": exported.left, "unreadable": exported.unreadable})
    else:
        left = f"; {count(exported.left, 'message')} left the spool meanwhile" if exported.left else ""
        remark(f"{count(exported.messages, 'message')} exported{left}")
    if exported.unreadable:
        raise Exit(1)


@example(app, "import", "pillarbox spool import /var/backups/pillarbox/spool.tar --hold")
def import_file(
    file: File,
    cell: Annotated[
        str | None,
        Option(
            "--cell",
            metavar="NAME",
            help="Into this cell. Default: each message into the one it was in, else into the first.",
            show_default=False,
        ),
    ] = None,
    hold: Annotated[bool, Option("--hold", help="Deliver nothing of it before `pillarbox queue release`.")] = False,
    again: Annotated[
        bool, Option("--again", help="Also what was imported in the last 30 days and has left since.")
    ] = False,
    admin_dsn: AdminDsn = None,
    admin_password_file: AdminPasswordFile = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Bring the messages of such a file back. An embedded spool's server must be stopped.

    It can be repeated: what is there already, or was imported before, is left alone. Exit code 1 when something in
    the file is damaged; what is whole is in the spool then.
    """
    settings = load(config)

    async def work(source: BinaryIO) -> Brought:
        async with _places(settings, cell, admin_dsn, admin_password_file, again=again) as place:
            with _progress("through") as tell:
                return await bring_in(source.read, place, hold=hold, tell=tell)

    with _in_words(), contextlib.ExitStack() as stack:
        source = sys.stdin.buffer if file == "-" else stack.enter_context(open(file, "rb"))
        with log_to_stderr():
            brought = run(work(source))
    for name, reason in brought.refused.items():
        remark(f"NOT imported: {name}: {reason}")
    if as_json:
        numbers = {"restored": brought.restored, "already": brought.already, "done": brought.done}
        say_json({**numbers, "refused": brought.refused})
    else:
        more = f"; {brought.already} were there or imported before" if brought.already else ""
        more += f"; {brought.done} were done" if brought.done else ""
        remark(f"{count(brought.restored, 'message')} imported{more}")
    if brought.refused:
        raise Exit(1)


@example(app, "migrate", "pillarbox spool migrate --to /etc/pillarbox/new.toml")
def migrate_messages(
    to: Annotated[
        Path | None,
        Option(
            "--to",
            metavar="FILE",
            help="The configuration of the other spool. Default: the same.",
            show_default=False,
        ),
    ] = None,
    from_cell: Annotated[
        str | None, Option("--from-cell", metavar="NAME", help="Only from this cell.", show_default=False)
    ] = None,
    to_cell: Annotated[
        str | None,
        Option("--to-cell", metavar="NAME", help="To this cell. Default: the first one.", show_default=False),
    ] = None,
    admin_dsn: AdminDsn = None,
    admin_password_file: AdminPasswordFile = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Move every message to another spool or cell. An embedded spool's server must be stopped; cells may serve.

    Nothing is lost or doubled when it is cut off: repeat it within 30 days. What is being delivered stays, and so
    does mail that still comes in: repeat it until nothing is left. From a cell it takes a minute at least.
    """
    settings = load(config)
    if to is None and (from_cell is None or to_cell is None):
        raise UsageError("give --to, or --from-cell and --to-cell")
    other = load(to) if to is not None else settings

    async def work() -> Moved:
        total = Moved()
        async with (
            _sources(settings, from_cell, admin_dsn, admin_password_file) as sources,
            _places(other, to_cell, admin_dsn, admin_password_file, again=False) as place,
        ):
            restorer, cell = place("")
            for source in sources:
                with _progress("there") as tell:
                    moved = await migrate(source, restorer, cell, tell=tell, waiting=_say_wait)
                total.messages += moved.messages
                total.refused |= moved.refused
        return total

    with _in_words(), log_to_stderr():
        moved = run(work())
    for queue_id, reason in moved.refused.items():
        remark(f"NOT moved, and kept where it was: {queue_id}: {reason}")
    if as_json:
        say_json({"messages": moved.messages, "refused": moved.refused})
    else:
        remark(f"{count(moved.messages, 'message')} moved")
    if moved.refused:
        raise Exit(1)


def _say_wait(seconds: float) -> None:
    remark(f"everything is there; waiting {seconds:.0f} s for clients that may repeat a commit, then it is removed")


@example(app, "give-back", "pillarbox spool give-back")
def give_back(
    cell: Annotated[
        str | None, Option("--cell", metavar="NAME", help="Only this cell. Default: all.", show_default=False)
    ] = None,
    yes: YesOption = False,
    admin_dsn: AdminDsn = None,
    admin_password_file: AdminPasswordFile = None,
    config: ConfigOption = None,
) -> None:
    """Give up a move that was cut off, when its destination is lost for good: what it took waits here again.

    What had arrived there is delivered by both.
    """
    settings = load(config)
    if not yes and not confirm("Is the other spool lost for good? What had arrived there would be delivered twice."):
        raise Exit(1)

    async def work() -> int:
        async with _sources(settings, cell, admin_dsn, admin_password_file) as sources:
            return sum([await source.give_back() for source in sources])

    with _in_words(), log_to_stderr():
        given = run(work())
    remark(f"{count(given, 'message')} given back")


# -- the way to the messages


@asynccontextmanager
async def _readers(
    settings: Settings, only: str | None, dsn: str | None, password_file: Path | None
) -> AsyncIterator[list[Reader]]:
    """Raises SpoolError, CommandError."""
    if isinstance(settings.spool, CellsSettings):
        from pillarbox.spool.cluster.reading import CellReader

        async with _cells(settings.spool, only, dsn, password_file) as cells:
            yield [CellReader(cell) for cell in cells.values()]
        return
    from pillarbox.spool.reading import open_reader

    _no_cell(only)
    with _as_servers_user(settings):
        reader = await open_reader(settings.spool)
        try:
            yield [reader]
        finally:
            await reader.close()


@asynccontextmanager
async def _places(
    settings: Settings, only: str | None, dsn: str | None, password_file: Path | None, *, again: bool
) -> AsyncIterator[Place]:
    """Raises SpoolError, CommandError."""
    if isinstance(settings.spool, CellsSettings):
        from pillarbox.spool.cluster.restoring import ClusterRestorer

        async with _cells(settings.spool, only, dsn, password_file) as cells:
            restorers = {name: ClusterRestorer(cell, again=again) for name, cell in cells.items()}
            first = next(iter(restorers))

            def place(cell: str) -> tuple[Restorer, str]:
                name = cell if cell in restorers else first
                return restorers[name], name

            yield place
        return
    from pillarbox.spool.restoring import EmbeddedRestorer

    _no_cell(only)
    async with _owned(settings) as spool:
        restorer = EmbeddedRestorer(spool.owner, again=again)
        try:
            yield lambda _: (restorer, "")
        finally:
            await restorer.close()


@asynccontextmanager
async def _owned(settings: Settings) -> "AsyncIterator[EmbeddedSpool]":
    """The embedded spool, which no server may be using. Raises SpoolError, CommandError."""
    from pillarbox.spool.embedded import open_spool

    assert isinstance(settings.spool, EmbeddedSettings)  # noqa: S101  # whoever calls has looked
    with _as_servers_user(settings):
        try:
            spool = await open_spool(settings.spool)
        except SpoolError as error:
            if "in use by another process" not in str(error):
                raise
            raise CommandError(str(error), "stop the server first: only one process may write there") from None
        try:
            yield spool
        finally:
            await spool.close()


@asynccontextmanager
async def _sources(
    settings: Settings, only: str | None, dsn: str | None, password_file: Path | None
) -> AsyncIterator[list[Source]]:
    """Raises SpoolError, CommandError."""
    if isinstance(settings.spool, CellsSettings):
        from pillarbox.spool.cluster.moving import CellSource

        async with _cells(settings.spool, only, dsn, password_file) as cells:
            yield [CellSource(cell) for cell in cells.values()]
        return
    from pillarbox.spool.moving import EmbeddedSource

    _no_cell(only)
    async with _owned(settings) as spool:
        yield [EmbeddedSource(spool.owner)]


def _no_cell(only: str | None) -> None:
    if only is not None:
        raise CommandError("the spool is embedded: it has no cells", code=2)


@asynccontextmanager
async def _cells(
    settings: CellsSettings, only: str | None, dsn: str | None, password_file: Path | None
) -> "AsyncIterator[dict[str, Cell]]":
    """The cells, or one of them, by name, as their owner."""
    wanted = [cell for cell in settings.cells if only in (None, cell.name)]
    if not wanted:
        known = ", ".join(cell.name for cell in settings.cells)
        raise CommandError(f"there is no cell {only!r}; the configuration has {known}", code=2)
    async with contextlib.AsyncExitStack() as stack:
        cells = {}
        for each in wanted:
            cells[each.name] = await _open(each, dsn, password_file)
            stack.push_async_callback(cells[each.name].close)
        yield cells


async def _open(settings: CellSettings, dsn: str | None, password_file: Path | None) -> "Cell":
    """Raises CommandError."""
    from pillarbox.spool.cluster.cell import Cell
    from pillarbox.spool.cluster.schema import MIGRATIONS, ROOM
    from pillarbox.store.migrations import check

    try:
        store = open_owners(settings, dsn, password_file, name="pillarbox spool")
    except CellUnusable as error:
        raise CommandError(str(error)) from None
    try:
        await check(store, ROOM, len(MIGRATIONS))
        await store.read(("SELECT FROM restored LIMIT 1", ()))  # the owner may
    except StoreError as error:
        await store.close()
        raise CommandError(
            refusal(settings.name, error),
            "it must have this program's tables (`pillarbox cluster upgrade`), and we must be their owner: "
            "name that user with --admin-dsn",
        ) from None
    return Cell(store, time.time)


@contextmanager
def _as_servers_user(settings: Settings) -> Iterator[None]:
    """Root reads and writes there as the server does."""
    from pillarbox.daemon import privileges  # late: not needed for --help

    server = settings.server
    with privileges.acting_for(server.data_directory, privileges.find_user(server)):
        yield


# -- files


def _to_file(file: str, work: Any) -> Exported:
    """Beside its final name, on stable storage before it gets it: a file that is there is a whole one."""
    if file == "-":
        with open(os.dup(1), "wb") as out, log_to_stderr():
            piped: Exported = run(work(out))
        return piped
    path = Path(file)
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as out:
            with log_to_stderr():
                exported: Exported = run(work(out))
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return exported


_EVERY = 2.0


@contextmanager
def _progress(done: str) -> Iterator[Any]:
    """On a terminal a line that counts."""
    shown_at = time.monotonic()
    shown = False

    def tell(number: int) -> None:
        nonlocal shown_at, shown
        if sys.stderr.isatty() and time.monotonic() - shown_at >= _EVERY:
            shown_at, shown = time.monotonic(), True
            print(f"\r{count(number, 'message')} {done}", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if shown:
            print(file=sys.stderr)


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except (ArchiveError, Refused) as error:
        raise CommandError(str(error)) from None
    except SpoolError as error:
        raise CommandError(str(error), "what was done is done; repeat the command: nothing is doubled") from None
    except BrokenPipeError:
        raise CommandError("the pipe was closed") from None
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None

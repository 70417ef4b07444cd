"""The way to a cell as one of its roles: its dsn, and the password from its file.

ERRORS
    CellUnusable: no driver, no password, no DSN, in words.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pillarbox.spool.settings import CellSettings, Role
from pillarbox.store.errors import StoreError
from pillarbox.telemetry.advice import install

if TYPE_CHECKING:
    from pillarbox.store.postgresql import Store

DRIVER_MISSING = f'[spool] kind = "cluster" needs the driver of PostgreSQL: {install("cluster")}'
_LONGEST_PASSWORD = 4_096


class CellUnusable(Exception):
    """The cell cannot be used as configured; ``str()`` says what to change."""


def open_store(cell: CellSettings, role: Role, *, name: str, connections: int = 6) -> "Store":
    """Connects when first asked. Raises CellUnusable."""
    return open_dsn(cell.name, cell.of(role).dsn, cell.of(role).password_file, name=name, connections=connections)


def open_owners(cell: CellSettings, instead: str | None, password_file: Path | None, *, name: str) -> "Store":
    """The owner's way, or a superuser's: the cell's dsn with what ``instead``, another DSN, says instead. Raises
    CellUnusable."""
    ours = cell.of("owner")
    if instead is None:
        return open_dsn(cell.name, ours.dsn, password_file or ours.password_file, name=name)
    _need_driver()
    from pillarbox.store.postgresql import has_password, replaced

    try:
        if has_password(instead):  # others see it there
            raise CellUnusable("--admin-dsn has a password in it; put it into a file: --admin-password-file FILE")
        dsn = replaced(ours.dsn, instead)
    except StoreError as error:
        raise CellUnusable(f"--admin-dsn: {error}") from None
    return open_dsn(cell.name, dsn, password_file, name=name)


def open_dsn(
    cell: str,
    dsn: str,
    password_file: Path | None,
    *,
    name: str,
    connections: int = 6,
    any_server: bool = False,
) -> "Store":
    """``any_server``: a standby will do. Raises CellUnusable."""
    _need_driver()
    from pillarbox.store.postgresql import Store, with_password

    try:
        if password_file is not None:
            dsn = with_password(dsn, read_password(password_file))
        return Store(dsn, name=name, size=connections, any_server=any_server)
    except StoreError as error:
        raise CellUnusable(f"cell {cell}: {error}") from None


def _need_driver() -> None:
    try:
        import pillarbox.store.postgresql  # noqa: F401  # whether it is there
    except ImportError:
        raise CellUnusable(DRIVER_MISSING) from None


def read_password(path: Path) -> str:
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

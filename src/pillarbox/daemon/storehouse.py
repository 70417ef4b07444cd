"""What the spool process keeps: the spool, the guard's ledger, the local accounts; and who may do what with it. A
cluster's spool is only asked by the operator here: the other roles reach their cell themselves.

    storehouse = await Storehouse.open(settings, patience=10.0)
    storehouse.for_submission()     # append, ask the guard, find an account
    storehouse.for_delivery()       # lend, read, settle
    storehouse.for_operator()       # ledger.*, user.*, guard.*

The abilities of a channel hang on the socket that it came in by: these three dicts are the whole of them.

ERRORS
    lock.InUse: another process has the data directory. OSError: a file cannot be opened; its text says which and why.
"""

from typing import Any

from pillarbox.config import Settings
from pillarbox.console.way import CellUnusable
from pillarbox.control.channel import Handlers
from pillarbox.daemon import lock, paths, spools
from pillarbox.daemon.cells import Cells
from pillarbox.daemon.counts import Counts
from pillarbox.daemon.users import Users
from pillarbox.directory import service as directory_service
from pillarbox.directory.app_password_service import app_password_handlers, use_handlers
from pillarbox.directory.import_service import import_handlers
from pillarbox.directory.password import Passwords
from pillarbox.directory.rehash import rehash_handlers
from pillarbox.directory.settings import LocalSettings
from pillarbox.directory.tries import Tries, budget_handlers
from pillarbox.guard.service import guard_handlers
from pillarbox.guard.service import operator_handlers as guard_operator_handlers
from pillarbox.spool import service as spool_service
from pillarbox.spool.base import SpoolError
from pillarbox.spool.embedded import EmbeddedSpool
from pillarbox.store.sqlite import StoreError

ERRORS: tuple[type[Exception], ...] = (*spool_service.ERRORS, *directory_service.ERRORS, ValueError)
"""What crosses the sockets of the spool process by name."""


class Storehouse:
    """See the module's text. Made by open()."""

    def __init__(
        self,
        settings: Settings,
        held: lock.Lock,
        spool: EmbeddedSpool | Cells,
        counts: Counts,
        users: Users,
        tries: Tries,
    ) -> None:
        self.spool = spool
        self.ledger = counts.ledger
        self.counts = counts
        self.users = users
        self._settings = settings
        self._lock = held
        self._passwords = Passwords(local_settings(settings))
        self._tries = tries

    @classmethod
    async def open(cls, settings: Settings, patience: float = 0.0, *, strict: bool = False) -> "Storehouse":
        """Takes the lock within ``patience`` seconds and opens everything. ``strict``: refuses a cell that is not as
        promised. Raises InUse, OSError, CannotStart."""
        directory = settings.server.data_directory
        held = await lock.take(paths.lock_file(directory), patience)
        closers: list[Any] = []
        try:
            spool = await spools.open_owned(settings, strict=strict)
            closers.append(spool)
            counts = await Counts.open(settings)
            closers.append(counts)
            users = await Users.open(settings)
            closers.append(users)
            tries = await Tries.open(directory / "directories.db", machines=counts.machines)
            closers.append(tries)
            await counts.settled()
        except (SpoolError, StoreError, CellUnusable) as error:
            await _close(closers)
            held.release()
            raise OSError(str(error)) from error
        except BaseException:
            await _close(closers)
            held.release()
            raise
        return cls(settings, held, spool, counts, users, tries)

    async def close(self) -> None:
        """Writes what is left, closes the files and lets the next process in."""
        self._passwords.close()
        await _close([self.spool, self.counts, self.users, self._tries])
        self._lock.release()

    def apply(self, settings: Settings) -> None:
        """How passwords are hashed and the guard judges from now on; ask for_operator() again."""
        self.ledger.apply(settings.guard)
        if local_settings(settings) != local_settings(self._settings):
            self._passwords.close()
            self._passwords = Passwords(local_settings(settings))
        self._settings = settings

    def for_submission(self) -> Handlers:
        """What a submission worker may do."""
        intake = spool_service.intake_handlers(self.spool) if isinstance(self.spool, EmbeddedSpool) else {}
        return {
            **intake,
            **guard_handlers(self.ledger),
            **directory_service.lookup_handlers(self.users.lookups),
            **budget_handlers(self._tries),
            **use_handlers(self.users.lookups),
            **rehash_handlers(
                self.users.verbs, lambda: self._passwords, lambda: local_settings(self._settings).scram
            ),
        }

    def for_delivery(self) -> Handlers:
        """What a delivery worker may do."""
        return dict(spool_service.outbox_handlers(self.spool)) if isinstance(self.spool, EmbeddedSpool) else {}

    def for_operator(self) -> Handlers:
        """What the operator may do."""
        return {
            **spool_service.ledger_handlers(self.spool),
            **guard_operator_handlers(self.ledger),
            **directory_service.operator_handlers(
                self.users.verbs, local_settings(self._settings), passwords=self._passwords
            ),
            **app_password_handlers(self.users.verbs, self.users.lookups),
            **import_handlers(self.users.verbs),
        }


def local_settings(settings: Settings) -> LocalSettings:
    """How passwords are stored: by the local directory, since there is one set of accounts."""
    return next((each for each in settings.directories if isinstance(each, LocalSettings)), LocalSettings())


async def _close(parts: list[Any]) -> None:
    for part in reversed(parts):
        await part.close()

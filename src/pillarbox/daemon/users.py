"""The local accounts as the spool process has them: its own file, or a copy of those in the first cell.

    users = await Users.open(settings)
    users.lookups         # what workers ask
    users.verbs           # what the operator changes
    await users.close()

ERRORS
    CellUnusable: the way to the first cell cannot be used as configured. StoreError: the file cannot be opened.
"""

from typing import TYPE_CHECKING

from pillarbox.config import Settings
from pillarbox.console.way import open_store
from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.cluster import ClusterAccounts
from pillarbox.spool.settings import CellsSettings

if TYPE_CHECKING:
    from pillarbox.store.postgresql import Store

CONNECTIONS = 2
"""For the question of each second, and for a verb beside it."""


class Users:
    """See the module's text. Made by open()."""

    def __init__(self, lookups: AccountsStore, cluster: ClusterAccounts | None, store: "Store | None") -> None:
        self.lookups = lookups
        self.verbs: AccountsStore | ClusterAccounts = lookups if cluster is None else cluster
        self._cluster, self._store = cluster, store

    @classmethod
    async def open(cls, settings: Settings) -> "Users":
        """Opens the file; with a cluster, begins to follow its first cell. Raises CellUnusable, StoreError."""
        path = settings.server.data_directory / "accounts.db"
        if not isinstance(settings.spool, CellsSettings):
            return cls(await AccountsStore.open(path), None, None)
        first = settings.spool.cells[0]
        store = open_store(first, "keeper", name="pillarbox accounts", connections=CONNECTIONS)
        store.quorum = settings.spool.durability == "quorum"
        try:
            lookups = await AccountsStore.open(path, copy=True)
        except BaseException:
            await store.close()
            raise
        cluster = ClusterAccounts(store, lookups, name=first.name)
        await cluster.start()
        return cls(lookups, cluster, store)

    async def close(self) -> None:
        """Ends the following and closes the file."""
        if self._cluster is not None:
            await self._cluster.close()
        await self.lookups.close()
        if self._store is not None:
            await self._store.close()

    def status(self) -> str | None:
        """What an operator should know of the copy; None: all is well."""
        return None if self._cluster is None else self._cluster.status()

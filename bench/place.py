"""Where the cluster is measured: one cell of three nodes with quorum commit, and folders for the embedded spool.

    with place(folder, tls=False) as where:
        database = where.database(100_000)         # filled once, then used by every round
        where.server(100_000)                      # a folder of bench.server.Server with such an embedded queue

The cell is that of tests/support/cell.py: Patroni with etcd, fsync on, everything on this machine's one disk.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import uvloop
from bench.figures import tree_cpu
from bench.filling import fill_cell, fill_embedded, rest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.support.cell import Cell, running_cell
from tests.support.certs import Authority

from pillarbox.spool.cluster.spool import make_tables
from pillarbox.spool.settings import ClusterSettings

OWNER = "pillarbox"
PARAMETERS: dict[str, Any] = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
"""Else as tests/support/cell.py has it; the rest is PostgreSQL's own."""


@dataclass(frozen=True, slots=True)
class Database:
    """One database of the cell. ``dsn``: as its owner; ``root``: as a superuser, for filling and looking."""

    name: str
    dsn: str
    root: str


@dataclass
class Place:
    """See the module's text."""

    folder: Path
    cell: Cell
    filled_in: dict[str, float] = field(default_factory=dict)
    """Seconds that each filling took."""
    _databases: dict[str, Database] = field(default_factory=dict)
    _folders: dict[int, Path] = field(default_factory=dict)

    def database(self, depth: int, name: str = "") -> Database:
        """A database with the tables and so many messages."""
        name = name or f"depth{depth}"
        if name not in self._databases:
            self._databases[name] = self._make(name, depth)
        return self._databases[name]

    def _make(self, name: str, depth: int) -> Database:
        if not self._databases:
            self.cell.create_database("first", owner=OWNER)
            with psycopg.connect(self.cell.dsn(), autocommit=True) as connection:
                connection.execute(f"GRANT pg_read_all_stats TO {OWNER}")
        with psycopg.connect(self.cell.dsn(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER {OWNER}")
        made = Database(name, self.cell.dsn(OWNER, name), self.cell.dsn("postgres", name))
        uvloop.run(_tables(made.dsn))
        began = time.monotonic()
        if depth:
            fill_cell(made.root, depth)
        else:
            rest(made.root)
        self.filled_in[f"cell, {depth:,}"] = time.monotonic() - began
        return made

    def server(self, depth: int) -> Path:
        """A server's folder whose embedded spool (data/spool) has so many messages."""
        if depth not in self._folders:
            folder = self._folders[depth] = self.folder / f"embedded{depth}"
            (folder / "data").mkdir(parents=True)
            began = time.monotonic()
            fill_embedded(folder / "data" / "spool", depth)
            self.filled_in[f"embedded, {depth:,}"] = time.monotonic() - began
        return self._folders[depth]

    def configuration(self, database: Database) -> str:
        """The tables of pillarbox.toml for a queue there."""
        secret = self.folder / f"{database.name}.password"
        parts: dict[str, Any] = conninfo_to_dict(database.dsn)
        secret.touch(mode=0o600)
        secret.write_text(str(parts.pop("password")))
        dsn = make_conninfo(**parts)
        return f'[spool]\nkind = "cluster"\n[[spool.cell]]\nname = "a"\ndsn = "{dsn}"\npassword_file = "{secret}"\n'

    def nodes_cpu(self) -> dict[str, float]:
        """CPU seconds of PostgreSQL: on the primary, and on all standbys together."""
        primary = self.cell.primary()
        spent = {"primary": 0.0, "standbys": 0.0}
        for node in self.cell.nodes:
            spent["primary" if node is primary else "standbys"] += tree_cpu(node.pids("postgres"))
        return spent

    def version(self) -> str:
        """What serves."""
        with psycopg.connect(self.cell.dsn()) as connection:
            (version,) = connection.execute("SELECT current_setting('server_version')").fetchone() or ("",)
        return f"PostgreSQL {version}, three nodes, ANY 1 of two standbys, under Patroni; {PARAMETERS}"


async def _tables(dsn: str) -> None:
    await make_tables(ClusterSettings(dsn))


@contextlib.contextmanager
def place(folder: Path, *, tls: bool) -> Iterator[Place]:
    """All of it, gone at the end."""
    with running_cell(Authority(folder), tls=tls, parameters=PARAMETERS) as cell:
        try:
            yield Place(folder, cell)
        finally:
            for path in folder.glob("embedded*"):
                shutil.rmtree(path, ignore_errors=True)


def per_message(before: dict[str, float], after: dict[str, float], messages: int) -> dict[str, float]:
    """CPU microseconds of each for each message."""
    return {f"{name}_us": (after[name] - before[name]) / max(messages, 1) * 1e6 for name in after}

"""What the spool needs to know; made by config."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """``directory`` holds spool.db, content/ and incoming/. ``min_free`` octets are kept free for settling; None: the
    larger of 1 GiB and 5 % of the file system."""

    directory: Path
    min_free: int | None = None

    @property
    def incoming(self) -> Path:
        """Where submission writes large contents for the spool process to adopt."""
        return self.directory / "incoming"


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """One cell: ``dsn`` as libpq takes it, several hosts if there are; ``name`` is what the server shows of this
    process; ``connections`` that it makes at most."""

    dsn: str
    name: str = "pillarbox"
    connections: int = 6


Durability = Literal["quorum", "local"]
"""What a 250 promises: a quorum of machines has the message, or the disk of one."""

Role = Literal["owner", "submission", "delivery", "keeper"]
"""As whom a cell is asked. owner: makes its tables, and is no process. submission: commits messages. delivery: leases
and settles them. keeper: the spool process with the operator's verbs, the guard and the accounts."""

PLACE_OF_ROLE = "{role}"


@dataclass(frozen=True, slots=True)
class CellSettings:
    """One cell as the configuration names it. ``dsn`` holds no password: ``password_file`` does, or what libpq looks
    at by itself. In both ``{role}`` stands for the Role of who asks. ``max_size``: octets of its database from which
    on it takes no mail. ``accepts``: whether new mail goes there; what is in it is delivered in either case."""

    name: str
    dsn: str
    password_file: Path | None = None
    max_size: int | None = None
    accepts: bool = True

    def of(self, role: Role) -> "CellSettings":
        """What this role uses."""
        secret = self.password_file
        named = None if secret is None else Path(str(secret).replace(PLACE_OF_ROLE, role))
        return replace(self, dsn=self.dsn.replace(PLACE_OF_ROLE, role), password_file=named)


@dataclass(frozen=True, slots=True)
class CellsSettings:
    """The spool over cells, each with a name of its own; guard and accounts are in the first."""

    cells: tuple[CellSettings, ...]
    durability: Durability = "quorum"

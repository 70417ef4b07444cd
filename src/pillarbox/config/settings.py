"""The whole configuration as the composition root takes it."""

from dataclasses import dataclass
from pathlib import Path

from pillarbox.certificates.settings import AcmeSettings
from pillarbox.delivery.settings import DeliverySettings
from pillarbox.directory.settings import DirectorySettings
from pillarbox.guard.settings import GuardSettings
from pillarbox.spool.settings import CellsSettings, EmbeddedSettings
from pillarbox.submission.settings import Address, SiteSettings


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Processes and places. ``data_directory`` is durable, ``run_directory`` holds the sockets."""

    data_directory: Path
    run_directory: Path
    user: str | None
    run_as_root: bool
    submission_workers: int
    delivery_workers: int
    drain_time: float


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The log: its form and the least level that is written. ``domino_lines``: the file for a Domino SMTP task's
    console lines, None: not wanted."""

    form: str  # "json" or "readable"
    level: str
    domino_lines: Path | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything. ``text`` is the file as read, ``path`` where from."""

    path: Path
    text: str
    server: ServerSettings
    log: LogSettings
    metrics: Address | None
    spool: EmbeddedSettings | CellsSettings
    guard: GuardSettings
    directories: tuple[DirectorySettings, ...]
    sites: tuple[SiteSettings, ...]
    delivery: DeliverySettings
    acme: AcmeSettings | None = None
    """None: no site has certificate = "acme"."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in the file. ``str()`` is ``path:line: key: found X; expected Y; did you mean Z?``"""

    path: Path
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class ConfigError(Exception):
    """The file is refused whole; ``mistakes`` has all of them (or the one of syntax)."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes

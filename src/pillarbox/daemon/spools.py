"""Which spool a role uses, by [spool] kind: the one place that decides.

    embedded    the spool process has the files; submission and delivery reach it over its sockets
    cluster     every process has connections of its own to each cell; the spool process answers the operator

ERRORS
    None here; each raises its own when it is started.
"""

from typing import TYPE_CHECKING

from pillarbox.config import Settings
from pillarbox.control.link import Link
from pillarbox.daemon.cells import Cells
from pillarbox.spool.remote import RemoteIntake, RemoteOutbox
from pillarbox.spool.settings import CellsSettings

if TYPE_CHECKING:
    from pillarbox.spool.embedded import EmbeddedSpool


def make_intake(settings: Settings, link: Link, worker: int) -> RemoteIntake | Cells:
    """What a submission worker commits to."""
    if isinstance(settings.spool, CellsSettings):
        return Cells(settings.spool, f"pillarbox submission {worker}", "submission")
    return RemoteIntake(link, settings.spool.incoming)


def make_outbox(settings: Settings, link: Link, worker: int) -> RemoteOutbox | Cells:
    """What a delivery worker lends from."""
    if isinstance(settings.spool, CellsSettings):
        return Cells(settings.spool, f"pillarbox delivery {worker}", "delivery")
    return RemoteOutbox(link)


async def open_owned(settings: Settings, *, strict: bool) -> "EmbeddedSpool | Cells":
    """What the spool process has. ``strict``: whether a cell that is not as promised is refused. Raises SpoolError,
    CannotStart."""
    if isinstance(settings.spool, CellsSettings):
        spool = Cells(settings.spool, "pillarbox spool", "keeper")
        await spool.start(strict=strict)
        return spool
    from pillarbox.spool.embedded import open_spool  # late: no other process needs SQLite

    return await open_spool(settings.spool)


def is_there(part: RemoteIntake | RemoteOutbox | Cells, link: Link) -> bool:
    """Whether the spool behind it answers; of several cells, whether one takes mail."""
    return part.takes_mail() if isinstance(part, Cells) else link.connected


def weaker_promise(settings: Settings) -> str | None:
    """What the log and `pillarbox status` say of a cluster whose promise is a weaker one; else None."""
    if isinstance(settings.spool, CellsSettings) and settings.spool.durability == "local":
        return 'durability = "local": a 250 means one machine\'s disk, not a quorum of machines'
    return None

"""What `pillarbox cluster check` and the daemon's log say of a cell with which something is wrong.

said = Said()                                       # in place of daemon.cells.log
await assert_told(cell, said, "does not match host name", "; name it in dsn as")
"""

import asyncio
from collections.abc import Callable

from pillarbox.console.cells import look_at
from pillarbox.daemon.cells import CellSpool
from pillarbox.daemon.process import CannotStart
from pillarbox.doctor.report import Severity
from pillarbox.spool.settings import CellSettings, CellsSettings


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110  # what another process does
            await asyncio.sleep(0.02)


class Said:
    """What was written to the log: the fields of each line."""

    def __init__(self) -> None:
        self.lines: list[dict[str, str]] = []

    def error(self, event: str, **fields: str) -> None:
        self.lines.append({"event": event, **fields})

    info = exception = error

    def reasons(self, event: str) -> list[str]:
        return [f"{line['cell']}: {line['reason']}" for line in self.lines if line["event"] == event]


async def in_check(cell: CellSettings) -> list[str]:
    """What `pillarbox cluster check` shows as an error."""
    (look,) = await look_at(CellsSettings((cell,), "local"), patience=20)
    return [f"{one.message}; {one.advice}" for one in look.findings if one.severity is Severity.ERROR]


async def in_log(cell: CellSettings, said: Said) -> list[str]:
    """Why a submission worker waits for it, or does not start."""
    spool = CellSpool(cell, "local", "test", "submission")
    try:
        await spool.start()
    except CannotStart as error:
        return [str(error)]
    try:
        return said.reasons("cell.awaited")
    finally:
        await spool.close()


async def assert_told(cell: CellSettings, said: Said, *texts: str) -> None:
    """All of these in each."""
    for told in (await in_check(cell), await in_log(cell, said)):
        assert told
        assert all(text in line for line in told for text in texts), told

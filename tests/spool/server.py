"""A program for tests: the spool in its own process. `python -m tests.spool.server DIRECTORY SOCKET [MIN_FREE]`"""

import asyncio
import sys
from pathlib import Path

from pillarbox.control.channel import serve
from pillarbox.spool.embedded import open_spool
from pillarbox.spool.service import ERRORS, intake_handlers, ledger_handlers, outbox_handlers
from pillarbox.spool.settings import EmbeddedSettings


async def main() -> None:
    """Serves until it is killed."""
    spool = await open_spool(EmbeddedSettings(Path(sys.argv[1]), int(sys.argv[3]) if len(sys.argv) > 3 else 0))
    handlers = {**intake_handlers(spool), **outbox_handlers(spool), **ledger_handlers(spool)}
    await serve(Path(sys.argv[2]), lambda peer: handlers, errors=ERRORS)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

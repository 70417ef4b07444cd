"""What commands print: tables, JSON, errors. The only importer of rich.

Data goes to standard output, everything else to standard error. A table on a terminal fits it; in a pipe it is as
wide as it needs to be, so that nothing is cut off.

ERRORS
    None.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 10_000
_TURNS = (0x061C, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
_CONTROL = {code: "?" for code in (*range(32), *range(127, 160), *_TURNS) if code not in (9, 10)}
"""Control characters from outside (a reply, an address) must not reach a terminal, nor what turns the direction of
text or cannot be seen: a line would look like another one."""


def say(text: str) -> None:
    """One line, or several, on standard output."""
    print(text.translate(_CONTROL))


def remark(text: str) -> None:
    """A line for the person, on standard error."""
    print(text.translate(_CONTROL), file=sys.stderr)


def say_error(*lines: str) -> None:
    """``error: ...`` on standard error, one line each."""
    for line in lines:
        print(f"error: {line}".translate(_CONTROL), file=sys.stderr)


def say_json(value: Any) -> None:
    """``value`` as JSON on standard output; ASCII, for a terminal obeys U+009B as it does ESC [."""
    print(json.dumps(value, indent=2, sort_keys=False))


def say_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under a head. What one copies, ids, is never broken: the other columns are narrower for it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, overflow="fold", no_wrap=name in ("QUEUE ID", "ID"))
    for row in rows:
        table.add_row(*(Text(str(cell).translate(_CONTROL)) for cell in row))
    _console().print(table)


def mark(severity: str) -> str:
    """A severity as it stands before a finding."""
    return {"ok": "ok     ", "note": "note   ", "warning": "WARNING", "error": "ERROR  "}.get(severity, severity)


def ago(moment: float | None, now: float | None = None) -> str:
    """A moment, as the time since or until then: "5m", "in 2h", "-"."""
    if moment is None:
        return "-"
    seconds = (time.time() if now is None else now) - moment
    return f"in {span(-seconds)}" if seconds < -1 else span(max(seconds, 0))


def span(seconds: float) -> str:
    """A length of time, roughly: "42s", "17m", "5h", "3d"."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def count(number: int, thing: str) -> str:
    """ "1 message", "2 messages"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def moment_text(moment: float | None) -> str:
    """A moment in local time, to the second."""
    return "-" if moment is None else time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(moment))


def _console() -> Console:
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(width=wide, highlight=False, soft_wrap=False)

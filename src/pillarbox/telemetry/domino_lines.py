"""The console lines of a Domino SMTP task, in a file of their own, for what already reads a Domino's console.log.

    configure(Path("/var/log/pillarbox/console.log"))      # at start-up and at each reload: opens it anew
    configure(None)                                        # off, which is how it begins

Some events of the log become a line here as well, whatever the log's level:

    2026-01-31 23:59:59   SMTP Server: 192.0.2.1 connected
    2026-01-31 23:59:59   SMTP Server: Authentication succeeded for user anna ; connecting host 192.0.2.1
    2026-01-31 23:59:59   SMTP Server: Authentication failed for user anna ; connecting host 192.0.2.1
    2026-01-31 23:59:59   SMTP Server: Connection from [192.0.2.1] rejected for policy reasons.
    2026-01-31 23:59:59   SMTP Server: 192.0.2.1 disconnected. 1 message[s] received

The date is the one that no reader takes for another day (Domino's DateOrder=YMD, DateSeparator=-); the time is local
time, as a Domino's and as fail2ban expects it where no zone is named. What a stranger typed as the login cannot end
a line, nor say by its punctuation what only the server says: see ``_UNSAID``.

Each write is whole lines appended (O_APPEND), so several processes share the file. It is opened anew when somebody
renamed or removed it, which is looked for each second.

ERRORS
    None: what cannot be written is left out, and the log says so once, and once when it goes on.
"""

import asyncio
import atexit
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pillarbox.telemetry import events

MODE: Final = 0o640
LOOK_EVERY: Final = 1.0
"""Seconds between two looks whether the file was rotated, and between two tries to open one that cannot be."""

LOGIN_CEILING: Final = 200

_UNSAID: Final = re.compile(r"[][;]")
"""Domino's lines set the peer's address off by these; no name needs them."""

_CUT: Final = b" (cut)\n"
"""Ends a line of which a full disk took only the first part, so that its last part is no shorter address."""

_log = events.get_logger("telemetry")


def _said(login: object) -> str:
    """A login as part of one line: what is not printable, or has a meaning in the line, becomes a question mark."""
    text = _UNSAID.sub("?", str(login)[:LOGIN_CEILING])
    return "".join(letter if letter.isprintable() else "?" for letter in text)


_FORMS: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "session.opened": lambda of: f"{of['peer']} connected",
    "session.closed": lambda of: f"{of['peer']} disconnected. {of['messages']} message[s] received",
    "signin.succeeded": lambda of: (
        f"Authentication succeeded for user {_said(of['login'])} ; connecting host {of['peer']}"
    ),
    "signin.failed": lambda of: f"Authentication failed for user {_said(of['login'])} ; connecting host {of['peer']}",
    "signin.blocked": lambda of: f"Connection from [{of['peer']}] rejected for policy reasons.",
    "connection.refused": lambda of: (
        f"Connection from [{of['peer']}] rejected for policy reasons." if of["reason"] == "blocked" else ""
    ),
}


class DominoLines:
    """The file. Its lines of one turn of the event loop leave in one write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._identity = (0, 0)
        self._looked_at = float("-inf")
        self._lines: list[bytes] = []
        self._cut = False
        self._unwritten = 0

    def take(self, event: str, fields: Mapping[str, Any]) -> None:
        """Writes the event's line, at the end of the loop's turn or now."""
        text = _FORMS[event](fields)
        if not text:
            return
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')}   SMTP Server: {text}\n"
        self._lines.append(line.encode("utf-8", "replace"))
        loop = asyncio._get_running_loop()  # as in events: the public function raises where there is none
        if loop is None:
            self.flush()
        elif len(self._lines) == 1:
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Writes what is kept, or counts it as unwritten."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        octets = (_CUT if self._cut else b"") + b"".join(lines)
        try:
            self._look()
            if self._file < 0:
                self._unwritten += len(lines)
                return
            written = os.write(self._file, octets)
        except OSError as error:
            self._failed(error.strerror or str(error), len(lines))
            return
        if written < len(octets):
            self._cut = not octets[:written].endswith(b"\n")
            self._failed("only a part could be written", octets[written:].count(b"\n"))
            return
        self._cut = False
        if self._unwritten:
            _log.info("domino_lines.resumed", path=str(self._path), unwritten=self._unwritten)
            self._unwritten = 0

    def close(self) -> None:
        """Writes what is kept, and closes."""
        self.flush()
        self._let_go()

    # -- inside

    def _look(self) -> None:
        """Opens the file, anew when another one or none has its name; not more often than each LOOK_EVERY.
        Raises OSError."""
        now = time.monotonic()
        if now < self._looked_at + LOOK_EVERY:
            return
        self._looked_at = now
        if self._file >= 0:
            try:
                there = os.stat(self._path)
            except FileNotFoundError:
                pass
            else:
                if (there.st_dev, there.st_ino) == self._identity:
                    return
            self._let_go()
        self._open()

    def _open(self) -> None:
        """Never waits, whatever has the name: a pipe without a reader is an error. Raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK
        try:
            file = os.open(self._path, flags | os.O_EXCL, MODE)
            os.fchmod(file, MODE)
        except FileExistsError:
            file = os.open(self._path, flags, MODE)
        facts = os.fstat(file)
        self._file, self._identity, self._cut = file, (facts.st_dev, facts.st_ino), False

    def _failed(self, reason: str, lines: int) -> None:
        if not self._unwritten:
            _log.warning("domino_lines.failed", path=str(self._path), reason=reason)
        self._unwritten += lines

    def _let_go(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class _Setup:
    """What configure set, for the whole process."""

    lines: DominoLines | None = None


def configure(path: Path | None) -> None:
    """From now on the lines go to this file, opened anew; None: nowhere."""
    before, _Setup.lines = _Setup.lines, None if path is None else DominoLines(path)
    if before is not None:
        before.close()
    events.tap(frozenset(_FORMS), _Setup.lines.take) if _Setup.lines is not None else events.tap(frozenset(), None)


@atexit.register
def _end() -> None:
    if _Setup.lines is not None:
        _Setup.lines.close()

"""Structured events: one line each on standard output, JSON or readable.

    log = get_logger("submission").bind(session="...")     # bound once a session: cheap
    log.info("session.opened", peer="192.0.2.1", listener="submission")

An event's name is ``noun.past_participle``; every field is typed at the call; a line of a session has ``session``,
a line of a message ``queue_id``. Values whose key names a secret (password, secret, token, authorization,
response, credentials) are replaced before anything is rendered, at any depth.
docs/reference/events.md lists every name; a test compares it with the code.

A line has ``time`` (UTC, milliseconds), ``level``, ``event``, ``room``, the process's ``role`` and ``worker`` (when
set), then the fields. Loggers look at the set-up of the moment: those made at import time obey a later configure.

The lines of one turn of an event loop leave in one write at its end, before the process waits for anything; from
warnings on, and where no loop runs, each line leaves at once. A process killed within a turn loses that turn's lines.

ERRORS
    None: a log that cannot be written (its reader went away) never stops the server.
"""

import asyncio
import atexit
import os
import select
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol, cast

import structlog

from pillarbox.telemetry.rendering import as_json, as_readable, redact, traceback_of

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""Names of levels in the configuration."""


class Logger(Protocol):
    """What the rooms hold; structlog's bound logger satisfies it."""

    def bind(self, **fields: Any) -> "Logger":
        """A logger that adds these fields to each line."""
        ...

    def debug(self, event: str, **fields: Any) -> None: ...

    def info(self, event: str, **fields: Any) -> None: ...

    def warning(self, event: str, **fields: Any) -> None: ...

    def error(self, event: str, **fields: Any) -> None: ...

    def exception(self, event: str, **fields: Any) -> None:
        """error, with the traceback of the exception in flight."""
        ...


class _Setup:
    """What configure set, for the whole process."""

    form = "readable"
    level = LEVELS["info"]
    process: dict[str, Any] = {}  # noqa: RUF012  replaced whole by configure, never changed
    tapped: frozenset[str] = frozenset()
    tap: "Tap | None" = None


def configure(*, form: Literal["json", "readable"], level: str = "info", role: str = "", worker: int = 0) -> None:
    """Sets up the process's log once, at start-up; writes to standard output.

    Raises:
        ValueError: no such form or level.
    """
    if form not in ("json", "readable"):
        raise ValueError(f"log form {form!r} is neither json nor readable")
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is none of {', '.join(LEVELS)}")
    _Setup.form = form
    _Setup.level = LEVELS[level]
    _Setup.process = {"role": role, **({"worker": worker} if worker else {})} if role else {}


Tap = Callable[[str, dict[str, Any]], None]


def tap(names: frozenset[str], to: Tap | None) -> None:
    """These events (info and warning) also go to ``to(event, fields)``, whatever the least level is; one tap at a
    time. ``to`` never raises; the fields are as logged, secrets not replaced."""
    _Setup.tapped, _Setup.tap = names if to is not None else frozenset(), to


def get_logger(room: str) -> Logger:
    """The logger of a room; usable before configure (then it is readable, level info)."""
    return cast(Logger, _BoundLogger(None, (), {"room": room}))


class _BoundLogger(structlog.BoundLoggerBase):
    """structlog's bound logger with a level that may change after loggers were made."""

    def debug(self, event: str, **fields: Any) -> None:
        if _Setup.level <= 10:
            self._proxy_to_logger("debug", event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        if event in _Setup.tapped:
            self._tap(event, fields)
        if _Setup.level <= 20:
            self._proxy_to_logger("info", event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        if event in _Setup.tapped:
            self._tap(event, fields)
        if _Setup.level <= 30:
            self._proxy_to_logger("warning", event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        self._proxy_to_logger("error", event, **fields)

    def exception(self, event: str, **fields: Any) -> None:
        fields.setdefault("exc_info", True)
        self._proxy_to_logger("error", event, **fields)

    def _tap(self, event: str, fields: dict[str, Any]) -> None:
        if _Setup.tap is not None:
            _Setup.tap(event, {**self._context, **fields})

    def _proxy_to_logger(self, method_name: str, event: str | None = None, **event_kw: Any) -> None:
        """One pass from the fields to the line: structlog's chain of processors would copy them twice more."""
        line = _render(method_name, event, self._context, event_kw)
        _SINK.take(line, urgent=method_name not in ("debug", "info"))


class _Sink:
    """Writes lines to descriptor 1."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []  # of this turn of the loop that runs in the process's main thread

    def take(self, line: bytes, *, urgent: bool) -> None:
        """Writes the line, now or at the end of the loop's turn."""
        loop = asyncio._get_running_loop()  # the public function raises where there is none, and costs more
        if loop is None:
            self._write(line)  # also from other threads, whose lines are few
            return
        self._lines.append(line)
        if urgent:
            self.flush()
        elif len(self._lines) == 1:
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Writes what is kept."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._write(lines[0] if len(lines) == 1 else b"".join(lines))

    @staticmethod
    def _write(octets_: bytes) -> None:
        octets = memoryview(octets_)
        while octets:
            try:
                octets = octets[os.write(1, octets) :]
            except BlockingIOError:  # somebody made the pipe non-blocking: wait for the reader
                select.select((), (1,), (), 1.0)
            except OSError:
                return


_SINK = _Sink()
atexit.register(_SINK.flush)


def _render(level: str, event: str | None, context: Any, fields: dict[str, Any]) -> bytes:
    """The whole line at once."""
    exc_info = fields.pop("exc_info", None)
    line = {"time": _now(), "level": level, "event": event, "room": "", **_Setup.process}
    line.update(redact(context))
    line.update(redact(fields))
    if exc_info:
        line["traceback"] = traceback_of(exc_info)
    return as_json(line) if _Setup.form == "json" else as_readable(line)


_second, _second_text = 0, ""


def _now() -> str:
    """Now as 2026-01-31T23:59:59.123Z; the text of a second is made once."""
    global _second, _second_text
    now = time.time()
    second = int(now)
    if second != _second:
        _second, _second_text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{_second_text}.{int((now - second) * 1000):03d}Z"

"""Structured events: one line each on standard output, JSON or readable.

    log = get_logger("submission").bind(session="...")     # bound once a session: cheap
    log.info("session.opened", peer="192.0.2.1", listener="submission")

An event's name is ``noun.past_participle``; every field is typed at the call; a line of a session has ``session``,
a line of a message ``queue_id``. Values whose key names a secret (password, secret, token, authorization,
response, credentials) are replaced before anything is rendered.
docs/reference/events.md lists every name; a test compares it with the code.
"""

from typing import Any, Literal, Protocol


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


def configure(*, form: Literal["json", "readable"], level: str = "info", role: str = "", worker: int = 0) -> None:
    """Sets up the process's log once, at start-up; writes to standard output, one write a line."""
    raise NotImplementedError


def get_logger(room: str) -> Logger:
    """The logger of a room; usable before configure (then it is readable, level info)."""
    raise NotImplementedError

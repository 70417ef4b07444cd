"""Load on a cell that keeps a ledger: threads insert numbered rows, and know of each what the cell said of it.

    with Writers(dsn) as writers:
        ...                               # things go wrong
        writers.wait_for_more(100)        # and are well again
    ledger = writers.ledger()
    assert ledger.lost == 0

A row is *confirmed* (COMMIT returned, without a warning, and before and after it synchronous_standby_names was not
empty), *unknown* (the connection was lost, or a warning came: it may be there) or *refused* (an error before COMMIT:
it is not there). Lost is what was confirmed and is gone.

Why the setting: Patroni 4.1.5 can leave it empty although it is told to be strict (ADR 0011), and then the primary
confirms alone.
"""

import contextlib
import itertools
import socket
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psycopg
from psycopg.conninfo import make_conninfo


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of all rows, and for how long (seconds) nothing was confirmed at most."""

    confirmed: int
    unknown: int
    unknown_there: int
    """Of the unknown, how many are there after all."""
    refused: int
    lost: int
    duplicated: int
    pause: float


class Writers:
    """``threads`` connections that insert, each its next row when the last one is settled. Makes its own table."""

    def __init__(self, dsn: str, *, threads: int = 8, patience: float = 5.0) -> None:
        """``patience``: seconds without an answer after which a writer closes its connection (unknown)."""
        self._dsn = make_conninfo(dsn, tcp_user_timeout=int(patience * 1000))
        self._patience = patience
        self._numbers = itertools.count(1)
        self._confirmed: dict[int, float] = {}
        self._unknown: set[int] = set()
        self._refused = 0
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        with psycopg.connect(self._dsn) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS ledger (n bigint NOT NULL, content bytea)")
            connection.execute("TRUNCATE ledger")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)

    @property
    def confirmed(self) -> int:
        """How many so far."""
        return len(self._confirmed)

    def wait_for_more(self, count: int, timeout: float = 120.0) -> float:
        """Until ``count`` more are confirmed; returns the seconds until the first of them."""
        start, before = time.monotonic(), self.confirmed
        first = None
        while self.confirmed < before + count:
            if first is None and self.confirmed > before:
                first = time.monotonic() - start
            assert time.monotonic() - start < timeout, f"{self.confirmed - before} of {count} after {timeout} s"
            time.sleep(0.01)
        return first if first is not None else time.monotonic() - start

    def ledger(self) -> Ledger:
        """Counts what is there now; call it after the writers have ended."""
        with psycopg.connect(self._dsn) as connection:
            rows = [n for (n,) in connection.execute("SELECT n FROM ledger").fetchall()]
        there = set(rows)
        times = sorted(self._confirmed.values())
        return Ledger(
            confirmed=len(self._confirmed),
            unknown=len(self._unknown),
            unknown_there=len(self._unknown & there),
            refused=self._refused,
            lost=len(self._confirmed.keys() - there),
            duplicated=len(rows) - len(there),
            pause=max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0),
        )

    # -- one thread

    def _work(self) -> None:
        warnings: list[str | None] = []
        while not self._stopping.is_set():
            with contextlib.suppress(psycopg.Error), psycopg.connect(self._dsn, autocommit=True) as connection:
                connection.add_notice_handler(lambda notice: warnings.append(notice.sqlstate))
                while not self._stopping.is_set() and not connection.closed:
                    self._insert(connection, next(self._numbers), warnings)
            self._stopping.wait(0.05)

    def _insert(self, connection: psycopg.Connection, number: int, warnings: list[str | None]) -> None:
        """Raises psycopg.Error after it has entered the row as unknown or refused."""
        asked = False
        # closing the socket is the one way to give up a COMMIT: a cancelled one is committed on this node alone
        alarm = threading.Timer(self._patience, lambda: _close_socket(connection))
        alarm.start()
        try:
            connection.execute("BEGIN")
            connection.execute("INSERT INTO ledger VALUES (%s, %s)", (number, b"x" * 1000))
            _require_standbys(connection)
            asked = True
            connection.execute("COMMIT")
            if "01000" in warnings:
                raise psycopg.OperationalError("not confirmed")
            _require_standbys(connection)
            self._confirmed[number] = time.monotonic()
        except psycopg.Error:
            if asked:
                self._unknown.add(number)
            else:
                self._refused += 1
            raise
        finally:
            alarm.cancel()
            warnings.clear()


def _require_standbys(connection: psycopg.Connection) -> None:
    if connection.execute("SELECT current_setting('synchronous_standby_names')").fetchone() == ("",):
        raise psycopg.OperationalError("this server confirms alone")


def _close_socket(connection: psycopg.Connection) -> None:
    with contextlib.suppress(OSError, psycopg.Error):
        duplicate = socket.socket(fileno=connection.fileno())
        try:
            duplicate.shutdown(socket.SHUT_RDWR)
        finally:
            duplicate.detach()

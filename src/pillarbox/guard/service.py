"""The guard's verbs on a channel, in the spool process.

    guard_handlers(ledger)      what a submission worker may do
    operator_handlers(ledger)   what the operator may do

A worker says ``guard.hello`` on each connection; the answer is the fingerprints' key, and before it comes the note
``guard.state`` with the blocks and known places. From then on every change follows as ``guard.changed``. Notes keep
their order, so no change is lost between the two.

    hello      {failed: [[address, login, fingerprint, at]], succeeded: [...], took: {login: recipients}} -> key
               (what happened while the worker could not ask)
    ask        [address, login] -> [known_place, delay, until or None, failures]
    failed     [address, login, fingerprint, at]                note
    succeeded  [address, login, fingerprint, at]                note
    take       [login, need, batch, limit] -> granted
    took       [login, recipients]                              note
    give_back  [login, recipients]                              note

The clock is this process's own: a worker cannot age a count. Its ``at`` is believed only within the window.

ERRORS
    ValueError for a body of the wrong shape; nothing was counted.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pillarbox.control.channel import Channel, Handlers
from pillarbox.control.frames import from_body
from pillarbox.guard.base import Attempt, Blocked
from pillarbox.guard.ledger import Change, Ledger


class Report(NamedTuple):
    """One attempt on the wire."""

    address: str
    login: str
    fingerprint: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker brings along: what it counted while it could not ask."""

    failed: list[Report] = field(default_factory=list)
    succeeded: list[Report] = field(default_factory=list)
    took: dict[str, int] = field(default_factory=dict)


def guard_handlers(ledger: Ledger, *, clock: Callable[[], float] = time.time) -> Handlers:
    """The verbs of a submission worker's channel."""
    service = _WorkerService(ledger, clock)
    return {
        "guard.hello": service.hello,
        "guard.ask": service.ask,
        "guard.failed": service.failed,
        "guard.succeeded": service.succeeded,
        "guard.take": service.take,
        "guard.took": service.took,
        "guard.give_back": service.give_back,
    }


class _WorkerService:
    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._workers: set[Channel] = set()
        self._stop_listening: Callable[[], None] = lambda: None

    def hello(self, channel: Channel, body: Any) -> bytes:
        hello = from_body(Hello, body or {})
        now = self._clock()
        for report in hello.failed:
            self._ledger.failed(self._attempt(report))
        for report in hello.succeeded:
            self._ledger.succeeded(self._attempt(report))
        for login, recipients in hello.took.items():
            self._took(login, recipients, now)
        blocks, places = self._ledger.blocks(now), self._ledger.known_places(now)
        channel.note("guard.state", _change_body(Change(blocked=blocks, known=places)))
        if not self._workers:
            self._stop_listening = self._ledger.listen(self._changed)
        if channel not in self._workers:
            self._workers.add(channel)
            channel.on_close(lambda: self._left(channel))
        return self._ledger.key

    def _left(self, channel: Channel) -> None:
        self._workers.discard(channel)
        if not self._workers:
            self._stop_listening()

    def ask(self, _channel: Channel, body: Any) -> tuple[bool, float, float | None, int]:
        address, login = from_body(tuple[str, str], body)
        verdict = self._ledger.verdict(address, login, self._clock())
        if verdict.blocked is None:
            return verdict.known_place, verdict.delay, None, 0
        return verdict.known_place, verdict.delay, verdict.blocked.until, verdict.blocked.failures

    def failed(self, _channel: Channel, body: Any) -> None:
        self._ledger.failed(self._attempt(from_body(Report, body)))

    def succeeded(self, _channel: Channel, body: Any) -> None:
        self._ledger.succeeded(self._attempt(from_body(Report, body)))

    def take(self, _channel: Channel, body: Any) -> int:
        login, need, batch, limit = from_body(tuple[str, int, int, int], body)
        if need < 0 or batch < need:
            raise ValueError(f"take: need {need}, batch {batch}")
        return self._ledger.grant(login, need, batch, limit, self._clock())

    def took(self, _channel: Channel, body: Any) -> None:
        login, recipients = from_body(tuple[str, int], body)
        self._took(login, recipients, self._clock())

    def give_back(self, _channel: Channel, body: Any) -> None:
        login, recipients = from_body(tuple[str, int], body)
        self._ledger.give_back(login, recipients, self._clock())

    def _took(self, login: str, recipients: int, now: float) -> None:
        if recipients > 0:
            self._ledger.took(login, recipients, now)
        else:
            self._ledger.give_back(login, -recipients, now)

    def _attempt(self, report: Report) -> Attempt:
        now = self._clock()
        at = min(max(report.at, now - self._ledger.window), now)
        return Attempt(report.address, report.login, report.fingerprint[:16], at)

    def _changed(self, change: Change) -> None:
        body = _change_body(change)
        for channel in tuple(self._workers):
            channel.note("guard.changed", body)


@dataclass(frozen=True, slots=True)
class ChangeBody:
    """A Change on the wire: blocked = [prefix, until, failures], known = prefix -> time."""

    blocked: list[tuple[str, float, int]] = field(default_factory=list)
    lifted: list[str] = field(default_factory=list)
    known: dict[str, float] = field(default_factory=dict)

    def blocks(self) -> dict[str, Blocked]:
        """By prefix."""
        return {prefix: Blocked(until, failures) for prefix, until, failures in self.blocked}


def _change_body(change: Change) -> ChangeBody:
    blocked = [(prefix, block.until, block.failures) for prefix, block in change.blocked.items()]
    return ChangeBody(blocked, list(change.lifted), change.known)


def operator_handlers(ledger: Ledger, *, clock: Callable[[], float] = time.time) -> Handlers:
    """The operator's verbs.

    guard.list      {limit: 100} -> {blocks: [{prefix, until, failures}], prefixes: [...], logins: [...]}
                    prefixes and logins: [{name, failures, last_at, known}], the latest first
    guard.unblock   {prefix: address or prefix} -> {blocked: bool, forgotten: int}
                    {login: login} -> {blocked: False, forgotten: int}
    guard.quota     {login: login} -> {used: int}
    """

    def list_all(_channel: Channel, body: Any) -> dict[str, Any]:
        limit = from_body(int, (body or {}).get("limit", 100))
        now = clock()
        prefixes, logins = ledger.standings(now, limit)
        latest = sorted(ledger.blocks(now).items(), key=lambda item: -item[1].until)[:limit]
        blocks = [{"prefix": name, "until": block.until, "failures": block.failures} for name, block in latest]
        return {"blocks": blocks, "prefixes": prefixes, "logins": logins}

    def unblock(_channel: Channel, body: Any) -> dict[str, Any]:
        asked = from_body(dict[str, str], body)
        if "login" in asked:
            return {"blocked": False, "forgotten": ledger.forget_login(asked["login"])}
        blocked, forgotten = ledger.unblock_prefix(asked["prefix"], clock())
        return {"blocked": blocked, "forgotten": forgotten}

    def quota(_channel: Channel, body: Any) -> dict[str, Any]:
        return {"used": ledger.used(from_body(dict[str, str], body)["login"], clock())}

    return {"guard.list": list_all, "guard.unblock": unblock, "guard.quota": quota}

"""The ledger: the guard's state in the spool process, counted once for all workers and kept over restarts.

    ledger = await Ledger.open(directory / "guard.db", settings)
    ...                                  # it is a Guard itself; workers reach it through service.py
    await ledger.close()

Memory decides (counts.py, quota.py); guard.db follows. Changes gather in memory, the last one of each row, and are
written in one transaction about once a second: a sign-in never waits for the disk. After a crash the counts are
those of the last write; what is lost is at most the last second (docs/explanation/guard.md).

The key of the fingerprints lives in this process's memory only and is new with each start: guard.db by itself
tells nothing about a password. So a wrong password repeated after a restart counts once more.

ERRORS
    A StoreError at open() is raised. Later ones are logged once per outage; counting goes on in memory, and what
    was not written is tried again.
"""

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pillarbox.guard.base import Attempt, Blocked, Verdict
from pillarbox.guard.counts import Counts, Failure, Standing, login_key
from pillarbox.guard.facts import Fact
from pillarbox.guard.prefix import prefix
from pillarbox.guard.quota import BUCKET, BUCKETS, Quota
from pillarbox.guard.settings import GuardSettings
from pillarbox.guard.sharing import Sharing
from pillarbox.guard.tables import MIGRATIONS, Deltas, Loaded, load
from pillarbox.store.sqlite import StoreError, StoreLike, open_store
from pillarbox.telemetry.counters import counter
from pillarbox.telemetry.events import get_logger

log = get_logger("guard")

BLOCKS = counter("guard_blocks_total", "Address prefixes blocked for failed sign-ins")

FLUSH_EVERY = 1.0
PRUNE_EVERY = 60.0
PLACE_STEP = 60.0
"""Seconds by which a known place's last sign-in must have moved to be written again."""
CLOCKS_DIFFER = 5.0
"""Seconds by which a time that was told may be another here."""
PLACES_TOLD = 8_192
"""Known places a worker is told when it connects, the latest ones."""


def fingerprint(key: bytes, login: str, password: str) -> bytes:
    """Keyed BLAKE2b of login NUL password; 16 octets."""
    octets = login.encode("utf-8", "surrogatepass") + b"\0" + password.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(octets, key=key, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Change:
    """What workers must hear of at once: prefixes blocked, blocks lifted, places newly known (with the time)."""

    blocked: dict[str, Blocked] = field(default_factory=dict)
    lifted: tuple[str, ...] = ()
    known: dict[str, float] = field(default_factory=dict)


Listener = Callable[[Change], None]


class Ledger:
    """See the module's text; satisfies Guard. Made by open(), or over a store that is open already, then started."""

    def __init__(
        self, settings: GuardSettings, store: StoreLike, loaded: Loaded, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._counts = Counts(settings)
        self._quota = Quota()
        self._key, self._identities = secrets.token_bytes(32), secrets.token_bytes(32)
        self._sharing: Sharing | None = None
        self._undoings = loaded.undoings
        self._deltas = Deltas()
        self._dirty = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._failing = False
        self._pruned_at = 0.0
        self._place_written: dict[str, float] = {}
        self._listeners: list[Listener] = []
        self._task: asyncio.Task[None] | None = None
        self._restore(loaded)

    @classmethod
    async def open(
        cls,
        path: Path,
        settings: GuardSettings,
        *,
        clock: Callable[[], float] = time.time,
        flush_every: float = FLUSH_EVERY,
    ) -> "Ledger":
        """Opens or makes the file, loads what has not expired, and starts writing behind. Raises StoreError."""
        store = await open_store(path, MIGRATIONS)
        now = clock()
        since = (now - settings.window, now - settings.good_for, int(now // BUCKET) - BUCKETS)
        loaded = await store.read(lambda db: load(db, now, *since))
        ledger = cls(settings, store, loaded, clock=clock)
        ledger.start(flush_every)
        return ledger

    def start(self, flush_every: float = FLUSH_EVERY) -> None:
        """Begins to write behind."""
        self._task = asyncio.create_task(self._write_behind(flush_every), name="guard write-behind")

    async def close(self) -> None:
        """Writes what is left and closes the file."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.flush()
        await self._store.close()

    def apply(self, settings: GuardSettings) -> None:
        """Judges by these from now on."""
        self._settings = settings
        self._counts.apply(settings)

    # -- Guard

    def admit(self, address: str, now: float) -> Blocked | None:
        return self._counts.blocked(prefix(address), now)

    def known(self, address: str, now: float) -> bool:
        return self._counts.known(prefix(address), now)

    def fingerprint(self, login: str, password: str) -> bytes:
        return fingerprint(self._key, login, password)

    async def ask(self, address: str, login: str, now: float) -> Verdict:
        return self.verdict(address, login, now)

    def failed(self, attempt: Attempt) -> None:
        place, login, at = prefix(attempt.address), login_key(attempt.login), attempt.at
        # what is counted, written and told is no fingerprint, but an image of it under a key that is never written
        identity = hashlib.blake2b(attempt.fingerprint, key=self._identities, digest_size=16).digest()
        fresh, blocked = self._counts.failed(place, login, identity, at)
        if fresh:
            self._deltas.failures[place, identity] = Failure(place, login, at)
            self._dirty.set()
            if self._sharing is not None:
                self._sharing.tell("f", at, at + self._settings.window, place=place, login=login, id=identity)
        if blocked is not None:
            if self._sharing is not None:
                self._sharing.tell("b", at, blocked.until, place=place, amount=blocked.failures)
            self._deltas.blocks[place] = blocked
            BLOCKS.add()
            log.warning("guard.blocked", prefix=place, failures=blocked.failures, until=blocked.until)
            self._tell(Change(blocked={place: blocked}))

    def succeeded(self, attempt: Attempt) -> None:
        place, login, at = prefix(attempt.address), login_key(attempt.login), attempt.at
        was_known = self._counts.known(place, at)
        was_blocked = self._counts.blocked(place, at) is not None
        cleared = self._counts.succeeded(place, login, at)
        for print_ in cleared:
            self._deltas.failures[place, print_] = None
            self._dirty.set()
        if self._sharing is not None:
            self._sharing.tell_place(place, at, self._settings.good_for)
        if cleared:
            self._tell_undone("c", at, place=place, login=login)
        if was_blocked:
            self._deltas.blocks[place] = None
        if not was_known or abs(at - self._place_written.get(place, 0.0)) >= PLACE_STEP:
            self._place_written[place] = at
            self._deltas.places[place] = at
            self._dirty.set()
        if not was_known or was_blocked:
            self._tell(Change(lifted=(place,) if was_blocked else (), known={place: at}))

    async def take(self, login: str, recipients: int, limit: int, now: float) -> bool:
        return self.grant(login, recipients, recipients, limit, now) > 0 or recipients == 0

    def give_back(self, login: str, recipients: int, now: float) -> None:
        key = login_key(login)
        for minute in self._quota.give_back(key, recipients, now):
            self._note_bucket(key, minute)

    # -- what service.py adds

    @property
    def key(self) -> bytes:
        """The fingerprints' key, for the workers of this machine."""
        return self._key

    @property
    def window(self) -> float:
        """Seconds for which a failure counts."""
        return self._settings.window

    def verdict(self, address: str, login: str, now: float) -> Verdict:
        """ask(), without waiting."""
        return self._counts.verdict(prefix(address), login_key(login), now)

    def grant(self, login: str, need: int, batch: int, limit: int, now: float) -> int:
        """Quota.grant for a worker that takes in advance."""
        key = login_key(login)
        granted = self._quota.grant(key, need, batch, limit - self._elsewhere(key, now), now)
        if granted:
            self._note_bucket(key, int(now // BUCKET))
        return granted

    def took(self, login: str, recipients: int, now: float) -> None:
        """Counts recipients that a worker let pass while it could not ask."""
        key = login_key(login)
        self._quota.add(key, recipients, now)
        self._note_bucket(key, int(now // BUCKET))

    def blocks(self, now: float) -> dict[str, Blocked]:
        """Every block in force, by prefix."""
        return self._counts.blocks(now)

    def known_places(self, now: float) -> dict[str, float]:
        """The latest ``PLACES_TOLD`` known places with the time of their last sign-in, the oldest of them first."""
        return self._counts.known_places(now, PLACES_TOLD)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Calls ``listener`` with each Change; returns what ends that."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    # -- the operator's

    def standings(self, now: float, limit: int) -> tuple[list[Standing], list[Standing]]:
        """Prefixes and logins with failures, the latest first."""
        return self._counts.standings(now, limit)

    def used(self, login: str, now: float) -> int:
        """Recipients of the login's last 60 minutes, with what workers hold in hand."""
        key = login_key(login)
        return self._quota.used(key, now) + self._elsewhere(key, now)

    def unblock_prefix(self, address: str, now: float) -> tuple[bool, int]:
        """Lifts the block of an address or prefix and forgets its failures: (was blocked, failures forgotten)."""
        place = prefix(address)
        was_blocked = self._counts.blocked(place, now) is not None
        forgotten = self._counts.forget_prefix(place)
        for print_ in forgotten:
            self._deltas.failures[place, print_] = None
        if was_blocked:
            self._deltas.blocks[place] = None
            self._tell(Change(lifted=(place,)))
        self._dirty.set()
        self._tell_undone("l", now, place=place)
        log.info("guard.unblocked", prefix=place, was_blocked=was_blocked, forgotten=len(forgotten))
        return was_blocked, len(forgotten)

    def forget_login(self, login: str) -> int:
        """Forgets a login's failures, wherever they came from; returns how many."""
        forgotten = self._counts.forget_login(login_key(login))
        for place, print_ in forgotten:
            self._deltas.failures[place, print_] = None
        self._dirty.set()
        self._tell_undone("g", self._clock(), login=login_key(login))
        log.info("guard.forgotten", login=login_key(login), forgotten=len(forgotten))
        return len(forgotten)

    # -- other machines'

    @property
    def store(self) -> StoreLike:
        """guard.db, for node.py."""
        return self._store

    def share(self, sharing: Sharing) -> None:
        """Tells others from now on what is counted here; to be called before anything is."""
        self._sharing = sharing
        sharing.before = {(login, minute): recipients for login, minute, recipients in self._quota.buckets()}
        for kind, place, login, at in self._undoings:
            sharing.undo(Fact(kind, place, login, b"", at, at + self._undone_for, 1))
        self._undoings = []

    def tell_missing(self, present: Mapping[tuple[str, str, str, bytes], Fact]) -> int:
        """After everything was heard: tells what is known here and the cell does not have; how many facts."""
        if self._sharing is None:
            return 0
        self._sharing.before = None
        return self._sharing.tell_missing(self._facts(self._sharing, self._clock()), present)

    def _facts(self, sharing: Sharing, now: float) -> Iterator[Fact]:
        """What lives here, and what was undone; when it is too much for the outbox, its first part is left out."""
        settings = self._settings
        for place, at in self._counts.places():
            yield Fact("p", place, "", b"", at, at + settings.good_for, 1)
        for identity, failure in self._counts.failures():
            at = failure.at
            yield Fact("f", failure.prefix, failure.login, identity, at, at + settings.window, 1)
        for place, blocked in self._counts.blocks(now).items():
            at = blocked.until - settings.block_time
            yield Fact("b", place, "", b"", at, blocked.until, blocked.failures)
        for login, minute, recipients in self._quota.buckets():
            if abs(int(now // BUCKET) - minute) <= BUCKETS:
                yield sharing.bucket(login, minute, recipients)
        for kind, place, login, at in sharing.undoings():
            if at + self._undone_for > now:
                yield Fact(kind, place, login, b"", at, at + self._undone_for, 1)

    def merge(self, facts: list[Fact], now: float) -> None:
        """Counts what other machines told; may be told again, in any order. After share()."""
        if self._sharing is None:
            return
        merges = {  # what undoes first: nothing flickers
            "l": self._merge_l,
            "g": self._merge_g,
            "c": self._merge_c,
            "p": self._merge_p,
            "b": self._merge_b,
            "q": self._merge_q,
            "f": self._merge_f,
        }
        order = list(merges)
        known = [fact for fact in facts if fact.kind in merges]  # a newer program's facts are not for us
        for fact in sorted(known, key=lambda fact: (order.index(fact.kind), fact.at)):
            merges[fact.kind](fact, self._sharing, now)
        self._dirty.set()

    def _merge_l(self, fact: Fact, sharing: Sharing, now: float) -> None:
        sharing.undo(fact)
        blocked = self._counts.blocked(fact.place, now)
        if blocked is not None and blocked.until - self._settings.block_time <= fact.at:
            self._counts.lift(fact.place)
            self._deltas.blocks[fact.place] = None
            self._tell(Change(lifted=(fact.place,)))
        self._forget(place=fact.place, until=fact.at)

    def _merge_g(self, fact: Fact, sharing: Sharing, now: float) -> None:
        sharing.undo(fact)
        self._forget(login=fact.login, until=fact.at)

    def _merge_c(self, fact: Fact, sharing: Sharing, now: float) -> None:
        sharing.undo(fact)
        self._forget(place=fact.place, login=fact.login, until=fact.at)

    def _merge_p(self, fact: Fact, sharing: Sharing, now: float) -> None:
        sharing.heard_place(fact.place, fact.at)
        was_known, was_blocked = self._counts.known(fact.place, now), self._counts.blocked(fact.place, now)
        if self._counts.last_at(fact.place) < fact.at:
            self._counts.remember(fact.place, fact.at)
            self._deltas.places[fact.place] = fact.at
        if was_blocked is not None:
            self._counts.lift(fact.place)
            self._deltas.blocks[fact.place] = None
        if not was_known or was_blocked is not None:
            self._tell(Change(lifted=(fact.place,) if was_blocked else (), known={fact.place: fact.at}))

    def _merge_b(self, fact: Fact, sharing: Sharing, now: float) -> None:
        if fact.ends <= now or sharing.undone(fact) or self._counts.known(fact.place, now):
            return
        self._block(fact.place, Blocked(fact.ends, fact.amount), now)

    def _merge_q(self, fact: Fact, sharing: Sharing, now: float) -> None:
        minute = sharing.mine(fact)
        if minute is None:
            sharing.elsewhere.put(fact.login, fact.id, fact.at, fact.amount)
        elif sharing.before is not None:  # told by an earlier start, which was killed before it was in the file
            more = fact.amount - sharing.before.get((fact.login, minute), 0)
            if more > 0:
                sharing.before[fact.login, minute] = fact.amount
                self._quota.add(fact.login, more, minute * BUCKET)
                self._note_bucket(fact.login, minute)

    def _merge_f(self, fact: Fact, sharing: Sharing, now: float) -> None:
        if abs(now - fact.at) >= self._settings.window or sharing.undone(fact):
            return
        failure = Failure(fact.place, fact.login, fact.at)
        fresh, failures, last_at = self._counts.merge(fact.id, failure, now)
        if not fresh:
            return
        self._deltas.failures[fact.place, fact.id] = failure
        until = last_at + self._settings.block_time
        if failures < self._settings.block_failures or until <= now or self._counts.known(fact.place, now):
            return
        if self._block(fact.place, Blocked(until, failures), now):  # where the failures are forgotten, it stays
            sharing.tell("b", last_at, until, place=fact.place, amount=failures)

    def _block(self, place: str, blocked: Blocked, now: float) -> bool:
        """A block that others made, or that follows from their failures, if it is longer than ours by more than
        clocks differ."""
        before = self._counts.blocked(place, now)
        if before is not None and before.until + CLOCKS_DIFFER >= blocked.until:
            return False
        self._counts.block(place, blocked)
        self._deltas.blocks[place] = blocked
        self._tell(Change(blocked={place: blocked}))
        return True

    def _forget(self, *, place: str = "", login: str = "", until: float) -> None:
        for at_place, print_ in self._counts.forget(place, login, until):
            self._deltas.failures[at_place, print_] = None

    def _elsewhere(self, login: str, now: float) -> int:
        return 0 if self._sharing is None else self._sharing.elsewhere.used(login, now)

    def _tell_undone(self, kind: str, at: float, *, place: str = "", login: str = "") -> None:
        if self._sharing is not None:
            self._sharing.tell(kind, at, at + self._undone_for, place=place, login=login)
            self._deltas.undoings[kind, place, login] = at

    @property
    def _undone_for(self) -> float:
        return self._settings.window + self._settings.block_time

    # -- to the file

    async def flush(self) -> None:
        """Writes what changed; returns when it is on stable storage, or logs why not and keeps it for next time."""
        async with self._flushing:
            self._prune(self._clock())
            self._dirty.clear()
            if not self._deltas:
                return
            deltas, self._deltas = self._deltas, Deltas()
            try:
                await self._store.write(deltas.apply)
            except StoreError as error:
                self._deltas = deltas.merged(self._deltas)
                if not self._failing:
                    log.error("guard.unwritten", reason=str(error))
                self._failing = True
                return
            except BaseException:
                self._deltas = deltas.merged(self._deltas)
                raise
            if self._failing:
                log.info("guard.written")
                self._failing = False

    async def _write_behind(self, every: float) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(every)
            await self.flush()
            if self._failing:
                self._dirty.set()

    def _prune(self, now: float) -> None:
        if 0 <= now - self._pruned_at < PRUNE_EVERY:
            return
        self._pruned_at = now
        self._counts.prune(now)
        self._quota.prune(now)
        if self._sharing is not None:
            self._sharing.elsewhere.prune(now)
        settings = self._settings
        minutes_since, undoings_since = int(now // BUCKET) - BUCKETS, now - self._undone_for
        self._deltas.expire = (now - settings.window, now - settings.good_for, now, minutes_since, undoings_since)
        written = self._place_written
        for place in [place for place, at in written.items() if abs(now - at) >= PLACE_STEP]:
            del written[place]

    def _note_bucket(self, login: str, minute: int) -> None:
        self._deltas.quotas[login, minute] = recipients = self._quota.bucket(login, minute)
        if self._sharing is not None:
            self._sharing.tell_bucket(login, minute, recipients)
        self._dirty.set()

    def _tell(self, change: Change) -> None:
        self._dirty.set()
        for listener in tuple(self._listeners):
            listener(change)

    def _restore(self, loaded: Loaded) -> None:
        for place, at in loaded.places:
            self._counts.remember(place, at)
        for print_, failure in loaded.failures:
            self._counts.restore(print_, failure)
        for place, blocked in loaded.blocks:
            self._counts.block(place, blocked)
        for login, minute, recipients in loaded.quotas:
            self._quota.load(login, minute, recipients)

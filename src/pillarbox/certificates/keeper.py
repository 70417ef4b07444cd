"""Keeps each name's certificate new: asks the authority when it is time, and says what came of it.

    keeper = Keeper(settings, make_authority, responder)
    await keeper.run()                   # until cancelled
    keeper.apply(settings)               # a reload: other names, and an operator who wants a try now
    keeper.status()                      # {name: {"until", "reason", "advice", "next_try"}}

One name after the other, each try in a thread. What fails leaves the old certificate where it is, is said with the
reason, the advice and the time of the next try, and is tried again with growing pauses that outlive a restart.

ERRORS
    None raised by run but CancelledError: a failure is a state, shown by status and logged.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, cast

from pillarbox.certificates import hook
from pillarbox.certificates.challenge import Responder
from pillarbox.certificates.renewal import due_at, next_try, rests_until
from pillarbox.certificates.settings import AcmeSettings
from pillarbox.certificates.shelf import Kept, Shelf, Trouble, Unusable, new_key
from pillarbox.telemetry.counters import counter
from pillarbox.telemetry.events import get_logger

T = TypeVar("T")

LONGEST_SLEEP = 3600.0
"""Seconds: clocks are set, machines sleep."""

ASK_WHEN = 6 * 3600.0
"""Seconds between two questions for an authority's suggestion, unless it says when to ask again."""

ISSUED = counter("certificates_issued_total", "Certificates got from the ACME authority", ("site",))
FAILED = counter("certificate_failures_total", "Tries to get a certificate that failed", ("site",))

log = get_logger("certificates")


class AuthorityError(Exception):
    """The authority did not issue; ``str()`` says why. ``advice``: what to do. ``limited``: we ask too often, and are
    to wait so many seconds (0: it did not say how many)."""

    def __init__(self, reason: str, advice: str, *, limited: float | None = None) -> None:
        super().__init__(reason)
        self.advice = advice
        self.limited = limited


class Proof(Protocol):
    """Shows that a name is ours while the authority looks. Blocks; raises AuthorityError."""

    kind: str  # "http-01" or "dns-01"

    def show(self, place: str, value: str) -> None:
        """``place``: the path, or the record's name."""
        ...

    def hide(self, place: str, value: str) -> None:
        """Never raises."""
        ...


class Authority(Protocol):
    """One account with one authority. Blocks; its methods raise AuthorityError."""

    def issue(self, name: str, key: bytes, proof: Proof) -> bytes:
        """A chain (PEM, the leaf first) for ``name`` and ``key``."""
        ...

    def suggestion(self, chain: bytes) -> tuple[float | None, float | None]:
        """When the authority wishes that this certificate is renewed, and when to ask again (seconds since the
        epoch, each None when it does not say)."""
        ...


MakeAuthority = Callable[[AcmeSettings, bytes], Authority]
"""From the settings and the account's key."""


class _ByHttp:
    kind = "http-01"

    def __init__(self, responder: Responder) -> None:
        self._responder = responder

    def show(self, place: str, value: str) -> None:
        self._responder.publish(place, value.encode("ascii"))

    def hide(self, place: str, value: str) -> None:
        self._responder.withdraw(place)


class _ByHook:
    kind = "dns-01"

    def __init__(self, settings: AcmeSettings) -> None:
        self._command, self._seconds = settings.hook, settings.hook_time

    def show(self, place: str, value: str) -> None:
        try:
            hook.present(self._command, place, value, self._seconds)
        except hook.HookFailed as failure:
            raise AuthorityError(str(failure), "run the hook by hand, as the server's user") from None

    def hide(self, place: str, value: str) -> None:
        hook.remove(self._command, place, value, self._seconds)


@dataclass(slots=True)
class _Name:
    """What is known of one name."""

    kept: Kept | None
    trouble: Trouble
    reason: str = ""
    advice: str = ""
    suggested: float | None = None
    ask_at: float = 0.0
    rests_until: float = 0.0

    def due(self) -> float:
        """When something is to be done for it."""
        if self.trouble.failures:
            return self.trouble.next_try
        return max(self.rests_until, due_at(self.kept, self.suggested)) if self.kept is not None else 0.0


class Keeper:
    """See the module's text."""

    def __init__(
        self,
        settings: AcmeSettings,
        make_authority: MakeAuthority,
        responder: Responder,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._shelf = Shelf(settings.folder)
        self._make_authority = make_authority
        self._responder = responder
        self._now = now
        self._names: dict[str, _Name] = {}
        self._stirred = asyncio.Event()

    def apply(self, settings: AcmeSettings) -> None:
        """Other names, another authority from now on; and whoever asked for this wants a try now."""
        self._settings = settings
        self._names = {name: kept for name, kept in self._names.items() if name in settings.names}
        for known in self._names.values():
            known.trouble = Trouble(known.trouble.failures, 0.0)
            known.ask_at = 0.0
        self._stirred.set()

    def status(self) -> dict[str, dict[str, Any]]:
        """Each name: until when its certificate is good (None: there is none), and what hinders a new one."""
        return {
            name: {
                "until": known.kept.not_after if known.kept is not None else None,
                "reason": known.reason or None,
                "advice": known.advice or None,
                "next_try": known.trouble.next_try if known.trouble.failures else None,
            }
            for name, known in self._names.items()
        }

    async def run(self) -> None:
        """Looks after all names until cancelled."""
        await _in_thread(self._shelf.prepare)
        while True:
            self._stirred.clear()
            for name in self._settings.names:
                await self._look_after(name)
            dues = [min(self._names[name].due(), self._asks(self._names[name])) for name in self._names]
            sleep = min([LONGEST_SLEEP, *(due - self._now() for due in dues)])
            try:
                async with asyncio.timeout(max(1.0, sleep)):
                    await self._stirred.wait()
            except TimeoutError:
                continue

    @staticmethod
    def _asks(known: _Name) -> float:
        return known.ask_at if known.kept is not None else float("inf")

    async def _look_after(self, name: str) -> None:
        known = self._names.get(name)
        if known is None:
            known = await _in_thread(self._read, name)
            self._names[name] = known
            if known.kept is None:
                log.warning(
                    "acme.waiting",
                    site=name,
                    directory=self._settings.directory,
                    reason="there is no certificate yet: TLS handshakes for this site fail until one is issued",
                )
        if known.kept is not None and known.ask_at <= self._now():
            await self._ask_when(known, known.kept.chain)
        if known.due() <= self._now():
            await self._try(name, known)

    def _read(self, name: str) -> _Name:
        return _Name(self._shelf.get(name), self._shelf.trouble(name))

    async def _ask_when(self, known: _Name, chain: bytes) -> None:
        """The authority's suggestion; one that cannot be asked now changes nothing."""
        settings = self._settings
        known.ask_at = self._now() + ASK_WHEN
        try:
            known.suggested, again = await _in_thread(lambda: self._authority(settings).suggestion(chain))
        except (AuthorityError, Unusable, OSError) as error:
            log.debug("acme.no_suggestion", reason=str(error))
            return
        if again is not None:
            known.ask_at = max(again, self._now() + 60.0)

    def _authority(self, settings: AcmeSettings) -> Authority:
        return self._make_authority(settings, self._shelf.account_key())

    async def _try(self, name: str, known: _Name) -> None:
        settings = self._settings
        try:
            known.kept = await _in_thread(self._obtain, settings, name)
        except AuthorityError as error:
            await self._failed(name, known, str(error), error.advice, limited=error.limited)
        except (Unusable, OSError) as error:
            await self._failed(name, known, str(error), f"look at {settings.folder} and its disk")
        except Exception:
            log.exception("acme.bug", site=name)
            await self._failed(name, known, "a bug; its traceback is in the log", "please report it")
        else:
            known.trouble, known.reason, known.advice = Trouble(), "", ""
            known.suggested, known.ask_at = None, self._now()
            known.rests_until = rests_until(known.kept, self._now())
            await self._note(name, known.trouble)
            ISSUED.add(1, name)
            log.info("acme.issued", site=name, until=_moment(known.kept.not_after))

    def _obtain(self, settings: AcmeSettings, name: str) -> Kept:
        """A new certificate, kept on the shelf. Blocks."""
        key = new_key()
        proof: Proof = _ByHook(settings) if settings.hook else _ByHttp(self._responder)
        return self._shelf.put(name, key, self._authority(settings).issue(name, key, proof))

    async def _failed(
        self, name: str, known: _Name, reason: str, advice: str, *, limited: float | None = None
    ) -> None:
        failures = known.trouble.failures + 1
        known.trouble = Trouble(failures, next_try(failures, self._now(), known.kept, limited=limited))
        known.reason, known.advice = reason, advice
        await self._note(name, known.trouble)
        FAILED.add(1, name)
        in_use = "none: TLS handshakes for this site fail" if known.kept is None else _moment(known.kept.not_after)
        log.error(
            "acme.failed",
            site=name,
            reason=reason,
            advice=f"{advice}; `pillarbox reload` tries at once",
            next_try=_moment(known.trouble.next_try),
            old_until=in_use,
        )

    async def _note(self, name: str, trouble: Trouble) -> None:
        try:
            await _in_thread(self._shelf.note, name, trouble)
        except OSError as error:
            log.warning("acme.unnoted", site=name, reason=str(error))


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """``work`` in a thread that nobody waits for at the end of the process: an authority may take minutes."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if not done.cancelled():
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(cast("T", value))

    def run() -> None:
        value: T | None = None
        error: BaseException | None = None
        try:
            value = work(*arguments)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, name="acme", daemon=True).start()
    return await done

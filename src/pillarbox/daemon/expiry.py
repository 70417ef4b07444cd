"""Watches the certificates that a submission worker shows: when they end, whether an authority made a new one.

    watch = CertificateWatch(first=True, renewed=...)
    watch.look(settings)              # at the start and after each reload: says what is doubtful
    await watch.run()                 # for ever

The first worker says what clients will trip over, once a day, and counts the time left; every worker looks each few
seconds whether the file of a site with certificate = "acme" is another one, and has it loaded then.

ERRORS
    None raised: what cannot be read is a finding.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pillarbox.config import Settings
from pillarbox.config.certificate import ends_at, examine_pair, now_utc
from pillarbox.doctor.report import Severity
from pillarbox.submission.settings import SiteSettings
from pillarbox.telemetry import counters
from pillarbox.telemetry.events import get_logger

LOOK_EVERY = 2.0
"""Seconds between two looks at the files of an authority's certificates."""

EXAMINE_EVERY = 3600.0
"""Seconds between two examinations of all certificates."""

SAY_EVERY = 86_400.0
"""Seconds after which what is doubtful is said again."""

ENDS = counters.gauge("certificate_expiry_timestamp_seconds", "When a site's certificate ends (Unix time)", ("site",))

_WAITS = "there is no certificate yet: TLS handshakes for this site fail until the authority has issued one"

log = get_logger("daemon")

Stamp = tuple[int, int, int] | None
"""(inode, size, modification): another file has another one; None: there is none."""


class CertificateWatch:
    """See the module's text. ``first``: whether this worker speaks for all."""

    def __init__(
        self, *, first: bool, renewed: Callable[[], Awaitable[None]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first = first
        self._renewed = renewed
        self._clock = clock
        self._sites: tuple[SiteSettings, ...] = ()
        self._stamps: dict[Path, Stamp] = {}
        self._shown: dict[str, dict[str, Any]] = {}
        self._said: dict[tuple[str, str], float] = {}
        self._examined_at = 0.0

    def stamps(self, settings: Settings) -> dict[Path, Stamp]:
        """What the files of the authority's certificates are now: to be taken before they are read."""
        return {site.certificate: _stamp(site.certificate) for site in settings.sites if site.acme}

    def look(self, settings: Settings, stamps: dict[Path, Stamp]) -> None:
        """These sites are served from now on, with certificates that were read when the files were ``stamps``."""
        if settings.sites is not self._sites:  # a start, a reload: an operator looks on
            self._said.clear()
        self._sites, self._stamps = settings.sites, stamps
        self._examine()

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY if self._stamps else EXAMINE_EVERY)
            if any(_stamp(path) not in (None, stamp) for path, stamp in self._stamps.items()):
                await self._load()
            elif self._clock() - self._examined_at >= EXAMINE_EVERY:
                self._examine()

    async def _load(self) -> None:
        """A file that is gone takes nothing away: the old certificate is in use; nor does a bug end the looking."""
        try:
            await self._renewed()
        except Exception:
            log.exception("certificate.failed")

    def status(self) -> dict[str, dict[str, Any]] | None:
        """Each site: until when its certificate is good (None: there is none), and what is doubtful about it."""
        return self._shown if self._first else None

    def _examine(self) -> None:
        self._examined_at = self._clock()
        if not self._first:
            return
        shown: dict[str, dict[str, Any]] = {}
        for site in self._sites:
            until = ends_at(site.certificate)
            if until is not None:
                ENDS.set(until, site.name)
            doubts = _doubts(site, until)
            shown[site.name] = {"until": until, "doubts": [reason for reason, _ in doubts]}
            for reason, advice in doubts:
                self._say(site.name, reason, advice)
        self._shown = shown

    def _say(self, site: str, reason: str, advice: str) -> None:
        """By its advice: the reason counts the days."""
        now = self._clock()
        before = self._said.get((site, advice))
        if before is None or now - before >= SAY_EVERY:
            self._said[site, advice] = now
            log.warning("certificate.doubtful", site=site, reason=reason, advice=advice)


def _doubts(site: SiteSettings, until: float | None) -> list[tuple[str, str]]:
    """What clients will trip over, though we can serve, with what to do about it."""
    if site.acme and until is None:
        return [(_WAITS, "`pillarbox status` says what it waits for")]
    return [
        (finding.message, finding.advice)
        for finding in examine_pair(site.name, site.certificate, site.key, now_utc(), site.name, renews=site.acme)
        if finding.severity in (Severity.WARNING, Severity.ERROR)
    ]


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns

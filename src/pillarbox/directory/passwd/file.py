"""The password file as it is now: read again when it has changed, and not while somebody is still writing it.

    people = PeopleFile(settings)
    people.find("anna")          # blocks for the time of a stat, or of reading

Looked at once a second at most. A new file that is broken, empty or half written leaves the people of the old one in
force and says so once; tools that write a new file and rename it, as htpasswd does not and editors do, never show a
half one.

ERRORS
    Unavailable from find: it could not be read yet.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pillarbox.directory.base import Unavailable
from pillarbox.directory.passwd.entries import Entry, FileBroken, parse
from pillarbox.directory.passwd.settings import PasswdSettings
from pillarbox.telemetry.events import get_logger

log = get_logger("directory")

SIZE_CEILING = 32 * 1024 * 1024
LOOK_EVERY = 1.0
FRESH = 2.0
"""Seconds: one changed so lately is read again, since its time may not tell the next change from this one."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Which state of the file; as far as a stat can tell."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


def read_people(settings: PasswdSettings) -> tuple[Mapping[str, Entry], Mark]:
    """The people and which state of the file says so. Raises FileBroken, OSError."""
    with settings.file.open("rb") as source:
        before = os.fstat(source.fileno())
        if before.st_size > SIZE_CEILING:
            raise FileBroken(f"larger than {SIZE_CEILING} octets")
        octets = source.read(SIZE_CEILING + 1)
        if _mark(before) != _mark(os.fstat(source.fileno())) or len(octets) != before.st_size:
            raise FileBroken("it was changed while it was read")
    return parse(octets, settings.domain), _mark(before)


def _mark(found: os.stat_result) -> Mark:
    return Mark(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class PeopleFile:
    """See the module's text. Used by several threads. ``clock`` is monotonic, ``now`` seconds since the epoch."""

    def __init__(
        self,
        settings: PasswdSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._clock, self._now = clock, now
        self._lock = threading.Lock()
        self._people: Mapping[str, Entry] | None = None
        self._seen: Mark | None = None
        self._look_at = float("-inf")
        self._trouble = ""

    def find(self, key: str) -> Entry | None:
        """Who has this login, in the form of login_key. Raises Unavailable."""
        with self._lock:
            if self._clock() >= self._look_at:
                self._look()
                self._look_at = self._clock() + LOOK_EVERY
            people = self._people
        if people is None:
            raise Unavailable(f"{self._settings.file}: {self._trouble}")
        return people.get(key)

    @property
    def count(self) -> int:
        """How many people there are."""
        return len(self._people or ())

    def _look(self) -> None:
        mark = None
        try:
            mark = _mark(os.stat(self._settings.file))
            if mark == self._seen:
                return
            people, mark = read_people(self._settings)
            if not people and self._people:
                raise FileBroken("nobody is in it any more")
        except FileBroken as broken:
            self._fail(str(broken), mark)
            return
        except OSError as error:
            self._fail(error.strerror or type(error).__name__, None)
            return
        if people != self._people or self._trouble:
            log.info("directory.file_read", directory=self._settings.name, people=len(people))
        self._people, self._trouble, self._seen = people, "", self._settled(mark)

    def _settled(self, mark: Mark) -> Mark | None:
        """The state, unless the next one may look the same."""
        return None if abs(self._now() - mark.modified / 1e9) < FRESH else mark

    def _fail(self, why: str, mark: Mark | None) -> None:
        """Says so once for each reason. ``mark``: the state that is broken, which is not read again: everybody who
        signs in waits for the reading. None: it may be better without a change of the file."""
        if why != self._trouble:
            log.error(
                "directory.file_unusable",
                directory=self._settings.name,
                file=str(self._settings.file),
                reason=why,
                kept=len(self._people or ()),
            )
        self._trouble, self._seen = why, None if mark is None else self._settled(mark)

"""The directories of a submission worker: kept over a reload while their settings are the same, with their caches.

    prepared = directories.prepare(settings)     # may be refused, changes nothing
    directories.apply(prepared)                  # closes later what is not used any more

ERRORS
    Unusable from prepare: a key that cannot be used, a library that is not installed.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from pillarbox.config import Settings
from pillarbox.directory.base import AccountLookup, Denied, Directory, Identity, PeopleDirectory, Unavailable
from pillarbox.directory.budget import Budget
from pillarbox.directory.chain import Member
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.kinds import make_backend, make_dovecot, make_oauth
from pillarbox.directory.local import LocalDirectory
from pillarbox.directory.oauth.settings import OauthSettings
from pillarbox.directory.settings import DirectorySettings, LocalSettings, UpstreamSettings
from pillarbox.directory.upstream import Upstream

OLD_DIRECTORY_TIME = 600.0
"""Seconds after which a directory that a reload replaced is closed."""


class AnyDirectory(Directory, Protocol):
    """One that can be ended."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """What ``apply`` puts in force."""

    directories: Mapping[DirectorySettings, AnyDirectory]

    @property
    def members(self) -> dict[str, Member]:
        """By name, as sites put them into chains."""
        return {
            settings.name: Member(settings.name, directory, settings.names)
            for settings, directory in self.directories.items()
        }


class Directories:
    """See the module's text."""

    def __init__(self, accounts: AccountLookup, budget: Budget) -> None:
        self._accounts = accounts
        self._budget = budget
        self._directories: Mapping[DirectorySettings, AnyDirectory] = {}
        self._old: dict[AnyDirectory, asyncio.TimerHandle] = {}

    def prepare(self, settings: Settings) -> Prepared:
        """One for each [[directory]]: the one there is when nothing about it changed. Raises Unusable."""
        directories: dict[DirectorySettings, AnyDirectory] = {}
        try:
            for wanted in settings.directories:
                directories[wanted] = self._directories.get(wanted) or self._make(wanted)
        except BaseException:
            for made, directory in directories.items():
                if made not in self._directories:
                    directory.close()
            raise
        return Prepared(directories)

    def apply(self, prepared: Prepared) -> None:
        """Uses these from now on. Open sessions may ask an old one until they have signed in or given up."""
        loop = asyncio.get_running_loop()
        for kept, directory in self._directories.items():
            if kept not in prepared.directories:
                self._old[directory] = loop.call_later(OLD_DIRECTORY_TIME, self._close_old, directory)
        self._directories = prepared.directories

    def close(self) -> None:
        """Ends all of them, old ones too."""
        for directory in (*self._directories.values(), *self._old):
            directory.close()
        for timer in self._old.values():
            timer.cancel()
        self._old.clear()

    def _close_old(self, directory: AnyDirectory) -> None:
        del self._old[directory]
        directory.close()

    def _make(self, settings: DirectorySettings) -> AnyDirectory:
        if isinstance(settings, LocalSettings):
            return LocalDirectory(self._accounts, settings)
        if isinstance(settings, DovecotSettings):
            dovecot = make_dovecot(settings, self._budget, self._false_key)
            dovecot.look()
            return dovecot
        if isinstance(settings, UpstreamSettings):
            return Upstream(make_backend(settings), settings, self._budget)
        if isinstance(settings, OauthSettings):
            people = settings.people
            return make_oauth(settings, None if people is None else partial(self._find_person, people))
        raise TypeError(f"{type(settings).__name__} is of no kind")

    def _false_key(self) -> bytes | None:
        """What salts of names that nobody has come from."""
        state = self._accounts.scram_state
        return None if state is None else state.key

    async def _find_person(self, name: str, login: str) -> Identity | Denied:
        """Of the directory that has this name now. Raises Unavailable."""
        for settings, directory in self._directories.items():
            if settings.name == name and isinstance(directory, PeopleDirectory):
                return await directory.find_person(login)
        raise Unavailable(f'no directory "{name}" that could say who has a login')

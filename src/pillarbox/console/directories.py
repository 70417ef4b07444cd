"""One directory asked in this process, step by step: what `pillarbox directory test` shows.

    with examined(settings, directories, accounts, narrate) as directory:
        await directory.reach()                             # is the server behind there
        answer = await directory.sign_in(login, password)

It is asked as a worker of the server asks it, but nothing is remembered, and none of the wrong tries that the server
may pass on are taken: a wrong password given here is one more that the server behind counts.

ERRORS
    Unusable: it cannot be made of its settings. Unavailable: it cannot say.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Protocol

from pillarbox.directory.base import (
    AccountLookup,
    Denied,
    Directory,
    Identity,
    PeopleDirectory,
    TokenDirectory,
    Unavailable,
    Unusable,
    WithoutPasswords,
)
from pillarbox.directory.kinds import make_backend, make_oauth
from pillarbox.directory.local import LocalDirectory
from pillarbox.directory.oauth.settings import OauthSettings
from pillarbox.directory.settings import DirectorySettings, LocalSettings, UpstreamSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Narrate, Reachable, Upstream
from pillarbox.sasl.mechanism import PasswordCredentials, TokenCredentials

NOBODY = "pillarbox-asks-for-nobody"
"""A login that is looked for to see whether a server answers."""


class _Closable(Directory, Protocol):
    def close(self) -> None: ...


class Examined:
    """A directory under examination. ``asks``: what reaches the server behind, if anything does."""

    def __init__(self, directory: Directory, asks: object) -> None:
        self._directory = directory
        self._asks = asks

    @property
    def takes_tokens(self) -> bool:
        """Whether it is bearer tokens, not passwords, that it checks."""
        return isinstance(self._directory, WithoutPasswords)

    async def reach(self) -> bool:
        """Asks about nobody. False: it cannot be tried, for the server can only say whether a password is right.
        Raises Unavailable."""
        if isinstance(self._asks, Reachable):
            await self._asks.prepare()
        elif isinstance(self._directory, Upstream) and self._directory.opaque:
            return False
        elif isinstance(self._directory, PeopleDirectory):
            await self._directory.find_person(NOBODY)
        return True

    async def sign_in(self, login: str, secret: str) -> Identity | Denied:
        """``secret``: the password, or the token. Raises Unavailable."""
        if self.takes_tokens and isinstance(self._directory, TokenDirectory):
            return await self._directory.verify_token(TokenCredentials(login, secret), known_place=True)
        return await self._directory.verify(PasswordCredentials(login, secret), known_place=True)


@contextmanager
def examined(
    settings: DirectorySettings,
    directories: Sequence[DirectorySettings],
    accounts: AccountLookup | None,
    narrate: Narrate,
) -> Iterator[Examined]:
    """The directory of these settings, one of ``directories``. ``accounts``: None where they cannot be asked. Raises
    Unusable."""
    with ExitStack() as open_ones:
        directory, asks = _make(settings, directories, accounts, narrate, open_ones)
        yield Examined(directory, asks)


def _make(
    settings: DirectorySettings,
    directories: Sequence[DirectorySettings],
    accounts: AccountLookup | None,
    narrate: Narrate,
    open_ones: ExitStack,
) -> tuple[Directory, object]:
    made: _Closable
    asks: object
    if isinstance(settings, LocalSettings):
        if accounts is None:
            raise Unusable(f'directory "{settings.name}": its accounts are asked of the server, which does not run')
        made = asks = LocalDirectory(accounts, settings)
    elif isinstance(settings, UpstreamSettings):
        asks = make_backend(settings, narrate)
        made = Upstream(asks, replace(settings, wrong_tries=None), Tries())
    elif isinstance(settings, OauthSettings):
        people = next((each for each in directories if each.name == settings.people), None)
        found = None if people is None else _make(people, directories, accounts, narrate, open_ones)[0]
        made = asks = make_oauth(settings, None if found is None else _finding(found), narrate)
    else:
        raise Unusable(f'directory "{settings.name}": {type(settings).__name__} is of no kind')
    open_ones.callback(made.close)
    return made, asks


def _finding(directory: Directory) -> Callable[[str], Awaitable[Identity | Denied]]:
    async def find(login: str) -> Identity | Denied:
        if not isinstance(directory, PeopleDirectory):
            raise Unavailable("the directory of its people cannot say who has a login")
        return await directory.find_person(login)

    return find

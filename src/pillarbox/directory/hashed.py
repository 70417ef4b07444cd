"""Whether a password is the stored one, for directories that give it away: files, SQL.

    checker = HashChecker(threads, settings)           # settings: HashedSettings
    answer = await checker.check(person, password)     # person.handle: a Hashed

ERRORS
    NotReached: no thread is free, it took too long, or the stored password is of a scheme that is not known. That is
    for the log and for `pillarbox check`; nobody's password is wrong because of it.
"""

import asyncio
import hashlib
from dataclasses import dataclass

from pillarbox.directory.base import Denied, Identity, NotReached, Reason
from pillarbox.directory.blocking import Threads
from pillarbox.directory.schemes.stored import BadStored, read_stored
from pillarbox.directory.servers import ServerFailed
from pillarbox.directory.settings import HashedSettings
from pillarbox.directory.upstream import Narrate, Person, silent


@dataclass(frozen=True, slots=True, repr=False)
class Hashed:
    """A stored password, in the words of schemes/stored.py."""

    stored: str

    def mark(self) -> str:
        """Something that changes with it and tells nothing of it: for Person.key, so that a remembered login ends
        with the password that it was made with."""
        return hashlib.blake2b(self.stored.encode("utf-8", "replace"), digest_size=16).hexdigest()


class HashChecker:
    """See the module's text."""

    def __init__(self, threads: Threads, settings: HashedSettings, narrate: Narrate = silent) -> None:
        self._threads = threads
        self._settings = settings
        self._narrate = narrate

    async def check(self, person: Person, password: str) -> Identity | Denied:
        """Raises NotReached."""
        login, hashed = person.identity.login, person.handle
        try:
            stored = read_stored(hashed.stored, plain=self._settings.plain)
            async with asyncio.timeout(self._settings.timeout):
                right = await self._threads.run(stored.verify, password)
        except BadStored as error:
            self._narrate(f"password of {login}: {error}")
            raise NotReached(f"{login}: {error}") from None
        except ServerFailed as error:
            raise NotReached(str(error)) from None
        except TimeoutError:
            raise NotReached(f"the hash took more than {self._settings.timeout:g} s") from None
        self._narrate(f"password of {login}: {stored.scheme}: {'right' if right else 'wrong'}")
        return person.identity if right else Denied(Reason.WRONG, login)

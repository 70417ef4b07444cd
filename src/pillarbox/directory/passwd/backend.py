"""The people of a password file.

ERRORS
    Unavailable: the file could not be read yet. NotReached: see hashed.py.
"""

from pillarbox.directory.base import Denied, Identity, NotReached
from pillarbox.directory.blocking import Threads
from pillarbox.directory.hashed import HashChecker
from pillarbox.directory.passwd.file import PeopleFile
from pillarbox.directory.passwd.settings import PasswdSettings
from pillarbox.directory.preparation import login_key
from pillarbox.directory.servers import ServerFailed
from pillarbox.directory.upstream import Narrate, Person, silent


class PasswdBackend:
    """Satisfies upstream.Backend."""

    def __init__(self, settings: PasswdSettings, narrate: Narrate = silent) -> None:
        self._settings = settings
        self._narrate = narrate
        self._threads = Threads(settings.name, settings.connections)
        self._people = PeopleFile(settings)
        self._checker = HashChecker(self._threads, settings, narrate)

    @property
    def opaque(self) -> bool:
        """The file says who there is."""
        return False

    async def find(self, login: str) -> Person | None:
        """Raises Unavailable."""
        key = login_key(login)
        try:
            entry = await self._threads.run(self._people.find, key)
        except ServerFailed as error:
            raise NotReached(str(error)) from None
        where = f"{self._settings.file} ({self._people.count} people)"
        if entry is None:
            self._narrate(f"{where}: nobody has this name")
            return None
        said = (
            ""
            if entry.denied is None
            else f", {entry.denied.name.lower()}" + (f": {entry.cause}" if entry.cause else "")
        )
        self._narrate(f"{where}: line {entry.line}: {entry.identity.login}{said}")
        return Person(f"{key}\0{entry.hashed.mark()}", entry.identity, entry.denied, entry.hashed, entry.cause)

    async def check(self, person: Person, password: str) -> Identity | Denied:
        """Raises NotReached."""
        return await self._checker.check(person, password)

    def close(self) -> None:
        """Ends its threads."""
        self._threads.close()

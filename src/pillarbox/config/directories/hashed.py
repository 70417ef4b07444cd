"""What the tables of directories have in common that give stored passwords away: files and SQL.

ERRORS
    None raised.
"""

from typing import TypedDict

from pillarbox.config.directories.table import DirectoryTable
from pillarbox.config.fields import Count, Field, Time
from pillarbox.directory.settings import HashedSettings

_HASHED = HashedSettings(name="")


class HashedTable(DirectoryTable):
    """One whose stored passwords are verified here."""

    plain: bool = Field(_HASHED.plain, description="Also take passwords that are stored in clear ({PLAIN}).")
    cache: Time = Field(_HASHED.cache, description="How long a verified login is remembered (0: not).")
    wrong_cache: Time = Field(_HASHED.wrong_cache, description="How long a wrong password is remembered (0: not).")
    refresh: Time = Field(
        _HASHED.refresh, description="How old the password, addresses and rights of a remembered person may get."
    )
    timeout: Time = Field(_HASHED.timeout, description="How long the answer to one sign-in may take.")
    connections: Count = Field(_HASHED.connections, description="How many sign-ins a worker verifies at a time.")


class HashedKeys(TypedDict):
    """What ``hashed`` makes."""

    name: str
    names: tuple[str, ...]
    plain: bool
    cache: float
    wrong_cache: float
    refresh: float
    timeout: float
    connections: int


def hashed(table: HashedTable) -> HashedKeys:
    """The keywords for a subclass of HashedSettings."""
    return {
        "name": table.name,
        "names": tuple(table.names),
        "plain": table.plain,
        "cache": table.cache,
        "wrong_cache": table.wrong_cache,
        "refresh": table.refresh,
        "timeout": table.timeout,
        "connections": table.connections,
    }

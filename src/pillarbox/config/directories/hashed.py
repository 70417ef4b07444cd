"""What the tables of directories have in common that give stored passwords away: files and SQL.

ERRORS
    None raised.
"""

from pillarbox.config.directories.table import RememberingKeys, RememberingTable, remembering
from pillarbox.config.fields import Count, Field, Time
from pillarbox.directory.settings import HashedSettings

_HASHED = HashedSettings(name="")


class HashedTable(RememberingTable):
    """One whose stored passwords are verified here."""

    plain: bool = Field(_HASHED.plain, description="Also take passwords that are stored in clear ({PLAIN}).")
    wrong_cache: Time = Field(_HASHED.wrong_cache, description="How long a wrong password is remembered (0: not).")
    refresh: Time = Field(
        _HASHED.refresh, description="How old the password, addresses and rights of a remembered person may get."
    )
    connections: Count = Field(_HASHED.connections, description="How many sign-ins a worker verifies at a time.")


class HashedKeys(RememberingKeys):
    """What ``hashed`` makes."""

    plain: bool


def hashed(table: HashedTable) -> HashedKeys:
    """The keywords for a subclass of HashedSettings."""
    return {**remembering(table), "plain": table.plain}

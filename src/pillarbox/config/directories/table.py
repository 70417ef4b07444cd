"""What the tables of all kinds of [[directory]] have in common.

A kind's module has a table (a subclass, with ``kind: Literal[...]``) that answers the questions of DirectoryTable,
``build(table, base)`` for its settings, and ``check(table)`` for rules between its keys. kinds.py lists them.

ERRORS
    None raised: broken rules are values.
"""

from typing import Annotated, TypedDict

from pillarbox.config.fields import Count, Field, Table, Text, Time
from pillarbox.directory.settings import UpstreamSettings

_UPSTREAM = UpstreamSettings(name="")
WRONG_TRIES = 5
"""So that directories that lock people out after ten wrong passwords, as is usual, have as many left for others."""


class DirectoryTable(Table):
    """Any of them."""

    name: Text = Field(description="What a site calls it.")
    names: list[Text] = Field(
        [],
        max_length=64,
        description='Patterns of the logins that it may be asked for, such as "*@example.org". Default: all.',
    )

    @property
    def opaque(self) -> bool:
        """Whether the server behind can only say no, and not whether it knows the person."""
        return False

    @property
    def has_passwords(self) -> bool:
        """Whether people can sign in to it with a password."""
        return True

    def lacks_for_scram(self) -> str:
        """What SCRAM-SHA-256 needs and is not there, in words; "" for nothing."""
        return f'another directory than "{self.name}", which has no secrets for it'

    def lacks_for_tokens(self) -> str:
        """The same for OAUTHBEARER and XOAUTH2."""
        return 'a directory of kind = "oauth", or token_key in the local one, to check tokens with'


class RememberingTable(DirectoryTable):
    """One whose answers are remembered for a while."""

    cache: Time = Field(_UPSTREAM.cache, description="How long a verified login is remembered (0: not).")
    wrong_cache: Time = Field(_UPSTREAM.wrong_cache, description="How long a wrong password is remembered (0: not).")
    refresh: Time = Field(
        _UPSTREAM.refresh, description="How old the addresses and rights of a remembered person may get."
    )
    timeout: Time = Field(_UPSTREAM.timeout, description="How long the answer to one sign-in may take.")
    connections: Count = Field(_UPSTREAM.connections, description="How many questions a worker asks at a time.")


class UpstreamTable(RememberingTable):
    """One with a server behind."""

    wrong_tries: Annotated[int, Field(ge=2)] = Field(
        WRONG_TRIES,
        description="How many wrong passwords of one person go to the server behind within wrong_window; from places "
        "where nobody signed in lately, half as many. Keep it below what locks people out there. The machines of a "
        "cluster share it.",
    )
    wrong_window: Time = Field(_UPSTREAM.wrong_window, description="For how long a wrong password counts so.")


class OpaqueTable(UpstreamTable):
    """One whose server only says yes or no."""

    @property
    def opaque(self) -> bool:
        """It is."""
        return True


Servers = Annotated[list[Text], Field(min_length=1, max_length=16)]
"""Those that are asked, the preferred one first."""
Domains = Annotated[list[Text], Field(min_length=1, max_length=1_000)]
"""What people's addresses may be of."""


class RememberingKeys(TypedDict):
    """What ``remembering`` makes."""

    name: str
    names: tuple[str, ...]
    cache: float
    wrong_cache: float
    refresh: float
    timeout: float
    connections: int


def remembering(table: RememberingTable) -> RememberingKeys:
    """The keywords for a subclass of UpstreamSettings that counts no wrong tries."""
    return {
        "name": table.name,
        "names": tuple(table.names),
        "cache": table.cache,
        "wrong_cache": table.wrong_cache,
        "refresh": table.refresh,
        "timeout": table.timeout,
        "connections": table.connections,
    }


class UpstreamKeys(RememberingKeys):
    """What ``upstream`` makes."""

    wrong_tries: int | None
    wrong_window: float


def upstream(table: UpstreamTable) -> UpstreamKeys:
    """The keywords for a subclass of UpstreamSettings."""
    return {**remembering(table), "wrong_tries": table.wrong_tries, "wrong_window": table.wrong_window}

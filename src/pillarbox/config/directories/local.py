"""[[directory]] with kind = "local": the accounts kept by `pillarbox user`.

ERRORS
    None raised: broken rules are values.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pillarbox.config.directories.table import DirectoryTable
from pillarbox.config.fields import Field, FilePath, Size, Text, Time
from pillarbox.directory.settings import LocalSettings, TokenSettings

_LOCAL = LocalSettings()

_TOKEN_KEYS = ("token_key", "token_issuer", "token_audience")


class LocalTable(DirectoryTable):
    """Accounts kept by `pillarbox user`. Without any [[directory]], there is this one, named "local"."""

    name: Text = Field(_LOCAL.name, description="What a site calls it.")
    kind: Literal["local"] = Field("local", description="local: accounts kept by `pillarbox user`.")
    scram: bool = Field(_LOCAL.scram, description="Also store a SCRAM-SHA-256 secret with each password.")
    cache: Time = Field(_LOCAL.cache, description="How long a verified login is remembered (0: not).")
    argon2_memory: Size = Field(_LOCAL.argon2_memory * 1024, description="Memory of one password hash.")
    argon2_time: Annotated[int, Field(ge=1, le=64)] = Field(_LOCAL.argon2_time, description="Passes of one hash.")
    argon2_parallelism: Annotated[int, Field(ge=1, le=64)] = Field(
        _LOCAL.argon2_parallelism, description="Lanes of one hash."
    )
    token_key: FilePath | None = Field(
        None, description="What bearer tokens (JWT) are signed with: a public key in PEM, or a secret for HS256."
    )
    token_issuer: Text | None = Field(None, description="Who must have issued them (iss).")
    token_audience: Text | None = Field(None, description="Whom they must be for (aud).")
    token_claim: Text = Field("sub", description="What in them is the login.")

    def lacks_for_scram(self) -> str:
        """The secrets."""
        return "" if self.scram else f'scram = true in the directory "{self.name}", so that its accounts have secrets'

    def lacks_for_tokens(self) -> str:
        """The key."""
        return "" if self.token_key else f'token_key in the directory "{self.name}", to check tokens with'


def build(table: LocalTable, base: Path) -> LocalSettings:
    """Its settings."""
    return LocalSettings(
        name=table.name,
        names=tuple(table.names),
        scram=table.scram,
        cache=table.cache,
        argon2_memory=table.argon2_memory // 1024,
        argon2_time=table.argon2_time,
        argon2_parallelism=table.argon2_parallelism,
        tokens=_tokens(table, base),
    )


def _tokens(table: LocalTable, base: Path) -> TokenSettings | None:
    if table.token_key is None or table.token_issuer is None or table.token_audience is None:
        return None
    return TokenSettings(base / table.token_key, table.token_issuer, table.token_audience, table.token_claim)


def check(table: LocalTable) -> Iterator[tuple[str, str]]:
    """(key, what is broken)."""
    there = [key for key in _TOKEN_KEYS if getattr(table, key) is not None]
    if there and len(there) < len(_TOKEN_KEYS):
        missing = " and ".join(key for key in _TOKEN_KEYS if key not in there)
        yield there[0], f"found without {missing}; expected all three or none"
    least = 8 * 1024 * table.argon2_parallelism
    if table.argon2_memory < least:
        yield (
            "argon2_memory",
            f"found {table.argon2_memory}; expected at least {least}: 8 KiB per lane (RFC 9106 3.1)",
        )

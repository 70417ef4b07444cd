"""[[directory]] with kind = "passwd": htpasswd and passwd-file.

ERRORS
    None raised.
"""

from pathlib import Path
from typing import Literal

from pillarbox.config.directories.hashed import HashedTable, hashed
from pillarbox.config.fields import Field, FilePath, HostName
from pillarbox.directory.passwd.settings import PasswdSettings


class PasswdTable(HashedTable):
    """A file of people and their stored passwords: htpasswd's, or passwd-file as Dovecot has it."""

    kind: Literal["passwd"] = Field(description="passwd: a file with a line for each person.")
    file: FilePath = Field(description="The file; read again when it has changed.")
    domain: HostName | None = Field(
        None, description='The domain of the address of whoever has a login without "@" and no other address.'
    )


def build(table: PasswdTable, base: Path) -> PasswdSettings:
    """Its settings."""
    return PasswdSettings(**hashed(table), file=base / table.file, domain=table.domain or "")

"""What a directory in a database needs to know."""

from dataclasses import dataclass
from pathlib import Path

from pillarbox.directory.settings import HashedSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlSettings(HashedSettings):
    """``query``: the site's own, with :login, :local and :domain. Either ``sqlite``, a file, or ``postgresql``, a DSN
    without a password, which is the first line of ``password_file`` or what libpq looks up itself."""

    query: str
    sqlite: Path | None = None
    postgresql: str = ""
    password_file: Path | None = None

"""What a password file's directory needs to know."""

from dataclasses import dataclass
from pathlib import Path

from pillarbox.directory.settings import HashedSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswdSettings(HashedSettings):
    """``file``: with the people. ``domain``: of the address of a login without "@" that has no other; "": none."""

    file: Path
    domain: str = ""

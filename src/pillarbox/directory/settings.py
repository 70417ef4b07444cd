"""What a directory needs to know; made by config. Times in seconds."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Tokens that let somebody in: signed by ``key``, from ``issuer``, for ``audience``; ``claim`` is the login."""

    key: Path
    issuer: str
    audience: str
    claim: str = "sub"


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """The local accounts. ``scram``: store a SCRAM-SHA-256 secret with each password. ``cache``: how long a
    verified login is remembered under a keyed hash (0: not). Argon2id parameters: memory in KiB."""

    name: str = "local"
    scram: bool = False
    cache: float = 300.0
    argon2_memory: int = 19_456
    argon2_time: int = 2
    argon2_parallelism: int = 1
    tokens: TokenSettings | None = None


DirectorySettings = LocalSettings

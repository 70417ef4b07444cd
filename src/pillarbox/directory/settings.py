"""What a directory needs to know; made by config. Times in seconds."""

from dataclasses import dataclass


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


DirectorySettings = LocalSettings

"""What a directory needs to know; made by config. Times in seconds. Kinds with a server have their own module."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySettings:
    """Any directory. ``name``: what sites call it. ``names``: patterns of the logins that are its own ("*" and "?" as
    in a shell, without case); none: it may be asked for every login."""

    name: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Tokens that let somebody in: signed by ``key``, from ``issuer``, for ``audience``; ``claim`` is the login."""

    key: Path
    issuer: str
    audience: str
    claim: str = "sub"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings(DirectorySettings):
    """The local accounts. ``scram``: store a SCRAM-SHA-256 secret with each password. ``cache``: how long a
    verified login is remembered under a keyed hash (0: not). Argon2id parameters: memory in KiB."""

    name: str = "local"
    scram: bool = False
    cache: float = 300.0
    argon2_memory: int = 19_456
    argon2_time: int = 2
    argon2_parallelism: int = 1
    tokens: TokenSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings(DirectorySettings):
    """How any server behind is treated (upstream.py).

    ``cache``: how long a verified login is remembered, ``wrong_cache``: a wrong one (0: not). ``refresh``: how old
    addresses and rights of a remembered person may get. ``wrong_tries`` within ``wrong_window`` is the most that one
    person's wrong passwords cost there; from places that are not known, half of it (None: no limit, for what counts
    no failures). ``timeout``: of one answer. ``connections``: how many questions at a time.
    """

    cache: float = 300.0
    wrong_cache: float = 1_800.0
    refresh: float = 60.0
    wrong_tries: int | None = None
    wrong_window: float = 1_800.0
    timeout: float = 10.0
    connections: int = 8

    @property
    def counted_at(self) -> str:
        """Where wrong tries are counted: directories with the same name for it share them."""
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedSettings(UpstreamSettings):
    """A directory that gives stored passwords away and counts no failures: we verify them. ``plain``: passwords in
    clear are taken, too. What is remembered is remembered shortly: to ask costs little."""

    wrong_cache: float = 10.0
    refresh: float = 5.0
    plain: bool = False

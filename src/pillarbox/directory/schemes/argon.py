"""Argon2: the hashes that Pillarbox makes, and those of others. The only importer of argon2 in this room.

    hasher = make_hasher(settings)              # settings: LocalSettings
    hasher.hash(password), hasher.check_needs_rehash(stored)
    verify_argon2(stored, password)             # one of our own
    read_argon2("$argon2id$...")                # one of somebody else's: its costs are limited

STANDARDS
    RFC 9106.

ERRORS
    Unreadable.
"""

import re
from collections.abc import Callable

import argon2
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from pillarbox.directory.schemes.errors import Unreadable
from pillarbox.directory.settings import LocalSettings

MEMORY_CEILING = 256 * 1024
"""KiB."""
WORK_CEILING = 1024 * 1024
"""KiB times passes: about two seconds of one core."""
LANES_CEILING = 16

_FORM = re.compile(
    r"\$argon2(?:id|i|d)\$(?:v=\d{1,3}\$)?m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$[A-Za-z0-9+/]{8,128}\$[A-Za-z0-9+/]{8,256}"
)
_VERIFIER = argon2.PasswordHasher()


def make_hasher(settings: LocalSettings) -> argon2.PasswordHasher:
    """Hashes with these costs, Argon2id."""
    return argon2.PasswordHasher(
        time_cost=settings.argon2_time,
        memory_cost=settings.argon2_memory,
        parallelism=settings.argon2_parallelism,
    )


def is_current(hasher: argon2.PasswordHasher, stored: str) -> bool:
    """Whether the hash has the hasher's costs."""
    try:
        return not hasher.check_needs_rehash(stored)
    except InvalidHashError:
        return False


def verify_argon2(stored: str, password: str | bytes) -> bool:
    """Whether the password is the stored one. Blocks. Raises Unreadable."""
    try:
        return _VERIFIER.verify(stored, password)
    except VerifyMismatchError:
        return False
    except (VerificationError, InvalidHashError) as error:
        raise Unreadable(f"Argon2: {error}") from error


def read_argon2(text: str) -> Callable[[bytes], bool]:
    """$argon2id$, $argon2i$ and $argon2d$."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise Unreadable("not a form of Argon2")
    memory, passes, lanes = (int(part) for part in found.groups())
    if memory > MEMORY_CEILING or memory * passes > WORK_CEILING or not 1 <= lanes <= LANES_CEILING:
        raise Unreadable(f"Argon2 with m={memory}, t={passes}, p={lanes}: more memory or time than is allowed")
    return lambda password: verify_argon2(text, password)

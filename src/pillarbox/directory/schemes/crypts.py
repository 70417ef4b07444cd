"""The forms of crypt(3): bcrypt, SHA-crypt, and the old MD5 ones. The only importer of bcrypt and passlib (libpass).

Both are the extra "hashes"; without it such a password cannot be verified, and the text says what to install.
bcrypt looks at 72 octets of a password; so do all who have written such hashes, and a longer one verifies as there.

STANDARDS
    "Unix crypt using SHA-256 and SHA-512", Drepper.

ERRORS
    Unreadable, also for a cost beyond the ceilings or below the floor. UnknownScheme: $2x$ and $2$, whose makers had
    a fault.
"""

import re
from collections.abc import Callable
from typing import Any

from pillarbox.directory.schemes.errors import UnknownScheme, Unreadable
from pillarbox.telemetry.advice import install

BCRYPT_FLOOR = 4
"""The library raises at a smaller cost, and at the verification only."""
BCRYPT_CEILING = 15
"""2^15 rounds: two seconds of one core."""
SHA_CEILING = 1_000_000
BCRYPT_OCTETS = 72

_BCRYPT = re.compile(r"\$2([abxy]?)\$([0-3][0-9])\$[./A-Za-z0-9]{53}")
_SHA = re.compile(r"\$([56])\$(?:rounds=([1-9][0-9]{0,9})\$)?[^$:\n]{0,16}\$([./A-Za-z0-9]{43}|[./A-Za-z0-9]{86})")
_MD5 = re.compile(r"\$(1|apr1)\$[^$:\n]{0,8}\$[./A-Za-z0-9]{22}")

MISSING = f"a library for it is not installed: {install('hashes')}"


def read_bcrypt(text: str) -> Callable[[bytes], bool]:
    """$2a$, $2b$, $2y$."""
    found = _BCRYPT.fullmatch(text)
    if found is None:
        raise Unreadable("not a form of bcrypt")
    if found[1] in ("", "x"):
        raise UnknownScheme(f"$2{found[1]}$")
    if not BCRYPT_FLOOR <= int(found[2]) <= BCRYPT_CEILING:
        raise Unreadable(f"a cost of {found[2]}; {BCRYPT_FLOOR} to {BCRYPT_CEILING} are allowed")
    try:
        import bcrypt
    except ImportError:
        raise Unreadable(MISSING) from None
    stored = text.encode()
    return lambda password: bcrypt.checkpw(password[:BCRYPT_OCTETS], stored)


def read_sha256(text: str) -> Callable[[bytes], bool]:
    """$5$"""
    return _sha(text, "5", 43, "sha256_crypt")


def read_sha512(text: str) -> Callable[[bytes], bool]:
    """$6$"""
    return _sha(text, "6", 86, "sha512_crypt")


def read_md5(text: str) -> Callable[[bytes], bool]:
    """$1$"""
    return _md5(text, "1", "md5_crypt")


def read_apr1(text: str) -> Callable[[bytes], bool]:
    """$apr1$: htpasswd's own."""
    return _md5(text, "apr1", "apr_md5_crypt")


def _sha(text: str, digit: str, length: int, name: str) -> Callable[[bytes], bool]:
    found = _SHA.fullmatch(text)
    if found is None or found[1] != digit or len(found[3]) != length:
        raise Unreadable("not a form of SHA-crypt")
    if found[2] is not None and not 1_000 <= int(found[2]) <= SHA_CEILING:
        raise Unreadable(f"{found[2]} rounds; 1000 to {SHA_CEILING} are allowed")
    return _passlib(text, name)


def _md5(text: str, mark: str, name: str) -> Callable[[bytes], bool]:
    found = _MD5.fullmatch(text)
    if found is None or found[1] != mark:
        raise Unreadable("not a form of MD5-crypt")
    return _passlib(text, name)


def _passlib(text: str, name: str) -> Callable[[bytes], bool]:
    try:
        from passlib import hash as hashes  # type: ignore[import-untyped]  # libpass ships no marker of its types
    except ImportError:
        raise Unreadable(MISSING) from None
    handler: Any = getattr(hashes, name)

    def verify(password: bytes) -> bool:
        try:
            return bool(handler.verify(password, text))
        except ValueError:
            raise Unreadable("the library cannot read it") from None

    return verify

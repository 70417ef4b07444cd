"""SCRAM secrets, stored with a password so that SCRAM-SHA-256 can be offered. The only importer of scramp here.

    create_secret("pencil") -> "SCRAM-SHA-256$100000:c2FsdA==$StoredKey:ServerKey"
    read_secret(stored)     -> ScramSecret
    false_secret(key, name) -> ScramSecret of a name that nobody has: the same each time, and never proven

A password with code points that Unicode 3.2 does not know has no secret: a SCRAM client may prepare it otherwise.

STANDARDS
    RFC 7677 (SCRAM-SHA-256), RFC 5803 (the stored form; "$" and ":" are its separators).

ERRORS
    ValueError: the password cannot be used with SCRAM; the stored form is none.
"""

import base64
import hashlib
import re

import scramp  # type: ignore[import-untyped]  # it ships no types

from pillarbox.sasl.mechanism import ScramSecret

ITERATIONS = 100_000
"""Of new secrets; RFC 7677 4 wants at least 4096."""

SALT = 32
"""Octets of a salt, true or false."""

_STORED = re.compile(r"SCRAM-SHA-256\$([1-9][0-9]{3,8}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")


def create_secret(password: str, *, iterations: int = ITERATIONS, salt: bytes | None = None) -> str:
    """The stored secret of a prepared password in RFC 5803 form; blocks for the time of its iterations (about
    30 ms). Raises ValueError."""
    try:
        salt, stored_key, server_key, count = scramp.ScramMechanism("SCRAM-SHA-256").make_auth_info(
            password, iteration_count=iterations, salt=salt
        )
    except scramp.ScramException as error:
        raise ValueError(f"cannot be used with SCRAM: {error}") from error
    salt_text, stored_text, server_text = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${count}:{salt_text}${stored_text}:{server_text}"


def read_secret(stored: str) -> ScramSecret:
    """What create_secret wrote. Raises ValueError, which holds none of it."""
    found = _STORED.fullmatch(stored)
    if found is None:
        raise ValueError("not a SCRAM-SHA-256 secret of RFC 5803")
    try:
        salt, stored_key, server_key = (base64.b64decode(part, validate=True) for part in found.groups()[1:])
    except ValueError:
        raise ValueError("not a SCRAM-SHA-256 secret of RFC 5803") from None
    return ScramSecret(int(found[1]), salt, stored_key, server_key)


def false_secret(key: bytes, name: str) -> ScramSecret:
    """What a name gets that nobody has, or that has no secret: by a keyed hash, so that asking twice tells nothing.
    Nobody can prove it: its StoredKey is the hash of nothing known."""

    def derived(purpose: bytes) -> bytes:
        return hashlib.blake2b(name.encode(), key=key, digest_size=SALT, person=purpose).digest()

    return ScramSecret(ITERATIONS, derived(b"salt"), derived(b"stored"), derived(b"server"))

"""Digests of one pass, with salt or without: {SSHA}, {SSHA256}, {SSHA512}, {SMD5}, {SHA}, {SHA256}, {SHA512}, {MD5}.

All of them are weak: a graphics card tries thousands of millions a second. LDAP servers and old Dovecots hold them.

STANDARDS
    RFC 2307 5.3; OpenLDAP's and Dovecot's way of writing them: base64 of digest and salt, or hexadecimal.

ERRORS
    Unreadable.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable

from pillarbox.directory.schemes.errors import Unreadable

_DIGESTS = {
    "SHA": "sha1",
    "SHA1": "sha1",
    "SHA256": "sha256",
    "SHA512": "sha512",
    "MD5": "md5",
    "LDAP-MD5": "md5",
    "PLAIN-MD5": "md5",
    "SSHA": "sha1",
    "SSHA1": "sha1",
    "SSHA256": "sha256",
    "SSHA512": "sha512",
    "SMD5": "md5",
}
NAMES = frozenset(_DIGESTS)
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")


def equal(one: bytes, other: bytes) -> bool:
    """In a time that tells nothing of where they differ."""
    return hmac.compare_digest(one, other)


def reader(name: str, encoding: str = "") -> Callable[[str], Callable[[bytes], bool]]:
    """How texts of this scheme are read. ``encoding``: "HEX", "B64" or "BASE64"; "": by the length, as Dovecot
    does."""
    algorithm = _DIGESTS[name]
    salted = name in ("SMD5", "SSHA", "SSHA1", "SSHA256", "SSHA512")

    def read(text: str) -> Callable[[bytes], bool]:
        raw = _decode(text, hashlib.new(algorithm, usedforsecurity=False).digest_size, encoding, salted)
        size = hashlib.new(algorithm, usedforsecurity=False).digest_size
        digest, salt = raw[:size], raw[size:]
        if len(digest) != size or bool(salt) != salted:
            raise Unreadable(f"not a digest of {{{name}}}")
        return lambda password: equal(hashlib.new(algorithm, password + salt, usedforsecurity=False).digest(), digest)

    return read


def _decode(text: str, size: int, encoding: str, salted: bool) -> bytes:
    is_hex = encoding == "HEX" or (not encoding and not salted and len(text) == 2 * size)
    if encoding not in ("", "HEX", "B64", "BASE64"):
        raise Unreadable(f"the encoding {encoding[:10]!r} is none")
    try:
        if not is_hex:
            return base64.b64decode(text, validate=True)
        if _HEX.fullmatch(text):
            return bytes.fromhex(text)
    except ValueError:
        pass
    raise Unreadable("neither base64 nor hexadecimal")

"""PBKDF2 in its spellings, and SCRAM secrets, which are made by it.

    {PBKDF2}$1$salt$rounds$hex               Dovecot: SHA-1
    $pbkdf2-sha256$rounds$salt$digest        passlib ($pbkdf2$: SHA-1), and with {PBKDF2-SHA256} in front OpenLDAP
    {SCRAM-SHA-256}rounds,salt,stored,server Dovecot
    SCRAM-SHA-256$rounds:salt$stored:server  RFC 5803

STANDARDS
    RFC 8018 5.2, RFC 5802 3, RFC 5803, RFC 7677.

ERRORS
    Unreadable, also for more than ``ROUNDS_CEILING`` rounds. UnknownScheme for another hash function.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable

from pillarbox.directory.schemes.digests import equal
from pillarbox.directory.schemes.errors import UnknownScheme, Unreadable

ROUNDS_CEILING = 2_000_000
"""About a second of one core."""

_DOVECOT = re.compile(r"\$1\$([!-#%-~]{1,64})\$([1-9][0-9]{0,8})\$([0-9a-f]{40})")
_MODULAR = re.compile(
    r"\$pbkdf2(?:-([a-z0-9]{1,12}))?\$([1-9][0-9]{0,8})\$([A-Za-z0-9./]{0,128})\$([A-Za-z0-9./]{8,128})"
)
_LDAP = re.compile(r"([1-9][0-9]{0,8})\$([A-Za-z0-9./]{0,128})\$([A-Za-z0-9./]{8,128})")
_BASE64 = r"([A-Za-z0-9+/=]{4,128})"
_SCRAM_DOVECOT = re.compile(rf"([1-9][0-9]{{0,8}}),{_BASE64},{_BASE64},{_BASE64}")
_SCRAM = re.compile(rf"SCRAM-SHA-256\$([1-9][0-9]{{0,8}}):{_BASE64}\${_BASE64}:{_BASE64}")
_FUNCTIONS = {None: "sha1", "sha1": "sha1", "sha256": "sha256", "sha512": "sha512"}


def read_pbkdf2(text: str) -> Callable[[bytes], bool]:
    """Dovecot's form, the modular one, or OpenLDAP's."""
    found = _DOVECOT.fullmatch(text)
    if found is not None:
        return _verifier("sha1", _rounds(found[2]), found[1].encode(), bytes.fromhex(found[3]))
    modular = _MODULAR.fullmatch(text)
    if modular is None:
        return _ldap("sha1", text)
    function = _FUNCTIONS.get(modular[1])
    if function is None:
        raise UnknownScheme(f"$pbkdf2-{modular[1]}$")
    return _adapted(function, *modular.groups()[1:])


def read_sha1(text: str) -> Callable[[bytes], bool]:
    """{PBKDF2-SHA1}"""
    return _ldap("sha1", text)


def read_sha256(text: str) -> Callable[[bytes], bool]:
    """{PBKDF2-SHA256}"""
    return _ldap("sha256", text)


def read_sha512(text: str) -> Callable[[bytes], bool]:
    """{PBKDF2-SHA512}"""
    return _ldap("sha512", text)


def read_scram(text: str) -> Callable[[bytes], bool]:
    """A stored secret; the password is right when it makes the same StoredKey (RFC 5802 3)."""
    found = _SCRAM_DOVECOT.fullmatch(text) or _SCRAM.fullmatch(text)
    if found is None:
        raise Unreadable("not a secret of SCRAM-SHA-256")
    rounds = _rounds(found[1])
    try:
        salt, stored_key, server_key = (base64.b64decode(part, validate=True) for part in found.groups()[1:])
    except ValueError:
        raise Unreadable("not a secret of SCRAM-SHA-256") from None
    if len(stored_key) != 32 or len(server_key) != 32:
        raise Unreadable("not a secret of SCRAM-SHA-256")

    def verify(password: bytes) -> bool:
        salted = hashlib.pbkdf2_hmac("sha256", password, salt, rounds)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        return equal(hashlib.sha256(client_key).digest(), stored_key)

    return verify


def _ldap(function: str, text: str) -> Callable[[bytes], bool]:
    found = _LDAP.fullmatch(text)
    if found is None:
        raise Unreadable("not a form of PBKDF2")
    return _adapted(function, *found.groups())


def _adapted(function: str, rounds: str, salt: str, digest: str) -> Callable[[bytes], bool]:
    """With passlib's base64: "." for "+", and no "="."""
    try:
        raw = [base64.b64decode(part.replace(".", "+") + "=" * (-len(part) % 4)) for part in (salt, digest)]
    except ValueError:
        raise Unreadable("not a form of PBKDF2") from None
    return _verifier(function, _rounds(rounds), raw[0], raw[1])


def _verifier(function: str, rounds: int, salt: bytes, digest: bytes) -> Callable[[bytes], bool]:
    return lambda password: equal(hashlib.pbkdf2_hmac(function, password, salt, rounds, len(digest)), digest)


def _rounds(text: str) -> int:
    rounds = int(text)
    if rounds > ROUNDS_CEILING:
        raise Unreadable(f"{rounds} rounds; {ROUNDS_CEILING} are allowed")
    return rounds

"""A stored password of any known scheme: read once, verified as often as somebody tries.

    stored = read_stored("{BLF-CRYPT}$2y$05$...")      # or "$6$...", "(GDJ0nDZI8l8RJzlRbemg)", "SCRAM-SHA-256$..."
    stored.scheme, stored.weak                         # for `pillarbox check`
    stored.verify("pencil")                            # blocks

A ``{NAME}`` in front says the scheme, as Dovecot and LDAP write it; without one the text must say it by itself.
Whoever writes stored passwords is not trusted with our processor and memory: costs beyond a limit are refused, which
is not the same as a wrong password. ``{PLAIN}`` is refused unless the caller allows it.

A password is tried as it was typed, then prepared by SASLprep: nobody knows which of the two the other system has
hashed. For what people type the two are nearly always the same.

STANDARDS
    RFC 2307 (the {SCHEME} prefix), RFC 4013.

ERRORS
    UnknownScheme: with its name. Unreadable: says what is wrong and holds nothing of the stored text. Both are
    ValueError, of BadStored.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pillarbox.directory.preparation import prepare
from pillarbox.directory.schemes import argon, crypts, digests, domino, pbkdf2
from pillarbox.directory.schemes.errors import BadStored, UnknownScheme, Unreadable

__all__ = ["BadStored", "Stored", "Survey", "UnknownScheme", "Unreadable", "read_stored", "survey"]

STORED_CEILING = 1_024
"""Characters of a stored password; no scheme here needs half of it."""

Verify = Callable[[bytes], bool]
"""Password in UTF-8 -> right; blocks."""
Read = Callable[[str], Verify]
"""What follows the scheme's name -> how it is verified. Raises BadStored."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored password. ``scheme``: its name; ``weak``: whoever gets hold of it finds common passwords fast."""

    scheme: str
    weak: bool
    _verify: Verify = field(repr=False)

    def verify(self, password: str) -> bool:
        """Whether this is the password. An empty one never is, nor one with NUL, which some schemes
        take for the end and HMAC for nothing. Blocks. Raises Unreadable."""
        if not password or "\0" in password:
            return False
        if self._verify(password.encode()):
            return True
        try:
            prepared = prepare(password)
        except ValueError:
            return False
        return prepared not in ("", password) and self._verify(prepared.encode())


@dataclass(frozen=True, slots=True)
class Survey:
    """Of many stored passwords: how many are ``weak``, by scheme, and how many ``unusable``, by the reason."""

    weak: Mapping[str, int]
    unusable: Mapping[str, int]


def survey(texts: Iterable[str], *, plain: bool = False) -> Survey:
    """What there is among these; nothing is hashed."""
    weak: Counter[str] = Counter()
    unusable: Counter[str] = Counter()
    for text in texts:
        try:
            stored = read_stored(text, plain=plain)
        except BadStored as error:
            unusable[str(error)] += 1
        else:
            weak.update([stored.scheme] if stored.weak else [])
    return Survey(weak, unusable)


_BY_NAME: dict[str, tuple[str, bool, Read]] = {
    "BLF-CRYPT": ("BCRYPT", False, crypts.read_bcrypt),
    "BCRYPT": ("BCRYPT", False, crypts.read_bcrypt),
    "SHA256-CRYPT": ("SHA256-CRYPT", False, crypts.read_sha256),
    "SHA512-CRYPT": ("SHA512-CRYPT", False, crypts.read_sha512),
    "MD5-CRYPT": ("MD5-CRYPT", True, crypts.read_md5),
    "ARGON2": ("ARGON2", False, argon.read_argon2),
    "ARGON2I": ("ARGON2", False, argon.read_argon2),
    "ARGON2ID": ("ARGON2", False, argon.read_argon2),
    "PBKDF2": ("PBKDF2", False, pbkdf2.read_pbkdf2),
    "PBKDF2-SHA1": ("PBKDF2", False, pbkdf2.read_sha1),
    "PBKDF2-SHA256": ("PBKDF2", False, pbkdf2.read_sha256),
    "PBKDF2-SHA512": ("PBKDF2", False, pbkdf2.read_sha512),
    "SCRAM-SHA-256": ("SCRAM-SHA-256", False, pbkdf2.read_scram),
    **{name: (name, True, digests.reader(name)) for name in digests.NAMES},
}
_BY_BEGINNING: tuple[tuple[str, str], ...] = (
    ("$2", "BCRYPT"),
    ("$5$", "SHA256-CRYPT"),
    ("$6$", "SHA512-CRYPT"),
    ("$argon2", "ARGON2"),
    ("$pbkdf2$", "PBKDF2"),
    ("$pbkdf2-", "PBKDF2"),
    ("SCRAM-SHA-256$", "SCRAM-SHA-256"),
    ("$1$", "MD5-CRYPT"),
    ("$apr1$", "APR1"),
)
_PREFIX = re.compile(r"\{([A-Za-z0-9][A-Za-z0-9_.+-]{0,39})\}")
_NAMELESS = re.compile(r"\$([A-Za-z0-9-]{1,20})\$")
_CRYPT = ("BCRYPT", "SHA256-CRYPT", "SHA512-CRYPT", "MD5-CRYPT", "APR1", "ARGON2")


def read_stored(text: str, *, plain: bool = False) -> Stored:
    """What the text says. ``plain``: {PLAIN} and {CLEARTEXT} may be used. Raises BadStored."""
    if len(text) > STORED_CEILING:
        raise Unreadable(f"longer than {STORED_CEILING} characters")
    prefix = _PREFIX.match(text)
    if prefix is None:
        return _without_name(text)
    name, rest = prefix[1].upper(), text[prefix.end() :]
    if name in ("PLAIN", "CLEARTEXT", "CLEAR"):
        return _plain(name, rest, plain)
    if name == "CRYPT":
        stored = _without_name(rest)
        if stored.scheme not in _CRYPT:
            raise UnknownScheme(f"{{CRYPT}} with {stored.scheme}")
        return stored
    bare, dot, encoding = name.partition(".")
    if dot and bare in digests.NAMES:
        return Stored(bare, True, digests.reader(bare, encoding)(rest))
    return _named(name, rest)


def _named(name: str, rest: str) -> Stored:
    found = _BY_NAME.get(name)
    if found is None:
        raise UnknownScheme(f"{{{name}}}")
    scheme, weak, read = found
    return Stored(scheme, weak, read(rest))


def _without_name(text: str) -> Stored:
    if domino.looks_like_one(text):
        form, verify = domino.read(text)
        return Stored(f"Domino form {form}", form < 3, verify)
    for beginning, name in _BY_BEGINNING:
        if text.startswith(beginning):
            return Stored("APR1", True, crypts.read_apr1(text)) if name == "APR1" else _named(name, text)
    nameless = _NAMELESS.match(text)
    raise UnknownScheme(f"${nameless[1]}$" if nameless else "none is named")


def _plain(name: str, stored: str, allowed: bool) -> Stored:
    if not allowed:
        raise UnknownScheme(f"{{{name}}}: passwords in clear are not allowed here")
    if not stored:
        raise Unreadable("an empty password")
    return Stored("PLAIN", True, lambda password: digests.equal(password, stored.encode()))

"""The Internet passwords of a Domino Directory (HTTPPassword), in its three forms.

    (355E98E7C7B59BD810ED845AD0FD2FC4)                      form 1: a digest, no salt
    (GDJ0nDZI8l8RJzlRbemg)                                  form 2: with a salt of 5 octets
    (HsjFebq0Kh9kH7aAZYc7kY30mC30mC3KmC30mCluagXrvWKj1)     form 3: form 2 through PBKDF2

The digest is MD2 (RFC 1319) with another table and another step of the index. Domino hashes a password in its own
set of characters, LMBCS; that of ASCII is the same in UTF-8, which is what is hashed here.

STANDARDS
    RFC 1319 (MD2, from which the digest is made), RFC 8018 5.2.

ERRORS
    Unreadable, also for more than ``ROUNDS_CEILING`` rounds.
"""

import hashlib
import re
from collections.abc import Callable

from pillarbox.directory.schemes.digests import equal
from pillarbox.directory.schemes.errors import Unreadable

ROUNDS_CEILING = 2_000_000

_TABLE = bytes.fromhex(
    "bd56eaf2a2f1ac2ab093d19c1b33fdd03004b6dc7ddf324bf7cb459b31bb215a419fe1d94a4d9edaa0682cc3275f8036"
    "3eeefb951afecea834a913f0a63fd80c7824af2352c16717f56690e7e807b86048e61e53f392a4728c08156e860084fa"
    "f47f8a4219f6dbcd148d5012ba3c064eecb33511a1888e2b9499b77174d3e4bf3ade960ebc0aed77fc376b03798962c6"
    "d7c0d27c6a8b22a35b055d0275d561e3188f5551ad1f0b5e85e5c25763ca3d6cb4c5cc70b291590d4720c84f58e001e2"
    "1638c46f3b0f6546be7e2d7b82f940b51d73f8eb26c787972554b128aa989da5646d7ad4108144ef49d6ae2edd765c2f"
    "a71cc909699a83cf2939b9e94cff43ab"
)
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_FORM_1 = re.compile(r"\(([0-9A-Fa-f]{32})\)")
_FORM_2 = re.compile(r"\(G[0-9A-Za-z+/]{19}\)")
_FORM_3 = re.compile(r"\(H[0-9A-Za-z+/]{48}\)")
_SALT, _FORM_3_SALT, _DIGITS = 5, 16, 10


def looks_like_one(text: str) -> bool:
    """Whether no other scheme writes its passwords so."""
    return text.startswith("(") and text.endswith(")")


def read(text: str) -> tuple[int, Callable[[bytes], bool]]:
    """The number of the form, and how to verify it. Raises Unreadable."""
    one = _FORM_1.fullmatch(text)
    if one is not None:
        wanted = one[1].upper().encode()
        return 1, lambda password: equal(_hex_digest(password), wanted)
    if _FORM_2.fullmatch(text):
        salt = _unshift(_decode(text[2:-1] + "0")[:_SALT])
        return 2, lambda password: equal(_form_2(password, salt), text.encode())
    if _FORM_3.fullmatch(text):
        return 3, _read_form_3(_decode(text[2:-1]))
    raise Unreadable("none of the three forms of a Domino Internet password")


def digest(octets: bytes) -> bytes:
    """The core digest: 16 octets."""
    short = 16 - len(octets) % 16
    padded = octets + bytes([short]) * short
    state, checksum = bytes(16), bytearray(16)
    for start in range(0, len(padded), 16):
        block = padded[start : start + 16]
        state = _mix(state, block)
        last = checksum[15]
        for index, octet in enumerate(block):
            checksum[index] ^= _TABLE[octet ^ last]
            last = checksum[index]
    return _mix(state, bytes(checksum))


def _mix(state: bytes, block: bytes) -> bytes:
    mixed = bytearray(state + block + bytes(a ^ b for a, b in zip(state, block, strict=True)))
    pointer = 0
    for _round in range(18):
        for index in range(48):
            pointer = (pointer + 48 - index) & 0xFF
            mixed[index] ^= _TABLE[pointer]
            pointer = mixed[index]
    return bytes(mixed[:16])


def _hex_digest(password: bytes) -> bytes:
    return digest(password).hex().upper().encode()


def _form_2(password: bytes, salt: bytes) -> bytes:
    """The whole text. Only 34 octets are hashed: the salt pushes the last five out, at Domino as well."""
    inner = (salt + b"(" + _hex_digest(password) + b")")[:34]
    raw = bytearray(salt + digest(inner)[:10])
    raw[3] = (raw[3] + 4) & 0xFF
    return b"(G" + _encode(bytes(raw))[:19].encode() + b")"


def _read_form_3(raw: bytes) -> Callable[[bytes], bool]:
    salt = _unshift(raw[:_FORM_3_SALT])
    digits, wanted = raw[_FORM_3_SALT : _FORM_3_SALT + _DIGITS], raw[-8:]
    if not re.fullmatch(rb"[0-9]{10}", digits) or int(digits) < 1:
        raise Unreadable("a Domino Internet password of form 3 without a number of rounds")
    rounds = int(digits)
    if rounds > ROUNDS_CEILING:
        raise Unreadable(f"{rounds} rounds; {ROUNDS_CEILING} are allowed")
    return lambda password: equal(
        hashlib.pbkdf2_hmac("sha1", _form_2(password, salt[:_SALT]), salt, rounds, 8), wanted
    )


def _unshift(salt: bytes) -> bytes:
    """The salt itself of what is written down: its fourth octet is four more there."""
    return salt[:3] + bytes([(salt[3] - 4) & 0xFF]) + salt[4:]


def _encode(octets: bytes) -> str:
    """Four characters for three octets, the most significant bits first."""
    number = int.from_bytes(octets, "big")
    characters = len(octets) // 3 * 4
    return "".join(_ALPHABET[number >> shift & 63] for shift in range(6 * (characters - 1), -1, -6))


def _decode(text: str) -> bytes:
    number = 0
    for character in text:
        number = number << 6 | _VALUES[character]
    return number.to_bytes(len(text) // 4 * 3, "big")

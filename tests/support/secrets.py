"""Looks for secrets where none may be: in logs, replies, files. Knows the forms in which a password travels."""

import base64
import re
from urllib.parse import quote


def forms_of(secret: str, login: str = "") -> dict[str, bytes]:
    """How ``secret`` may show itself: as it is, in base64 (alone, or after other octets), in hex, in percents."""
    octets = secret.encode()
    plain = b"\0" + login.encode() + b"\0" + octets
    return {
        "as it is": octets,
        "reversed": octets[::-1],
        "base64": base64.b64encode(octets).rstrip(b"="),
        "base64url": base64.urlsafe_b64encode(octets).rstrip(b"="),
        "AUTH PLAIN": base64.b64encode(plain).rstrip(b"="),
        **{f"base64 after {before} octets": _base64_within(octets, before) for before in (1, 2)},
        "hex": octets.hex().encode(),
        "percent": quote(secret, safe="").encode(),
        "escaped": secret.encode("unicode_escape"),
        "repr": repr(octets)[2:-1].encode(),
    }


def leaks(octets: bytes, secret: str, login: str = "") -> list[str]:
    """The forms of ``secret`` that are in ``octets``: none is good. ``secret`` has at least 8 characters."""
    if len(secret) < 8:
        raise ValueError("a short secret is found by chance")
    flat = re.sub(rb"\\r\\n|\r?\n[ \t]+", b"", octets)
    return [name for name, form in forms_of(secret, login).items() if form in octets or form in flat]


def _base64_within(octets: bytes, before: int) -> bytes:
    """The base64 characters that ``octets`` alone decide when other octets stand before and after them."""
    encoded = base64.b64encode(bytes(before) + octets)
    whole = len(octets) + before - (len(octets) + before) % 3
    return encoded[before + 1 : whole // 3 * 4]

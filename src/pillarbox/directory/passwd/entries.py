"""The lines of a password file: htpasswd's (name:hash) and passwd-file's, as Dovecot has them.

    name:{SCHEME}hash:uid:gid:gecos:home:shell:mail=a.smith@example.org,anna@example.org domains=example.com

Of the fields between the hash and the last one nothing is used. In the last one, words with spaces between:
``mail`` (addresses), ``domains`` (whole domains), ``disabled`` or ``nologin``, ``may_redirect``,
``recipients_per_hour``; others are Dovecot's, and nothing here. Only who has ``allow_nets``, ``allow_real_nets`` or
``noauthenticate`` is not let in: these limit the password there, and here it would count from everywhere. Without
``mail``, a login that looks like an address is one; with a domain in the settings each other login has one there. A
hash that begins with "!" or "*", or that is missing, lets nobody in.

One line that cannot be read makes the whole file unusable, as does a name that is there twice: half a file is
nobody's wish. A file that does not end with a line break is one that somebody is still writing.

STANDARDS
    passwd(5) for the fields.

ERRORS
    FileBroken: with the number of the line; never with its text.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pillarbox.directory.base import Identity, InvalidAccount, Reason
from pillarbox.directory.hashed import Hashed
from pillarbox.directory.preparation import login_key
from pillarbox.directory.validity import check_addresses, check_domains, check_login

LINE_CEILING = 4_096
"""Octets."""
ENTRIES_CEILING = 100_000
_EXTRA = 6
_LIMITS = ("allow_nets", "allow_real_nets", "noauthenticate")
_YES = ("", "y", "yes", "1", "true")


class FileBroken(ValueError):
    """``str()`` says where and why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One person. ``denied``: no password lets this person in. ``cause``: why, where the line does not mean it so."""

    identity: Identity
    hashed: Hashed
    denied: Reason | None
    line: int
    cause: str = ""


def parse(octets: bytes, domain: str = "") -> Mapping[str, Entry]:
    """The people by the keys of their logins. Raises FileBroken."""
    if octets and not octets.endswith(b"\n"):
        raise FileBroken("the last line has no end: somebody is still writing it, or it was cut off")
    entries: dict[str, Entry] = {}
    for number, line in enumerate(octets.split(b"\n"), start=1):
        line = line.removesuffix(b"\r")
        if not line.strip() or line.startswith(b"#"):
            continue
        if len(line) > LINE_CEILING:
            raise FileBroken(f"line {number}: longer than {LINE_CEILING} octets")
        try:
            entry = _entry(line.decode("utf-8"), number, domain)
        except UnicodeDecodeError:
            raise FileBroken(f"line {number}: not UTF-8") from None
        except (InvalidAccount, ValueError) as error:
            raise FileBroken(f"line {number}: {error}") from None
        other = entries.setdefault(login_key(entry.identity.login), entry)
        if other is not entry:
            raise FileBroken(f"line {number}: the name of line {other.line} again")
        if len(entries) > ENTRIES_CEILING:
            raise FileBroken(f"more than {ENTRIES_CEILING} people")
    return entries


def _entry(line: str, number: int, domain: str) -> Entry:
    if not line.isprintable():
        raise ValueError("holds a control character")
    name, *fields = line.split(":")
    if not fields:
        raise ValueError('no ":" after the name')
    if fields[0].startswith("SCRAM-SHA-256$"):
        fields[:3] = [":".join(fields[:3])]  # RFC 5803 has two of them inside
    login = check_login(name)
    words = _words(":".join(fields[_EXTRA:]))
    identity = Identity(
        login,
        frozenset(check_addresses(_addresses(login, words, domain))),
        frozenset(check_domains(_list(words.get("domains", "")))),
        may_redirect=words.get("may_redirect", "no").lower() in _YES,
        recipients_per_hour=_quota(words.get("recipients_per_hour")),
    )
    denied, limit = _denied(fields[0], words), next((word for word in _LIMITS if word in words), None)
    if denied is None and limit is not None:
        return Entry(identity, Hashed(fields[0]), Reason.LOCKED, number, f"{limit} is Dovecot's, and not kept here")
    return Entry(identity, Hashed(fields[0]), denied, number)


def _words(extra: str) -> dict[str, str]:
    words: dict[str, str] = {}
    for word in extra.split():
        key, _, value = word.partition("=")
        words[key] = f"{words[key]},{value}" if key in words else value
    return words


def _list(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _addresses(login: str, words: dict[str, str], domain: str) -> tuple[str, ...]:
    given = _list(words.get("mail", ""))
    if given:
        return given
    address = login if "@" in login else f"{login}@{domain}"
    if address.endswith("@"):
        return ()
    try:
        return check_addresses((address,))
    except InvalidAccount:
        return ()  # a login with spaces is no address, and need not be one


def _quota(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise ValueError("recipients_per_hour is no number from 1 up")
    return int(text)


def _denied(stored: str, words: dict[str, str]) -> Reason | None:
    if any(word in words and words[word].lower() in _YES for word in ("disabled", "nologin")):
        return Reason.DISABLED
    if stored.startswith(("!", "*")):
        return Reason.LOCKED
    return Reason.DISABLED if stored in ("", "x") else None

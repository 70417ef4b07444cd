"""The states of a session and the table of verbs: what may come when, and what is said when it may not.

This table is the single source: the server obeys it, the client knows from it which command must be the last of a
pipelined group, and docs/reference/protocol.md is written from it.

STANDARDS
    RFC 5321 4.1.4 (order of commands), RFC 2920 3.1 (last of a group), RFC 3207 4, RFC 4954 3 and 4, RFC 3030 2.

It must not import anything but the protocol core.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from pillarbox.smtp import hints, reader
from pillarbox.smtp.events import Command
from pillarbox.smtp.reader import Facts
from pillarbox.smtp.reply import Reply


class State(Enum):
    """Where a server's session stands."""

    # members are single objects; Enum's own hash is a Python call, and the tables are asked at every command
    __hash__ = object.__hash__

    GREETING = auto()  # nothing was said; our greeting is due
    REFUSED = auto()  # the greeting was 5yz or 4yz: only QUIT is left (RFC 5321 3.1)
    START = auto()  # before EHLO or HELO, and again after TLS began
    READY = auto()  # greeted, no transaction
    MAIL = auto()  # a transaction without an accepted recipient
    RCPT = auto()  # a transaction with one
    CONTENT = auto()  # after 354
    CHUNK = auto()  # inside the octets of a BDAT
    CHUNKS = auto()  # between two chunks of one content
    SWALLOW = auto()  # inside the octets of a BDAT that is refused behind them
    EXCHANGE = auto()  # after 334
    TLS = auto()  # 220 to STARTTLS was sent: start_tls() is due
    CLOSED = auto()  # said good-bye


_ANY: Final = frozenset({State.START, State.READY, State.MAIL, State.RCPT, State.CHUNKS})
_IDLE: Final = frozenset({State.START, State.READY})
_NOWHERE: Final[frozenset[State]] = frozenset()


def _open(reply: Reply) -> Mapping[State, Reply]:
    return {State.MAIL: reply, State.RCPT: reply, State.CHUNKS: reply}


def _always(_: Facts) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Verb:
    """One row.

    Attributes:
        read: from the line to the event; None when the verb is known and refused with ``refusal``.
        states: where it is allowed.
        instead: what is said in other states; START says "EHLO first", the rest "bad sequence".
        sign_in: allowed only after sign-in (rule R1): 530 before, in every state.
        tls: allowed only inside TLS: 530 outside, but where ``Limits.plaintext_sign_in`` says otherwise.
        last: must be the last command of a pipelined group.
        check: a last condition on the facts; a reply refuses.
        refusal: see ``read``.
        fatal: what follows the line cannot be told from commands: refuse and close.
        chunk: octets follow the line at once, whatever becomes of the command (BDAT).
    """

    read: Callable[[bytes, Facts], Command] | None = None
    states: frozenset[State] = _NOWHERE
    instead: Mapping[State, Reply] = field(default_factory=dict)
    sign_in: bool = False
    tls: bool = False
    last: bool = False
    check: Callable[[Facts], Reply | None] = _always
    refusal: Reply = hints.NOT_IMPLEMENTED
    fatal: bool = False
    chunk: bool = False


def _check_starttls(facts: Facts) -> Reply | None:
    if facts.tls:
        return hints.ALREADY_TLS
    return None if facts.offer_starttls else hints.STARTTLS_NOT_OFFERED


def _check_auth(facts: Facts) -> Reply | None:
    if facts.authenticated:
        return hints.ALREADY_SIGNED_IN
    return None if facts.esmtp else hints.EHLO_FIRST


def _check_data(facts: Facts) -> Reply | None:
    return hints.BDAT_FOR_BINARY if facts.binary else None


def _check_bdat(facts: Facts) -> Reply | None:
    return hints.NOT_IMPLEMENTED if "CHUNKING" in facts.limits.disabled else None


_REFUSED: Final = Verb(sign_in=True)
_FOREIGN: Final = Verb(refusal=hints.NOT_SMTP, fatal=True)

VERBS: Final[Mapping[bytes, Verb]] = {
    b"EHLO": Verb(reader.read_ehlo, _ANY, last=True),
    b"HELO": Verb(reader.read_helo, _ANY, last=True),
    b"STARTTLS": Verb(reader.read_starttls, _IDLE, _open(hints.TLS_IN_TRANSACTION), last=True, check=_check_starttls),
    b"AUTH": Verb(
        reader.read_auth,
        frozenset({State.READY}),
        _open(hints.AUTH_IN_TRANSACTION),
        tls=True,
        last=True,
        check=_check_auth,
    ),
    b"MAIL": Verb(reader.read_mail, frozenset({State.READY}), _open(hints.MAIL_TWICE), sign_in=True),
    b"RCPT": Verb(
        reader.read_rcpt,
        frozenset({State.MAIL, State.RCPT}),
        {State.READY: hints.MAIL_FIRST, State.CHUNKS: hints.BDAT_BEGUN},
        sign_in=True,
    ),
    b"DATA": Verb(
        reader.read_data,
        frozenset({State.RCPT}),
        {State.READY: hints.MAIL_FIRST, State.MAIL: hints.RCPT_FIRST, State.CHUNKS: hints.BDAT_BEGUN},
        sign_in=True,
        last=True,
        check=_check_data,
    ),
    b"BDAT": Verb(
        lambda line, _: reader.read_bdat(line),
        frozenset({State.RCPT, State.CHUNKS}),
        {State.READY: hints.MAIL_FIRST, State.MAIL: hints.RCPT_FIRST},
        sign_in=True,
        check=_check_bdat,
        chunk=True,
    ),
    b"RSET": Verb(reader.read_rset, _ANY),
    b"NOOP": Verb(reader.read_noop, _ANY, last=True),
    b"QUIT": Verb(reader.read_quit, _ANY | {State.REFUSED}, last=True),
    b"HELP": Verb(reader.read_help, _ANY),
    b"VRFY": Verb(reader.read_vrfy, _ANY, sign_in=True, last=True),
    # known, and not offered
    b"EXPN": _REFUSED,
    b"BURL": _REFUSED,
    b"ETRN": _REFUSED,
    b"ATRN": _REFUSED,
    b"TURN": _REFUSED,
    b"SEND": _REFUSED,
    b"SOML": _REFUSED,
    b"SAML": _REFUSED,
    b"XCLIENT": _REFUSED,
    b"XFORWARD": _REFUSED,
    # a web page can make a browser post mail commands to any port
    b"GET": _FOREIGN,
    b"HEAD": _FOREIGN,
    b"POST": _FOREIGN,
    b"PUT": _FOREIGN,
    b"OPTIONS": _FOREIGN,
    b"CONNECT": _FOREIGN,
}
"""Every verb that is known, in upper case."""


def refusal(verb: Verb, state: State, facts: Facts) -> Reply | None:
    """Why ``verb`` may not be given now, or None when it may. Sign-in is asked first, so that nobody learns more."""
    if verb.sign_in and not facts.authenticated:
        return hints.SIGN_IN_FIRST
    if verb.tls and not (facts.tls or facts.limits.plaintext_sign_in):
        return hints.STARTTLS_FIRST
    if verb.read is None:
        return verb.refusal
    if state not in verb.states:
        otherwise = hints.HELLO_FIRST if state is State.START else hints.BAD_SEQUENCE
        return verb.instead.get(state, otherwise)
    return verb.check(facts)

"""Every reply that a session gives of its own, one constant each; those for broken protocol are in smtp/hints.py.

What a peer may see is decided here and nowhere else: a constant, or a template whose arguments are escaped and
capped. The reason behind a refusal travels in ``Refused.reason`` to the log.

STANDARDS
    RFC 5321 4.2, RFC 3463 and RFC 5248 (enhanced status), RFC 4954 6 (AUTH).
"""

from typing import Final

from pillarbox.smtp.reply import Reply

ARGUMENT_CEILING = 100
"""Octets of a peer's or backend's words that may stand in a reply."""


class Refused(Exception):
    """We refuse: ``reply`` goes to the peer, ``reason`` to the log.

    ``closes``: the session ends after the reply.
    """

    def __init__(self, reply: Reply, reason: str, *, closes: bool = False) -> None:
        super().__init__(reason)
        self.reply = reply
        self.reason = reason
        self.closes = closes


def escaped(argument: str, *, smtputf8: bool = False) -> str:
    """An argument fit for a reply: no controls, ASCII unless SMTPUTF8 was given, at most ARGUMENT_CEILING octets."""
    text = "".join(c if c.isprintable() and (smtputf8 or c.isascii()) else "?" for c in argument[:ARGUMENT_CEILING])
    return text.encode()[:ARGUMENT_CEILING].decode("utf-8", "ignore")


# --- the session


def greeting(site: str) -> Reply:
    """One line: a multi-line greeting is mangled by some firewalls."""
    return Reply(220, (f"{site} ESMTP Pillarbox",))


OK: Final = Reply(250, ("Ok",), "2.0.0")
"""NOOP and RSET."""

BYE: Final = Reply(221, ("Bye",), "2.0.0")
"""QUIT."""

GO_AHEAD_TLS: Final = Reply(220, ("Ready to start TLS",), "2.0.0")
"""STARTTLS."""

HELP: Final = Reply(
    214,
    ("This is a mail submission server: sign in with AUTH inside TLS, then MAIL, RCPT, DATA", "See RFC 6409"),
    "2.0.0",
)
"""HELP."""

CANNOT_VERIFY: Final = Reply(252, ("Cannot verify the address, but will accept the message",), "2.0.0")
"""VRFY after sign-in (RFC 5321 3.5.3)."""

TIMEOUT: Final = Reply(421, ("Timeout, closing the connection",), "4.4.2")
"""The peer was too slow (RFC 5321 4.5.3.2)."""

TOO_MANY_SESSIONS: Final = Reply(421, ("Too many connections, try again later",), "4.7.0")
"""At connect: over the site's or the address's limit."""

BLOCKED: Final = Reply(421, ("Too many failed sign-ins from your network, try again later",), "4.7.0")
"""The guard refuses the address for a while."""

NOT_FROM_THERE: Final = Reply(554, ("Not from your network, closing the connection",), "5.7.1")
"""At connect to a legacy site: the peer is not in its networks."""

SHUTTING_DOWN: Final = Reply(421, ("The server is going down for a moment, try again",), "4.3.2")
"""Drain: said to idle sessions, and to the others after their transaction."""

ACCOUNT_CHANGED: Final = Reply(421, ("Your account was changed, sign in again",), "4.7.0")
"""At the first command after the account was changed, disabled or removed."""

OUR_FAULT: Final = Reply(451, ("Local error in processing, try again later",), "4.3.0")
"""A bug of ours, or a backend that cannot say; never with details."""

# --- sign-in

SIGNED_IN: Final = Reply(235, ("Authentication succeeded",), "2.7.0")
"""AUTH succeeded."""

SIGN_IN_FAILED: Final = Reply(535, ("Authentication credentials invalid",), "5.7.8")
"""The one answer to every failed sign-in (DESIGN: the wire, 7)."""

SIGN_IN_CANCELLED: Final = Reply(501, ("Authentication cancelled",), "5.7.0")
"""The client sent ``*`` (RFC 4954 4)."""

SIGN_IN_UNAVAILABLE: Final = Reply(454, ("Temporary authentication failure, try again later",), "4.7.0")
"""The directory cannot say (RFC 4954 6); never 535."""

TOO_MANY_FAILURES: Final = Reply(421, ("Too many failed sign-ins, closing the connection",), "4.7.0")
"""This session failed too often, or too many sessions are being delayed."""

TOO_MANY_COMMANDS: Final = Reply(421, ("Too many commands before a sign-in, closing the connection",), "4.7.0")
"""A session that says much and never signs in."""

NOTHING_SENT: Final = Reply(421, ("Too many commands without a message, closing the connection",), "4.7.0")
"""Who has signed in says much and sends nothing."""

# --- the transaction

SENDER_OK: Final = Reply(250, ("Sender ok",), "2.1.0")
"""MAIL."""

RECIPIENT_OK: Final = Reply(250, ("Recipient ok",), "2.1.5")
"""RCPT."""

START_CONTENT: Final = Reply(354, ("End data with <CR><LF>.<CR><LF>",))
"""DATA."""

TOO_MANY_RECIPIENTS: Final = Reply(452, ("Too many recipients in one message",), "4.5.3")
"""RCPT beyond the site's limit (RFC 5321 4.5.3.1.10)."""

OVER_QUOTA: Final = Reply(450, ("You have sent to very many recipients in the last hour, try again later",), "4.7.0")
"""RCPT beyond the person's hourly quota."""

NO_RECIPIENTS: Final = Reply(554, ("No valid recipients",), "5.5.1")
"""DATA without an accepted RCPT (RFC 5321 3.3)."""

SPOOL_FULL: Final = Reply(452, ("Insufficient storage, try again later",), "4.3.1")
"""The spool is below its reserve."""

SPOOL_UNAVAILABLE: Final = Reply(451, ("The queue is not available, try again later",), "4.3.2")
"""The spool cannot say; nothing was promised."""

BARE_CR: Final = Reply(554, ("Bare CR in the message: a CR must be followed by LF",), "5.6.0")
"""A CR that is no part of a line end. A legacy site normalises a bare LF and refuses this."""

BARE_LINE_END: Final = Reply(554, ("Bare CR or LF in the message: lines end with CRLF only",), "5.6.0")
"""Content with a bare CR or LF, refused after its true end (SMTP smuggling)."""

LEADING_NUL: Final = Reply(554, ("A line of the message begins with NUL",), "5.6.0")
"""A next hop that strips NUL would find an end of content there (SMTP smuggling)."""

TOO_BIG: Final = Reply(552, ("The message is bigger than this server accepts",), "5.3.4")
"""Content over the limit, found while it came."""

LOOP: Final = Reply(554, ("The message has passed too many servers already: a mail loop",), "5.4.6")
"""More Received fields than any honest way has (RFC 5321 6.3)."""

HOLD_AFTER_DELIVERY: Final = Reply(501, ("The message would be released after the time to deliver it by",), "5.5.4")
"""MAIL with HOLDFOR or HOLDUNTIL later than BY (RFC 4865, RFC 2852)."""

HEADER_TOO_BIG: Final = Reply(554, ("The message's header is too big",), "5.6.0")
"""No end of the header within its ceiling."""


def line_too_long(limit: int) -> Reply:
    """A line of content over ``max_text_line`` octets."""
    return Reply(554, (f"A line of the message is longer than {limit} octets",), "5.6.0")


def hold_too_long(limit: float) -> Reply:
    """MAIL with HOLDFOR or HOLDUNTIL beyond ``max_hold`` (RFC 4865 4)."""
    return Reply(501, (f"A message is held for {limit:.0f} seconds at most",), "5.5.4")


def chunk_received(size: int) -> Reply:
    """BDAT that is not the last (RFC 3030 2): the octets are here, nothing is promised yet."""
    return Reply(250, (f"{size} octets received",), "2.0.0")


def queued(queue_id: str) -> Reply:
    """The promise (R6): said only after commit has returned."""
    return Reply(250, (f"Ok: queued as {queue_id}",), "2.0.0")


def may_not_send_as(address: str, where: str, *, smtputf8: bool) -> Reply:
    """``where`` is a constant: "sender", "From", ..."""
    return Reply(550, (f"You may not send as {escaped(address, smtputf8=smtputf8)} ({where})",), "5.7.1")


def may_not_write_to(address: str, *, smtputf8: bool) -> Reply:
    """RCPT of a device to somebody whom its site does not list."""
    return Reply(550, (f"Devices of this site may not write to {escaped(address, smtputf8=smtputf8)}",), "5.7.1")


def bad_header(reason: str) -> Reply:
    """The header could be read in two ways; ``reason`` is one of our own sentences."""
    return Reply(550, (f"The message's header is refused: {reason}",), "5.7.1")

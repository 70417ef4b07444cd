"""What is told of replies that refuse: a line each in the log, but not without end, and the counter for all of them.

Who has signed in may err as often as a message needs; a peer that does nothing else must not fill the log. So a
session has LINES of them until its next message is accepted; the rest are counted, and the count stands in
``session.closed``.

ERRORS
    None.
"""

from typing import Any

from pillarbox.smtp.connection import RemoteProtocolError
from pillarbox.smtp.hints import SIGN_IN_FIRST
from pillarbox.smtp.reply import Reply
from pillarbox.submission import replies
from pillarbox.submission.replies import Refused
from pillarbox.telemetry.counters import counter

REFUSED = counter("replies_refused_total", "Replies 4yz and 5yz given", labels=("code",))

LINES = 20
"""Refusals of one session that get a line of their own until a message is accepted."""


class Refusals:
    """Of one session. ``unlogged``: how many had no line."""

    __slots__ = ("_left", "unlogged")

    def __init__(self) -> None:
        self._left = LINES
        self.unlogged = 0

    def forget(self) -> None:
        """A message was accepted: there are lines again."""
        self._left = LINES

    def refused(self, log: Any, refused: Refused, message: dict[str, Any]) -> None:
        """``message``: what names the message of the open transaction."""
        code = refused.reply.code
        REFUSED.add(1, str(code))
        if refused.reply is not replies.SIGN_IN_FAILED and self._may_tell():  # signin.failed has told it already
            log.info("command.refused", code=code, reason=refused.reason, **message)

    def broken(self, log: Any, error: RemoteProtocolError, hint: Reply, message: dict[str, Any]) -> None:
        """The peer broke the protocol; ``hint`` is what it is told."""
        REFUSED.add(1, str(hint.code))
        if not self._may_tell():
            return
        octets = error.octets[:200].decode("ascii", "backslashreplace")
        if error.tls_hello:
            log.warning(
                "session.tls_hello", hint="the client speaks TLS from the start: it belongs on the submissions port"
            )
        elif hint is SIGN_IN_FIRST:  # nothing is broken: somebody who did not sign in got nothing (R1)
            log.info("command.refused", code=hint.code, reason="not signed in", octets=octets)
        else:
            log.info("protocol.broken", reason=str(error), octets=octets, **message)

    def _may_tell(self) -> bool:
        if self._left:
            self._left -= 1
            return True
        self.unlogged += 1
        return False

"""What a next hop can take, read once from its EHLO reply, and what a message asks of it.

The content is never converted: what a next hop cannot carry, or may not carry as the sender wants it carried, fails
before MAIL. What it merely does not know (DSN, MT-PRIORITY, a DELIVERBY of mode N) is left out.

STANDARDS
    RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 3030 (BINARYMIME), RFC 6531 (SMTPUTF8), RFC 3461 5 (DSN passed on), RFC
    2852 4 (DELIVERBY), RFC 6710 (MT-PRIORITY), RFC 8689 4 (REQUIRETLS), RFC 9422 (LIMITS), RFC 3463 and RFC 5248.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pillarbox.message.envelope import Envelope
from pillarbox.smtp.events import Body, MailParameters, RcptParameters
from pillarbox.spool.base import Failed, Lease, Recipient

LATE_STATUS: Final = "5.4.7"
RECIPIENTS_PER_TRANSACTION: Final = 100
"""What every server must take (RFC 5321 4.5.3.1.8)."""

_LONGEST_PAST: Final = -999_999_999
"""Seconds in BY: nine digits are all that there are (RFC 2852 4)."""

_NO_RCPT_PARAMETERS: Final = RcptParameters()


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a next hop can take. ``size_limit`` in octets, None: none said; so is what LIMITS says of ``recipients``
    in a transaction (RCPTMAX), of ``transactions`` (MAILMAX) and recipients' ``domains`` (RCPTDOMAINMAX) in a
    session."""

    pipelining: bool
    eight_bit_mime: bool
    assume_eight_bit: bool
    smtputf8: bool
    size: bool
    size_limit: int | None
    binary: bool = False
    dsn: bool = False
    deliver_by: bool = False
    priority: bool = False
    require_tls: bool = False
    recipients: int | None = None
    transactions: int | None = None
    domains: int | None = None

    @classmethod
    def of(cls, extensions: dict[str, str], *, assume_8bitmime: bool) -> "Abilities":
        """From the keywords and their arguments (Connection.extensions)."""
        limit = _number(extensions.get("SIZE", ""))
        limits = extensions.get("LIMITS", "")
        return cls(
            pipelining="PIPELINING" in extensions,
            eight_bit_mime="8BITMIME" in extensions,
            assume_eight_bit=assume_8bitmime,
            smtputf8="SMTPUTF8" in extensions,
            size="SIZE" in extensions,
            size_limit=limit or None,  # 0: no fixed limit (RFC 1870 4)
            binary="BINARYMIME" in extensions and "CHUNKING" in extensions,
            dsn="DSN" in extensions,
            deliver_by="DELIVERBY" in extensions,
            priority="MT-PRIORITY" in extensions,
            require_tls="REQUIRETLS" in extensions,
            recipients=_limit(limits, "RCPTMAX"),
            transactions=_limit(limits, "MAILMAX"),
            domains=_limit(limits, "RCPTDOMAINMAX"),
        )

    def impediment(self, lease: Lease, hop: str, *, now: float, tls: bool) -> Failed | None:
        """Why this next hop can never take this message, or None. ``tls``: the connection is inside TLS, whose
        certificate was checked, since no route of ours does one without the other."""
        envelope = lease.envelope
        if envelope.smtputf8 and not self.smtputf8:
            return Failed("5.6.7 the message needs SMTPUTF8, which the next hop does not offer", hop, "5.6.7")
        if envelope.binary and not self.binary:
            return Failed("5.6.3 the message needs BINARYMIME, which the next hop does not offer", hop, "5.6.3")
        if envelope.eight_bit and not (envelope.binary or self.eight_bit_mime or self.assume_eight_bit):
            return Failed("5.6.3 the message needs 8BITMIME, which the next hop does not offer", hop, "5.6.3")
        if self.size_limit is not None and envelope.size > self.size_limit:
            words = f"5.3.4 the message has {envelope.size} octets, the next hop takes {self.size_limit}"
            return Failed(words, hop, "5.3.4")
        if envelope.require_tls and not (tls and self.require_tls):
            return Failed("5.7.30 the sender requires TLS, which the next hop does not promise", hop, "5.7.30")
        return too_late(envelope, hop, now) or self._no_promise(envelope, hop)

    def _no_promise(self, envelope: Envelope, hop: str) -> Failed | None:
        if envelope.deliver_by_mode.startswith("R") and not self.deliver_by:
            words = f"{LATE_STATUS} the next hop does not offer DELIVERBY, so nobody would return the message in time"
            return Failed(words, hop, LATE_STATUS)
        return None

    def tells_of_relaying(self, envelope: Envelope) -> bool:
        """Whether the sender is to hear that a message with a time to deliver by went to this next hop (RFC 2852 4):
        that time ends here (mode N), or a trace was asked for."""
        mode = envelope.deliver_by_mode
        return mode.endswith("T") or (mode.startswith("N") and not self.deliver_by)

    def mail_parameters(self, envelope: Envelope, now: float) -> MailParameters:
        """The parameters of MAIL."""
        body = None
        if envelope.binary:
            body = Body.BINARY_MIME
        elif envelope.eight_bit and self.eight_bit_mime:
            body = Body.EIGHT_BIT_MIME
        by = envelope.deliver_by_mode if self.deliver_by else ""
        return MailParameters(
            size=envelope.size if self.size else None,
            body=body,
            smtputf8=envelope.smtputf8,
            ret=envelope.ret if self.dsn else "",
            envid=envelope.envid if self.dsn else "",
            deliver_by=max(math.floor(envelope.deliver_by - now), _LONGEST_PAST) if by else None,
            deliver_by_mode=by,
            priority=envelope.priority if self.priority and envelope.priority else None,
            require_tls=envelope.require_tls,
        )

    def rcpt_parameters(self, envelope: Envelope, recipient: Recipient) -> RcptParameters:
        """The parameters of RCPT. Nobody is to report on a report (RFC 3461 7)."""
        if not self.dsn:
            return _NO_RCPT_PARAMETERS
        if envelope.is_bounce:
            return RcptParameters(notify="NEVER")
        if not (recipient.notify or recipient.original_recipient):
            return _NO_RCPT_PARAMETERS
        return RcptParameters(recipient.notify, recipient.original_recipient)


class Allowance:
    """What the next hop's LIMITS leave of one session (RFC 9422); an unlimited one has all of it, always."""

    def __init__(self, abilities: Abilities) -> None:
        self._recipients = min(abilities.recipients or RECIPIENTS_PER_TRANSACTION, RECIPIENTS_PER_TRANSACTION)
        self._transactions = abilities.transactions
        self._most_domains = abilities.domains
        self._domains: set[str] = set()

    @property
    def spent(self) -> bool:
        """Whether the session may have no further transaction."""
        return self._transactions == 0

    def share(self, waiting: Sequence[Recipient]) -> tuple[Sequence[Recipient], Sequence[Recipient]]:
        """Those of the next transaction, which is counted, and those left. None for it: the rest needs a new session,
        which takes at least one of them."""
        if self.spent:
            return (), waiting
        these, later = waiting[: self._recipients], waiting[self._recipients :]
        if self._most_domains is not None:
            these, others = self._known(these, self._most_domains)
            later = [*others, *later]
        if these and self._transactions is not None:
            self._transactions -= 1
        return these, later

    def _known(self, recipients: Sequence[Recipient], most: int) -> tuple[list[Recipient], list[Recipient]]:
        these: list[Recipient] = []
        others: list[Recipient] = []
        for recipient in recipients:
            if len(self._domains) < most:
                self._domains.add(recipient.domain)
            (these if recipient.domain in self._domains else others).append(recipient)
        return these, others


def too_late(envelope: Envelope, hop: str, now: float) -> Failed | None:
    """The failure of a message that shall be returned when it is late, and is (RFC 2852 4.1); else None. Less than a
    second is late: nobody may be told BY=0;R."""
    if envelope.deliver_by_mode.startswith("R") and now > envelope.deliver_by - 1:
        return Failed(f"{LATE_STATUS} the time by which the message was to be delivered is over", hop, LATE_STATUS)
    return None


def late_notice_due(envelope: Envelope, now: float) -> bool:
    """Whether the sender is to be told that it is late and goes on (RFC 2852 4.2: mode N)."""
    return envelope.deliver_by_mode.startswith("N") and now >= envelope.deliver_by


def _limit(said: str, name: str) -> int | None:
    match = re.search(rf"(?:^| ){name}=([0-9]{{1,6}})(?: |$)", said, re.ASCII | re.IGNORECASE)
    return (int(match[1]) or None) if match is not None else None


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text, re.ASCII) else 0

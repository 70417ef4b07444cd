"""What travels between scheduler, pool and attempt: a consignment goes out, a report comes back.

A consignment is that part of a lease which goes to one next hop. A verdict is what an attempt found for one
recipient; the scheduler turns it into an outcome, for when to try again is not for an attempt to know.
"""

from dataclasses import dataclass, field
from typing import Protocol

from pillarbox.spool.base import Delivered, Failed, Lease, Recipient


@dataclass(slots=True, eq=False)
class Consignment:
    """The recipients of one lease that one next hop takes. ``repeated``: went back to the queue once already,
    because a reused connection turned out to be closed."""

    lease: Lease
    recipients: tuple[Recipient, ...]
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class TryLater:
    """Not now; the reason is the reply or our own words, beginning with an enhanced status. ``tried``: as in
    spool.base.Deferred."""

    reason: str
    tried: bool = True


Verdict = Delivered | TryLater | Failed


@dataclass(slots=True, eq=False)
class Report:
    """What came of a consignment.

    Attributes:
        verdicts: by recipient key; each recipient of the consignment has one, unless ``stopped`` or in ``rest``.
        rest: those whom one SMTP session may not have, because the next hop limits it: another takes them at once.
        tls: of the connection, ("TLSv1.3", "TLS_AES_256_GCM_SHA384"), or None.
        stopped: the lease was lost before a final dot: recipients without a verdict are another worker's.
        unheard: the connection ended before the next hop said anything about this message.
        usable: the connection may carry another transaction.
        success: what we report of those delivered to whoever asked for it (RFC 3464 2.3.3): "relayed" to a next hop
            that reports on nothing, "delivered" to its end, "" when the next hop reports.
        relaying_told: who did not say NEVER hears that the next hop has it (RFC 2852: a time to deliver by ends
            there, or a trace was asked for).
    """

    verdicts: dict[int, Verdict] = field(default_factory=dict)
    rest: tuple[Recipient, ...] = ()
    tls: tuple[str, str] | None = None
    stopped: bool = False
    unheard: bool = False
    usable: bool = True
    success: str = ""
    relaying_told: bool = False

    def tells_of(self, notify: str) -> str:
        """What we report of a delivered recipient with this NOTIFY: "relayed", "delivered", or "" for nothing."""
        action = self.success if "SUCCESS" in notify.split(",") else ""
        return action or ("relayed" if self.relaying_told and notify != "NEVER" else "")


class NextHopUnavailable(Exception):
    """No session can be had now; ``str()`` is the reason for outcomes and log, beginning with a status."""


class Carrier(Protocol):
    """What carries consignments to a next hop, one after another: a session, or a maildir."""

    carried: int
    """How many it has carried or tried."""

    async def deliver(self, consignment: Consignment) -> Report:
        """Tries one consignment. Raises nothing that a peer can cause."""
        ...

    async def close(self) -> None:
        """Ends it politely, within a few seconds. Never raises what a peer can cause."""
        ...

    def abort(self) -> None:
        """Ends it at once."""
        ...

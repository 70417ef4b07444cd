"""How a content comes in, by DATA or in chunks by BDAT: from the stream into the transaction, within its times.

Two clocks run: one between two pieces (``data_timeout``, RFC 5321 4.5.3.2.5), and one for the whole content
(``data_total_timeout``), so that a peer that drips octets cannot hold a session and a part of the spool for ever.

STANDARDS
    RFC 5321 4.1.1.4 and 4.5.3.2, RFC 3030 2 (BDAT).

ERRORS
    As SmtpStream.next_event; ConnectionLost also when the peer ends its side inside the content. What the content
    itself is refused for waits in the transaction.
"""

import asyncio
from typing import Any

from pillarbox.message.envelope import Envelope
from pillarbox.net.stream import ConnectionLost, DeadlineExceeded, SmtpStream
from pillarbox.smtp.events import Content, EndOfChunk, EndOfContent
from pillarbox.submission.settings import SiteSettings
from pillarbox.submission.transaction import Transaction
from pillarbox.telemetry.counters import counter, histogram

ACCEPTED = counter("messages_accepted_total", "Messages that got their 250", labels=("site",))
ACCEPTED_OCTETS = counter("accepted_octets_total", "Octets of accepted content", labels=("site",))
COMMIT = histogram(
    "accept_seconds",
    "From the end of content to the 250",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


async def receive(stream: SmtpStream, transaction: Transaction, settings: SiteSettings) -> EndOfContent | EndOfChunk:
    """Takes pieces until the content or the chunk ends."""
    clock = asyncio.get_running_loop().time
    if transaction.content_until is None:
        transaction.content_until = clock() + settings.data_total_timeout
    pause, until = settings.data_timeout, transaction.content_until
    while True:
        left = until - clock()
        if left <= 0:  # also where the octets come so fast that nobody ever waits for them
            raise DeadlineExceeded
        stream.set_deadline(min(pause, left))
        event = await stream.next_event()
        if isinstance(event, Content):
            await transaction.add_content(event.octets)
        elif isinstance(event, (EndOfContent, EndOfChunk)):
            return event
        else:  # nothing was promised
            raise ConnectionLost("the peer closed the connection inside the content")


def tell_accepted(log: Any, envelope: Envelope, seconds: float) -> None:
    """Counts and logs a message that is durable, ``seconds`` after the end of its content."""
    COMMIT.observe(seconds)
    ACCEPTED.add(1, envelope.site)
    ACCEPTED_OCTETS.add(envelope.size, envelope.site)
    log.info(
        "message.accepted",
        queue_id=envelope.queue_id,
        reverse_path=envelope.reverse_path,
        recipients=len(envelope.forward_paths),
        size=envelope.size,
        seconds=round(seconds, 4),
    )

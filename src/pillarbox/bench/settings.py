"""What a load is: where it goes, who signs in, how many connections and messages of which size.

ERRORS
    None.
"""

import ssl
from dataclasses import dataclass, field

from pillarbox.smtp.path import Mailbox


@dataclass(frozen=True, slots=True)
class Target:
    """A submission server and an account there.

    Attributes:
        context: for TLS; None: neither TLS nor sign-in, which only a sink takes.
        starttls: STARTTLS (submission, 587) in place of implicit TLS (submissions, 465).
        server_hostname: the name in its certificate; None: ``host``.
        patience: seconds for each reply, for connecting and for the handshake.
    """

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    context: ssl.SSLContext | None = None
    starttls: bool = False
    server_hostname: str | None = None
    patience: float = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """One run, bounded by ``messages`` or by ``seconds`` (exactly one is given).

    Attributes:
        sender: the reverse path, and the From field.
        recipients: the forward paths of each message.
        connections: open at once.
        per_connection: messages before a connection is renewed; 1: a session per message.
        size: octets of the content, header included (at least what the header needs).
        pipelining: use it where it is offered.
    """

    sender: Mailbox
    recipients: tuple[Mailbox, ...]
    messages: int | None = None
    seconds: float | None = None
    connections: int = 16
    per_connection: int = 100
    size: int = 8192
    pipelining: bool = True

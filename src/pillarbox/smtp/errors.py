"""The two kinds of protocol error: theirs and ours.

It must not import anything but the protocol core.
"""

from pillarbox.smtp.reply import Reply


class RemoteProtocolError(Exception):
    """The peer broke the protocol.

    Attributes:
        reply_hint: the reply due (server role); None in the client role.
        fatal: the session cannot go on: send the hint and close.
        octets: what was received, for the log; redacted (never a line of a SASL exchange).
        tls_hello: the peer began TLS on a port that speaks SMTP first (always fatal).
    """

    def __init__(
        self,
        message: str,
        reply_hint: Reply | None = None,
        *,
        fatal: bool = False,
        octets: bytes = b"",
        tls_hello: bool = False,
    ) -> None:
        super().__init__(message)
        self.reply_hint = reply_hint
        self.fatal = fatal
        self.octets = octets
        self.tls_hello = tls_hello


class LocalProtocolError(Exception):
    """We broke the protocol, or STARTTLS found octets in the buffer (plaintext injection): close the connection."""

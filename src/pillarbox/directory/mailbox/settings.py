"""What a directory of kind "imap" or "pop3" needs to know; made by config."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pillarbox.directory.settings import UpstreamSettings
from pillarbox.directory.wire import Place

Protocol = Literal["imap", "pop3"]
Tls = Literal["tls", "starttls", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxSettings(UpstreamSettings):
    """Mailbox servers, the preferred one first.

    ``tls`` "none" is for loopback alone; ``tls_name``: the name in their certificates, when not the host; ``ca``:
    whose certificates count, None: those of the system. ``login`` and ``domains`` as in naming.py.
    """

    protocol: Protocol
    servers: tuple[Place, ...]
    tls: Tls = "tls"
    tls_name: str | None = None
    ca: Path | None = None
    login: str = "{login}"
    domains: tuple[str, ...]

    @property
    def counted_at(self) -> str:
        """IMAP and POP3 of one server lock out the same people, so what counts is the hosts, not the ports."""
        hosts = sorted({place.host.lower() or place.path for place in self.servers})
        return f"mailboxes of {' '.join(hosts)} within {self.wrong_window:g} s"

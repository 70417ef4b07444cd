"""What a directory of kind "dovecot" needs to know; made by config."""

from dataclasses import dataclass

from pillarbox.directory.settings import UpstreamSettings
from pillarbox.directory.wire import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class DovecotSettings(UpstreamSettings):
    """Dovecot's authentication sockets, the preferred one first: passwords go there in the clear, so UNIX sockets or
    loopback. ``domains`` as in naming.py."""

    servers: tuple[Place, ...]
    domains: tuple[str, ...]

"""What a running daemon cannot change: for each such change a line that says what it is and how it is done.

    for line in changes_that_need_a_restart(old, new): print(line)

An address of a site is opened once, before root is given up, or by systemd; the other keys decide what processes
there are and where they keep their files. The keys are marked in docs/reference/config.md.

ERRORS
    None.
"""

from collections.abc import Iterator
from dataclasses import fields

from pillarbox.config import Settings
from pillarbox.config.settings import ServerSettings
from pillarbox.daemon import certificates_role
from pillarbox.submission.settings import Address

TREE = "systemctl restart pillarbox"
"""How the whole tree is restarted where it is a unit."""

UNITS = "systemctl restart pillarbox.target"
"""How all units are, where each role has one: the socket is part of the target."""

SOCKET = "pillarbox-submission.socket"

CERTIFICATES = "pillarbox-certificates.socket pillarbox-certificates"

_AT_ONCE = frozenset({"drain_time"})


def changes_that_need_a_restart(old: Settings, new: Settings, *, units: bool = False) -> list[str]:
    """One line for each change that a reload cannot make; none: it can be tried. ``units``: one unit per role."""
    command = UNITS if units else TREE
    lines = [f"{what}; it needs a restart: {command}" for what in _keys(old, new)]
    lines += [f"{what}; it needs a restart: {how}{command}" for what, how in _certificates(old, new, units=units)]
    before, after = _listeners(old), _listeners(new)
    for place, site in after.items():
        if place not in before:
            lines.append(_new(*place, site, command, units=units))
    for (kind, address), site in before.items():
        if (kind, address) not in after:
            lines.append(f'site "{site}": {address} ({kind}) is gone; it needs a restart: {command}')
    return lines


def _keys(old: Settings, new: Settings) -> Iterator[str]:
    for one in fields(ServerSettings):
        before, after = getattr(old.server, one.name), getattr(new.server, one.name)
        if before != after and one.name not in _AT_ONCE:
            yield f"server.{one.name}: {_word(before)} is in force, {_word(after)} is in the file"
    if old.spool != new.spool and old.server.data_directory == new.server.data_directory:
        yield "spool: the file has other settings than are in force"


def _certificates(old: Settings, new: Settings, *, units: bool) -> Iterator[tuple[str, str]]:
    """What changed, and what is to be done before the restart."""
    if new.acme is None and old.acme is not None:
        yield 'no site has certificate = "acme" any more', f"systemctl disable {CERTIFICATES}, then " if units else ""
    elif old.acme is None and new.acme is not None:
        yield 'certificate = "acme" is new', f"systemctl enable {CERTIFICATES}, then " if units else ""
    elif certificates_role.addresses(old) != certificates_role.addresses(new):
        how = "make ListenStream in pillarbox-certificates.socket the same, then " if units else ""
        yield "acme: the file has another listen, or a hook in its place", how


def _word(value: object) -> str:
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _new(kind: str, address: Address, site: str, command: str, *, units: bool) -> str:
    first = f"add ListenStream={address} by `systemctl edit {SOCKET}`, then " if units else ""
    return f'site "{site}": {address} ({kind}) is new; it needs a restart: {first}{command}'


def _listeners(settings: Settings) -> dict[tuple[str, Address], str]:
    """Each listener, with the first of its sites."""
    found: dict[tuple[str, Address], str] = {}
    for site in settings.sites:
        for kind, addresses in (("submission", site.submission), ("submissions", site.submissions)):
            for address in addresses:
                found.setdefault((kind, address), site.name)
    return found

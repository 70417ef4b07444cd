"""From a directory's settings to the directory: the kinds with a server behind. A new kind adds a case.

Each kind's module is imported when one of it is made: what it needs may be an extra that is not installed.

ERRORS
    Unusable: a library is missing, a file cannot be used; says what to do.
"""

from pillarbox.directory.base import Unusable
from pillarbox.directory.mailbox.settings import MailboxSettings
from pillarbox.directory.settings import UpstreamSettings
from pillarbox.directory.upstream import Backend, Narrate, silent


def make_backend(settings: UpstreamSettings, narrate: Narrate = silent) -> Backend:
    """What asks the server behind; it connects when it is asked. Raises Unusable."""
    match settings:
        case MailboxSettings():
            from pillarbox.directory.mailbox.backend import MailboxBackend

            return MailboxBackend(settings, narrate)
        case _:
            raise Unusable(f'directory "{settings.name}": {type(settings).__name__} is of no kind')

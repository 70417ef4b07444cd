"""From a directory's settings to the directory: the kinds with a server behind. A new kind adds a case.

Each kind's module is imported when one of it is made: what it needs may be an extra that is not installed.

ERRORS
    Unusable: a library is missing, a file cannot be used; says what to do.
"""

from pillarbox.directory.base import Unusable
from pillarbox.directory.ldap.settings import LdapSettings
from pillarbox.directory.mailbox.settings import MailboxSettings
from pillarbox.directory.settings import UpstreamSettings
from pillarbox.directory.upstream import Backend, Narrate, silent


def make_backend(settings: UpstreamSettings, narrate: Narrate = silent) -> Backend:
    """What asks the server behind; it connects when it is asked. Raises Unusable."""
    match settings:
        case LdapSettings():
            try:
                from pillarbox.directory.ldap.backend import LdapBackend
            except ImportError as error:
                raise Unusable(
                    f'directory "{settings.name}": python-ldap is missing ({error}). Install what it is built with '
                    "(on Debian: apt install gcc python3-dev libldap2-dev libsasl2-dev), then: "
                    'pip install "pillarbox[ldap]"'
                ) from error

            return LdapBackend(settings, narrate)
        case MailboxSettings():
            from pillarbox.directory.mailbox.backend import MailboxBackend

            return MailboxBackend(settings, narrate)
        case _:
            raise Unusable(f'directory "{settings.name}": {type(settings).__name__} is of no kind')

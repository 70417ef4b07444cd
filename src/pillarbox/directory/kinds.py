"""From a directory's settings to the directory: the kinds with a server behind. A new kind adds a case.

Each kind's module is imported when one of it is made: what it needs may be an extra that is not installed.

ERRORS
    Unusable: a library is missing, a file cannot be used; says what to do.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pillarbox.directory.base import Unusable
from pillarbox.directory.budget import Budget
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.ldap.settings import LdapSettings
from pillarbox.directory.mailbox.settings import MailboxSettings
from pillarbox.directory.oauth.settings import OauthSettings
from pillarbox.directory.passwd.settings import PasswdSettings
from pillarbox.directory.settings import UpstreamSettings
from pillarbox.directory.sql.settings import SqlSettings
from pillarbox.directory.upstream import Backend, Narrate, silent
from pillarbox.telemetry.advice import install

if TYPE_CHECKING:
    from pillarbox.directory.dovecot.directory import DovecotDirectory
    from pillarbox.directory.oauth.directory import FindPerson, OauthDirectory


def make_oauth(
    settings: OauthSettings, find_person: "FindPerson | None", narrate: Narrate = silent
) -> "OauthDirectory":
    """What checks a provider's tokens; ``find_person`` of the directory that is its ``people``. Raises Unusable."""
    try:
        from pillarbox.directory.oauth.directory import OauthDirectory
    except ModuleNotFoundError as error:
        raise Unusable(f'directory "{settings.name}": {error.name} is not installed: {install("oauth")}') from None
    return OauthDirectory(settings, find_person, narrate)


def make_dovecot(
    settings: DovecotSettings, budget: Budget, false_key: Callable[[], bytes | None], narrate: Narrate = silent
) -> "DovecotDirectory":
    """What asks Dovecot, with the mechanisms that it offers. ``false_key`` as in its module."""
    from pillarbox.directory.dovecot.backend import DovecotBackend
    from pillarbox.directory.dovecot.directory import DovecotDirectory

    return DovecotDirectory(DovecotBackend(settings, narrate), settings, budget, false_key)


def make_backend(settings: UpstreamSettings, narrate: Narrate = silent) -> Backend:
    """What asks the server behind; it connects when it is asked. Raises Unusable."""
    match settings:
        case LdapSettings():
            try:
                from pillarbox.directory.ldap.backend import LdapBackend
            except ImportError as error:
                raise Unusable(
                    f'directory "{settings.name}": python-ldap is missing ({error}). Install what it is built with '
                    "(on Debian: apt install gcc python3-dev libldap2-dev libsasl2-dev), then: " + install("ldap")
                ) from error

            return LdapBackend(settings, narrate)
        case DovecotSettings():
            from pillarbox.directory.dovecot.backend import DovecotBackend

            return DovecotBackend(settings, narrate)
        case MailboxSettings():
            from pillarbox.directory.mailbox.backend import MailboxBackend

            return MailboxBackend(settings, narrate)
        case PasswdSettings():
            from pillarbox.directory.passwd.backend import PasswdBackend

            return PasswdBackend(settings, narrate)
        case SqlSettings():
            from pillarbox.directory.sql.backend import SqlBackend

            return SqlBackend(settings, narrate)
        case _:
            raise Unusable(f'directory "{settings.name}": {type(settings).__name__} is of no kind')

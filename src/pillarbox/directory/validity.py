"""What a login, a password, an address, a domain or a quota of an account may be.

ERRORS
    InvalidAccount: its text is for the operator.
"""

from pillarbox.directory.base import InvalidAccount
from pillarbox.directory.preparation import LOGIN_CEILING, PASSWORD_CEILING, lower, prepare


def check_login(login: str) -> str:
    """The login prepared. Raises InvalidAccount."""
    try:
        prepared = prepare(login)
    except ValueError as error:
        raise InvalidAccount(f"the login {error}") from error
    if not prepared or prepared != prepared.strip():
        raise InvalidAccount("the login is empty, or begins or ends with a space")
    if len(prepared.encode()) > LOGIN_CEILING:
        raise InvalidAccount(f"the login is longer than {LOGIN_CEILING} octets")
    return prepared


def check_password(password: str) -> str:
    """The password prepared. Raises InvalidAccount, whose text never holds it."""
    try:
        prepared = prepare(password)
    except ValueError as error:
        raise InvalidAccount(f"the password {error}") from error
    if not prepared:
        raise InvalidAccount("the password is empty")
    if len(prepared.encode()) > PASSWORD_CEILING:
        raise InvalidAccount(f"the password is longer than {PASSWORD_CEILING} octets")
    return prepared


def check_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Each in lower case, without repeats. Raises InvalidAccount for what is no mailbox."""
    for address in addresses:
        local_part, at, domain = address.rpartition("@")
        if not (local_part and at and domain) or _holds_specials(address) or "@" in local_part:
            raise InvalidAccount(f"not an address: {address!r}; expected one like person@example.org")
    return tuple(dict.fromkeys(lower(address) for address in addresses))


def check_domains(domains: tuple[str, ...]) -> tuple[str, ...]:
    """Each in lower case, without repeats. Raises InvalidAccount for what is no domain."""
    for domain in domains:
        if not domain or "@" in domain or domain.startswith(".") or _holds_specials(domain):
            raise InvalidAccount(f"not a domain: {domain!r}; expected one like example.org")
    return tuple(dict.fromkeys(lower(domain) for domain in domains))


def check_quota(recipients: int | None) -> int | None:
    """Raises InvalidAccount for less than one; disabling an account is another verb."""
    if recipients is not None and recipients < 1:
        raise InvalidAccount(f"recipients per hour: found {recipients}; expected 1 or more, or none")
    return recipients


def _holds_specials(text: str) -> bool:
    return not text.isprintable() or any(special in text for special in ' <>,;:"\\()')

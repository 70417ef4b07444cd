"""Which addresses may this Identity use: at MAIL for the reverse-path, after the header for From and Sender.

What counts is whether *this* person may use *this* address (R3); whose domain it is does not matter. The null
reverse-path is anybody's (read receipts); From is checked all the same. A legacy site may also say whom its devices
write to.

STANDARDS
    RFC 6409 6.1 (enforced submission rights), RFC 5322 3.6.2 and 3.6.6.

ERRORS
    Refused with 550 5.7.1 and the address in question.

MUST NOT IMPORT a directory's implementation.
"""

from dataclasses import replace

from pillarbox.directory.base import Identity
from pillarbox.message.authors import Authors, authors
from pillarbox.message.header import Header, HeaderDefect
from pillarbox.submission import replies
from pillarbox.submission.replies import Refused
from pillarbox.submission.settings import LegacySettings

_ASCII_LOWER = {ord(upper): upper.lower() for upper in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def may_use(identity: Identity, address: str) -> bool:
    """Whether the address (wire form, any case) is one of the person's own, or in a domain that is theirs."""
    # ASCII letters only: str.lower() makes a k of the Kelvin sign, and somebody else's address one's own
    lowered = address.translate(_ASCII_LOWER)
    _, at, domain = lowered.rpartition("@")
    return bool(at) and (lowered in identity.addresses or domain in identity.domains)


def check_reverse_path(identity: Identity, reverse_path: str, *, smtputf8: bool) -> None:
    """At MAIL; "" is the null reverse-path. Raises Refused."""
    if reverse_path and not may_use(identity, reverse_path):
        raise Refused(
            replies.may_not_send_as(reverse_path, "sender", smtputf8=smtputf8),
            f"{identity.login} may not use the reverse-path {reverse_path}",
        )


def check_forward_path(legacy: LegacySettings, forward_path: str, *, smtputf8: bool) -> None:
    """At RCPT of a legacy site: whether its devices may write there. Raises Refused."""
    allowed = legacy.recipients
    if allowed is None:
        return
    lowered = forward_path.translate(_ASCII_LOWER)
    _, at, domain = lowered.rpartition("@")
    if not at or (lowered not in allowed.addresses and domain not in allowed.domains):  # Postmaster has no domain
        raise Refused(
            replies.may_not_write_to(forward_path, smtputf8=smtputf8),
            f"{forward_path} is not among the recipients of this legacy site",
        )


def widened(identity: Identity, legacy: LegacySettings) -> Identity:
    """The same device with what its legacy site lets each of them send as: the From that it was built with."""
    senders = legacy.senders
    return replace(
        identity,
        addresses=identity.addresses | senders.addresses,
        domains=identity.domains | senders.domains,
    )


def narrowed(identity: Identity, domains: frozenset[str]) -> Identity:
    """The same person with those of their addresses alone that are in a site's domains."""
    return replace(
        identity,
        addresses=frozenset(each for each in identity.addresses if each.rpartition("@")[2] in domains),
        domains=identity.domains & domains,
    )


def check_header(identity: Identity, header: Header, *, smtputf8: bool) -> None:
    """Once the header is whole. Raises Refused, also for a header that two readers could read differently."""
    try:
        found = authors(header, smtputf8=smtputf8)
    except HeaderDefect as defect:
        raise Refused(replies.bad_header(str(defect)), f"header defect: {defect}") from None
    for where, addresses in _to_check(identity, found):
        for address in addresses:
            if not may_use(identity, address):
                raise Refused(
                    replies.may_not_send_as(address, where, smtputf8=smtputf8),
                    f"{identity.login} may not use {address} in {where}",
                )


def _to_check(identity: Identity, found: Authors) -> tuple[tuple[str, tuple[str, ...]], ...]:
    resent = (("Resent-From", found.resent_from), ("Resent-Sender", found.resent_sender))
    if found.resent_from and identity.may_redirect:
        # Redirecting: the author stays somebody else, who resends must be the person.
        return resent
    return (("From", found.from_), ("Sender", found.sender), *resent)

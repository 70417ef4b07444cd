"""What a server's answer to a bind means: its result code, and Active Directory's number in the diagnostic text.

    reason_of(Bound(49, "80090308: LdapErr: ..., data 775, v4563"))      -> Reason.LOCKED
    reason_of(Bound(0, ""))                                             -> None: it is right

STANDARDS
    RFC 4511 A.2 (result codes); the numbers behind "data" are Windows error codes, in hexadecimal.

ERRORS
    NotJudged for an answer that says nothing about the password: of this person, not of the server.

MUST NOT IMPORT the LDAP library.
"""

import re
from dataclasses import dataclass

from pillarbox.directory.base import Reason
from pillarbox.directory.servers import NotJudged

_DATA = re.compile(r"\bdata ([0-9a-f]{1,8})\b", re.IGNORECASE)

_WINDOWS = {
    "525": Reason.UNKNOWN,
    "52e": Reason.WRONG,
    "530": Reason.DISABLED,  # not at this hour
    "531": Reason.DISABLED,  # not from this machine
    "532": Reason.EXPIRED,  # the password
    "533": Reason.DISABLED,
    "534": Reason.DISABLED,  # not in this way
    "568": Reason.DISABLED,  # in too many groups for a token
    "701": Reason.EXPIRED,  # the account
    "773": Reason.EXPIRED,  # the password must be changed first
    "775": Reason.LOCKED,
}

SUCCESS, CONSTRAINT, NO_OBJECT, BAD_NAME, NO_PASSWORD, INVALID, UNWILLING = 0, 19, 32, 34, 48, 49, 53
_CODES = {
    CONSTRAINT: Reason.LOCKED,  # 389 Directory Server: too many wrong ones
    NO_OBJECT: Reason.WRONG,
    BAD_NAME: Reason.WRONG,
    NO_PASSWORD: Reason.WRONG,  # the entry has none
    INVALID: Reason.WRONG,
    UNWILLING: Reason.DISABLED,  # 389 Directory Server: inactivated
}


@dataclass(frozen=True, slots=True)
class Bound:
    """A server's answer to a bind: ``code`` as RFC 4511 numbers it, ``text`` its diagnostic message."""

    code: int
    text: str = ""


def reason_of(bound: Bound) -> Reason | None:
    """Why it was refused; None: it was not. Raises NotJudged."""
    if bound.code == SUCCESS:
        return None
    data = _DATA.search(bound.text) if bound.code == INVALID else None
    if data is not None:
        found = _WINDOWS.get(data[1].lower())
        if found is None:
            raise NotJudged(f"the bind was answered with {bound.code}: {bound.text}", reached=True)
        return found
    reason = _CODES.get(bound.code)
    if reason is None:
        raise NotJudged(f"the bind was answered with {bound.code}: {bound.text}", reached=True)
    return reason

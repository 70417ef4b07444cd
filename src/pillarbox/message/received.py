"""Our trace field. Whatever the peer said of itself, the field stays one field of harmless octets.

    Received: from laptop ([192.0.2.7])
            by mail.example.org with ESMTPSA (TLSv1.3 TLS_AES_256_GCM_SHA384)
            id 01M3250V0064S36D1N6RVKGE9G for <bob@example.net>;
            Tue, 24 Nov 2026 07:03:12 +0000

STANDARDS
    RFC 5321 4.4 (Time-stamp-line), RFC 3848 (ESMTPSA and its kin), RFC 6531 4.3 (UTF8SMTP and its kin). With a hidden
    client address there is no from clause, which RFC 5321 asks for and RFC 5322 3.6.7 does not.

ERRORS
    None. What a clause cannot hold is replaced or the clause left out.
"""

import re
from functools import lru_cache

from pillarbox.message.date import date_time

_MAX_DOMAIN = 255  # RFC 5321 4.5.3.1.2

_LITERAL = re.compile(r"\[[A-Za-z0-9.:\-]+\]")
_NOT_IN_DOMAIN = re.compile(r"[^A-Za-z0-9.\-_]")
_NOT_IN_ADDRESS = re.compile(r"[^0-9A-Fa-f.:]")
_NOT_IN_COMMENT = re.compile(r"[^A-Za-z0-9.\-_+@=/ ]")
# only addresses that need no thought: a quoted local part could look like the end of the clause
_PLAIN = r"[^\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff<>()\[\]\\,;@\"]+"
_PLAIN_PATH = re.compile(f"{_PLAIN}@(?:{_PLAIN}|{_LITERAL.pattern})")

_KEYWORDS = {
    (tls, authenticated, smtputf8): ("UTF8SMTP" if smtputf8 else "ESMTP")
    + ("S" if tls else "")
    + ("A" if authenticated else "")
    for tls in (False, True)
    for authenticated in (False, True)
    for smtputf8 in (False, True)
}


def protocol_keyword(*, esmtp: bool, tls: bool, authenticated: bool, smtputf8: bool) -> str:
    """The with clause's word (IANA "Mail Transmission Types"): ESMTPSA, UTF8SMTPSA, ... SMTP after HELO."""
    return _KEYWORDS[tls, authenticated, smtputf8] if esmtp else "SMTP"


def received(
    *,
    helo: str,
    address: str | None,
    host: str,
    protocol: str,
    tls: tuple[str, str] | None,
    queue_id: str,
    forward_path: str | None,
    now: float,
    login: str | None = None,
) -> bytes:
    """The Received field with its CRLF, on four lines.

    Args:
        helo: the argument of EHLO or HELO as latin-1 text, any octets; shown with all but letters, digits, ``.-_``
            replaced by ``_`` (an address literal stays).
        address: the client's IP address; None hides it and with it the whole from clause.
        host: our own name.
        protocol: see protocol_keyword().
        tls: version and cipher as the TLS library names them, None without TLS.
        queue_id: the message's.
        forward_path: the only recipient in wire form; None for several, who must not learn of each other.
        now: seconds since the epoch.
        login: who signed in, if the site wants it told; None is nobody's business.
    """
    clause = f"id {queue_id}"
    if forward_path is not None and _may_show(forward_path, protocol):
        clause += f" for <{forward_path}>"
    session = _from_and_by(helo, address, host, protocol, tls, login)
    return f"Received: {session}\r\n\t{clause};\r\n\t{date_time(now)}\r\n".encode()


@lru_cache(maxsize=1024)
def _from_and_by(
    helo: str, address: str | None, host: str, protocol: str, tls: tuple[str, str] | None, login: str | None
) -> str:
    """The clauses that are the same for all messages of a session."""
    by = f"by {domain(host)} with {protocol}"
    if tls is not None:
        by += f" ({_comment(' '.join(tls))})"
    if login is not None:
        by += f" (login {_comment(login)})"
    return by if address is None else f"from {_shown_helo(helo)} ({address_literal(address)})\r\n\t{by}"


def address_literal(address: str) -> str:
    """An IP address as RFC 5321 4.1.3 writes it: ``[192.0.2.7]``, ``[IPv6:2001:db8::1]``; a zone (%eth0) goes."""
    plain = _NOT_IN_ADDRESS.sub("", address.partition("%")[0])
    return f"[IPv6:{plain}]" if ":" in plain else f"[{plain}]"


def domain(name: str) -> str:
    """``name`` fit to stand as a domain, whatever it held; "unknown" for nothing."""
    return _NOT_IN_DOMAIN.sub("_", name[:_MAX_DOMAIN]) or "unknown"


def _shown_helo(helo: str) -> str:
    return helo if len(helo) <= _MAX_DOMAIN and _LITERAL.fullmatch(helo) else domain(helo)


def _comment(text: str) -> str:
    return _NOT_IN_COMMENT.sub("_", text[:_MAX_DOMAIN])


def _may_show(forward_path: str, protocol: str) -> bool:
    if not forward_path.isascii() and not protocol.startswith("UTF8"):
        return False
    return len(forward_path) <= _MAX_DOMAIN and _PLAIN_PATH.fullmatch(forward_path) is not None

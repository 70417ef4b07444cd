"""Every reply that the protocol core itself proposes, one constant each, with its enhanced status.

The session sends them as they are, or better ones. Replies of policy (rights, quotas, sign-in failed) are not here:
they belong to the session.

STANDARDS
    RFC 5321 4.2.2 and 4.2.3 (codes), RFC 3463 and RFC 5248 (enhanced status), RFC 3207 4, RFC 4954 4 and 6,
    RFC 1870 6, RFC 6531 3.5.

It must not import anything but the protocol core.
"""

from typing import Final

from pillarbox.smtp.reply import Reply

# --- the line ------------------------------------------------------------------------------------------------

BAD_LINE: Final = Reply(500, ("Only CRLF ends a command: bare CR, bare LF and NUL are refused",), "5.5.2")
"""A bare CR, a bare LF or NUL in a command (RFC 5321 2.3.8): once for all octets up to the true CRLF."""

LINE_TOO_LONG: Final = Reply(500, ("The line is too long",), "5.5.2")
"""A command line over its ceiling (RFC 5321 4.5.3.1.4)."""

SIGN_IN_LINE_TOO_LONG: Final = Reply(500, ("The line of the sign-in is too long",), "5.5.6")
"""AUTH with its initial response, or a line of the SASL exchange, over its ceiling (RFC 4954 4 and 6)."""

UNKNOWN_COMMAND: Final = Reply(500, ("Command not recognised",), "5.5.2")
"""No verb of the table."""

NOT_IMPLEMENTED: Final = Reply(502, ("Command not implemented",), "5.5.1")
"""A verb that SMTP knows and this server does not offer."""

TOO_MANY_ERRORS: Final = Reply(421, ("Too many errors, closing the connection",), "4.7.0")
"""Limits.bad_commands errors in a row. Fatal."""

TLS_HELLO: Final = Reply(
    554,
    ("This port speaks SMTP and then STARTTLS; for TLS from the start use the submissions port",),
    "5.5.1",
)
"""The peer's first octet begins a TLS handshake on a plaintext connection. Fatal."""

NOT_SMTP: Final = Reply(421, ("This port speaks SMTP, closing the connection",), "4.7.0")
"""A verb of HTTP: a browser was made to post to this port. Fatal, so that no line of its body is a command."""

# --- order ---------------------------------------------------------------------------------------------------

SIGN_IN_FIRST: Final = Reply(530, ("Authentication required",), "5.7.0")
"""A command that only somebody signed in may give (rule R1; RFC 4954 6)."""

STARTTLS_FIRST: Final = Reply(530, ("Must issue a STARTTLS command first",), "5.7.0")
"""AUTH outside TLS (RFC 3207 4)."""

HELLO_FIRST: Final = Reply(503, ("Say EHLO first",), "5.5.1")
"""A command that needs EHLO or HELO before it (RFC 5321 4.1.4)."""

EHLO_FIRST: Final = Reply(503, ("AUTH is an extension: say EHLO, not HELO",), "5.5.1")
"""AUTH after HELO (RFC 4954 3)."""

BAD_SEQUENCE: Final = Reply(503, ("Bad sequence of commands",), "5.5.1")
"""A command that this state does not allow, where nothing better can be said."""

MAIL_TWICE: Final = Reply(503, ("A transaction is open: one MAIL at a time",), "5.5.1")
"""MAIL inside a transaction."""

MAIL_FIRST: Final = Reply(503, ("Say MAIL first",), "5.5.1")
"""RCPT without a transaction."""

RCPT_FIRST: Final = Reply(503, ("No valid recipients",), "5.5.1")
"""DATA before a RCPT was accepted (RFC 5321 3.3)."""

ALREADY_TLS: Final = Reply(503, ("TLS is active",), "5.5.1")
"""STARTTLS inside TLS (RFC 3207 4.2)."""

ALREADY_SIGNED_IN: Final = Reply(503, ("Already authenticated",), "5.5.1")
"""AUTH after a successful AUTH (RFC 4954 4)."""

AUTH_IN_TRANSACTION: Final = Reply(503, ("AUTH is not allowed inside a transaction",), "5.5.1")
"""AUTH between MAIL and the end of data (RFC 4954 4)."""

TLS_IN_TRANSACTION: Final = Reply(503, ("STARTTLS is not allowed inside a transaction",), "5.5.1")
"""STARTTLS between MAIL and the end of data."""

BDAT_BEGUN: Final = Reply(503, ("The content comes by BDAT: send its last chunk, or RSET",), "5.5.1")
"""DATA, or another recipient, after the first BDAT (RFC 3030 2)."""

BDAT_FOR_BINARY: Final = Reply(503, ("BODY=BINARYMIME needs BDAT",), "5.5.1")
"""DATA in a transaction whose content is BINARYMIME (RFC 3030 3)."""

# --- arguments -----------------------------------------------------------------------------------------------

NO_ARGUMENT: Final = Reply(501, ("No argument is allowed here",), "5.5.4")
"""DATA, RSET, QUIT or STARTTLS with an argument (RFC 5321 4.3.2, RFC 3207 4)."""

VRFY_SYNTAX: Final = Reply(501, ("Syntax: VRFY address",), "5.5.4")
"""VRFY without an argument."""

MAIL_SYNTAX: Final = Reply(501, ("Syntax: MAIL FROM:<address> [parameters]",), "5.5.4")
"""MAIL whose frame is wrong, an address without its angle brackets for instance."""

RCPT_SYNTAX: Final = Reply(501, ("Syntax: RCPT TO:<address> [parameters]",), "5.5.4")
"""RCPT whose frame is wrong."""

BAD_REVERSE_PATH: Final = Reply(553, ("Malformed sender address: it must be <local-part@domain> or <>",), "5.1.7")
"""The reverse-path is no path of RFC 5321 4.1.2."""

BAD_FORWARD_PATH: Final = Reply(553, ("Malformed recipient address: it must be <local-part@domain>",), "5.1.3")
"""The forward-path is no path of RFC 5321 4.1.2."""

PATH_TOO_LONG: Final = Reply(501, ("Path too long",), "5.5.4")
"""A path over 256 octets or a local part over 128 (RFC 5321 4.5.3.1)."""

SMTPUTF8_NEEDED: Final = Reply(553, ("Non-ASCII address, but MAIL did not say SMTPUTF8",), "5.6.7")
"""Octets above 127 in an envelope without SMTPUTF8 (RFC 6531 3.5)."""

UNKNOWN_PARAMETER: Final = Reply(555, ("Parameter not recognised or not implemented",), "5.5.4")
"""A parameter of MAIL or RCPT that is not in the table (RFC 5321 4.1.1.11)."""

BAD_PARAMETER: Final = Reply(501, ("Malformed or repeated parameter",), "5.5.4")
"""A parameter with a wrong value, without the value it needs, or given twice; its name follows where it is known."""


def bad_parameter(name: str) -> Reply:
    """BAD_PARAMETER with the name of one of our tables, never the client's spelling."""
    return Reply(BAD_PARAMETER.code, (f"{BAD_PARAMETER.text[0]} {name}",), BAD_PARAMETER.enhanced)


TOO_BIG: Final = Reply(552, ("Message size exceeds the maximum message size",), "5.3.4")
"""SIZE says more than Limits.content (RFC 1870 6.1)."""

BDAT_SYNTAX: Final = Reply(501, ("Syntax: BDAT size [LAST]; closing the connection",), "5.5.4")
"""BDAT whose frame is wrong: where its octets end, nobody knows. Fatal."""

AUTH_SYNTAX: Final = Reply(501, ("Syntax: AUTH mechanism [initial-response]",), "5.5.4")
"""AUTH whose frame is wrong."""

BAD_BASE64: Final = Reply(501, ("Cannot decode the response: it must be base64",), "5.5.2")
"""A SASL response that is not base64 (RFC 4954 4); ends the exchange."""

UNKNOWN_MECHANISM: Final = Reply(504, ("Authentication mechanism not offered",), "5.5.4")
"""AUTH with a mechanism that EHLO did not list (RFC 4954 4)."""

STARTTLS_NOT_OFFERED: Final = Reply(502, ("STARTTLS is not offered here",), "5.5.1")
"""STARTTLS on a listener without it."""

NOT_COUNTED: Final = frozenset({503, 552, 553, 555})
"""Codes that an honest client can earn many times in one pipelined group (a refused MAIL and its hundred RCPTs, a
list with broken addresses); they say nothing about a broken or hostile peer and do not count as bad commands."""

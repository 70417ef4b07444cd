"""The terms of one connection: every buffer has an owner and an end, and what a site does not offer.

STANDARDS
    RFC 5321 4.5.3 (sizes and ceilings), RFC 4954 4 (the line of AUTH).

It must not import anything.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Terms of one connection. Ceilings in octets unless said otherwise.

    Attributes:
        command_line: a command line with CRLF, before parameters (RFC 5321 4.5.3.1.4).
        auth_line: a line of AUTH and its exchange (RFC 4954 4).
        text_line: a line of content with CRLF; longer is Defect.LINE_TOO_LONG.
        content: the whole content; longer is Defect.TOO_BIG and a SIZE that exceeds it is refused at MAIL. 0: none.
        content_chunk: the largest Content event (at least 8 are used).
        endless_line: octets of a line before the sign-in that end the session; they are dropped, but not for nothing.
        bad_commands: how many errors in a row before the hint becomes 421 and fatal.
        recipients: of one transaction, as the LIMITS extension says it (RFC 9422 RCPTMAX); 0 says nothing.
        hold: seconds that FUTURERELEASE may ask for (RFC 4865); 0: it is not offered.
        normalise_line_ends: in the content of DATA a bare LF becomes CRLF, for devices that know no better; what ends
            the content stays CRLF.CRLF. The Content events may then be twice ``content_chunk``.
        plaintext_sign_in: AUTH is offered and taken outside TLS too, for the same devices.
        disabled: keywords of extensions that this site does not offer, in upper case.
    """

    command_line: int = 512
    auth_line: int = 12_288
    text_line: int = 65_536
    content: int = 52_428_800
    content_chunk: int = 262_144
    endless_line: int = 65_536
    bad_commands: int = 10
    recipients: int = 0
    hold: int = 0
    normalise_line_ends: bool = False
    plaintext_sign_in: bool = False
    disabled: frozenset[str] = frozenset()

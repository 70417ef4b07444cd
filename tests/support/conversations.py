"""Random conversations, and a judge of the enhanced status codes in what the server said to them.

    @given(conversations(sign_in=b"AUTH PLAIN ..."))
    def test_...(said: list[bytes]) -> None:          # what a client says, valid, wrong and garbage
        assert misjudged(everything_heard, b"mx.example") == []

STANDARDS
    RFC 2034 4 (on every 2yz, 4yz and 5yz reply but the greeting and those to EHLO and HELO, on each line), RFC 3463 2
    (the form; the class is the code's first digit).
"""

import re
from typing import Final

from hypothesis import strategies as st

_VALID: Final = (
    b"EHLO client.example\r\n",
    b"HELO client.example\r\n",
    b"NOOP\r\n",
    b"RSET\r\n",
    b"HELP\r\n",
    b"HELP MAIL\r\n",
    b"VRFY somebody\r\n",
    b"AUTH PLAIN\r\n",
    b"AUTH LOGIN\r\n",
    b"AUTH LOGIN dXNlcg==\r\n",
    b"dXNlcg==\r\n",
    b"*\r\n",
    b"MAIL FROM:<anna@example.org>\r\n",
    b"MAIL FROM:<anna@example.org> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=x\r\n",
    b"MAIL FROM:<anna@example.org> SMTPUTF8 MT-PRIORITY=3 BY=600;N\r\n",
    b"MAIL FROM:<anna@example.org> BODY=BINARYMIME\r\n",
    b"RCPT TO:<b@example.com>\r\n",
    b"RCPT TO:<b@example.com> NOTIFY=NEVER ORCPT=rfc822;b@example.com\r\n",
    b"DATA\r\n",
    b"From: anna@example.org\r\n\r\ntext\r\n.\r\n",
    b"BDAT 6\r\na: b\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 26 LAST\r\nFrom: anna@example.org\r\n\r\n",
)
_OPEN = b"RSET\r\nMAIL FROM:<anna@example.org>\r\nRCPT TO:<b@example.com>\r\n"
# so that chance gets deep enough
_TOGETHER: Final = (
    _OPEN,
    _OPEN + b"DATA\r\n",
    _OPEN + b"DATA\r\nFrom: anna@example.org\r\n\r\ntext\r\n.\r\n",
    _OPEN + b"DATA\r\nFrom: mallory@example.com\r\n\r\nbare\nLF\r\n.\r\n",
    _OPEN + b"BDAT 26\r\nFrom: anna@example.org\r\n\r\n",
    b"RSET\r\nMAIL FROM:<anna@example.org> BODY=BINARYMIME\r\nRCPT TO:<b@example.com>\r\n",
    b"RSET\r\nEHLO x\r\nAUTH PLAIN AHVzZXIAd3Jvbmc=\r\nAUTH CRAM-MD5\r\n",
    b"RSET\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com> ORCPT=x\r\n",
)
_WRONG: Final = (
    b"EHLO " + b"x" * 600 + b"\r\n",
    b"NOOP " + b"x" * 600 + b"\r\n",
    b"AUTH PLAIN " + b"A" * 13_000 + b"\r\n",
    b"A" * 13_000 + b"\r\n",
    b"AUTH\r\n",
    b"AUTH PLAIN !\r\n",
    b"AUTH PLAIN AHVzZXIAd3Jvbmc=\r\n",
    b"AUTH CRAM-MD5\r\n",
    b"MAIL\r\n",
    b"MAIL FROM:anna@example.org\r\n",
    b"MAIL FROM:<anna@>\r\n",
    b"MAIL FROM:<mallory@example.com>\r\n",
    b"MAIL FROM:<anna@example.org> SIZE=99999999999\r\n",
    b"MAIL FROM:<anna@example.org> XYZ=1\r\n",
    b"MAIL FROM:<anna@example.org> RET=ALL\r\n",
    b"MAIL FROM:<j\xc3\xbcrgen@example.org>\r\n",
    b"MAIL FROM:<" + b"a" * 300 + b"@example.org>\r\n",
    b"RCPT TO:<>\r\n",
    b"RCPT TO:<b@example.com> NOTIFY=SOMETIMES\r\n",
    b"DATA now\r\n",
    b"RSET now\r\n",
    b"VRFY\r\n",
    b"EXPN list\r\n",
    b"BURL imap://x\r\n",
    b"ETRN x\r\n",
    b"XCLIENT ADDR=127.0.0.1\r\n",
    b"BDAT 7 LAST\r\nbare\nLF",
    b"From: mallory@example.com\r\n\r\ntext\r\n.\r\n",
    b"From: anna@example.org\r\n\r\nbare\nLF\r\n.\r\n",
    b"NO\0OP\r\n",
    b"NOOP\nNOOP\r\n",
    b"\r\n",
)
# these end the conversation
_LAST: Final = (b"GET / HTTP/1.1\r\n", b"BDAT x\r\n", b"QUIT now\r\n")

END: Final = b"*\r\n\r\n.\r\nQUIT\r\n"
"""Ends an exchange or a content that is open, then the session."""

_GARBAGE = st.binary(max_size=60).map(lambda octets: octets.replace(b"\x16", b"") + b"\r\n")
_LINE = re.compile(rb"([2-5][0-9]{2})([ -])([^\r\n]*)\r\n")
_STATUS = re.compile(rb"([0-9])\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2})(?: |\Z)")


def conversations(*, sign_in: bytes) -> st.SearchStrategy[list[bytes]]:
    """What a client says; ``sign_in`` is a line that the server accepts. All BDATs carry their octets."""
    known = st.sampled_from((*_VALID, *_VALID, *_TOGETHER, *_TOGETHER, *_WRONG, sign_in, sign_in))
    middle = st.lists(st.one_of(known, known, known, _GARBAGE), min_size=5, max_size=40)
    start = st.sampled_from(([], [b"EHLO x\r\n"], [b"EHLO x\r\n", sign_in], [b"EHLO x\r\n", sign_in]))
    end = st.sampled_from(([], [], *([line] for line in _LAST)))
    return st.tuples(start, middle, end).map(lambda parts: [*parts[0], *parts[1], *parts[2], END])


def misjudged(heard: bytes, host: bytes) -> list[bytes]:
    """The lines of a server's replies whose enhanced status is missing, malformed, of another class than the code or
    where none may be. ``host`` begins the greeting and the replies to EHLO and HELO, and those alone."""
    wrong: list[bytes] = []
    first, bare, at = True, False, 0
    while at < len(heard):
        line = _LINE.match(heard, at)
        if line is None:
            return [*wrong, heard[at:]]
        at = line.end()
        code, separator, text = line.groups()
        if first:
            bare = code[:1] == b"3" or (code in (b"220", b"250") and text.partition(b" ")[0] == host)
        status = _STATUS.match(text)
        if bare is not (status is None) or (status is not None and status[1] != code[:1]):
            wrong.append(line[0])
        first = separator == b" "
    return wrong

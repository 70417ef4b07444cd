"""Replies: a code, an enhanced status and text; how they are written and read.

``render`` writes for the server role, ``ReplyReader`` reads for the client role. A server's constant replies are
rendered once and kept with the value.

STANDARDS
    RFC 5321 4.2 (replies), 4.5.3.1.5 (length of a reply line), RFC 2034 and RFC 3463 (enhanced status codes).

ERRORS
    ReplyReader raises RemoteProtocolError, always fatal, when what a server sent is no reply or exceeds a ceiling.

It must not import anything but the protocol core.
"""

import re
from dataclasses import dataclass, field
from typing import Final

REPLY_LINE: Final = 512
"""Octets of a line that we write, CRLF included (RFC 5321 4.5.3.1.5)."""

REPLY_LINES: Final = 128
"""Lines of one reply that we read: no server needs more, and a queue must have an end."""

# also what turns the direction of the text behind it: a reply is shown to operators and in bounces
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, sent by a server or received by a client.

    Attributes:
        code: three digits, 200 to 599.
        text: one element a line, without line ends, without code and enhanced status.
        enhanced: ``"5.7.1"`` or None. The greeting, 334, 354 and the replies to EHLO and HELO have none; it is
            written on each line of a multi-line reply.
    """

    code: int
    text: tuple[str, ...]
    enhanced: str | None = None
    _wire: bytes = field(default=b"", init=False, repr=False, compare=False)

    @property
    def is_positive(self) -> bool:
        """2yz or 3yz."""
        return self.code < 400

    @property
    def is_transient(self) -> bool:
        """4yz: the same command may succeed later."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5yz."""
        return self.code >= 500

    def render(self) -> bytes:
        """The reply on the wire, CRLF after each line. Controls become "?", a line over 512 octets is cut."""
        if not self._wire:
            object.__setattr__(self, "_wire", _render(self.code, self.text or ("",), self.enhanced))
        return self._wire

    def render_bare(self) -> bytes:
        """As render(), without the enhanced status."""
        return _render(self.code, self.text or ("",), None)


def _render(code: int, text: tuple[str, ...], enhanced: str | None) -> bytes:
    status = f"{enhanced} " if enhanced else ""
    if len(text) == 1:
        return _line(f"{code} {status}{text[0]}")
    last = len(text) - 1
    return b"".join(_line(f"{code}{' ' if i == last else '-'}{status}{line}") for i, line in enumerate(text))


def _line(line: str) -> bytes:
    if not line.isprintable():
        line = _CONTROLS.sub("?", line)
    octets = line.encode("utf-8", "backslashreplace")
    if len(octets) > REPLY_LINE - 2:
        octets = octets[: REPLY_LINE - 2].decode("utf-8", "ignore").encode()
    return octets + b"\r\n"


class ReplyReader:
    """Puts the lines of one reply together. Fed with lines without CRLF; ``feed`` returns the reply at its end."""

    __slots__ = ("_code", "_lines")

    def __init__(self) -> None:
        self._code = b""
        self._lines: list[str] = []

    def feed(self, line: bytes) -> tuple[int, list[str]] | None:
        """One line. Returns code and texts (enhanced status still in them) at the last line, else None.

        Raises:
            ValueError: the line is no reply line, codes differ between the lines, or there are too many.
        """
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError("what the server sent is not a reply line")
        code, separator, text = match.groups()
        if self._code not in (b"", code):
            raise ValueError("the lines of one reply have different codes")
        if len(self._lines) == REPLY_LINES:
            raise ValueError("the reply has too many lines")
        self._lines.append(decode_text(text or b""))
        if separator == b"-":
            self._code = code
            return None
        lines, self._lines, self._code = self._lines, [], b""
        return int(code), lines


def decode_text(octets: bytes) -> str:
    """Reply text of any octets as text without controls: UTF-8 where it is that, controls as "?"."""
    text = octets.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else _CONTROLS.sub("?", text)


def split_enhanced(code: int, lines: list[str]) -> Reply:
    """The reply with its enhanced status taken out of the text, if it is well formed and its class agrees with
    the code (RFC 2034 4); lines that do not repeat the status keep their text."""
    match = _ENHANCED.match(lines[0])
    if match is None or match[1][0] != str(code)[0]:
        return Reply(code, tuple(lines))
    status = match[1]
    texts = []
    for line in lines:
        found = _ENHANCED.match(line)
        texts.append(line[found.end() :] if found is not None and found[1] == status else line)
    return Reply(code, tuple(texts), status)

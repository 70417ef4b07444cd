"""The content of DATA: finds its true end, takes the stuffed dots out, finds what is wrong with it.

Works on whole buffers (find, count, replace), never line by line. Only CRLF.CRLF ends content, where the CRLF of
the DATA line counts as the first. Octets that may begin an end or a stuffed dot stay in the buffer until more came,
so a CRLF is never cut in two and each piece can be judged by itself.

A bare CR or a bare LF anywhere is a defect of the whole content, which goes on to its true end all the same: that
is what makes SMTP smuggling fail. NUL and octets above 127 pass untouched; they are for the layers above. But a line
that begins with NUL is a defect: a next hop that strips NUL would find the end of content in NUL, dot, CRLF.

STANDARDS
    RFC 5321 2.3.8 and 4.1.1.4 (lines and the end), 4.5.2 (dot-stuffing), 4.5.3.1.6 (length of a line).

It must not import anything but the protocol core.
"""

import re
from typing import Final

from pillarbox.smtp.buffer import ReceiveBuffer
from pillarbox.smtp.events import NEED_DATA, Content, Defect, EndOfContent, Signal
from pillarbox.smtp.limits import Limits

_END: Final = b"\r\n.\r\n"
_DOT: Final = b"\r\n."
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_FEW: Final = 16  # dots that are looked at one by one
_HOPS: Final = 1_000  # lines with a dot in one piece after which another way is cheaper
_SMALLEST_CHUNK: Final = 8  # more than what may have to stay behind


class ContentJudge:
    """What one content is like, piece by piece; no piece ends within a CRLF."""

    __slots__ = ("_limit", "_line", "_line_begins", "_text_line", "defects", "eight_bit", "size")

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.content
        self._text_line = limits.text_line
        self._line = 0  # octets of the line that the last piece left open
        self._line_begins = True  # the last piece ended with a line
        self.size = 0
        self.eight_bit = False
        self.defects: set[Defect] = set()

    def judge(self, piece: bytes) -> None:
        """Counts a piece and notes its defects. Every piece is judged in full, whatever came before, so that the
        verdict does not depend on how the network cut the octets."""
        self.measure(piece)
        # Take every CR out and put one before each LF: the same octets again exactly when there is nothing but CRLF.
        # Three times as fast as counting CR, LF and CRLF, since single octets are found at the memory's pace.
        if piece.replace(b"\r", b"").replace(b"\n", b"\r\n") != piece:
            self._find_bare(piece)
        if b"\0" in piece and (b"\n\0" in piece or (self._line_begins and piece.startswith(b"\0"))):
            self.defects.add(Defect.LEADING_NUL)
        self._line_begins = piece.endswith(b"\n")
        self._measure_lines(piece)

    def measure(self, piece: bytes) -> None:
        """What is asked of any content: its size, and whether an octet above 127 is in it."""
        self.size += len(piece)
        if self._limit and self.size > self._limit:
            self.defects.add(Defect.TOO_BIG)
        if not self.eight_bit:
            self.eight_bit = not piece.isascii()

    def _find_bare(self, piece: bytes) -> None:
        pairs = piece.count(b"\r\n")
        if piece.count(b"\r") != pairs:
            self.defects.add(Defect.BARE_CR)
        if piece.count(b"\n") != pairs:
            self.defects.add(Defect.BARE_LF)

    def _measure_lines(self, piece: bytes) -> None:
        """Looks for a line over the ceiling by jumps: from a line's start back from as far as it may reach."""
        if Defect.LINE_TOO_LONG in self.defects:
            return
        longest = self._text_line
        size = len(piece)
        start = -self._line  # where the open line began, seen from this piece
        while size - start > longest:
            newline = piece.rfind(b"\n", max(start, 0), max(start + longest, 0))
            if newline < 0:
                self.defects.add(Defect.LINE_TOO_LONG)
                return
            start = newline + 1
        newline = piece.rfind(b"\n", max(start, 0))
        self._line = size - (start if newline < 0 else newline + 1)


class ContentScanner(ContentJudge):
    """Reads one content. ``next_event`` until it returns EndOfContent."""

    __slots__ = ("_begun", "_chunk", "_ended", "_normalise")

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._chunk = max(limits.content_chunk, _SMALLEST_CHUNK)
        self._normalise = limits.normalise_line_ends
        self._begun = False
        self._ended = False

    def next_event(self, buffer: ReceiveBuffer) -> Content | EndOfContent | Signal:
        """Content of a sound piece, EndOfContent, or NEED_DATA."""
        if not self._begun and not self._begin(buffer):
            return NEED_DATA
        while not self._ended:
            piece = self._take(buffer)
            if not piece:
                return NEED_DATA
            if self._normalise:
                # no piece ends within a CRLF, so a LF without its CR here is a bare one
                piece = _BARE_LF.sub(b"\r\n", piece)
            self.judge(piece)
            if not self.defects:
                return Content(piece)
        return EndOfContent(self.size, frozenset(self.defects), self.eight_bit)

    def _begin(self, buffer: ReceiveBuffer) -> bool:
        """The first line, whose CRLF before it is not in the buffer. False: too little has come to tell."""
        octets = buffer.joined()
        start = buffer.start
        first = octets[start : start + 3]
        if b".\r\n".startswith(first):
            if len(first) < 3:
                return False
            buffer.advance(start + 3)
            self._ended = True
        elif first.startswith(b"."):
            buffer.advance(start + 1)
        self._begun = True
        return True

    def _take(self, buffer: ReceiveBuffer) -> bytes:
        """The next piece without its stuffed dots; empty when more must come first.

        One walk from one line that begins with a dot to the next: each is the end, or has a dot too many.
        """
        octets = buffer.joined()
        begin = buffer.start
        stop = min(len(octets), begin + self._chunk)
        parts: list[bytes] = []
        at = _find_dot_line(octets, begin, stop + 1)
        while at >= 0:
            line = octets[at : at + len(_END)]
            if len(parts) == _HOPS:
                return b"".join(parts) + self._take_dotted(buffer, begin, stop)
            if line != _END and _END.startswith(line):
                break  # too little has come to tell
            parts.append(octets[begin : at + 2])
            begin = at + 3
            if line == _END:
                self._ended = True
                buffer.advance(at + len(_END))
                return b"".join(parts)
            at = _find_dot_line(octets, begin, stop + 1)
        stop = max(begin, _safe_stop(octets, begin, stop))
        buffer.advance(stop)
        parts.append(octets[begin:stop])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take_dotted(self, buffer: ReceiveBuffer, begin: int, stop: int) -> bytes:
        """The rest of a piece in which nearly every line begins with a dot: hops would cost too much."""
        octets = buffer.octets
        end = octets.find(_END, begin, stop + 3)
        if end >= 0:
            self._ended = True
            stop = end + 2
            buffer.advance(end + 5)
        else:
            stop = _safe_stop(octets, begin, stop)
            buffer.advance(stop)
        return octets[begin:stop].replace(_DOT, b"\r\n")


def _find_dot_line(octets: bytes, start: int, stop: int) -> int:
    """Where CRLF and a dot stand next, as octets.find(CRLF dot) says it; -1: nowhere.

    Single octets are found many times faster, and most large content (base64) has no dot at all: so the first few
    dots are looked at one by one.
    """
    dot = octets.find(b".", start + 2, stop)
    for _ in range(_FEW):
        if dot < 0 or octets[dot - 2 : dot] == b"\r\n":
            return dot if dot < 0 else dot - 2
        dot = octets.find(b".", dot + 1, stop)
    return octets.find(_DOT, dot - 2, stop) if dot >= 0 else -1


def _safe_stop(octets: bytes, start: int, stop: int) -> int:
    """Where a piece may be cut: before a tail that may be the beginning of CRLF.CRLF or of a stuffed dot."""
    tail = octets[max(start, stop - 4) : stop]
    for length in (4, 3, 2, 1):
        if tail.endswith(_END[:length]):
            return stop - length
    return stop

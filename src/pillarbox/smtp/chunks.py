"""The content of BDAT: so many octets as each chunk announces, judged over the borders of the chunks.

Nothing in the octets ends a chunk, and no dot is taken out. A text content is held to the same rules as that of DATA
(a CR at a chunk's end waits for what follows it); BINARYMIME content may hold anything.

STANDARDS
    RFC 3030 2 and 3 (CHUNKING, BINARYMIME), RFC 5321 2.3.8 (lines).

It must not import anything but the protocol core.
"""

from pillarbox.smtp.buffer import ReceiveBuffer
from pillarbox.smtp.content import ContentJudge
from pillarbox.smtp.events import NEED_DATA, Chunk, Content, Defect, EndOfChunk, EndOfContent, Signal
from pillarbox.smtp.limits import Limits


class ChunkReader(ContentJudge):
    """Reads the chunks of one content: ``begin`` each, then ``next_event`` until it returns its end."""

    __slots__ = ("_announced", "_binary", "_cr", "_last", "_left", "_piece")

    def __init__(self, limits: Limits, *, binary: bool) -> None:
        super().__init__(limits)
        self._piece = limits.content_chunk
        self._binary = binary
        self._announced = 0
        self._left = 0
        self._last = False
        self._cr = b""  # the CR that the last piece ended with: what it begins is not known yet

    def begin(self, chunk: Chunk) -> None:
        """A chunk was announced."""
        self._announced = self._left = chunk.size
        self._last = chunk.last

    def next_event(self, buffer: ReceiveBuffer) -> Content | EndOfChunk | EndOfContent | Signal:
        """Content of a sound piece, the end of the chunk or of the content, or NEED_DATA."""
        while self._left:
            octets = buffer.joined()
            start = buffer.start
            piece = octets[start : start + min(self._left, self._piece)]
            if not piece:
                return NEED_DATA
            buffer.advance(start + len(piece))
            self._left -= len(piece)
            content = self._take(piece)
            if content is not None:
                return content
        if not self._last:
            return EndOfChunk(self._announced, frozenset(self.defects))
        if self._cr:
            self._cr = b""
            self.size += 1
            self.defects.add(Defect.BARE_CR)
        return EndOfContent(self.size, frozenset(self.defects), self.eight_bit)

    def _take(self, piece: bytes) -> Content | None:
        if self._binary:
            self.measure(piece)
        else:
            piece = self._cr + piece
            self._cr = b"\r" if piece.endswith(b"\r") else b""
            piece = piece[: len(piece) - len(self._cr)]
            if not piece:
                return None
            self.judge(piece)
        return None if self.defects else Content(piece)

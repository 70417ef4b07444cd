"""A file of whole messages with their recipients' states: a tar archive, made and read as a stream.

    octets = encoder.head()                   # then of each message content_header, its content, padding, record; end
    for event in decoder.feed(octets): ...    # Octets of a content as they come, then Whole or Broken
    for event in decoder.finish(): ...        # Broken, when the file was cut

Members, below one directory whose name holds a number made for this file alone:

    archive.json      {"format", "version", "made_at"}: the first one
    ID.eml            a message's content
    ID.json           its envelope, and those of its recipients that still wait
    ID.sha256         digests of the two, as sha256sum prints them: with this member the message is whole
    ID.left           instead of the last two: the message left the spool while its content was read
    end.json          {"messages"}: how many are whole; without it the file was cut

What is damaged is named and the rest is read: after a header that is none, the next one of this file's directory is
looked for. A mail that was written before cannot know that name, so nothing within a content is taken for a member.

STANDARDS
    POSIX.1-2017 pax, "ustar Interchange Format".

ERRORS
    ArchiveError: not such a file, or one of a newer version. What is damaged further on is an event.

Must not import the store: it does no I/O.
"""

import hashlib
import json
import math
import re
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pillarbox.control.frames import from_body
from pillarbox.message.envelope import Envelope, is_queue_id
from pillarbox.spool.base import QueuedMessage, Recipient

FORMAT, VERSION = "pillarbox-spool", 1
BLOCK = tarfile.BLOCKSIZE
LARGEST_RECORD = 16 * 1024 * 1024
"""Octets of a member that is no content."""

_DIRECTORY = re.compile(r"pillarbox-spool-[0-9a-f]{32}")


class ArchiveError(Exception):
    """The file cannot be read at all; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class Octets:
    """Some of a message's content. ``first``: whatever was not whole before is forgotten."""

    queue_id: str
    octets: bytes
    first: bool


@dataclass(frozen=True, slots=True)
class Whole:
    """All of a message was read and its digests are right."""

    message: QueuedMessage


@dataclass(frozen=True, slots=True)
class Broken:
    """``name`` (a queue id, or "the file") is damaged; nothing of it is to be used."""

    name: str
    reason: str


Event = Octets | Whole | Broken


class Encoder:
    """Octets of one archive, in order. ``random``: 16 octets; ``made_at``: seconds since the epoch."""

    def __init__(self, random: bytes, made_at: float) -> None:
        self._directory = f"pillarbox-spool-{random.hex()}"
        self._made_at = made_at
        self._messages = 0

    def head(self) -> bytes:
        """The first member."""
        return self._member("archive.json", _json({"format": FORMAT, "version": VERSION, "made_at": self._made_at}))

    def content_header(self, queue_id: str, size: int) -> bytes:
        """What stands before ``size`` octets of content; padding() follows them."""
        return self._header(f"{queue_id}.eml", size)

    def record(self, message: QueuedMessage, sha256: str) -> bytes:
        """What follows a content and its padding. ``sha256``: of the content, hexadecimal."""
        queue_id = message.envelope.queue_id
        self._messages += 1
        recipients = [asdict(recipient) for recipient in message.recipients]
        for recipient in recipients:
            del recipient["lane"]  # it follows from the rest
        text = _json({"envelope": asdict(message.envelope), "recipients": recipients})
        sums = f"{sha256}  {queue_id}.eml\n{hashlib.sha256(text).hexdigest()}  {queue_id}.json\n"
        return self._member(f"{queue_id}.json", text) + self._member(f"{queue_id}.sha256", sums.encode())

    def left(self, queue_id: str) -> bytes:
        """The message left meanwhile; what is missing of its content was filled up."""
        return self._member(f"{queue_id}.left", b"")

    def end(self) -> bytes:
        """The closing record and the end of the archive."""
        return self._member("end.json", _json({"messages": self._messages})) + bytes(2 * BLOCK)

    def _member(self, name: str, octets: bytes) -> bytes:
        return self._header(name, len(octets)) + octets + padding(len(octets))

    def _header(self, name: str, size: int) -> bytes:
        member = tarfile.TarInfo(f"{self._directory}/{name}")
        member.size, member.mode, member.mtime = size, 0o600, int(self._made_at)
        return member.tobuf(tarfile.USTAR_FORMAT)


def padding(size: int) -> bytes:
    """What fills a member of ``size`` octets up to a whole block."""
    return bytes(-size % BLOCK)


def _json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


class Decoder:
    """See the module's text. feed() and finish() raise ArchiveError."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._directory = ""
        self._name = ""  # of the member that is being read, without the directory; "" for one that is not ours
        self._left = self._pad = 0  # octets of its body, and of the padding behind it, that are to come
        self._in_body = self._searching = self._ended = self._damaged = False
        self._queue_id = ""  # of the message that is not whole yet
        self._content = hashlib.sha256()
        self._record = b""
        self._messages = 0

    def feed(self, octets: bytes) -> Iterator[Event]:
        """What these octets bring; iterate to the end before the next call."""
        self._buffer += octets
        while True:
            if not self._in_body:
                if len(self._buffer) < BLOCK:
                    return
                yield from self._read_header(self._take(BLOCK))
            elif self._name.endswith(".eml") or not self._name:
                if not self._buffer and self._left + self._pad:
                    return
                yield from self._read_some()
            elif len(self._buffer) < self._left + self._pad:
                return
            else:
                body = self._take(self._left)
                self._take(self._pad)
                self._in_body = False
                yield from self._read_member(body)

    def finish(self) -> Iterator[Event]:
        """The file ends here."""
        if not self._directory:
            raise ArchiveError("not a file of `pillarbox spool export`")
        yield from self._unfinished()
        if not self._ended:
            yield Broken("the file", f"it was cut: no closing record after {self._messages} whole messages")

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    # -- members

    def _read_header(self, block: bytes) -> Iterator[Event]:
        if block == bytes(BLOCK) and self._directory:
            return
        try:
            member = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, ValueError):
            if not self._directory:
                raise ArchiveError("not a file of `pillarbox spool export`") from None
            yield from self._lose()
            return
        directory, _, name = member.name.rpartition("/")
        if not self._directory:
            if name != "archive.json" or not _DIRECTORY.fullmatch(directory) or member.size > LARGEST_RECORD:
                raise ArchiveError("not a file of `pillarbox spool export`")
            self._directory = directory
        ours = directory == self._directory
        if self._searching and not ours:
            return
        large = not name.endswith(".eml") and member.size > LARGEST_RECORD
        if member.size < 0 or (ours and large):
            yield from self._lose()
            return
        self._searching = False
        self._name = name if ours and member.isreg() else ""
        self._left, self._pad = member.size, -member.size % BLOCK
        self._in_body = True
        if self._name.endswith(".eml"):
            yield from self._begin(name.removesuffix(".eml"))

    def _begin(self, queue_id: str) -> Iterator[Event]:
        yield from self._unfinished()
        if not is_queue_id(queue_id):
            yield self._broken(queue_id, "not a queue id")
            self._name = ""
            return
        self._queue_id, self._content, self._record = queue_id, hashlib.sha256(), b""
        yield Octets(queue_id, b"", first=True)

    def _read_some(self) -> Iterator[Event]:
        octets = self._take(min(self._left, len(self._buffer)))
        self._left -= len(octets)
        if self._name and octets:
            self._content.update(octets)
            yield Octets(self._queue_id, octets, first=False)
        if not self._left:
            self._pad -= len(self._take(min(self._pad, len(self._buffer))))
            self._in_body = bool(self._pad)

    def _read_member(self, body: bytes) -> Iterator[Event]:
        name, queue_id = self._name, self._queue_id
        if name == "archive.json":
            _check_head(body)
        elif name == "end.json":
            yield from self._unfinished()
            yield from self._close(body)
        elif queue_id and name == f"{queue_id}.left":
            self._queue_id = ""
        elif queue_id and name == f"{queue_id}.json":
            self._record = body
        elif queue_id and name == f"{queue_id}.sha256":
            self._queue_id = ""
            yield self._judge(queue_id, body)

    def _judge(self, queue_id: str, sums: bytes) -> Event:
        found = f"{self._content.hexdigest()}  {queue_id}.eml\n"
        found += f"{hashlib.sha256(self._record).hexdigest()}  {queue_id}.json\n"
        if found.encode() != sums:
            return self._broken(queue_id, "its digest is another one")
        try:
            message = _message(json.loads(self._record))
            if message.envelope.queue_id != queue_id:
                raise ValueError("the record of another message")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            return self._broken(queue_id, f"not a record of a message: {error}")
        self._messages += 1
        return Whole(message)

    def _close(self, body: bytes) -> Iterator[Event]:
        self._ended = True
        try:
            named: Any = json.loads(body)["messages"]
        except (ValueError, TypeError, KeyError, RecursionError):
            yield self._broken("the file", "its closing record cannot be read")
            return
        if named != self._messages and not self._damaged:
            yield self._broken("the file", f"it has {self._messages} messages, and {named} by its closing record")

    # -- damage

    def _lose(self) -> Iterator[Event]:
        """A header that is none: goes on at the next one of this file."""
        if not self._searching:
            self._searching = True
            name, self._queue_id = self._queue_id, ""
            yield self._broken(name or "the file", "damaged: what follows it is no member of the archive")

    def _unfinished(self) -> Iterator[Event]:
        name, self._queue_id = self._queue_id, ""
        if name:
            yield self._broken(name, "it is not whole")

    def _broken(self, name: str, reason: str) -> Broken:
        self._damaged = True
        return Broken(name, reason)


def _check_head(body: bytes) -> None:
    try:
        head = json.loads(body)
        form, version = head["format"], head["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ArchiveError("not a file of `pillarbox spool export`: its first record cannot be read") from None
    if form != FORMAT or not isinstance(version, int):
        raise ArchiveError("not a file of `pillarbox spool export`")
    if version > VERSION:
        raise ArchiveError(
            f"written by a newer Pillarbox (version {version} of the format, this one knows {VERSION}): upgrade"
        )


def _message(values: Any) -> QueuedMessage:
    """Raises ValueError, TypeError, KeyError."""
    envelope = from_body(Envelope, values["envelope"])
    recipients = from_body(tuple[Recipient, ...], values["recipients"])
    paths = envelope.forward_paths
    keys = [recipient.key for recipient in recipients]
    if not paths or len(set(keys)) < len(keys):
        raise ValueError("no forward paths, or one of them twice")
    for wishes in (envelope.notify, envelope.original_recipients):
        if len(wishes) not in (0, len(paths)):
            raise ValueError("not one wish for each forward path")
    for recipient in recipients:
        if not 0 <= recipient.key < len(paths) or paths[recipient.key] != recipient.forward_path:
            raise ValueError("a recipient that is no forward path")
    numbers = [envelope.received_at, envelope.hold_until, envelope.deliver_by, *(each.due_at for each in recipients)]
    if not all(map(math.isfinite, numbers)) or not -9 <= envelope.priority <= 9:  # RFC 6710 4.1
        raise ValueError("a number that is none")
    return QueuedMessage(envelope, recipients, leased=False)

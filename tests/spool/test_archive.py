"""The file of whole messages: what is written comes back equal, and what is damaged is named."""

import hashlib
import json
import tarfile
from dataclasses import replace
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.spool.messages import envelope, wishful

from pillarbox.message.envelope import Envelope
from pillarbox.spool.archive import (
    BLOCK,
    ArchiveError,
    Broken,
    Decoder,
    Encoder,
    Octets,
    Whole,
    padding,
)
from pillarbox.spool.base import QueuedMessage, Recipient, State

RANDOM = bytes(range(16))
Stored = tuple[QueuedMessage, bytes]


def stored(sent: Envelope, content: bytes = b"hello") -> Stored:
    """The message with its first recipient gone, and the others each in another state."""
    states = [State.DUE, State.HELD, State.DEAD]
    recipients = tuple(
        Recipient(key, path, "example.net", states[key % 3], 77.5 + key, key, "451 ü\r\n\0", 5.25, key % 2 == 1)
        for key, path in enumerate(sent.forward_paths)
        if key or len(sent.forward_paths) == 1
    )
    return QueuedMessage(replace(sent, size=len(content)), recipients, leased=False), content


def written(messages: list[Stored]) -> bytes:
    encoder = Encoder(RANDOM, 1_000.0)
    parts = [encoder.head()]
    for message, content in messages:
        parts += [encoder.content_header(message.envelope.queue_id, len(content)), content, padding(len(content))]
        parts.append(encoder.record(message, hashlib.sha256(content).hexdigest()))
    return b"".join([*parts, encoder.end()])


def read(octets: bytes, step: int = 1 << 20) -> tuple[list[Stored], list[Broken]]:
    """What is whole, and what is broken."""
    decoder = Decoder()
    events = [e for at in range(0, len(octets), step) for e in decoder.feed(octets[at : at + step])]
    events += decoder.finish()
    whole: list[Stored] = []
    content = b""
    for event in events:
        if isinstance(event, Octets):
            content = event.octets if event.first else content + event.octets
        elif isinstance(event, Whole):
            whole.append((event.message, content))
    return whole, [event for event in events if isinstance(event, Broken)]


SEVERAL = [
    stored(wishful()),
    stored(envelope(), bytes(range(256)) * 5),
    stored(envelope("bob@example.net", "carol@example.net"), b""),
    stored(replace(envelope(), queue_id="01TEST00000000000000000099-a"), b"x" * BLOCK),
]


@pytest.mark.parametrize("step", [1, 511, 512, 513, 1 << 20])
def test_what_is_written_comes_back_equal_however_it_is_cut_into_pieces(step: int) -> None:
    assert read(written(SEVERAL), step) == (SEVERAL, [])


@given(st.binary(max_size=3 * BLOCK), st.text(max_size=40), st.text(max_size=40), st.floats(0, 1e11))
def test_any_text_and_any_octets_come_back(content: bytes, path: str, reply: str, due_at: float) -> None:
    message, _ = stored(envelope(path, reverse_path=reply), content)
    (recipient,) = message.recipients
    message = replace(message, recipients=(replace(recipient, last_reply=reply, due_at=due_at),))
    assert read(written([(message, content)]), 1_000) == ([(message, content)], [])


def test_tar_reads_it_and_sha256sum_would_agree() -> None:
    with tarfile.open(fileobj=BytesIO(written(SEVERAL))) as archive:
        members = {m.name.rpartition("/")[2]: archive.extractfile(m) for m in archive.getmembers()}
    octets = {name: file.read() for name, file in members.items() if file is not None}
    assert len(octets) == 3 * len(SEVERAL) + 2
    for name, sums in octets.items():
        if name.endswith(".sha256"):
            for line in sums.decode().splitlines():
                digest, _, of = line.partition("  ")
                assert hashlib.sha256(octets[of]).hexdigest() == digest


def test_every_damaged_octet_costs_one_message_at_most_and_is_reported() -> None:
    whole = written(SEVERAL)
    head = len(Encoder(RANDOM, 1_000.0).head())
    for at in range(head, len(whole) - 2 * BLOCK, 97):
        damaged = bytearray(whole)
        damaged[at] ^= 0x41
        kept, broken = read(bytes(damaged))
        lost = [message for message in SEVERAL if message not in kept]
        assert len(lost) <= 1, at
        assert all(message in SEVERAL for message in kept), at
        assert bool(broken) or not lost, at
        named = {each.name for each in broken}
        assert all(message.envelope.queue_id in named or "the file" in named for message, _ in lost), at


def test_a_cut_file_is_noticed_wherever_it_was_cut() -> None:
    whole = written(SEVERAL)
    head = len(Encoder(RANDOM, 1_000.0).head())
    for length in range(head, len(whole) - 3 * BLOCK, 301):
        kept, broken = read(whole[:length])
        assert broken[-1].name == "the file"
        assert kept == SEVERAL[: len(kept)]


def test_a_message_that_left_while_it_was_written_is_no_damage() -> None:
    encoder = Encoder(RANDOM, 1_000.0)
    name = envelope().queue_id
    octets = encoder.head() + encoder.content_header(name, 3) + bytes(BLOCK) + encoder.left(name) + encoder.end()
    assert read(octets) == ([], [])


def test_a_message_without_its_digests_is_not_whole() -> None:
    encoder = Encoder(RANDOM, 1_000.0)
    name = envelope().queue_id
    octets = encoder.head() + encoder.content_header(name, 3) + bytes(BLOCK) + encoder.end()
    assert read(octets) == ([], [Broken(name, "it is not whole")])


def test_a_member_within_a_content_is_content_even_behind_a_damaged_header() -> None:
    hidden = stored(envelope(reverse_path="mallory@example.org"))
    foreign = Encoder(bytes(16), 1_000.0)
    inner = foreign.head() + written([hidden]).replace(RANDOM.hex().encode(), bytes(16).hex().encode())
    outer = stored(envelope(), inner)
    octets = bytearray(written([outer, SEVERAL[1]]))
    octets[len(Encoder(RANDOM, 1_000.0).head())] ^= 1
    kept, broken = read(bytes(octets))
    assert kept == [SEVERAL[1]]
    assert broken


def test_a_message_that_is_missing_is_noticed_by_the_closing_record() -> None:
    one, two = written(SEVERAL[1:2]), written(SEVERAL[1:3])
    end = len(Encoder(RANDOM, 1_000.0).end())
    _, broken = read(one[:-end] + two[-end:])
    assert broken == [Broken("the file", "it has 1 messages, and 2 by its closing record")]


@pytest.mark.parametrize("octets", [b"", b"\0" * 2048, b"From: a\r\n" * 400, bytes(range(256)) * 9])
def test_another_file_is_refused(octets: bytes) -> None:
    with pytest.raises(ArchiveError, match="not a file of"):
        read(octets)


def test_a_newer_version_is_refused_in_words() -> None:
    with pytest.raises(ArchiveError, match=r"newer Pillarbox.*version 2"):
        read(written([]).replace(b'"version":1', b'"version":2'))


@pytest.mark.parametrize(
    ("field", "value"),
    [("priority", 10), ("forward_paths", []), ("received_at", "soon"), ("notify", ["NEVER"] * 9), ("size", None)],
)
def test_a_record_that_cannot_be_is_refused_though_its_digest_is_right(field: str, value: object) -> None:
    encoder = Encoder(RANDOM, 1_000.0)
    message, content = SEVERAL[1]
    name = message.envelope.queue_id
    record = encoder.record(message, "")
    text = json.loads(record[BLOCK : record.index(b"\0", BLOCK)])
    text["envelope"][field] = value
    body = json.dumps(text).encode()
    sums = f"{hashlib.sha256(content).hexdigest()}  {name}.eml\n{hashlib.sha256(body).hexdigest()}  {name}.json\n"
    octets = encoder.head() + encoder.content_header(name, len(content)) + content + padding(len(content))
    for suffix, octet in (("json", body), ("sha256", sums.encode())):
        member = tarfile.TarInfo(f"pillarbox-spool-{RANDOM.hex()}/{name}.{suffix}")
        member.size = len(octet)
        octets += member.tobuf(tarfile.USTAR_FORMAT) + octet + padding(len(octet))
    kept, broken = read(octets + encoder.end())
    assert kept == []
    assert [each.name for each in broken] == [name]
    assert broken[0].reason.startswith("not a record of a message")

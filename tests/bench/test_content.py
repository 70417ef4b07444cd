"""The messages of a load."""

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.bench.content import CHUNK, Messages
from pillarbox.smtp.path import Mailbox

ALICE, BOB = Mailbox("alice", "example.org"), Mailbox("bob", "example.net")
DATE = "Thu, 01 Jan 2026 00:00:00 +0000"


def messages(size: int, run: str = "run") -> Messages:
    return Messages(ALICE, (BOB,), size, DATE, run)


@given(st.integers(0, 5000))
def test_a_message_has_the_size_asked_for_and_only_whole_lines(size: int) -> None:
    least = len(b"".join(messages(0).next()))
    made = b"".join(messages(size).next())
    assert len(made) == max(size, least)
    assert made.count(b"\r") == made.count(b"\n") == made.count(b"\r\n")
    assert max(map(len, made.split(b"\r\n"))) <= 78


@pytest.mark.parametrize("size", [CHUNK, CHUNK + 1, 3 * CHUNK, 5_242_880])
def test_large_ones_come_in_chunks(size: int) -> None:
    chunks = messages(size).next()
    assert sum(map(len, chunks)) == size
    assert max(map(len, chunks)) <= CHUNK + 1024


def test_each_has_a_message_id_of_its_own_in_one_run_and_over_runs() -> None:
    first, second = messages(4096, "one"), messages(4096, "two")
    parsed = [
        email.message_from_bytes(b"".join(source.next()), policy=email.policy.SMTP)
        for source in (first, first, second, second)
    ]
    assert len({message["Message-ID"] for message in parsed}) == 4
    assert {message["From"].addresses[0].addr_spec for message in parsed} == {"alice@example.org"}
    assert {message["To"].addresses[0].addr_spec for message in parsed} == {"bob@example.net"}
    assert all(message["Date"] == DATE for message in parsed)

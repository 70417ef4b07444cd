"""Queue ids: time first, then chance, in Crockford's alphabet. An envelope without wishes has none."""

import pytest

from pillarbox.message.envelope import Envelope, is_queue_id, queue_id, tag_of


def test_a_queue_id_has_48_bits_of_milliseconds_and_80_random_ones() -> None:
    assert queue_id(0, bytes(10)) == "0" * 26
    assert queue_id((2**48 - 1) / 1000, b"\xff" * 10) == "7" + "Z" * 25
    assert queue_id(1.469918176385e9, bytes(9) + b"\x01") == "01ARYZ6S410000000000000001"


def test_an_envelope_asks_for_nothing_that_was_not_asked_for() -> None:
    plain = Envelope("0" * 26, "a@example.org", ("b@example.net",), received_at=1.0, size=2)
    asked = {name for name in Envelope.__slots__ if getattr(plain, name)}
    assert asked == {"queue_id", "reverse_path", "forward_paths", "received_at", "size"}


def test_ids_sort_by_time() -> None:
    times = [1.0, 1.001, 2.0, 1_790_000_000.0, 1_790_000_000.001, 4e9]
    ids = [queue_id(now, b"\xff" * 10 if i % 2 else bytes(10)) for i, now in enumerate(times)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("now", "random"), [(1.0, b""), (1.0, bytes(9)), (1.0, bytes(11)), (-1.0, bytes(10)), (3e11, bytes(10))]
)
def test_what_makes_no_id_is_a_bug_of_the_caller(now: float, random: bytes) -> None:
    with pytest.raises(ValueError, match="10 random octets"):
        queue_id(now, random)


def test_the_tag_of_a_cell_stands_behind_and_is_found_again() -> None:
    plain = queue_id(1.79e9, b"0123456789")
    for tag in ("a", "fra1", 16 * "z"):
        tagged = queue_id(1.79e9, b"0123456789", tag)
        assert tagged == f"{plain}-{tag}"
        assert is_queue_id(tagged)
        assert tag_of(tagged) == tag
    assert queue_id(1.79e9, b"0123456789", "") == plain
    assert tag_of(plain) == ""


def test_only_what_queue_id_writes_has_the_form() -> None:
    good = queue_id(1.79e9, b"0123456789")
    assert is_queue_id(good)
    for bad in (
        good.lower(),
        good[:-1],
        good + "0",
        good + "\n",
        "8" + good[1:],
        good[:-1] + "U",
        good[:-1] + "٣",
        "",
        good + "-",
        good + "-A",
        good + "-a.b",
        good + "-a-b",
        good + "-" + 17 * "a",
        good + "-a\n",
    ):
        assert not is_queue_id(bad), bad

"""memory.py beside a model: what is remembered, for how long, and how much."""

from hypothesis import given
from hypothesis import strategies as st

from pillarbox.directory.memory import EntryKey, Memory

ENTRIES = [bytes([number]) for number in range(6)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("add", "brief", "get", "drop", "replace", "wait")),
        st.sampled_from(ENTRIES),
        st.integers(0, 40),
    ),
    max_size=60,
)


@given(STEPS)
def test_it_behaves_as_a_dict_with_ends_that_forgets_the_longest_unused(steps: list[tuple[str, bytes, int]]) -> None:
    memory, now = Memory[int](30.0, 4), 0.0
    model: list[tuple[bytes, float, int]] = []  # the longest unused first

    def of(entry: bytes) -> tuple[bytes, float, int] | None:
        return next((one for one in model if one[0] == entry), None)

    for step, entry, number in steps:
        found = of(entry)
        if step == "wait":
            now += number
        elif step in ("add", "brief"):
            lasts = 30.0 if step == "add" else min(number, 30.0)
            memory.add(entry, number, now, None if step == "add" else number)
            model = [one for one in model if one[0] != entry]
            if lasts > 0:
                model = [*model, (entry, now + lasts, number)][-4:]
        elif step == "get":
            valid = found is not None and now < found[1]
            assert memory.get(entry, now) == (found[2] if found is not None and valid else None)
            model = [one for one in model if one[0] != entry]
            if found is not None and valid:
                model.append(found)
        elif step == "drop":
            memory.drop(entry)
            model = [one for one in model if one[0] != entry]
        else:
            memory.replace(entry, number)
            model = [(one[0], one[1], number) if one[0] == entry else one for one in model]
        assert len(memory) == len(model) <= 4


def test_without_a_lifetime_nothing_is_remembered() -> None:
    memory = Memory[int](0.0, 4)
    memory.add(b"x", 1, 0.0)
    memory.add(b"x", 1, 0.0, 100.0)
    assert memory.get(b"x", 0.0) is None and len(memory) == 0


def test_entries_tell_parts_apart_and_are_worth_nothing_elsewhere() -> None:
    one, other = EntryKey(), EntryKey()
    assert one.of("ab", "c") != one.of("a", "bc")
    assert one.of("a", "b") == one.of("a", "b") != other.of("a", "b")
    assert b"secret" not in one.of("anna", "secret") and len(one.of("anna", "secret")) == 16

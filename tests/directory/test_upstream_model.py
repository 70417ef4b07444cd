"""upstream.py and budget.py together: whatever comes at once, leaves, waits or breaks, no window has more wrong
passwords at the server than were set."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.directory.scripted import CUT, NOT_REACHED, Setting

from pillarbox.directory.base import NotReached

TRIES, WINDOW = 4, 100.0
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("guess"), st.integers(0, 11), st.booleans()),
        st.tuples(st.just("right"), st.just(0), st.booleans()),
        st.tuples(st.just("leave"), st.integers(0, 20), st.just(True)),
        st.tuples(st.sampled_from(("hold", "answer", "break", "refuse", "mend")), st.just(0), st.just(True)),
        st.tuples(st.just("wait"), st.sampled_from((1, 40, 99, 100)), st.just(True)),
    ),
    max_size=40,
)


class Play:
    """One history. ``arrived``: when wrong passwords came to the server, and whether a stranger's may have."""

    def __init__(self) -> None:
        self.setting = Setting(wrong_tries=TRIES, wrong_window=WINDOW, cache=30.0, wrong_cache=50.0, connections=8)
        self.sessions: list[asyncio.Task[str]] = []
        self.arrived: list[float] = []
        check = self.setting.backend.check

        async def counted(person, password):  # type: ignore[no-untyped-def]  # as the one it stands for
            if password != "right" and not isinstance(self.setting.backend.check_raises, NotReached):
                self.arrived.append(self.setting.clock.monotonic())
            return await check(person, password)

        self.setting.backend.check = counted  # type: ignore[method-assign]  # counted on its way

    async def step(self, what: str, number: int, known: bool) -> None:
        backend = self.setting.backend
        if what in ("guess", "right"):
            password = "right" if what == "right" else f"guess {number}"
            login = ("anna", "A.Smith")[number % 2]
            self.sessions.append(asyncio.create_task(self.setting.reason(password, login, known=known)))
        elif what == "leave" and number < len(self.sessions):
            self.sessions[number].cancel()
        elif what == "wait":
            self.setting.clock.advance(number)
        elif what == "hold":
            backend.check_gate.clear()
        elif what == "answer":
            backend.check_gate.set()
        elif what in ("break", "refuse", "mend") and backend.check_gate.is_set():
            backend.check_raises = {"break": CUT, "refuse": NOT_REACHED, "mend": None}[what]
        for _ in range(12):
            await asyncio.sleep(0)


@settings(max_examples=150)
@given(STEPS)
def test_no_window_has_more_wrong_passwords_at_the_server_than_were_set(steps: list[tuple[str, int, bool]]) -> None:
    async def play() -> None:
        history = Play()
        for step in steps:
            await history.step(*step)
        history.setting.backend.check_gate.set()
        answers = await asyncio.gather(*history.sessions, return_exceptions=True)
        allowed = ("in", "wrong", "locked", "unavailable")
        assert all(isinstance(each, asyncio.CancelledError) or each in allowed for each in answers)
        for end in history.arrived:
            assert sum(end - WINDOW < each <= end for each in history.arrived) <= TRIES
        for _ in range(20):
            await asyncio.sleep(0)
        upstream = history.setting.upstream
        assert not upstream._asking and not upstream._refreshing
        for line, turns in ((upstream._strangers, 4), (upstream._connections, 8)):
            assert line._waiting == 0 and line._turns._value == turns, "and nobody keeps a turn"
        history.setting.clock.advance(WINDOW)
        history.setting.backend.check_raises = None
        assert await history.setting.reason("right") == "in", "and it always ends"

    asyncio.run(play())

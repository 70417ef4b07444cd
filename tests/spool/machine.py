"""A spool against a model in memory, through any order of verbs and restarts: see test_model.py."""

import asyncio
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.spool.messages import bounce, envelope, lanes, new_id

from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import (
    Deferred,
    Delivered,
    Failed,
    Filter,
    Lease,
    NewMessage,
    Outcome,
    Settlement,
    Spool,
    State,
)

DOMAINS = ("one.example", "two.example", "three.example")


class Modelled:
    """One message in the model: its envelope and its recipients that are still here."""

    def __init__(self, made: Envelope, now: float) -> None:
        self.envelope = made
        due_at = max(now, made.hold_until)
        self.waiting = {key: (State.DUE, due_at) for key in range(len(made.forward_paths))}
        self.tried: set[int] = set()
        self.leased: set[int] = set()

    def is_future(self, key: int, now: float) -> bool:
        """Whether a recipient waits for its sender's time."""
        hold_until = self.envelope.hold_until
        return key not in self.tried and hold_until > now and self.waiting[key][1] >= hold_until

    def rank(self, keys: dict[int, float]) -> float:
        """What goes first among what is due."""
        return min(keys.values()) - 300 * self.envelope.priority


class SpoolMachine(RuleBasedStateMachine):
    """Each rule does the same to both and compares what they say."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 1_000.0
        self.model: dict[str, Modelled] = {}
        self.out: list[list[Lease]] = []
        self.spool: Spool = self.do(self.open())

    async def open(self, again: bool = False) -> Spool:
        """An empty spool, or ``again`` the same one, by the clock ``self.now``."""
        raise NotImplementedError

    async def close(self) -> None:
        """Ends the spool's process."""
        raise NotImplementedError

    def do(self, call: Any) -> Any:
        """Awaits."""
        return self.loop.run_until_complete(call)

    def teardown(self) -> None:
        self.do(self.close())
        self.do(self.loop.shutdown_default_executor())
        self.loop.close()

    def add(self, message: NewMessage) -> None:
        """To the model."""
        self.model[message.envelope.queue_id] = Modelled(message.envelope, self.now)

    @rule(
        domains=st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=4),
        ours=st.booleans(),
        priority=st.sampled_from([0, 0, 0, 1, -1, 9, -9]),
        hold_for=st.sampled_from([0.0, 0.0, 100.0, 1_000.0]),
    )
    def commit(self, domains: list[str], ours: bool, priority: int, hold_for: float) -> None:
        paths = [f"u{number}@{domain}" for number, domain in enumerate(domains)]
        until = self.now + hold_for if hold_for else 0.0
        made = envelope(*paths, is_bounce=ours, received_at=self.now, priority=priority, hold_until=until)
        message = NewMessage(made, b"content")
        for _ in range(2):
            self.do(self.spool.commit(message.envelope, message.content))
        self.add(message)

    @rule(seconds=st.floats(0.0, 500.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(limit=st.integers(1, 4), skip=st.frozensets(st.sampled_from(DOMAINS), max_size=2))
    def lease(self, limit: int, skip: frozenset[str]) -> None:
        wanted = {}
        for queue_id, message in self.model.items():
            keys = {
                key: due_at
                for key, (state, due_at) in message.waiting.items()
                if state is State.DUE and due_at <= self.now and key not in message.leased
                if message.envelope.forward_paths[key].partition("@")[2] not in skip
            }
            if keys:
                wanted[queue_id] = keys
        got: list[Lease] = self.do(self.spool.lease(self.now, limit, lanes(*skip)))
        assert len(got) == min(limit, len(wanted))
        first = sorted(self.model[queue_id].rank(keys) for queue_id, keys in wanted.items())
        ranks = [self.model[lease.envelope.queue_id].rank(wanted[lease.envelope.queue_id]) for lease in got]
        assert ranks == first[: len(got)]
        for lease in got:
            queue_id = lease.envelope.queue_id
            assert {r.key: r.due_at for r in lease.recipients} == wanted[queue_id]
            assert lease.envelope == self.model[queue_id].envelope
            assert lease.content in (b"content", b"it failed")
            self.model[queue_id].leased |= wanted[queue_id].keys()
        self.out.append(got)

    def take(self, number: int) -> list[Lease]:
        """The leases of one call, chosen by chance."""
        return self.out.pop(number % len(self.out)) if self.out else []

    def outcome(self, choice: str) -> Outcome:
        """R and D are delivered, R with a report of it."""
        if choice in "DR":
            return Delivered("250 ok", "hop")
        return Failed("550", "hop", "5.1.1") if choice == "f" else Deferred("451", "hop", self.now + 50)

    def apply(self, message: Modelled, key: int, outcome: Outcome) -> bool:
        """To the model; whether the recipient leaves."""
        message.tried.add(key)
        if isinstance(outcome, Deferred):
            message.waiting[key] = (State.DUE, outcome.due_at)
        elif isinstance(outcome, Failed) and message.envelope.is_bounce:
            message.waiting[key] = (State.DEAD, message.waiting[key][1])
        else:
            del message.waiting[key]
            return True
        return False

    @rule(
        number=st.integers(0, 100),
        choices=st.lists(st.sampled_from("DRdFf-"), min_size=20, max_size=20),
        again=st.booleans(),
    )
    def settle(self, number: int, choices: list[str], again: bool) -> None:
        for lease in self.take(number):
            message = self.model[lease.envelope.queue_id]
            made: dict[int, Outcome] = {}
            told: tuple[NewMessage, ...] = ()
            for recipient, choice in zip(lease.recipients, choices, strict=False):
                message.leased.discard(recipient.key)
                if choice != "-":
                    made[recipient.key] = self.outcome(choice)
                    if self.apply(message, recipient.key, made[recipient.key]) and choice in "Rf":
                        told = told or (bounce(f"a@{DOMAINS[0]}", queue_id=new_id()),)
            if not message.waiting:
                del self.model[lease.envelope.queue_id]
            for each in told:
                self.add(each)
            for _ in range(1 + again):
                self.do(self.spool.settle(lease, Settlement(lease.envelope.queue_id, made, told)))

    @rule(number=st.integers(0, 100))
    def give_back(self, number: int) -> None:
        for lease in self.take(number):
            self.do(self.spool.release_lease(lease))
            self.model[lease.envelope.queue_id].leased -= {r.key for r in lease.recipients}

    @rule(verb=st.sampled_from(["hold", "release", "retry"]), domain=st.sampled_from(DOMAINS), early=st.booleans())
    def operate(self, verb: str, domain: str, early: bool) -> None:
        changed = []
        wanted = {State.DUE} if verb != "release" else {State.HELD, State.DEAD}
        for queue_id, message in sorted(self.model.items()):
            for key, (state, due_at) in list(message.waiting.items()):
                if not message.envelope.forward_paths[key].endswith(f"@{domain}"):
                    continue
                future = message.is_future(key, self.now)
                stays = verb == "hold" or (future and not early)
                if state in wanted and key not in message.leased and not (verb == "retry" and stays):
                    due_at = due_at if stays else self.now
                    message.waiting[key] = (State.HELD if verb == "hold" else State.DUE, due_at)
                    changed.append(queue_id)
        more = {} if verb == "hold" else {"early": early}
        got = self.do(getattr(self.spool, verb)(Filter(domain=domain), self.now, **more))
        assert list(got) == list(dict.fromkeys(changed))

    @rule(number=st.integers(0, 1000))
    def expunge(self, number: int) -> None:
        free = sorted(queue_id for queue_id, message in self.model.items() if not message.leased)
        if free:
            queue_id = free[number % len(free)]
            self.do(self.spool.expunge(queue_id))
            del self.model[queue_id]

    @rule()
    def restart(self) -> None:
        """Leases of a process end with it, here as in the model."""
        self.do(self.close())
        self.spool = self.do(self.open(again=True))
        for message in self.model.values():
            message.leased.clear()
        self.out.clear()

    @invariant()
    def the_same_is_there(self) -> None:
        found = {m.envelope.queue_id: m for m in self.do(self.spool.list(Filter(), self.now, 10_000))}
        assert found.keys() == self.model.keys()
        for queue_id, message in self.model.items():
            assert found[queue_id].envelope == message.envelope
            assert {r.key: (r.state, r.due_at) for r in found[queue_id].recipients} == message.waiting
            assert found[queue_id].leased == bool(message.leased)
        future = {m.envelope.queue_id for m in self.do(self.spool.list(Filter(future=True), self.now, 10_000))}
        assert future == {
            queue_id
            for queue_id, message in self.model.items()
            if any(message.is_future(key, self.now) for key in message.waiting)
        }

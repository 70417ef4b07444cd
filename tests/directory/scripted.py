"""A backend that does what it is told: answers, refuses, hangs; and counts what came to it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.clock import FakeClock

from pillarbox.directory.base import Denied, Identity, NotReached, Reason, Unavailable
from pillarbox.directory.budget import Budget
from pillarbox.directory.preparation import login_key
from pillarbox.directory.settings import UpstreamSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Person, Upstream
from pillarbox.sasl.mechanism import PasswordCredentials


def person(login: str, *spellings: str, denied: Reason | None = None, addresses: tuple[str, ...] = ()) -> Person:
    """Somebody, under these spellings and the login."""
    return Person(f"key-{login}", Identity(login, frozenset(addresses)), denied, (login, spellings))


@dataclass
class Scripted:
    """People with their passwords. ``gate``: closed, questions wait at it. ``raises``: what each question ends in."""

    people: dict[str, Person] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    opaque: bool = False
    raises: Exception | None = None
    check_raises: Exception | None = None
    answers: dict[str, Denied] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    checked: list[tuple[str, str]] = field(default_factory=list)
    ended: int = 0
    most: int = 0
    closed: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    check_gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.gate.set()
        self.check_gate.set()
        self._now = 0

    def add(self, login: str, password: str, *spellings: str, **more: Any) -> None:
        """Somebody with a password."""
        who = person(login, *spellings, **more)
        self.passwords[who.key] = password
        for each in (login, *spellings):
            self.people[login_key(each)] = who

    async def find(self, login: str) -> Person | None:
        self.found.append(login)
        await self._work(self.gate)
        if self.opaque:
            return Person(login_key(login), Identity(login, frozenset()))
        return self.people.get(login_key(login))

    async def check(self, person: Person, password: str) -> Identity | Denied:
        self.checked.append((person.key, password))
        await self._work(self.check_gate)
        if self.check_raises is not None:
            raise self.check_raises
        login = person.identity.login
        if password in self.answers:
            return self.answers[password]
        stored = self.passwords.get(f"key-{login}" if self.opaque else person.key)
        if password == stored:
            return person.identity
        return Denied(Reason.OPAQUE if self.opaque else Reason.WRONG, login)

    async def _work(self, gate: asyncio.Event) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        self.asked()
        try:
            await gate.wait()
            if self.raises is not None:
                raise self.raises
        finally:
            self._now -= 1
            self.ended += 1

    def close(self) -> None:
        self.closed = True


class Setting:
    """An Upstream over a scripted backend, on a clock that goes when told to. In it: anna (``right``), whom
    ``a.smith`` means as well."""

    def __init__(self, *, budget: Budget | None = None, opaque: bool = False, **settings: Any) -> None:
        self.clock = FakeClock()
        self.backend = Scripted(opaque=opaque)
        self.backend.add("anna", "right", "a.smith", addresses=("anna@example.org",))
        self.settings = UpstreamSettings(**{"name": "corp", "wrong_tries": 4, **settings})
        self.budget = budget or Tries(self.clock.monotonic)
        self.upstream = Upstream(self.backend, self.settings, self.budget, clock=self.clock.monotonic)

    async def sign_in(
        self, password: str = "right", login: str = "anna", *, known: bool = True, authzid: str = ""
    ) -> Identity | Denied:
        return await self.upstream.verify(PasswordCredentials(login, password, authzid), known_place=known)

    async def reason(self, password: str, login: str = "anna", *, known: bool = True) -> str:
        """The reason of a refusal in lower case, "in", or "unavailable"."""
        try:
            answer = await self.sign_in(password, login, known=known)
        except Unavailable:
            return "unavailable"
        return answer.reason.name.lower() if isinstance(answer, Denied) else "in"


async def until(condition: Callable[[], bool]) -> None:
    """Turns of the loop until it holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


NOT_REACHED = NotReached("the server refuses connections")
"""No password can have come to it."""
CUT = Unavailable("the connection broke")
"""One may have."""

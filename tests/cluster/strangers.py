"""Who guesses at the machines, and what each machine's guard says of it.

    reply = guess(stage, machine, "127.0.5.1", "guess 1")     # a failed sign-in from there; or the refusal
    seen = standing(machine)
    seen.blocked, seen.failures                               # {"127.0.5.1"}, {"127.0.5.1": 5}

Synchronous; to be called in threads without a loop.
"""

import base64
import itertools
import ssl
from dataclasses import dataclass

from tests.cluster.load import LOGIN
from tests.cluster.machine import Machine
from tests.cluster.stage import Stage
from tests.support.talk import Talk

_numbers = itertools.count(256)


def stranger() -> str:
    """An address that nobody has come from yet."""
    number = next(_numbers)
    return f"127.1.{number // 256}.{number % 256}"


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one machine: who is refused, and how many failures each address has."""

    blocked: frozenset[str]
    failures: dict[str, int]


def standing(machine: Machine) -> Standing:
    """As the machine's spool process knows it now. Raises OSError while that is away."""
    found = machine.ask("guard.list", {"limit": 10_000})
    return Standing(
        frozenset(each["prefix"].removesuffix("/32") for each in found["blocks"]),
        {each["name"].removesuffix("/32"): each["failures"] for each in found["prefixes"]},
    )


def used(machine: Machine, login: str) -> int:
    """Recipients of the login's last hour, by what this machine knows."""
    answer: int = machine.ask("guard.quota", {"login": login})["used"]
    return answer


NOT_LET_IN = "closed"
"""What a blocked address gets where TLS comes first: nobody makes a handshake to refuse somebody."""


def guess(stage: Stage, machine: Machine, source: str, password: str, login: str = LOGIN) -> str:
    """The reply to the sign-in, or NOT_LET_IN. Raises OSError, also when nobody listens."""
    try:
        talk = Talk(machine.port, stage.cell.ca, host=machine.host, source=source)
    except (ssl.SSLError, ConnectionResetError):
        return NOT_LET_IN
    with talk:
        talk.say("EHLO guesser.example.org")
        response = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
        return talk.say(f"AUTH PLAIN {response}")

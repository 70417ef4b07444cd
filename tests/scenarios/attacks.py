"""What an honest user notices of each attack: `make attacks`.

    python -m tests.scenarios.attacks [--seconds 20] [--clients 300] [--only NAME,...] [--page PAGE]

An honest user signs in over TLS and sends a message, in a new session ten times a second, from a place where somebody
signed in before. It is timed from the connection to the reply to QUIT, quiet and then under the attack. The attackers
run in a process of their own, on this same machine, in time that nobody else wants (SCHED_IDLE): what they cost us is
in here, what they cost themselves is not, as if they had machines of their own. But where we take all of this one,
they come less often than they would from others; the contacts say how often they did. Sixty seconds of nothing else
on the machine per attack make good figures.

Exit code 1 when a visit failed or the goal (p99 under attack within twice the quiet one) was missed.
"""

import argparse
import asyncio
import base64
import datetime
import multiprocessing
import os
import platform
import ssl
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path

from tests.support.attackers import ATTACKS, EVE, EVES_PASSWORD, WAITING, Target, attacking
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon

PASSWORD = "correct horse battery staple"
RATE = 10.0
"""Visits a second."""
PATIENCE = 20.0
GOAL = 2.0
TEN_TIMES = 10
"""As many attackers where they only wait: thousands."""

VISIT = (
    b"EHLO client.example.org\r\n",
    b"AUTH PLAIN " + base64.b64encode(f"\0ada\0{PASSWORD}".encode()) + b"\r\n",
    b"MAIL FROM:<ada@example.org>\r\n",
    b"RCPT TO:<bob@elsewhere.example>\r\n",
    b"DATA\r\n",
    b"From: ada@example.org\r\nSubject: s\r\n\r\n" + (b"x" * 70 + b"\r\n") * 100 + b".\r\n",
    b"QUIT\r\n",
)


@dataclass
class Figures:
    """Visits' milliseconds, and how many failed."""

    visits: list[float] = field(default_factory=list)
    failed: int = 0

    def percentile(self, hundredths: int) -> float:
        """Of the visits that succeeded, in milliseconds."""
        if len(self.visits) < 2:
            return float("nan")
        return statistics.quantiles(self.visits, n=100, method="inclusive")[hundredths - 1]


@dataclass
class Row:
    """One attack."""

    name: str
    clients: int
    quiet: Figures
    attack: Figures
    contacts: int

    @property
    def times(self) -> float:
        """The p99 under attack over the quiet one."""
        return self.attack.percentile(99) / self.quiet.percentile(99)


async def visit(port: int, context: ssl.SSLContext) -> None:
    """One session with one message. Raises OSError, AssertionError, TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        try:
            for line in (b"", *VISIT):
                writer.write(line)
                while (answer := await reader.readline())[3:4] == b"-":
                    pass
                assert answer[:1] in (b"2", b"3"), answer
        finally:
            writer.transport.abort()


async def visits(port: int, context: ssl.SSLContext, seconds: float) -> Figures:
    """So many a second, whatever becomes of those before."""
    figures = Figures()

    async def one() -> None:
        began = time.perf_counter()
        try:
            await visit(port, context)
        except (OSError, AssertionError):
            figures.failed += 1
        else:
            figures.visits.append((time.perf_counter() - began) * 1000)

    tasks = []
    for _ in range(int(seconds * RATE)):
        tasks.append(asyncio.create_task(one()))
        await asyncio.sleep(1 / RATE)
    await asyncio.gather(*tasks)
    return figures


def attack_in_its_process(
    name: str, target: tuple[int, int, Path], clients: int, end: Event, contacts: object
) -> None:
    """What the attackers' process does until it is told to end."""
    # on a machine of their own they would not be in our way
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    async def attack() -> None:
        async with attacking(ATTACKS[name], Target(*target), clients) as going_on:
            while not end.is_set():
                contacts.value = going_on.contacts  # type: ignore[attr-defined]  # multiprocessing.Value
                await asyncio.sleep(0.05)

    asyncio.run(attack())


def measure(name: str, daemon: RunningDaemon, seconds: float, clients: int) -> Row:
    """Quiet and attacked; the attack has begun in earnest when its visits begin."""
    context = ssl.create_default_context(cafile=str(daemon.ca))
    asyncio.run(visits(daemon.submissions, context, 1.0))  # warm, and the place is known
    quiet = asyncio.run(visits(daemon.submissions, context, seconds))
    spawn = multiprocessing.get_context("spawn")
    end, contacts = spawn.Event(), spawn.Value("q", 0)
    target = (daemon.submission, daemon.submissions, daemon.ca)
    attackers = spawn.Process(target=attack_in_its_process, args=(name, target, clients, end, contacts))
    attackers.start()
    deadline = time.monotonic() + 30
    while contacts.value < min(clients, 50) and time.monotonic() < deadline:
        time.sleep(0.05)
    try:
        attacked = asyncio.run(visits(daemon.submissions, context, seconds))
    finally:
        end.set()
        attackers.join(30)
        if attackers.is_alive():
            attackers.kill()
    return Row(name, clients, quiet, attacked, contacts.value)


def page(rows: list[Row], seconds: float, clients: int, when: datetime.date) -> str:
    """The report, in Markdown."""
    lines = [
        "# Under attack",
        "",
        f"{when:%Y-%m-%d}, Python {platform.python_version()}, Linux {platform.release().partition('-')[0]}, "
        f"{os.cpu_count()} cores, one submission worker; `make attacks`: attackers from as many addresses as they "
        f"are, {clients} of them, and {TEN_TIMES * clients} where they only wait; {seconds:.0f} s each.",
        "",
        "An honest user, from a known place, makes a session over TLS with one message of 7 KiB, ten times a second; "
        "milliseconds from the connection to the end. The attackers run on the same machine, in time "
        "that nobody else wants. The goal: p99 under attack within twice the quiet one.",
        "",
        "| attack | attackers | contacts | quiet p50 | quiet p99 | attacked p50 | attacked p99 | times | failed |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        quiet, attack = row.quiet, row.attack
        lines.append(
            f"| {row.name} | {row.clients} | {row.contacts} "
            f"| {quiet.percentile(50):.0f} | {quiet.percentile(99):.0f} "
            f"| {attack.percentile(50):.0f} | {attack.percentile(99):.0f} | {row.times:.1f} "
            f"| {attack.failed} of {attack.failed + len(attack.visits)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--only", default=",".join(ATTACKS))
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    rows = []
    for name in given.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            site = ("recipients_per_hour = 1000000",)
            ends: list[object] = []
            (Path(folder) / "house").mkdir()
            (Path(folder) / "certificates").mkdir()
            daemon = start_daemon(
                Path(folder) / "house", Authority(Path(folder) / "certificates"), site=site, at_end=ends.append
            )
            try:
                daemon.user("ada", PASSWORD, ["ada@example.org"])
                daemon.user(EVE, EVES_PASSWORD, ["eve@example.org"])
                rows.append(
                    measure(name, daemon, given.seconds, given.clients * (TEN_TIMES if name in WAITING else 1))
                )
            finally:
                for end in ends:
                    assert callable(end)
                    end()
        sys.stdout.write(page(rows[-1:], given.seconds, given.clients, datetime.date.today()).splitlines()[-1] + "\n")
        sys.stdout.flush()
    if given.page:
        given.page.write_text(page(rows, given.seconds, given.clients, datetime.date.today()))
    missed = [row.name for row in rows if row.attack.failed or not row.times <= GOAL]
    if missed:
        sys.stdout.write(f"missed: {', '.join(missed)}\n")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())

"""People of the local accounts while others wait for a server that answers after 2 s. Part of bench.directories.

One site has both directories, which are told apart by their logins. WAITING clients keep the slow one busy. What is
compared is the CPU of a local sign-in, without what the others cost when they are alone, and its p99.
"""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

from bench.figures import Row, column, tree_cpu
from bench.scripted_imap import RIGHT, running_imap
from bench.sign_ins import PEOPLE, Person, Stage, clients, pid_of, sign_ins
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon

SLOW = 2.0
"""Seconds to the answer of the server behind."""
WAITING = 64
_DIRECTORIES = """
[[directory]]
name = "people"
cache = "0s"

[[directory]]
name = "slow"
kind = "imap"
servers = ["127.0.0.1:{port}"]
tls = "none"
names = ["slow-*"]
domains = ["example.org"]
cache = "0s"
"""


def beside_a_slow_one(
    folder: Path, authority: Authority, rounds: int, seconds: float, say: Callable[[str], None]
) -> list[str]:
    """The second table."""
    rows: dict[str, list[Row]] = {"alone": [], "beside": []}
    ends: list[Callable[[], None]] = []
    (folder / "slow").mkdir()
    with running_imap(SLOW) as server:
        daemon = start_daemon(
            folder / "slow",
            authority,
            at_end=ends.append,
            site=('directories = ["slow", "people"]', "max_sessions_per_address = 1000"),
            extra=_DIRECTORIES.format(port=server.port),
        )
        try:
            people = [(f"user{number}", f"password {number}") for number in range(PEOPLE)]
            for login, password in people:
                daemon.user(login, password, [f"{login}@example.org"])
            stage = Stage(folder, authority, "", people)
            sign_ins(daemon, stage, 4, 1.0)
            for number in range(rounds):
                rows["alone"].append(sign_ins(daemon, stage, 4, seconds))
                rows["beside"].append(_beside(daemon, stage, seconds))
                say(f"{number + 1}/{rounds} slow     " + ", ".join(
                    f"{name} {found[-1]['cpu']:.2f} ms p99 {found[-1]['p99']:.1f} ms" for name, found in rows.items()
                ))  # fmt: skip
            answered = server.right
        finally:
            for end in ends:
                end()
    lines = [
        f"4 clients of the local accounts, each sign-in hashed anew; beside them {WAITING} clients of a directory "
        f"whose server answers after {SLOW:g} s ({answered} times in all).",
        "",
        "| | sign-ins/s | p50 ms | p99 ms | CPU ms of each |",
        "|---|---|---|---|---|",
    ]
    for name, found in rows.items():
        figures = [column(found, key) for key in ("per_second", "p50", "p99")]
        lines.append(f"| {name} | {' | '.join(figures)} | {column(found, 'cpu', 2)} |")
    return lines


def _beside(daemon: RunningDaemon, stage: Stage, seconds: float) -> Row:
    """Local sign-ins while the others wait; their cost is taken off by a stretch in which they are alone."""
    others: list[Person] = [(f"slow-{number}", RIGHT) for number in range(WAITING)]
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    lasts = 2 * SLOW + 2 * seconds
    process = spawn.Process(target=clients, args=(daemon.submissions, daemon.ca, others, WAITING, lasts, theirs))
    process.start()
    time.sleep(2 * SLOW)
    before = tree_cpu([pid_of(daemon.process)])
    time.sleep(seconds)
    per_second = (tree_cpu([pid_of(daemon.process)]) - before) / seconds
    row = sign_ins(daemon, stage, 4, seconds)
    ours.recv()
    process.join()
    count = row["per_second"] * row["seconds"]
    return {**row, "cpu": row["cpu"] - per_second * row["seconds"] / count * 1e3}

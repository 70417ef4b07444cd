"""What signing in costs, by directory, each with its real server beside it.

    python -m bench.directories [--rounds 6] [--seconds 3] [--clients 16] [--only ldap,imap] [--page PAGE]

Three parts: sign-ins a second with 16 clients, with and without the memory of verified logins; people of the local
accounts while others wait for a server that answers after 2 s; an honest user while 200 wrong passwords a second come
from 50 addresses, and how many of these reach the server behind. Rounds go in turns over all kinds; wants a quiet
machine. Writes bench/results/directories.md unless --page says where.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Row, column, machine_facts
from bench.guessing import guessed
from bench.sign_ins import KINDS, sign_ins, staged
from bench.slowness import beside_a_slow_one
from tests.support.certs import Authority

WARM = 3.0
"""Seconds until everybody has signed in once, at the slowest."""
PAGE = Path(__file__).parent / "results" / "directories.md"


def by_kind(kinds: Sequence[str], folder: Path, authority: Authority, given: argparse.Namespace) -> list[str]:
    """The first table."""
    rows: dict[tuple[str, bool], list[Row]] = {}
    with contextlib.ExitStack() as ends:
        stages = {kind: ends.enter_context(staged(kind, folder / kind, authority)) for kind in kinds}
        daemons = {(kind, cache): stages[kind].start(cache=cache) for kind in kinds for cache in (False, True)}
        for (kind, _), daemon in daemons.items():
            sign_ins(daemon, stages[kind], given.clients, WARM)  # all are remembered where that is so
        for number in range(given.rounds):
            for (kind, cache), daemon in daemons.items():
                row = sign_ins(daemon, stages[kind], given.clients, given.seconds)
                rows.setdefault((kind, cache), []).append(row)
                say(
                    f"{number + 1}/{given.rounds} {kind:8} {'cached' if cache else 'asked':7} "
                    f"{row['per_second']:7.0f}/s p99 {row['p99']:7.1f} ms"
                )
    lines = [
        f"{given.clients} clients, each sign-in a new TLS connection; LDAP has 10,000 people. CPU of all our "
        "processes; behind: of the server's.",
        "",
        "| directory | | sign-ins/s | p50 ms | p99 ms | CPU ms of each | behind |",
        "|---|---|---|---|---|---|---|",
    ]
    for (kind, cache), found in rows.items():
        figures = [column(found, key) for key in ("per_second", "p50", "p99")]
        figures += [column(found, key, 2) for key in ("cpu", "cpu_behind")]
        lines.append(f"| {kind} | {'remembered' if cache else 'asked'} | {' | '.join(figures)} |")
    return lines


def say(text: str) -> None:
    """Progress."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--only", default=",".join((*KINDS, "slow", "guessing")))
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    chosen = given.only.split(",")
    began = time.monotonic()
    lines = ["# Signing in", ""]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "certificates").mkdir()
        authority = Authority(folder / "certificates")
        kinds = [kind for kind in KINDS if kind in chosen]
        if kinds:
            lines += ["## By directory", "", *by_kind(kinds, folder, authority, given), ""]
        if "slow" in chosen:
            lines += [
                "## Beside a slow one",
                "",
                *beside_a_slow_one(folder, authority, given.rounds, given.seconds, say),
                "",
            ]
        if "guessing" in chosen:
            lines += [
                "## While others guess",
                "",
                *guessed(folder, authority, given.rounds, 6 * given.seconds, say),
                "",
            ]
        facts = machine_facts(folder)
    lines[2:2] = [
        f"- `{' '.join(('python -m bench.directories', *sys.argv[1:]))}`, {time.monotonic() - began:.0f} s",
        "- " + "; ".join(f"{key}: {value}" for key, value in facts.items()),
        "",
    ]
    given.page.write_text("\n".join(lines).rstrip() + "\n")
    say(f"written: {given.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

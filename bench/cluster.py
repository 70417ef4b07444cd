"""What a queue on a cell carries, beside the embedded spool in the same run; writes bench/results/cluster.md, .json.

    python -m bench.cluster [--only commit,accept,lease,verbs,start,bloat] [--rounds 6] [--seconds 3]
                            [--depths 0,100000,1000000] [--bloat 1000000] [--minutes 24] [--tls] [--directory DIR]

| part | |
|---|---|
| commit | 16 producers, 8 KiB: commits per second, p50/p99, CPU per message of both sides, by depth |
| accept | 16 clients over TLS through a whole server, 8 KiB |
| lease | others' mail beside a dead domain that has a tenth of the deepest queue: commit to lease |
| verbs | list, search, hold, release, retry, delete at the deepest queue |
| start | a server's start over the deepest queue: to the first 250, and to the first lease |
| bloat | so many messages through the queue of a cell: sizes and latency at each tenth |

The cell is three nodes of PostgreSQL under Patroni with etcd, quorum commit, fsync on, on this machine and its one
disk (tests/support/cell.py); the parts share it. A part that is not named keeps its figures in the results. What does
not fit into ``--minutes`` is left out, and the page says how many rounds there were. Without Patroni, etcd or
PostgreSQL it says so and ends well: the other figures of `make bench` need none of them. The table of
docs/explanation/scale.md is written anew from the figures (scale.py).
"""

import argparse
import json
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.figures import Row, machine_facts

from bench import cluster_page, scale
from pillarbox.daemon.loop import raise_file_limit

RESULTS = Path(__file__).parent / "results"
SHARES = {"commit": 0.4, "accept": 0.15, "lease": 0.1, "verbs": 0.1, "start": 0.1, "bloat": 1.0}
"""How much of the time that is left a part may take."""


def parts() -> dict[str, Callable[..., list[Row]]]:
    """By name, in the order in which they run. Imports what needs the development environment."""
    from bench import bloat, cluster_parts

    return {
        "commit": cluster_parts.commits,
        "accept": cluster_parts.accepted,
        "lease": cluster_parts.leases,
        "verbs": cluster_parts.verbs,
        "start": cluster_parts.starts,
        "bloat": lambda where, options: bloat.through(where, options.bloat, options.ends_at),
    }


def missing() -> str | None:
    """What is not here, or None."""
    import pytest

    try:
        from tests.support.cell import installed
        from tests.support.postgres import programs

        programs()
        installed()
    except (pytest.skip.Exception, pytest.fail.Exception, ImportError, OSError) as error:
        return str(error)
    return None


def run(options: argparse.Namespace, directory: Path, results: Row) -> None:
    """The parts that were asked for; each one's figures are in the results as soon as it has ended."""
    from bench.place import place

    ends_at = time.monotonic() + 60 * options.minutes
    machine = machine_facts(directory)
    with place(directory, tls=options.tls) as where:
        results["cell"] = where.version()
        for name, part in parts().items():
            if name not in options.only:
                continue
            began = time.monotonic()
            share = SHARES[name] if name != options.only[-1] else 1.0
            options.ends_at = began + share * (ends_at - began)
            rows = part(where, options)
            took = time.monotonic() - began
            command = shlex.join(["python", "-m", "bench.cluster", *sys.argv[1:]])
            about = {"machine": machine, "command": command, "took_s": round(took, 1)}
            results.setdefault("parts", {})[name] = {**about, "rows": rows}
            results["filled_in_s"] = {**results.get("filled_in_s", {}), **where.filled_in}
            write(results, options.out)
            print(f"{name}: {took:.0f} s", flush=True)


def write(results: Row, out: Path) -> None:
    """Both files, and the page that is worked out from them."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "cluster.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "cluster.md").write_text(cluster_page.page(results))
    if out == RESULTS:
        scale.write(results)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(SHARES), help="commit,accept,...")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument(
        "--depths", type=lambda text: [int(each) for each in text.split(",")], default=[0, 100_000, 1_000_000]
    )
    parser.add_argument("--bloat", type=int, default=1_000_000, help="messages through the queue")
    parser.add_argument("--minutes", type=float, default=24.0, help="for all parts together")
    parser.add_argument("--tls", action="store_true", help="Debian's server with TLS, not the wheel's without")
    parser.add_argument("--directory", type=Path, help="where the servers' files lie (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    unknown = set(options.only) - set(SHARES)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    options.only = [name for name in SHARES if name in options.only]
    reason = missing()
    if reason is not None:
        print(f"no cluster figures: {reason}", file=sys.stderr)
        return
    raise_file_limit()
    found = options.out / "cluster.json"
    results: Row = json.loads(found.read_text()) if found.exists() else {}
    directory = Path(tempfile.mkdtemp(prefix="pillarbox-bench-", dir=options.directory))
    try:
        run(options, directory, results)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(cluster_page.page(results))


if __name__ == "__main__":
    main()

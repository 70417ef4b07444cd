"""Runs one target of tests/fuzz/targets under Atheris (libFuzzer's coverage guidance); `make fuzz` calls it.

    python tests/fuzz/atheris_run.py smtp --seconds 600

What it finds interesting goes to the folder ``--work``, which the next run starts from, together with
tests/fuzz/corpus. An input that breaks an invariant is written to the work folder as crash-*, and the run ends with
another status than 0: minimise it, repair, and put it into tests/fuzz/corpus/TARGET, where `make test` replays it.

Atheris is installed by `make fuzz` alone (requirements-fuzz.lock); nothing else imports it.
"""

import argparse
import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent
TARGETS = ("smtp", "sasl", "message")


def main() -> None:
    """Instruments the target's room, then lets libFuzzer call it; does not return."""
    parser = argparse.ArgumentParser(description="One fuzz target under Atheris.")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--work", type=Path, default=Path(".fuzz"))
    asked = parser.parse_args()
    sys.path.insert(0, str(HERE.parent.parent))
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["pillarbox.smtp", "pillarbox.sasl", "pillarbox.message"]):
        target = importlib.import_module(f"tests.fuzz.targets.{asked.target}")
    work = asked.work / asked.target
    work.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        str(work),
        str(HERE / "corpus" / asked.target),
        f"-dict={HERE / 'corpus' / asked.target}.dict",
        f"-max_total_time={asked.seconds}",
        f"-artifact_prefix={work.parent}/{asked.target}-",
        "-max_len=2048",
        "-timeout=10",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""The tables of docs/explanation/scale.md: from the figures in bench/results/cluster.json, and of the simulation.

    python -m bench.scale            # writes it anew; bench.cluster does so after each part

tests/house/test_scale_page.py fails when the page says something else than the figures.
"""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Row
from bench.placement import simulate

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "cluster.json"
PAGE = ROOT / "docs" / "explanation" / "scale.md"
PLACEMENT, END_OF_PLACEMENT = "<!-- placement: python -m bench.placement -->", "<!-- end of placement -->"
BEGIN, END = "<!-- figures: python -m bench.scale -->", "<!-- end of figures -->"
CORES = 4
BUSY = 0.7
"""Of a machine's processors, above which waiting grows fast."""


def _median(results: Row, part: str, name: str, kind: str = "cell", depth: int | None = 0) -> float | None:
    rows = results.get("parts", {}).get(part, {}).get("rows", [])
    fitting = [row[name] for row in rows if row["kind"] == kind and row.get("depth") == depth and name in row]
    return statistics.median(fitting) if fitting else None


def table(results: Row) -> str:
    """What stands between the marks."""
    return "\n".join([*_cells(results), "", *_depths(results)])


def _cells(results: Row) -> Iterator[str]:
    accepted = _median(results, "accept", "per_second")
    submission = _median(results, "accept", "submission_ms")
    primary = _median(results, "bloat", "primary_us", depth=None)
    standbys = _median(results, "bloat", "standbys_us", depth=None)
    delivery = _median(results, "bloat", "delivery_us", depth=None)
    if accepted is None or submission is None or primary is None or standbys is None or delivery is None:
        yield "No figures yet: `python -m bench.cluster` writes them."
        return
    worked_out = CORES * BUSY * 1e6 / primary
    yield (
        f"One message costs {submission * 1000:.0f} µs of a submission worker, {delivery:.0f} µs of a delivery "
        "worker for lease and settlement (the next hop's session comes on top), and from commit to removal "
        f"{primary:.0f} µs of the primary and {standbys / 2:.0f} µs of each standby."
    )
    yield ""
    yield (
        "| cells | measured, all on one small machine, times cells: accepted/s | worked out: through the queue/s "
        "| cores of submission workers for that | of delivery workers, at least |"
    )
    yield "|---|---|---|---|---|"
    for count in (1, 3, 10):
        rate = worked_out * count
        yield (
            f"| {count} | {accepted * count:,.0f} | {rate:,.0f} | {rate * submission / 1e3 / BUSY:,.1f} "
            f"| {rate * delivery / 1e6 / BUSY:,.1f} |"
        )


def _depths(results: Row) -> Iterator[str]:
    yield "| commits of | messages in the queue | commits/s | p50 ms | CPU µs for each, all processes |"
    yield "|---|---|---|---|---|"
    rows = results.get("parts", {}).get("commit", {}).get("rows", [])
    for kind, depth in sorted({(row["kind"], row["depth"]) for row in rows}):
        rate, p50, cpu = (
            _median(results, "commit", name, kind, depth) for name in ("per_second", "p50_ms", "all_us")
        )
        yield f"| {kind} | {depth:,} | {rate:,.0f} | {p50:.2f} | {cpu:.0f} |"


def written(page: str, results: Row) -> str:
    """The page with the tables of these figures."""
    page = _between(page, BEGIN, END, table(results))
    return _between(page, PLACEMENT, END_OF_PLACEMENT, simulate())


def _between(page: str, begin: str, end: str, text: str) -> str:
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def write(results: Row) -> None:
    """Writes the page anew."""
    PAGE.write_text(written(PAGE.read_text(), results))


if __name__ == "__main__":
    write(json.loads(RESULTS.read_text()))

"""bench/results/cluster.md from the figures of bench.cluster."""

import statistics
from collections.abc import Callable, Iterable, Iterator

from bench.figures import Row, middle

PICKED: dict[str, tuple[tuple[str, str, int], ...]] = {
    "commit": (
        ("per_second", "commits/s", 0),
        ("p50_ms", "p50 ms", 2),
        ("p99_ms", "p99 ms", 1),
        ("client_us", "CPU µs/message: client", 0),
        ("server_us", "spool process, or all nodes", 0),
        ("primary_us", "of it the primary", 0),
        ("all_us", "all", 0),
    ),
    "accept": (
        ("per_second", "accepted/s", 0),
        ("p50_ms", "p50 ms", 2),
        ("p99_ms", "p99 ms", 1),
        ("submission_ms", "CPU ms/message: submission", 3),
        ("spool_ms", "spool", 3),
        ("primary_us", "primary, µs", 0),
        ("standbys_us", "standbys, µs", 0),
        ("client_ms", "load client, ms", 3),
        ("failed", "refused, failed", 0),
    ),
    "lease": (
        ("lease_p50_ms", "commit to lease p50 ms", 1),
        ("lease_p99_ms", "p99", 1),
        ("call_p50_ms", "a call p50 ms", 2),
        ("call_p99_ms", "p99", 2),
    ),
    "start": (("accepted_after_s", "first 250 after s", 2), ("leased_after_s", "first lease after s", 2)),
}
TITLES = {
    "commit": "Commits: 16 producers, 8 KiB",
    "accept": "Accepted by a whole server: 16 clients over TLS, 8 KiB, 100 messages on a connection",
    "lease": "Mail for others, 100 a second, while a dead domain has a tenth of the queue",
    "start": "Start of a server: from its processes' start",
}


def page(results: Row) -> str:
    """The whole page, of whatever parts there are."""
    parts = results.get("parts", {})
    lines = ["# Measured with `python -m bench.cluster`", "", f"- cell: {results.get('cell', '-')}"]
    lines += ["- filled in: " + ", ".join(f"{k}: {v:.0f} s" for k, v in results.get("filled_in_s", {}).items()), ""]
    lines += ["Medians of the rounds, in brackets the least and the most.", ""]
    for name, part in parts.items():
        lines += [f"## {TITLES.get(name, name.capitalize())}", "", *_about(part), ""]
        rows = part["rows"]
        if name in PICKED:
            lines += [*_by_way(rows, PICKED[name]), ""]
        if name == "commit":
            lines += [*_ratios(rows), ""]
        if name == "verbs":
            lines += [*_verbs(rows), ""]
        if name == "bloat":
            lines += [*_bloat(rows), ""]
    return "\n".join(lines)


def _about(part: Row) -> Iterator[str]:
    machine = part["machine"]
    yield f"- `{part['command']}`, {part['took_s']:.0f} s"
    yield "- " + "; ".join(f"{key}: {value}" for key, value in machine.items())


def ways(rows: Iterable[Row]) -> dict[tuple[str, int], list[Row]]:
    """The rounds of each kind and depth."""
    found: dict[tuple[str, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["kind"], row["depth"])):
        found.setdefault((row["kind"], row["depth"]), []).append(row)
    return found


def _by_way(rows: list[Row], columns: tuple[tuple[str, str, int], ...]) -> Iterator[str]:
    yield "| spool | depth | runs | " + " | ".join(title for _, title, _ in columns) + " |"
    yield "|" + "---|" * (3 + len(columns))
    for (kind, depth), runs in ways(rows).items():
        figures = [middle(runs, _pick(name), digits) for name, _, digits in columns]
        yield f"| {kind} | {depth:,} | {len(runs)} | " + " | ".join(figures) + " |"


def _pick(name: str) -> Callable[[Row], float | None]:
    return lambda row: row.get(name)


def _ratios(rows: list[Row]) -> Iterator[str]:
    """Each depth against an empty queue, round by round."""
    by_way = ways(rows)
    for (kind, depth), runs in by_way.items():
        base = {row["round"]: row for row in by_way.get((kind, 0), [])}
        pairs = [(row, base[row["round"]]) for row in runs if row["round"] in base]
        if depth and pairs:
            said = []
            for name, title in (("all_us", "CPU"), ("p50_ms", "p50")):
                each = [row[name] / other[name] for row, other in pairs]
                said.append(f"{title} {statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f})")
            yield f"- {kind}, {depth:,} against 0, median of {len(pairs)} rounds: {', '.join(said)}"


def _verbs(rows: list[Row]) -> Iterator[str]:
    by_way = ways(rows)
    yield "| ms | " + " | ".join(f"{kind}, {depth:,}" for kind, depth in by_way) + " |"
    yield "|" + "---|" * (1 + len(by_way))
    for name in rows[0]["ms"] if rows else ():
        yield f"| {name} | " + " | ".join(middle(runs, _verb(name)) for runs in by_way.values()) + " |"


def _verb(name: str) -> Callable[[Row], float | None]:
    return lambda row: row["ms"].get(name)


def _bloat(rows: list[Row]) -> Iterator[str]:
    if not rows:
        return
    sizes = list(rows[0]["mib"])
    figures = ("commit_p50_ms", "commit_p99_ms", "lease_p50_ms", "lease_p99_ms")
    yield "| messages | a second | commit p50 / p99 ms | lease p50 / p99 ms | MiB: " + " | ".join(sizes) + " |"
    yield "|" + "---|" * (4 + len(sizes))
    for row in rows:
        first, second, third, fourth = (f"{row[name]:.1f}" for name in figures)
        mib = " | ".join(f"{row['mib'][name]:,.1f}" for name in sizes)
        yield f"| {row['settled']:,} | {row['per_second']:,.0f} | {first} / {second} | {third} / {fourth} | {mib} |"
    if len(rows) > 5:
        half = rows[len(rows) // 2 :]
        total = [sum(row["mib"].values()) for row in half]
        yield ""
        yield (
            f"- All of it together in the second half: {min(total):,.0f} to {max(total):,.0f} MiB, "
            f"{total[-1]:,.0f} at the end; commit p50 {min(row['commit_p50_ms'] for row in half):.1f} to "
            f"{max(row['commit_p50_ms'] for row in half):.1f} ms."
        )

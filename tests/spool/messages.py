"""Messages and open spools for the spool's tests."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from pillarbox.control.channel import ChannelServer, serve
from pillarbox.control.link import Link
from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import Lease, NewMessage, Settlement
from pillarbox.spool.embedded import EmbeddedSpool, open_spool
from pillarbox.spool.remote import RemoteIntake, RemoteLedger, RemoteOutbox
from pillarbox.spool.schema import lane_of
from pillarbox.spool.service import ERRORS, intake_handlers, ledger_handlers, outbox_handlers
from pillarbox.spool.settings import EmbeddedSettings

_numbers = itertools.count(1)
tags = [""]
"""The cells whose tags new ids have, by turns."""

SITE = "mail.example.org"
NOW = 5_000.0
LATER = NOW + 3_600.0


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def new_id() -> str:
    """A queue id that sorts after those before it."""
    number = next(_numbers)
    tag = tags[number % len(tags)]
    return f"01TEST{number:020d}-{tag}" if tag else f"01TEST{number:020d}"


def envelope(
    *forward_paths: str,
    queue_id: str | None = None,
    size: int = 5,
    received_at: float = 1_000.0,
    login: str = "alice",
    reverse_path: str = "alice@example.org",
    is_bounce: bool = False,
    priority: int = 0,
    hold_until: float = 0.0,
    site: str = SITE,
) -> Envelope:
    """An envelope as a client without the extensions makes it; see also wishful()."""
    return Envelope(
        queue_id=queue_id or new_id(),
        reverse_path=reverse_path,
        forward_paths=forward_paths or ("bob@example.net",),
        received_at=received_at,
        size=size,
        eight_bit=True,
        smtputf8=True,
        login=login,
        site=site,
        session_id="session-1",
        is_bounce=is_bounce,
        priority=priority,
        hold_until=hold_until,
    )


def lanes(*domains: str, site: str = SITE) -> frozenset[str]:
    """Where the recipients of these domains wait, of messages as envelope() makes them."""
    return frozenset(lane_of(f"x@{domain}", site) for domain in domains)


def wishful(queue_id: str | None = None, size: int = 5) -> Envelope:
    """An envelope in which every field is away from its default, with what a hostile peer may put into an xtext."""
    return Envelope(
        queue_id=queue_id or new_id(),
        reverse_path="älice@example.org",
        forward_paths=("bob@Example.NET", "carol@example.com", "däve@example.net", "Postmaster"),
        received_at=1_000.5,
        size=size,
        eight_bit=True,
        smtputf8=True,
        login="alice",
        site=SITE,
        session_id="session-1",
        is_bounce=True,
        binary=True,
        ret="HDRS",
        envid="a\r\nb+\x00=ü",
        notify=("NEVER", "SUCCESS,FAILURE,DELAY", "", "DELAY"),
        original_recipients=("rfc822;bob@example.net", "", "utf-8;däve@example.net\r\nX: y", "x-y;\x00"),
        hold_until=4_000.25,
        deliver_by=9_000.75,
        deliver_by_mode="RT",
        priority=-9,
        require_tls=True,
        tls_optional=True,
    )


def bounce(*forward_paths: str, queue_id: str | None = None) -> NewMessage:
    """A message of our own, as delivery makes it."""
    made = envelope(*forward_paths or ("alice@example.org",), queue_id=queue_id, reverse_path="", is_bounce=True)
    return NewMessage(made, b"it failed")


def settlement(lease: Lease, *outcomes: object, messages: tuple[NewMessage, ...] = ()) -> Settlement:
    """Outcomes in the order of the lease's recipients; one stands for all."""
    keys = [recipient.key for recipient in lease.recipients]
    each = outcomes * len(keys) if len(outcomes) == 1 else outcomes
    return Settlement(lease.envelope.queue_id, dict(zip(keys, each, strict=True)), messages)  # type: ignore[arg-type]  # any outcome


async def read_all(chunks: AsyncIterator[bytes]) -> bytes:
    """The whole content."""
    return b"".join([chunk async for chunk in chunks])


class RemoteSpool(RemoteIntake):
    """The three remote sides over one socket, as one Spool for the contract's suite."""

    def __init__(self, spool: EmbeddedSpool, server: ChannelServer, link: Link, path: Path) -> None:
        super().__init__(link, spool.owner.files.incoming)
        self.spool, self.server, self.link, self.path = spool, server, link, path
        self._outbox = RemoteOutbox(link)
        self._ledger = RemoteLedger(link)
        self.lease = self._outbox.lease
        self.wait_due = self._outbox.wait_due
        self.extend = self._outbox.extend
        self.open = self._outbox.open
        self.settle = self._outbox.settle
        self.release_lease = self._outbox.release_lease
        self.list = self._ledger.list
        self.show = self._ledger.show
        self.hold = self._ledger.hold
        self.release = self._ledger.release
        self.retry = self._ledger.retry
        self.expunge = self._ledger.expunge
        self.depth = self._ledger.depth

    def unhealthy_reason(self) -> str | None:
        """What the spool process says."""
        return self.spool.unhealthy_reason()

    async def close(self) -> None:
        """Ends both sides."""
        await super().close()
        await self._outbox.close()
        await self.link.close()
        await self.server.close()
        await self.spool.close()


async def open_remote(directory: Path, min_free: int, clock: Callable[[], float]) -> RemoteSpool:
    """The spool in this process behind its service on a real socket."""
    spool = await open_spool(EmbeddedSettings(directory, min_free), clock=clock)
    # unchecked: the spool itself keeps any text, whatever a submission worker may say
    handlers = {**intake_handlers(spool, checked=False), **outbox_handlers(spool), **ledger_handlers(spool)}
    path = directory.parent / "s"  # a socket's path must be short
    server = await serve(path, lambda peer: handlers, errors=ERRORS)
    link = Link(path, errors=ERRORS)
    remote = RemoteSpool(spool, server, link, path)
    await link.start(5.0)
    return remote


@contextlib.asynccontextmanager
async def opened(directory: Path, *, min_free: int = 0) -> AsyncIterator[EmbeddedSpool]:
    """An embedded spool that is closed at the end."""
    spool = await open_spool(EmbeddedSettings(directory, min_free))
    try:
        yield spool
    finally:
        await spool.close()


async def soon(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits for something that happens in the background; fails when it does not."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # what is waited for sets no event: a file, a remote's status
            await asyncio.sleep(0.01)

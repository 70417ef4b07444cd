"""Fixtures of the delivery tests: an outbox in memory and a scheduler that runs over it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from tests.delivery.memory import MemoryOutbox
from tests.support.certs import Authority
from tests.support.nexthop import NextHop

from pillarbox.delivery.scheduler import Scheduler
from pillarbox.delivery.settings import DeliverySettings, Route, SmarthostRoute, TlsMode

Start = Callable[..., Awaitable[Scheduler]]


def to_hop(hop: NextHop, *domains: str, **changes: object) -> SmarthostRoute:
    """A route to a scripted next hop, plain unless it says otherwise."""
    fields: dict[str, object] = {"tls": TlsMode.NONE, **changes}
    return SmarthostRoute(domains or ("*",), "127.0.0.1", hop.port, **fields)  # type: ignore[arg-type]  # shorthand


def make_settings(*routes: Route, **changes: object) -> DeliverySettings:
    fields: dict[str, object] = {"idle_connection": 5.0, **changes}
    return DeliverySettings(host="pillar.test", routes=routes, **fields)  # type: ignore[arg-type]  # shorthand


@pytest.fixture
def outbox() -> MemoryOutbox:
    return MemoryOutbox()


@pytest.fixture
async def start(outbox: MemoryOutbox) -> AsyncIterator[Start]:
    """``await start(route, ..., **settings)`` starts a scheduler over the outbox; it is drained at the end."""
    running: list[tuple[Scheduler, asyncio.Task[None]]] = []

    async def start_scheduler(*routes: Route, cells: Sequence[str] = ("",), **changes: object) -> Scheduler:
        scheduler = Scheduler(outbox, make_settings(*routes, **changes), cells=cells, now=outbox.now)
        running.append((scheduler, asyncio.create_task(scheduler.run())))
        return scheduler

    yield start_scheduler
    for scheduler, task in running:
        await scheduler.drain(5.0)
        await task


@pytest.fixture
def server_tls(authority: Authority) -> ssl.SSLContext:
    """A next hop's context with a certificate for hop.test and 127.0.0.1 of the run's authority."""
    issued = authority.issue("hop.test", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context

"""A mailbox directory in front of a scripted server, and what a question to it ends in."""

import asyncio
import gc
from typing import Any

from pillarbox.directory.base import Denied, Identity, Unavailable
from pillarbox.directory.mailbox.backend import MailboxBackend
from pillarbox.directory.mailbox.pool import MAKING
from pillarbox.directory.mailbox.settings import MailboxSettings
from pillarbox.directory.wire import Place, Wire

ANNA = "anna@example.org"


def settings(*ports: int, **changes: Any) -> MailboxSettings:
    """Plain, on loopback, where these ports listen."""
    found: dict[str, Any] = {
        "name": "mailboxes",
        "protocol": "imap",
        "servers": tuple(Place("127.0.0.1", port) for port in ports),
        "tls": "none",
        "domains": ("example.org",),
        "connections": 2,
        "timeout": 5.0,
    }
    return MailboxSettings(**{**found, **changes})


async def ask(
    backend: MailboxBackend, password: str = "secret", login: str = ANNA
) -> Identity | Denied | Unavailable:
    """What there is to say about a password; Unavailable returned, not raised."""
    person = await backend.find(login)
    assert person is not None
    try:
        return await backend.check(person, password)
    except Unavailable as error:
        return error


async def answer(
    *ports: int, password: str = "secret", login: str = ANNA, **changes: Any
) -> Identity | Denied | Unavailable:
    """The same of a backend that is made for it and closed."""
    backend = MailboxBackend(settings(*ports, **changes))
    try:
        return await ask(backend, password, login)
    finally:
        await end(backend)


async def made_ahead() -> None:
    """Waits for the connections that are being made ahead."""
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == MAKING))


async def end(backend: MailboxBackend) -> None:
    """Closes it, and waits until all connections are gone."""
    backend.close()
    await made_ahead()
    wires = [each for each in gc.get_objects() if type(each) is Wire and each.connected]
    async with asyncio.timeout(10):
        await asyncio.gather(*(wire.gone.wait() for wire in wires))

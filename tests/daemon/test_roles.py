"""What each role may do: the handlers at each socket are the whole of it."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pillarbox.config import Settings, parse
from pillarbox.control.channel import ChannelClosed, Peer, RemoteError, connect
from pillarbox.daemon import paths
from pillarbox.daemon.process import CannotStart
from pillarbox.daemon.roles import OPERATOR_VERBS, ROLES
from pillarbox.daemon.spool_role import SpoolRole
from pillarbox.daemon.storehouse import Storehouse

CONFIG = """
[server]
data_directory = "{0}/data"
run_directory = "{0}/run"
[[site]]
name = "mail.example.org"
submission = ["127.0.0.1:5870"]
certificate = "certificate.pem"
key = "key.pem"
[[route]]
kind = "maildir"
path = "maildir"
"""


def settings_in(directory: Path) -> Settings:
    settings = parse(CONFIG.format(directory), directory / "pillarbox.toml")
    settings.server.data_directory.mkdir()
    settings.server.run_directory.mkdir()
    return settings


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Settings]:
    settings = settings_in(tmp_path)
    role = SpoolRole(settings, 0)
    await role.start()
    yield settings
    await role.close()


async def verbs_at(settings: Settings, who: str, asked: set[str]) -> set[str]:
    """Those of ``asked`` that exist at a socket (whatever they answer to nonsense)."""
    channel = await connect(paths.spool_socket(settings.server.run_directory, who))
    found = set()
    for verb in asked:
        try:
            await asyncio.wait_for(channel.request(verb, None), 5)
            found.add(verb)
        except RemoteError as error:
            if error.kind != "unknown_verb":
                found.add(verb)
    channel.close()
    await asyncio.sleep(0)
    return found


INTAKE = {"intake.commit", "intake.adopt", "intake.status"}
OUTBOX = {"outbox.lease", "outbox.read", "outbox.settle", "outbox.release", "outbox.heartbeat", "outbox.reclaim"}
GUARD = {"guard.hello", "guard.ask", "guard.failed", "guard.succeeded", "guard.take", "guard.took", "guard.give_back"}
ACCOUNTS = {"account.find", "account.certified", "account.watch"}
EVERYTHING = INTAKE | OUTBOX | GUARD | ACCOUNTS | set(OPERATOR_VERBS)


@pytest.mark.parametrize(
    ("who", "may"),
    [
        ("submission", INTAKE | GUARD | ACCOUNTS),
        ("delivery", OUTBOX),
        ("operator", set(OPERATOR_VERBS)),
    ],
)
async def test_a_socket_has_the_verbs_of_its_role_and_no_others(
    spool: Settings, who: str, may: set[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert await verbs_at(spool, who, EVERYTHING) == may
    capfd.readouterr()  # nonsense is logged as a bug; that is not what is tested here


async def test_the_hub_forwards_exactly_what_the_spool_process_offers(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    storehouse = await Storehouse.open(settings)
    assert set(storehouse.for_operator()) == set(OPERATOR_VERBS)
    await storehouse.close()


async def test_a_second_spool_process_is_kept_out_until_the_first_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pillarbox.daemon.spool_role.PREDECESSOR_TIME", 0.2)
    settings = settings_in(tmp_path)
    first, second = SpoolRole(settings, 0), SpoolRole(settings, 0)
    await first.start()
    with pytest.raises(CannotStart, match=rf"in use by another process \(pid {os.getpid()}\)"):
        await second.start()
    monkeypatch.setattr("pillarbox.daemon.spool_role.PREDECESSOR_TIME", 20)
    waiting = asyncio.create_task(second.start())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await first.close()
    await waiting
    await second.close()


async def test_a_stranger_s_uid_is_turned_away(spool: Settings) -> None:
    choose = paths.for_users({"ping": lambda *_: "pong"}, "submission")
    assert choose(Peer(1, os.geteuid(), 0)) is not None
    assert choose(Peer(1, 0, 0)) is not None
    assert choose(Peer(1, 54_321, 0)) is None


async def test_sockets_are_closed_to_others(spool: Settings) -> None:
    for who in ("submission", "delivery", "operator"):
        path = paths.spool_socket(spool.server.run_directory, who)
        assert path.stat().st_mode & 0o777 == 0o660
        assert path.parent.stat().st_mode & 0o777 == 0o750


async def test_the_end_of_the_spool_ends_its_channels(tmp_path: Path) -> None:
    role = SpoolRole(settings_in(tmp_path), 0)
    await role.start()
    channel = await connect(paths.spool_socket(tmp_path / "run", "submission"))
    await channel.request("intake.status")
    await role.close()
    with pytest.raises(ChannelClosed):
        await channel.request("intake.status")


def test_every_role_can_be_made() -> None:
    assert set(ROLES) == set(paths.ALL_ROLES)

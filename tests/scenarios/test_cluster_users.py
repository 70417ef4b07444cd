"""[spool] kind = "cluster": one table of local users for two daemons over a real PostgreSQL, killed under them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.postgres import Postgres, running_postgres
from tests.support.talk import Talk

from pillarbox.console.tables import rooms
from pillarbox.control.channel import RemoteError
from pillarbox.store.migrations import migrate
from pillarbox.store.postgresql import Store

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    with running_postgres(durable=True) as running:
        yield running


async def make_tables(dsn: str) -> None:
    store = Store(dsn)
    for room in rooms(first=True):
        await migrate(store, room.name, room.migrations)
    await store.close()


def sign_in(daemon: RunningDaemon, login: str, password: str) -> str:
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        return talk.sign_in(login, password)


def until(true: Callable[[], bool], daemon: RunningDaemon) -> None:
    ends_at = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends_at, daemon.tail()
        time.sleep(0.05)


def test_each_machine_signs_in_every_user_and_goes_on_while_the_cell_is_away(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, node: Postgres, password: str
) -> None:
    dsn = node.create_database()
    asyncio.run(make_tables(dsn))
    spool = f'[spool]\nkind = "cluster"\ndurability = "local"\n[[spool.cell]]\nname = "a"\ndsn = "{dsn}"\n'
    daemons = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        daemons.append(start_daemon(folder, authority, at_end=request.addfinalizer, extra=spool))
    one, two = daemons
    one.user("ada", password, ["ada@example.org"])
    one.user("bob", password, ["bob@example.org"])
    assert sign_in(one, "ada", password).startswith("235")  # at once
    until(lambda: sign_in(two, "ada", password).startswith("235"), two)
    until(lambda: sign_in(two, "bob", password).startswith("235"), two)
    one.ask("user.disable", {"login": "bob"})
    until(lambda: sign_in(two, "bob", password).startswith("535"), two)
    node.kill9()
    try:
        for daemon in daemons:
            daemon.wait_for("accounts.behind", timeout=60)
            assert sign_in(daemon, "ada", password).startswith("235")
            with pytest.raises(RemoteError, match="nothing was changed: cell a"):
                daemon.user("carol", password, ["carol@example.org"])
    finally:
        node.start()
    for daemon in daemons:
        daemon.wait_for("accounts.current", timeout=60)
    two.user("carol", password, ["carol@example.org"])
    until(lambda: sign_in(one, "carol", password).startswith("235"), one)
    for daemon in daemons:
        assert daemon.stop() == 0

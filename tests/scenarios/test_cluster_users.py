"""A cell with an ordinary owner and a user for each role, under the real daemon: everybody's work is done."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cell_users import make_owned
from tests.support.certs import Authority
from tests.support.daemon import start_daemon
from tests.support.postgres import Postgres, running_postgres
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module")
def node() -> Iterator[Postgres]:
    """A node of this file's own, that keeps what it confirms."""
    with running_postgres(durable=True) as running:
        yield running


def test_mail_goes_through_a_cell_whose_users_have_only_the_rights_of_their_roles(
    node: Postgres, tmp_path: Path, authority: Authority, request: pytest.FixtureRequest, password: str
) -> None:
    cell = asyncio.run(make_owned(node))
    spool = '[spool]\nkind = "cluster"\ndurability = "local"\n[[spool.cell]]\nname = "a"\n'
    daemon = start_daemon(
        tmp_path, authority, at_end=request.addfinalizer, extra=f'{spool}dsn = "{cell.dsn}"\n', start=False
    )
    daemon.start()
    daemon.user("ada", password, ["ada@example.org"])
    large = b"x" * 998 + b"\r\n"
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", password).startswith("235")
        for body in (b"text\r\n", large * 700):
            content = b"From: ada@example.org\r\nSubject: 1\r\n\r\n" + body
            assert talk.transaction(content, "ada@example.org", "b@example.net").startswith("250")
    ends_at = time.monotonic() + 60
    while len(daemon.delivered()) < 2:
        assert time.monotonic() < ends_at, daemon.tail()
        time.sleep(0.05)
    (process,) = [process for process in daemon.ask("status")["processes"] if process["role"] == "spool"]
    assert process["promise"].startswith('durability = "local"')
    assert [line for line in daemon.log() if line["event"].startswith("cell.")] == []
    for role in ("supervisor", "spool", "submission", "delivery"):  # the first word of each
        assert next(line["event"] for line in daemon.log() if line["role"] == role) == "durability.local"
    assert daemon.stop() == 0

"""A cell with an ordinary owner and a user for each role, under the real daemon: everybody's work is done."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.directory.machines import Machine, account
from tests.support.cell_users import make_owned
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
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


def run(daemon: RunningDaemon, *words: str, stdin: str = "") -> tuple[int, str, str]:
    """Exit code and what was said, of `pillarbox` with these words."""
    command = (sys.executable, "-P", "-m", "pillarbox", *words, "--config", str(daemon.config))
    wide = {**os.environ, "COLUMNS": "160"}
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=wide)
    return done.returncode, done.stdout, done.stderr


def listed(daemon: RunningDaemon) -> dict[str, Any]:
    return {user["login"]: user for user in json.loads(run(daemon, "user", "list", "--json")[1])}


def until_status_says(daemon: RunningDaemon, words: str) -> None:
    """The spool process tells its status by turns."""
    ends_at = time.monotonic() + 60
    while words not in (run(daemon, "status")[1]):
        assert time.monotonic() < ends_at, run(daemon, "status")
        time.sleep(0.1)


def test_an_operator_brings_the_users_of_a_machine_into_the_cluster(
    node: Postgres, tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    daemon = start_daemon(tmp_path, authority, at_end=request.addfinalizer)
    for login in ("ada", "bob"):
        words = ("user", "add", login, "--address", f"{login}@example.org", "--password-stdin")
        assert run(daemon, *words, stdin=f"correct horse {login}\n")[0] == 0
    code, out, said = run(daemon, "user", "publish")
    assert (code, out) == (1, "") and "the spool is embedded: there is no cluster" in said
    assert "here only" not in run(daemon, "user", "list")[1]
    assert daemon.stop() == 0

    cell = asyncio.run(make_owned(node))
    asyncio.run(publish_elsewhere(tmp_path / "other", cell.of("keeper").dsn))
    spool = f'[spool]\nkind = "cluster"\ndurability = "local"\n[[spool.cell]]\nname = "a"\ndsn = "{cell.dsn}"\n'
    daemon.config.write_text(daemon.config.read_text() + spool)
    daemon.start()
    until_status_says(daemon, "1 not in the cluster")
    code, out, said = run(daemon, "user", "list")
    (ada,) = [line for line in out.splitlines() if line.startswith("ada ")]
    assert "active, here only" in ada and out.count("here only") == 1
    assert {login: user["alone"] for login, user in listed(daemon).items()} == {
        "ada": True,
        "bob": False,
        "eve": False,
    }
    assert "active, here only" in run(daemon, "user", "show", "ada")[1]
    code, _, said = run(daemon, "user", "disable", "ada")
    assert code == 1 and "`pillarbox user publish` first" in said

    node.kill9()
    code, out, said = run(daemon, "user", "publish")
    assert (code, out) == (1, "") and "nothing was changed: cell a" in said and "Traceback" not in said
    assert set(listed(daemon)) == {"ada", "bob", "eve"}
    until_status_says(daemon, "s old: cell a")
    node.start()

    ends_at = time.monotonic() + 60
    while (done := run(daemon, "user", "publish"))[0] != 0:
        assert "nothing was changed" in done[2] and time.monotonic() < ends_at, done
        time.sleep(0.2)
    assert done[2].splitlines() == ["1 published, 0 refused", "gave way to the cluster's before: bob"]
    code, out, _ = run(daemon, "user", "publish", "--json")
    assert (code, json.loads(out)) == (0, {"published": [], "refused": [], "superseded": ["bob"]})
    assert not any(user["alone"] for user in listed(daemon).values())
    assert listed(daemon)["bob"]["addresses"] == ["bob@other.example"]
    ends_at = time.monotonic() + 60
    while any(process.get("users") for process in daemon.ask("status")["processes"]):
        assert time.monotonic() < ends_at, run(daemon, "status")
        time.sleep(0.1)
    assert daemon.stop() == 0


async def publish_elsewhere(folder: Path, dsn: str) -> None:
    """Another machine was first."""
    machine = await Machine(folder, dsn).open()
    await machine.accounts.add(account("bob", addresses=("bob@other.example",)))
    await machine.accounts.add(account("eve"))
    await machine.close()

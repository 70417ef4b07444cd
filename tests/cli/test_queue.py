"""`pillarbox queue` on the files of a server that does not run."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from pillarbox.config import load
from pillarbox.message.envelope import Envelope, queue_id
from pillarbox.spool.embedded import open_spool
from pillarbox.spool.settings import EmbeddedSettings

CONTENT = b"From: ada@example.org\r\nSubject: x\r\n\r\nhello\r\n"


@pytest.fixture
def queued(site: Path) -> list[str]:
    """Three messages: two of ada's, a day old, and one of bob's."""
    settings = load(site)
    (site.parent / "data").mkdir(mode=0o700)
    now = time.time()
    envelopes = [
        Envelope(
            queue_id(now - age, bytes([number] * 10)),
            f"{login}@example.org",
            paths,
            now - age,
            len(CONTENT),
            login=login,
            site="mail.example.org",
        )
        for number, (login, age, paths) in enumerate(
            [
                ("ada", 86_400.0, ("x@example.net", "y@example.com")),
                ("ada", 80_000.0, ("x@example.net",)),
                ("bob", 0.0, ("z@example.com",)),
            ]
        )
    ]

    async def fill() -> None:
        assert isinstance(settings.spool, EmbeddedSettings)
        spool = await open_spool(settings.spool)
        try:
            for envelope in envelopes:
                await spool.commit(envelope, CONTENT)
        finally:
            await spool.close()

    asyncio.run(fill())
    return [envelope.queue_id for envelope in envelopes]


def ids(run: Run, site: Path, *arguments: str) -> list[str]:
    done = run("queue", "list", "--json", *arguments, "-c", site)
    assert done.code == 0, done.err
    return [message["queue_id"] for message in json.loads(done.out)]


def test_filters(run: Run, site: Path, queued: list[str]) -> None:
    first, second, third = queued
    assert ids(run, site) == queued
    assert ids(run, site, "--login", "ada") == [first, second]
    assert ids(run, site, "--sender", "BOB@*") == [third]
    assert ids(run, site, "--recipient", "y@example.com") == [first]
    assert ids(run, site, "--domain", "example.com") == [first, third]
    assert ids(run, site, "--age", "1h", "--domain", "*.com") == [first]
    assert ids(run, site, "--state", "held") == []
    assert ids(run, site, "--limit", "1") == [first]


def test_list_and_show_for_people(run: Run, site: Path, queued: list[str]) -> None:
    listed = run("queue", "list", "-c", site)
    assert f"{queued[0]}  24h" in listed.out
    assert "x@example.net and 1 more" in listed.out
    shown = run("queue", "show", queued[0].lower(), "-c", site)
    assert "sender     ada@example.org" in shown.out
    assert "y@example.com" in shown.out
    assert json.loads(run("queue", "show", queued[0], "--json", "-c", site).out)["login"] == "ada"


def test_hold_release_and_retry(run: Run, site: Path, queued: list[str]) -> None:
    held = run("queue", "hold", "--login", "ada", "-c", site)
    assert held.out.split() == queued[:2]
    assert held.err == "held: 2 messages\n"
    assert ids(run, site, "--state", "held") == queued[:2]
    released = run("queue", "release", queued[0], "--json", "-c", site)
    assert json.loads(released.out) == {"changed": [queued[0]]}
    retried = run("queue", "retry", "--all", "-c", site)
    assert retried.out.split() == [queued[0], queued[2]]


def test_delete_silently(run: Run, site: Path, queued: list[str]) -> None:
    done = run("queue", "delete", queued[2], "--silent", "-c", site)
    assert (done.code, done.out.split()) == (0, [queued[2]])
    assert ids(run, site) == queued[:2]


def test_delete_with_a_bounce_tells_the_sender(run: Run, site: Path, queued: list[str]) -> None:
    assert run("queue", "delete", queued[0], "--bounce", "-c", site).code == 0
    left = json.loads(run("queue", "list", "--json", "-c", site).out)
    assert [message["queue_id"] for message in left[:2]] == [queued[1], queued[2]]
    bounce = left[2]
    assert (bounce["is_bounce"], bounce["sender"], bounce["login"]) == (True, "", "")
    assert [recipient["recipient"] for recipient in bounce["recipients"]] == ["ada@example.org"]
    again = run("queue", "delete", bounce["queue_id"], "--bounce", "-c", site)
    assert again.code == 0
    assert ids(run, site) == queued[1:]  # never a bounce for a bounce


def test_more_than_one_wants_a_yes(run: Run, site: Path, queued: list[str]) -> None:
    refused = run("queue", "delete", "--login", "ada", "--silent", "-c", site)
    assert refused.code == 2
    assert "Delete 2 messages silently?" in refused.err
    assert ids(run, site) == queued
    done = run("queue", "delete", "--login", "ada", "--silent", "--yes", "--json", "-c", site)
    assert json.loads(done.out) == {"deleted": queued[:2], "being_delivered": []}


@pytest.mark.parametrize("verb", ["show", "hold", "release", "retry", "delete"])
def test_a_queue_id_that_is_not_there(run: Run, site: Path, verb: str) -> None:
    more = ["--silent"] if verb == "delete" else []
    done = run("queue", verb, "0" * 26, *more, "-c", site)
    assert done.code == 1
    assert f"there is no message {'0' * 26} in the queue" in done.err


def test_guard_of_a_quiet_server(run: Run, site: Path) -> None:
    assert run("guard", "list", "-c", site).err == "nobody failed to sign in lately\n"
    assert "was not blocked" in run("guard", "unblock", "192.0.2.7", "-c", site).err
    assert json.loads(run("guard", "list", "--json", "-c", site).out)["blocks"] == []

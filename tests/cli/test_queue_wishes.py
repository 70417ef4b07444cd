"""`pillarbox queue` and what senders asked for: release times that it keeps, and everything else that it shows."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run

from pillarbox.config import load
from pillarbox.message.envelope import Envelope, queue_id
from pillarbox.spool.embedded import open_spool
from pillarbox.spool.settings import EmbeddedSettings

CONTENT = b"From: ada@example.org\r\nSubject: x\r\n\r\nhello\r\n"
AHEAD = 7_200.0


def made(number: int, *forward_paths: str, **wishes: Any) -> Envelope:
    now = time.time()
    return Envelope(
        queue_id(now + number, bytes([number] * 10)),
        "ada@example.org",
        forward_paths or ("x@example.net",),
        now,
        len(CONTENT),
        login="ada",
        site="mail.example.org",
        **wishes,
    )


def fill(site: Path, *envelopes: Envelope) -> list[str]:
    """Commits them as the server would have; their queue ids."""
    settings = load(site)
    (site.parent / "data").mkdir(mode=0o700)

    async def commit() -> None:
        assert isinstance(settings.spool, EmbeddedSettings)
        spool = await open_spool(settings.spool)
        try:
            for envelope in envelopes:
                await spool.commit(envelope, CONTENT)
        finally:
            await spool.close()

    asyncio.run(commit())
    return [envelope.queue_id for envelope in envelopes]


@pytest.fixture
def queued(site: Path) -> list[str]:
    """One message to leave at once and two that wait for their sender's time."""
    until = time.time() + AHEAD
    return fill(site, made(0), made(1, hold_until=until), made(2, hold_until=until + 60))


def states(run: Run, site: Path) -> list[list[Any]]:
    """Of each message's first recipient: the state, whether it waits for its sender's time, and whether it is due."""
    listed = json.loads(run("queue", "list", "--json", "-c", site).out)
    firsts = [message["recipients"][0] for message in listed]
    return [[first["state"], first["future"], first["due_at"] <= time.time()] for first in firsts]


DUE = ["due", False, True]
WAITS = ["due", True, False]


def test_a_message_that_waits_is_shown_with_its_release_time(run: Run, site: Path, queued: list[str]) -> None:
    done = run("queue", "list", "-c", site, TZ="UTC")
    lines = {line.split()[0]: line for line in done.out.splitlines()[1:]}
    assert "released at" not in lines[queued[0]]
    data = json.loads(run("queue", "show", queued[1], "--json", "-c", site).out)
    moment = time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(data["hold_until"]))
    assert f" future  released at {moment}" in lines[queued[1]]
    assert data["recipients"][0]["due_at"] == data["hold_until"]
    shown = run("queue", "show", queued[1], "-c", site, TZ="UTC").out
    assert f"hold       released at {moment}\n" in shown
    assert states(run, site) == [DUE, WAITS, WAITS]
    assert json.loads(run("queue", "show", queued[0], "--json", "-c", site).out)["hold_until"] is None


def test_state_future_finds_what_waits_for_its_sender_s_time(run: Run, site: Path, queued: list[str]) -> None:
    for state, found in (("future", queued[1:]), ("due", queued), ("held", [])):
        listed = json.loads(run("queue", "list", "--state", state, "--json", "-c", site).out)
        assert [message["queue_id"] for message in listed] == found


def test_retry_and_release_keep_the_sender_s_time_unless_told(run: Run, site: Path, queued: list[str]) -> None:
    kept = run("queue", "retry", queued[1], "-c", site)
    assert (kept.code, kept.out) == (0, "")
    assert "to be tried now: 0 messages" in kept.err
    assert "--early" in kept.err
    assert "--early" not in run("queue", "retry", queued[0], "-c", site).err
    assert run("queue", "hold", "--all", "-c", site).out.split() == queued
    assert "--early" in run("queue", "release", "--all", "-c", site).err
    assert states(run, site) == [DUE, WAITS, WAITS]
    early = run("queue", "retry", queued[1], "--early", "-c", site)
    assert (early.out.split(), early.err) == ([queued[1]], "to be tried now: 1 message\n")
    assert states(run, site) == [DUE, DUE, WAITS]
    run("queue", "hold", queued[2], "-c", site)
    assert run("queue", "release", queued[2], "--early", "-c", site).out.split() == [queued[2]]
    assert states(run, site) == [DUE, DUE, DUE]


def test_what_an_operator_holds_is_held_whatever_its_sender_asked_for(
    run: Run, site: Path, queued: list[str]
) -> None:
    run("queue", "hold", queued[1], "-c", site)
    (line,) = run("queue", "list", "--state", "held", "-c", site).out.splitlines()[1:]
    assert line.split()[0] == queued[1]
    assert " held " in line
    assert "future" not in line
    assert [
        line.split()[0] for line in run("queue", "list", "--state", "future", "-c", site).out.splitlines()[1:]
    ] == [queued[2]]
    shown = run("queue", "show", queued[1], "-c", site, TZ="UTC").out
    data = json.loads(run("queue", "show", queued[1], "--json", "-c", site).out)
    moment = time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(data["hold_until"]))
    assert f"hold       asked for {moment}; held by an operator\n" in shown
    assert "future" not in shown
    assert "released at" not in shown


def test_a_message_that_waits_can_be_cancelled(run: Run, site: Path, queued: list[str]) -> None:
    assert run("queue", "delete", "--state", "future", "--silent", "--yes", "-c", site).out.split() == queued[1:]
    assert states(run, site) == [DUE]


def test_show_prints_every_wish(run: Run, site: Path) -> None:
    deliver_by = time.time() + 600
    sent = made(
        0,
        "x@example.net",
        "y@example.net",
        binary=True,
        ret="HDRS",
        envid="QQ\x1b[31m314",
        notify=("SUCCESS,DELAY", ""),
        original_recipients=("", "rfc822;y@old.example"),
        deliver_by=deliver_by,
        deliver_by_mode="RT",
        priority=-3,
        require_tls=True,
        tls_optional=True,
        smtputf8=True,
    )
    fill(site, sent)
    shown = run("queue", "show", sent.queue_id, "-c", site, TZ="UTC").out
    moment = time.strftime("%Y-%m-%d %H:%M:%S +0000", time.gmtime(deliver_by))
    for line in (
        "priority   -3",
        f"deliver by {moment}; returned to the sender when late, traced",
        "envid      QQ?[31m314",
        "ret        HDRS: only the header in a bounce",
        "tls        required on every hop (REQUIRETLS)",
        "tls        may be missing (TLS-Required: No)",
        "body       BINARYMIME",
    ):
        assert f"\n{line}\n" in shown
    _, first, second = shown[shown.index("RECIPIENT ") :].splitlines()
    assert first.split()[-2:] == ["SUCCESS,DELAY", "-"]
    assert second.split()[-2:] == ["-", "rfc822;y@old.example"]
    data = json.loads(run("queue", "show", sent.queue_id, "--json", "-c", site).out)
    for name in ("priority", "ret", "envid", "deliver_by", "deliver_by_mode", "require_tls", "binary", "smtputf8"):
        assert data[name] == getattr(sent, name)
    assert data["tls_optional"] is True
    assert [each["notify"] for each in data["recipients"]] == [["SUCCESS", "DELAY"], None]
    assert [each["orcpt"] for each in data["recipients"]] == [None, "rfc822;y@old.example"]


def test_show_says_nothing_of_what_was_not_asked_for(run: Run, site: Path) -> None:
    (name,) = fill(site, made(0))
    shown = run("queue", "show", name, "-c", site).out
    for word in ("hold ", "priority", "deliver by", "envid", "ret ", "tls ", "body", "NOTIFY", "ORCPT"):
        assert word not in shown
    data = json.loads(run("queue", "show", name, "--json", "-c", site).out)
    assert [data[each] for each in ("ret", "envid", "deliver_by", "deliver_by_mode", "hold_until")] == [None] * 5


def test_a_deletion_s_bounce_tells_only_of_those_who_may_be_told_of(run: Run, site: Path) -> None:
    sent = made(0, "x@example.net", "y@example.net", "z@example.net", notify=("NEVER", "SUCCESS", "FAILURE,DELAY"))
    quiet = made(1, notify=("NEVER",))
    fill(site, sent, quiet)
    done = run("queue", "delete", sent.queue_id, quiet.queue_id, "--bounce", "--yes", "-c", site)
    assert done.code == 0, done.err
    (bounce,) = json.loads(run("queue", "list", "--json", "-c", site).out)
    assert bounce["is_bounce"]

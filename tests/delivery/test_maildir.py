"""The route that writes files."""

from pathlib import Path

import pytest
from tests.delivery.conftest import Start, to_hop
from tests.delivery.memory import CONTENT, MemoryOutbox, make_envelope
from tests.support.nexthop import NextHop

from pillarbox.delivery.settings import MaildirRoute
from pillarbox.spool.base import Deferred, Delivered, Failed


async def test_maildir_gets_the_message_and_nothing_is_left_behind(
    outbox: MemoryOutbox, start: Start, tmp_path: Path
) -> None:
    for inline in (True, False):
        outbox.inline = inline
        folder = tmp_path / str(inline)
        ident = outbox.commit(make_envelope("a@example.net", "b@example.net"))
        scheduler = await start(MaildirRoute(("*",), folder))
        await outbox.until(lambda ident=ident: len(outbox.of(ident)) == 2)  # type: ignore[misc]  # bound per round
        await scheduler.drain(5.0)
        (path,) = (folder / "new").iterdir()
        assert path.read_bytes() == b"Return-Path: <sender@example.org>\r\n" + CONTENT
        assert path.stat().st_mode & 0o777 == 0o600
        assert list((folder / "tmp").iterdir()) == []
        outcome = outbox.of(ident)["b@example.net"]
        assert outcome == Delivered(f"250 2.0.0 written as {path.name}", f"maildir:{folder}")


async def test_maildir_that_cannot_be_written_defers(outbox: MemoryOutbox, start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ident = outbox.commit(make_envelope())
    await start(MaildirRoute(("*",), tmp_path / "file"))
    await outbox.settled(1)
    outcome = outbox.of(ident)["to@example.net"]
    assert isinstance(outcome, Deferred)
    assert outcome.reason == f"4.3.0 maildir:{tmp_path}/file: Not a directory"


async def test_maildir_delivers_nothing_when_the_lease_is_lost(
    outbox: MemoryOutbox, start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outbox.holds = False
    outbox.commit(make_envelope())
    await start(MaildirRoute(("*",), tmp_path))
    await outbox.until(lambda: bool(outbox.released))
    assert list((tmp_path / "new").iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []
    outbox.holds = True
    await outbox.settled(1)
    assert "delivery.stopped" in capfd.readouterr().out


async def test_domains_of_one_route_share_its_connections(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop() as hop:
        await start(to_hop(hop, "one.test", "two.test"))
        for number, domain in enumerate(("one.test", "two.test", "one.test")):
            outbox.commit(make_envelope(f"a@{domain}"))
            await outbox.settled(number + 1)
    assert hop.connections == 1


async def test_maildir_takes_nothing_that_shall_be_returned_when_late(
    outbox: MemoryOutbox, start: Start, tmp_path: Path
) -> None:
    ident = outbox.commit(make_envelope(deliver_by=outbox.now() - 1, deliver_by_mode="R"))
    await start(MaildirRoute(("example.net",), tmp_path / "y"))
    await outbox.settled(1)
    outcome = outbox.of(ident)["to@example.net"]
    assert isinstance(outcome, Failed)
    assert outcome.status == "5.4.7"
    assert not (tmp_path / "y").exists()

"""The spool behind its service: abilities, broken channels, leases that outlive them, refusals from afar."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from tests.spool.messages import (
    RemoteSpool,
    envelope,
    new_id,
    open_remote,
    opened,
    read_all,
    settlement,
    soon,
    wishful,
)

from pillarbox.control.channel import ChannelServer, RemoteError, connect, serve
from pillarbox.control.link import Link
from pillarbox.spool import remote as remote_module
from pillarbox.spool.base import INLINE_LIMIT, Deferred, Delivered, Full, LeaseLost, QueueIdTaken, Unavailable
from pillarbox.spool.embedded import EmbeddedSpool
from pillarbox.spool.part import part_of
from pillarbox.spool.remote import RemoteIntake, RemoteOutbox
from pillarbox.spool.service import ERRORS, intake_handlers, outbox_handlers
from pillarbox.spool.wire import pack_envelope

NOW = 10.0**10


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[EmbeddedSpool]:
    async with opened(tmp_path / "spool") as spool:
        yield spool


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[RemoteSpool]:
    remote = await open_remote(tmp_path / "spool", 0, lambda: 5_000.0)
    yield remote
    await remote.close()


class Socket:
    """A socket's path on which the service comes and goes."""

    def __init__(self, spool: EmbeddedSpool, path: Path) -> None:
        self.path = path
        self._spool = spool
        self._server: ChannelServer | None = None

    async def up(self) -> None:
        """Serves intake and outbox."""
        handlers = {**intake_handlers(self._spool), **outbox_handlers(self._spool)}
        self._server = await serve(self.path, lambda peer: handlers, errors=ERRORS)

    async def down(self) -> None:
        """Ends every channel and refuses new ones."""
        if self._server is not None:
            await self._server.close()
            self._server = None


@pytest.fixture
async def socket(spool: EmbeddedSpool, tmp_path: Path) -> AsyncIterator[Socket]:
    socket = Socket(spool, tmp_path / "s")
    await socket.up()
    yield socket
    await socket.down()


@pytest.fixture
async def link(socket: Socket) -> AsyncIterator[Link]:
    link = Link(socket.path, errors=ERRORS)
    yield link
    await link.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"queue_id": "../../../tmp/x"},
        {"queue_id": ""},
        {"queue_id": "01\0"},
        {"queue_id": "0" * 65},
        {"reverse_path": "a@example.org>\r\nRCPT TO:<c@example.net"},
        {"forward_paths": ("bob@example.net\r\nDATA",)},
        {"forward_paths": ("bob@example.net> NOTIFY=NEVER",)},
        {"forward_paths": (7,)},
        {"login": "\x1b[31malice"},
        {"site": "s" * 3_000},
        {"received_at": "yesterday"},
        {"size": 1.5},
        {"ret": "BODY"},
        {"envid": "a\r\nAction: delivered"},
        {"envid": 7},
        {"original_recipients": ("rfc822;a\n\nb@example.net",)},
        {"original_recipients": ("rfc822;" + "a" * 3_000,)},
        {"original_recipients": ("rfc822;a@b", "rfc822;c@d")},
        {"notify": ("ALWAYS",)},
        {"notify": ("NEVER,DELAY",)},
        {"notify": (",DELAY",)},
        {"notify": (7,)},
        {"hold_until": float("inf")},
        {"hold_until": "soon"},
        {"deliver_by": float("nan")},
        {"deliver_by_mode": "X"},
        {"priority": 10},
        {"priority": -10},
        {"priority": 1.5},
    ],
)
async def test_a_worker_that_was_taken_over_cannot_commit_what_is_no_envelope(
    spool: EmbeddedSpool, tmp_path: Path, changes: dict[str, object]
) -> None:
    """Queue ids name files, and paths become commands, in processes that it has no hold of."""
    server = await serve(tmp_path / "s", lambda peer: intake_handlers(spool), errors=(*ERRORS, ValueError))
    channel = await connect(tmp_path / "s")
    packed = pack_envelope(replace(envelope(), **changes))  # type: ignore[arg-type]  # what it should not be is the test
    for verb, body in (("intake.commit", [packed, b"hello"]), ("intake.adopt", packed)):
        with pytest.raises(RemoteError) as refused:
            await channel.request(verb, body)
        assert refused.value.kind == "ValueError"
    assert (await spool.ledger.depth(NOW)).messages == 0
    channel.close()
    await server.close()


@pytest.mark.parametrize(
    "notify",
    ["", "NEVER", "SUCCESS", "FAILURE", "DELAY", "SUCCESS,FAILURE", "SUCCESS,DELAY", "SUCCESS,FAILURE,DELAY"],
)
async def test_an_honest_worker_s_wishes_are_taken(spool: EmbeddedSpool, tmp_path: Path, notify: str) -> None:
    """Commit and adopt over the checked channel, with all that the SMTP core can read."""
    wishes = replace(
        wishful(),
        is_bounce=False,
        reverse_path="alice@example.org",
        envid="QQ314159 \t+=",
        notify=(notify, "NEVER", "", ""),
        original_recipients=("rfc822;bob@example.net", "", "utf-8;däve@example.net", "x-y;z"),
    )
    server = await serve(tmp_path / "s", lambda peer: intake_handlers(spool), errors=(*ERRORS, ValueError))
    channel = await connect(tmp_path / "s")
    await channel.request("intake.commit", [pack_envelope(wishes), b"hello"])
    large = replace(wishes, queue_id=new_id(), size=INLINE_LIMIT + 1)
    part_of(spool.owner.files.incoming, large.queue_id).write_bytes(b"x" * large.size)
    await channel.request("intake.adopt", pack_envelope(large))
    assert [(await spool.show(each.queue_id)).envelope for each in (wishes, large)] == [wishes, large]
    channel.close()
    await server.close()


async def test_content_that_belongs_into_a_file_is_not_taken_over_the_channel(
    spool: EmbeddedSpool, tmp_path: Path
) -> None:
    server = await serve(tmp_path / "s", lambda peer: intake_handlers(spool), errors=(*ERRORS, ValueError))
    channel = await connect(tmp_path / "s")
    for content in (b"x" * (2 * INLINE_LIMIT + 1), "text", None):
        with pytest.raises(RemoteError, match="not a content"):
            await channel.request("intake.commit", [pack_envelope(envelope()), content])
    channel.close()
    await server.close()


async def test_the_intake_has_no_way_to_read_or_settle(spool: EmbeddedSpool, tmp_path: Path) -> None:
    path = tmp_path / "s"
    await spool.commit(envelope(queue_id="01000000000000000000SECRET"), b"secret")
    server = await serve(path, lambda peer: intake_handlers(spool), errors=ERRORS)
    channel = await connect(path)
    for verb in outbox_handlers(spool):
        with pytest.raises(RemoteError) as refused:
            await channel.request(verb, ["01000000000000000000SECRET", 0])
        assert refused.value.kind == "unknown_verb"
    assert {verb.partition(".")[0] for verb in intake_handlers(spool)} == {"intake"}
    channel.close()
    await server.close()


_REST = (False, False, "", "", (), (), 0.0, 0.0, "", 0, False, False)
"""An envelope from is_bounce on."""


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        [[], b""],
        [["../../etc/passwd"] * 22, b""],
        [
            ["0100000000000000000000001D", "a@b", ["c@d"], 1.0, 1, False, False, "", "", "", *_REST],
            "text, not octets",
        ],
        [["0100000000000000000000001D", "a@b", [7], 1.0, 1, False, False, "", "", "", *_REST], b""],
        [["0100000000000000000000001D", "a@b", [], 1.0, 1, False, False, "", "", "", *_REST], b""],
        [["0100000000000000000000001D", None, ["c@d"], 1.0, 1, False, False, "", "", "", *_REST], b""],
        [["0100000000000000000000001D", "a@b", ["c@d"], "soon", 1, False, False, "", "", "", *_REST], b""],
        [[b"0100000000000000000000001D", "a@b", ["c@d"], 1.0, 1, False, False, "", "", "", *_REST], b""],
    ],
)
async def test_a_malformed_commit_is_refused_and_the_next_one_is_served(
    spool: EmbeddedSpool, socket: Socket, body: object
) -> None:
    channel = await connect(socket.path)
    with pytest.raises(RemoteError):
        await channel.request("intake.commit", body)
    good = ["0100000000000000000000G00D", "a@b", ["c@d"], 1.0, 1, False, False, "", "", "", *_REST]
    assert await channel.request("intake.commit", [good, b"x"]) is True
    assert (await spool.depth(0.0)).messages == 1
    channel.close()


async def test_errors_keep_their_kind_across_the_channel(remote: RemoteSpool) -> None:
    sent = envelope()
    await remote.commit(sent, b"x")
    with pytest.raises(QueueIdTaken):
        await remote.commit(envelope(queue_id=sent.queue_id, login="eve"), b"x")
    refusing = mock.patch.object(remote.spool.intake, "refusal", return_value=Full("below the reserve"))
    with refusing, pytest.raises(Full, match="below the reserve"):
        await remote.commit(envelope(), b"x")


async def test_a_refusal_is_known_from_afar_without_asking(remote: RemoteSpool) -> None:
    assert remote.refusal(1000) is None
    with mock.patch.object(remote.spool.intake, "refusal", return_value=Full("below the reserve")):
        await soon(lambda: isinstance(remote.refusal(1), Full))
    await soon(lambda: remote.refusal(1) is None)
    assert isinstance(remote.refusal(1 << 60), Full)


async def test_without_a_connection_mail_is_refused_after_the_patience(
    socket: Socket, link: Link, tmp_path: Path
) -> None:
    intake = RemoteIntake(link, tmp_path / "spool" / "incoming")
    assert isinstance(intake.refusal(1), Unavailable), "never connected"
    await link.start(5.0)
    assert intake.refusal(1) is None
    await socket.down()
    await soon(lambda: not link.connected)
    assert intake.refusal(1) is None, "it may come back within the patience"
    with mock.patch.object(remote_module, "PATIENCE", 0.0):
        assert isinstance(intake.refusal(1), Unavailable)
        with pytest.raises(Unavailable):
            await remote_module._ask(link, "intake.commit", None, patience=0.05)
    await intake.close()


async def test_a_commit_waits_for_a_service_that_comes_back(
    spool: EmbeddedSpool, socket: Socket, link: Link, tmp_path: Path
) -> None:
    intake = RemoteIntake(link, tmp_path / "spool" / "incoming")
    await link.start(5.0)
    await socket.down()
    await soon(lambda: not link.connected)
    committing = asyncio.create_task(intake.commit(envelope(queue_id="01000000000000000000WA1TED"), b"x"))
    await asyncio.sleep(0)
    await socket.up()
    await committing
    assert (await spool.show("01000000000000000000WA1TED")).envelope.queue_id == "01000000000000000000WA1TED"
    await intake.close()


async def test_a_service_that_comes_and_goes_in_the_middle_of_an_upload_does_not_cost_the_message(
    spool: EmbeddedSpool, socket: Socket, link: Link, tmp_path: Path
) -> None:
    intake = RemoteIntake(link, tmp_path / "spool" / "incoming")
    await link.start(5.0)
    content = os.urandom(4 * INLINE_LIMIT)
    writer = intake.writer("010000000000000000000010NG")
    await writer.write(content[: 2 * INLINE_LIMIT])
    await socket.down()
    await soon(lambda: not link.connected)
    await writer.write(content[2 * INLINE_LIMIT :])
    await socket.up()
    await writer.commit(envelope(queue_id="010000000000000000000010NG", size=len(content)))
    assert await read_all(spool.open("010000000000000000000010NG")) == content
    assert os.listdir(tmp_path / "spool" / "incoming") == []
    await intake.close()


async def test_leases_of_a_channel_that_ended_are_free_at_once(spool: EmbeddedSpool, socket: Socket) -> None:
    await spool.commit(envelope(), b"x")
    channel = await connect(socket.path)
    assert len(await channel.request("outbox.lease", [NOW, 10, []])) == 1
    assert await spool.lease(NOW, 10) == []
    waiting = asyncio.create_task(spool.wait_due(100))
    channel.close()
    await asyncio.wait_for(waiting, 20)
    assert len(await spool.lease(NOW, 10)) == 1


async def test_a_lease_survives_a_broken_channel(spool: EmbeddedSpool, socket: Socket, link: Link) -> None:
    """A delivery that goes on while the spool restarts is settled, not made twice."""
    await spool.commit(envelope(), b"x")
    outbox = RemoteOutbox(link)
    await link.start(5.0)
    (lease,) = await outbox.lease(NOW, 10)
    assert outbox.extend(lease)
    await socket.down()
    await soon(lambda: not link.connected)
    assert not outbox.extend(lease), "nobody can say now"
    await socket.up()
    await soon(lambda: link.connected)
    assert outbox.extend(lease)
    assert await spool.lease(NOW, 10) == []
    await outbox.settle(lease, settlement(lease, Delivered("250 ok", "hop")))
    assert (await spool.depth(0.0)).messages == 0
    await outbox.close()


async def test_a_lease_that_another_worker_has_by_now_is_lost(
    spool: EmbeddedSpool, socket: Socket, link: Link
) -> None:
    await spool.commit(envelope(), b"x")
    outbox = RemoteOutbox(link)
    await link.start(5.0)
    (lease,) = await outbox.lease(NOW, 10)
    await socket.down()
    await soon(lambda: len(spool.owner.leases) == 0 and not link.connected)
    (other,) = await spool.lease(NOW, 10)
    await socket.up()
    await soon(lambda: link.connected)
    assert not outbox.extend(lease)
    with pytest.raises(LeaseLost):
        await outbox.settle(lease, settlement(lease, Deferred("451", "hop", NOW + 60)))
    assert spool.extend(other)
    await outbox.close()


async def test_a_settlement_whose_reply_was_lost_can_be_repeated(
    spool: EmbeddedSpool, socket: Socket, link: Link
) -> None:
    await spool.commit(envelope("a@one.example", "b@one.example"), b"x")
    outbox = RemoteOutbox(link)
    await link.start(5.0)
    (lease,) = await outbox.lease(NOW, 10)
    done = settlement(lease, Delivered("250 ok", "hop"), Deferred("451", "hop", NOW + 60))
    await outbox.settle(lease, done)
    await outbox.settle(lease, done)
    (recipient,) = (await spool.show(lease.envelope.queue_id)).recipients
    assert recipient.attempts == 1
    await outbox.close()


async def test_a_worker_that_was_given_up_claims_its_leases_again_or_learns_that_they_are_lost(
    spool: EmbeddedSpool, socket: Socket, link: Link
) -> None:
    await spool.commit(envelope(), b"x")
    outbox = RemoteOutbox(link)
    await link.start(5.0)
    (lease,) = await outbox.lease(NOW, 10)
    (worker,) = [worker for worker in spool.owner.workers if worker.leases]
    assert worker.seen is not None
    worker.seen -= 31.0
    await spool.owner.tick()
    (other,) = await spool.lease(NOW, 10)
    await outbox._look()  # the heartbeat, without waiting 5 s for it
    assert not outbox.extend(lease)
    assert spool.extend(other)
    await outbox.close()


async def test_a_lease_is_not_counted_on_when_the_heartbeat_is_old(
    spool: EmbeddedSpool, socket: Socket, link: Link
) -> None:
    await spool.commit(envelope(), b"x")
    outbox = RemoteOutbox(link)
    await link.start(5.0)
    (lease,) = await outbox.lease(NOW, 10)
    assert outbox.extend(lease)
    outbox._answered_at -= 25.0
    assert not outbox.extend(lease)
    await outbox._look()
    assert outbox.extend(lease)
    await outbox.close()

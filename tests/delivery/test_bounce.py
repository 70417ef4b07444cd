"""Deferred, expired, and what the sender is told."""

import email
import email.policy
import time
from dataclasses import replace
from email.message import EmailMessage
from typing import cast

import pytest
from tests.delivery.conftest import Start, to_hop
from tests.delivery.memory import MemoryOutbox, make_envelope
from tests.support.nexthop import NextHop

from pillarbox.spool.base import Deferred, Delivered, Failed, State

HOUR = 3600.0


def parse(content: bytes) -> EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.SMTP)


async def test_reply_and_schedule_of_a_deferral(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop(rcpt={"busy@example.net": "450 4.2.1 busy"}) as hop:
        ident = outbox.commit(make_envelope("busy@example.net", "ok@example.net"))
        await start(to_hop(hop), retry=(100.0, 5000.0))
        for attempt, (least, most) in enumerate([(99, 111), (4999, 5501), (4999, 5501)]):
            await outbox.settled(attempt + 1)
            outcome = outbox.of(ident)["busy@example.net"]
            assert isinstance(outcome, Deferred)
            assert outcome.reason == "450 4.2.1 busy"
            assert least < outcome.due_at - time.time() < most
            outbox.make_due()
        assert len(hop.messages) == 1
    assert outbox.bounces() == []


async def test_failed_recipients_share_one_bounce(outbox: MemoryOutbox, start: Start) -> None:
    rcpt = {"no@example.net": "550 5.1.1 nobody", "full@example.net": "552 5.2.2 full"}
    async with NextHop(rcpt=rcpt) as hop:
        original = make_envelope("no@example.net", "yes@example.net", "full@example.net", site="example")
        original = replace(original, queue_id=f"{original.queue_id}-b")
        ident = outbox.commit(original)
        await start(to_hop(hop), postmaster="postmaster@pillar.test")
        await outbox.settled(2)
    assert isinstance(outbox.of(ident)["yes@example.net"], Delivered)
    ((envelope, content),) = outbox.bounces()
    assert envelope.reverse_path == ""
    assert envelope.is_bounce
    assert envelope.queue_id.endswith("-b"), "it stays in the cell of its cause"
    assert envelope.forward_paths == ("sender@example.org",)
    assert envelope.size == len(content)
    assert envelope.site == "example"
    report = parse(content)
    assert report["From"] == "Mail Delivery System <postmaster@pillar.test>"
    assert report.get_content_type() == "multipart/report"
    words, status, header = report.iter_parts()
    blocks = cast(list[EmailMessage], status.get_payload())
    assert [block["Final-Recipient"] for block in blocks[1:]] == [
        "rfc822; no@example.net",
        "rfc822; full@example.net",
    ]
    assert [block["Status"] for block in blocks[1:]] == ["5.1.1", "5.2.2"]
    assert "550 5.1.1 nobody" in words.get_content()
    assert "Subject: hello" in header.get_content()
    # and it is delivered like any other message
    assert [message.reverse_path for message in hop.messages] == ["sender@example.org", ""]
    assert hop.messages[1].content == content


async def test_bounce_that_fails_is_dead_and_makes_no_bounce(
    outbox: MemoryOutbox, start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    async with NextHop(script={"RCPT": "550 5.1.1 nobody"}) as hop:
        outbox.commit(make_envelope())
        await start(to_hop(hop))
        await outbox.settled(2)
        ((envelope, _),) = outbox.bounces()
        assert isinstance(outbox.of(envelope.queue_id)["sender@example.org"], Failed)
        assert outbox.waiting[envelope.queue_id][0].state is State.DEAD
    assert len(outbox.settlements) == 2
    assert "bounce.died" in capfd.readouterr().out


async def test_read_receipt_that_fails_is_dropped_and_the_log_says_so(
    outbox: MemoryOutbox, start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    async with NextHop(script={"RCPT": "550 5.1.1 nobody"}) as hop:
        ident = outbox.commit(make_envelope(reverse_path=""))
        await start(to_hop(hop))
        await outbox.settled(1)
    assert outbox.waiting[ident] == {}
    assert outbox.bounces() == []
    said = [line for line in capfd.readouterr().out.splitlines() if "delivery.dropped" in line]
    assert len(said) == 1
    assert ident in said[0]


async def test_expired_recipient_fails_with_the_last_reason(outbox: MemoryOutbox, start: Start) -> None:
    async with NextHop(rcpt={"a@example.net": "450 4.2.1 busy"}) as hop:
        ident = outbox.commit(make_envelope("a@example.net", received_at=time.time() - 6 * 24 * HOUR))
        await start(to_hop(hop))
        await outbox.settled(1)
        outcome = outbox.of(ident)["a@example.net"]
        assert isinstance(outcome, Failed)
        assert outcome.status == "4.4.7"
        assert outcome.reason == "4.4.7 delivery time expired; the last try: 450 4.2.1 busy"
        assert len(outbox.bounces()) == 1


async def test_delay_warning_is_sent_once(outbox: MemoryOutbox, start: Start) -> None:
    rcpt = {"slow@example.net": "450 4.2.1 busy", "slow2@example.net": "450 4.2.1 busy"}
    async with NextHop(rcpt=rcpt) as hop:
        paths = ("slow@example.net", "ok@example.net", "slow2@example.net")
        outbox.commit(make_envelope(*paths, received_at=time.time() - 5 * HOUR))
        await start(to_hop(hop))
        await outbox.settled(2)  # the message, then its warning
        assert outbox.settlements[0].warned == {0, 2}
        ((envelope, content),) = outbox.bounces()
        assert envelope.is_bounce
        report = parse(content)
        status = list(report.iter_parts())[1]
        blocks = cast(list[EmailMessage], status.get_payload())
        assert [block["Action"] for block in blocks[1:]] == ["delayed", "delayed"]
        assert [block["Status"] for block in blocks[1:]] == ["4.2.1", "4.2.1"]
        outbox.make_due()
        await outbox.settled(3)
        assert outbox.settlements[2].warned == frozenset()
    assert len(outbox.bounces()) == 1


@pytest.mark.parametrize("changes", [{"reverse_path": ""}, {"reverse_path": "", "is_bounce": True}])
async def test_no_delay_warning_where_nobody_can_be_told(
    outbox: MemoryOutbox, start: Start, changes: dict[str, object]
) -> None:
    async with NextHop(script={"RCPT": "450 4.2.1 busy"}) as hop:
        outbox.commit(make_envelope(received_at=time.time() - 5 * HOUR, **changes))  # type: ignore[arg-type]  # shorthand
        await start(to_hop(hop))
        await outbox.settled(1)
    assert outbox.settlements[0].warned == frozenset()
    assert outbox.bounces() == []


async def test_bounce_of_a_large_message_returns_its_header_only(start: Start, outbox: MemoryOutbox) -> None:
    outbox.inline = False
    content = b"Subject: large\r\nX-Long: " + b"y" * 500 + b"\r\n\r\n" + b"body secret line\r\n" * 50_000
    async with NextHop(script={"RCPT": ["550 5.1.1 nobody", "250 ok"]}) as hop:
        outbox.commit(make_envelope(content=content), content)
        await start(to_hop(hop))
        await outbox.settled(2)
    ((_, report),) = outbox.bounces()
    assert b"Subject: large" in report
    assert b"body secret line" not in report

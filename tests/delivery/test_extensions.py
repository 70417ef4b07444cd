"""What a sender asked for, towards next hops that know of it and others that do not."""

import time
from email import message_from_bytes
from email.message import Message

import pytest
from tests.delivery.conftest import Start, to_hop
from tests.delivery.memory import CONTENT, MemoryOutbox, make_envelope
from tests.delivery.test_attempt import connect, deliver, lend
from tests.support.nexthop import DEFAULT_KEYWORDS, NextHop

from pillarbox.delivery.consignment import Report
from pillarbox.spool.base import Deferred, Delivered, Failed

EVERYTHING = (*DEFAULT_KEYWORDS, "CHUNKING", "BINARYMIME", "DSN", "DELIVERBY", "MT-PRIORITY", "REQUIRETLS")
BINARY = b"From: a@example.org\r\n\r\n\0\r\n.\r\n\n.\n\xff\r"


def failed(report: Report) -> str:
    """The status with which the only recipient failed."""
    verdict = report.verdicts[0]
    assert isinstance(verdict, Failed)
    return verdict.status


async def test_binary_content_leaves_by_one_chunk_octet_by_octet(outbox: MemoryOutbox) -> None:
    async with NextHop(keywords=EVERYTHING) as hop:
        report = await deliver(hop, outbox, "a@example.net", content=BINARY, binary=True)
    assert isinstance(report.verdicts[0], Delivered)
    (message,) = hop.messages
    assert "BDAT" in hop.verbs() and message.content == BINARY
    assert "BODY=BINARYMIME" in message.mail_parameters


async def test_large_binary_content_leaves_by_one_chunk_and_an_empty_last_one() -> None:
    outbox = MemoryOutbox(inline=False)
    content = BINARY * 20_000
    async with NextHop(keywords=EVERYTHING) as hop:
        await deliver(hop, outbox, "a@example.net", content=content, binary=True)
    assert hop.messages[0].content == content
    assert [line for _, line in hop.commands if line.startswith("BDAT")] == [f"BDAT {len(content)}", "BDAT 0 LAST"]


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "opened"])
async def test_binary_content_is_not_ended_when_the_lease_is_lost(inline: bool) -> None:
    outbox = MemoryOutbox(inline=inline)
    outbox.holds = False
    async with NextHop(keywords=EVERYTHING) as hop:
        report = await deliver(hop, outbox, "a@example.net", content=BINARY, binary=True)
    assert report.stopped and report.verdicts == {}
    assert hop.messages == []


@pytest.mark.parametrize(("inline", "point"), [(True, "DOT"), (False, "DOT"), (False, "BDAT")])
async def test_refused_chunk_is_the_verdict_and_the_connection_goes_on(inline: bool, point: str) -> None:
    outbox = MemoryOutbox(inline=inline)
    async with NextHop(keywords=EVERYTHING, script={point: ["552 5.3.4 too big", "250 2.0.0 ok"]}) as hop:
        session = await connect(hop, outbox)
        report = await session.deliver(await lend(outbox, "a@example.net", content=BINARY, binary=True))
        assert report.usable and failed(report) == "5.3.4"
        await session.deliver(await lend(outbox, "b@example.net", content=BINARY, binary=True))
        await session.close()
    assert [message.forward_paths for message in hop.messages] == [["b@example.net"]]
    assert hop.violations == []


@pytest.mark.parametrize("missing", ["CHUNKING", "BINARYMIME"])
async def test_binary_content_is_never_converted(outbox: MemoryOutbox, missing: str) -> None:
    keywords = tuple(keyword for keyword in EVERYTHING if keyword != missing)
    async with NextHop(keywords=keywords) as hop:
        report = await deliver(hop, outbox, "a@example.net", content=BINARY, binary=True)
    assert failed(report) == "5.6.3"
    assert hop.messages == []


async def test_binary_content_without_a_recipient_left_leaves_the_connection_usable(outbox: MemoryOutbox) -> None:
    async with NextHop(keywords=EVERYTHING, rcpt={"no@example.net": "550 5.1.1 nobody"}) as hop:
        session = await connect(hop, outbox)
        report = await session.deliver(await lend(outbox, "no@example.net", content=BINARY, binary=True))
        assert report.usable and failed(report) == "5.1.1"
        await session.deliver(await lend(outbox, "yes@example.net", content=BINARY, binary=True))
        await session.close()
    assert [message.forward_paths for message in hop.messages] == [["yes@example.net"]]


async def test_wishes_are_passed_on_where_they_are_known(outbox: MemoryOutbox) -> None:
    async with NextHop(keywords=EVERYTHING) as hop:
        await deliver(
            hop,
            outbox,
            "a@example.net",
            "b@example.net",
            ret="HDRS",
            envid="id 1",
            notify=("SUCCESS,DELAY", ""),
            original_recipients=("rfc822;a+x@example.net", ""),
            deliver_by=time.time() + 1000,
            deliver_by_mode="R",
            priority=-3,
        )
    (message,) = hop.messages
    assert {"RET=HDRS", "ENVID=ID+201", "MT-PRIORITY=-3"} <= {p.upper() for p in message.mail_parameters}
    (by,) = [parameter for parameter in message.mail_parameters if parameter.startswith("BY=")]
    assert 900 < int(by[3:].partition(";")[0]) <= 1000 and by.endswith(";R")
    assert message.rcpt_parameters == [("NOTIFY=SUCCESS,DELAY", "ORCPT=RFC822;A+2BX@EXAMPLE.NET"), ()]


async def test_wishes_are_left_out_where_they_are_unknown(outbox: MemoryOutbox) -> None:
    async with NextHop() as hop:
        report = await deliver(hop, outbox, "a@example.net", ret="FULL", envid="x", notify=("SUCCESS",), priority=4)
    (message,) = hop.messages
    assert [word.partition("=")[0] for word in message.mail_parameters] == ["SIZE"]
    assert message.rcpt_parameters == [()]
    assert report.success == "relayed"


async def test_nobody_is_to_report_on_a_report(outbox: MemoryOutbox) -> None:
    async with NextHop(keywords=EVERYTHING) as hop:
        await deliver(hop, outbox, "a@example.net", reverse_path="", is_bounce=True)
    assert hop.messages[0].rcpt_parameters == [("NOTIFY=NEVER",)]


@pytest.mark.parametrize(
    ("keywords", "late"),
    [(DEFAULT_KEYWORDS, 1000.0), (EVERYTHING, -1.0), (EVERYTHING, 0.9)],
    ids=["unknown", "over", "less than a second"],
)
async def test_what_shall_be_returned_when_late_is_returned(
    outbox: MemoryOutbox, keywords: tuple[str, ...], late: float
) -> None:
    async with NextHop(keywords=keywords) as hop:
        report = await deliver(hop, outbox, "a@example.net", deliver_by=time.time() + late, deliver_by_mode="R")
    assert failed(report) == "5.4.7"
    assert hop.messages == []


async def test_what_requires_tls_never_leaves_without(outbox: MemoryOutbox) -> None:
    async with NextHop(keywords=EVERYTHING) as hop:
        report = await deliver(hop, outbox, "a@example.net", require_tls=True)
    assert failed(report) == "5.7.30"
    assert "MAIL" not in hop.verbs()


async def test_next_hop_gets_no_more_recipients_than_it_says_it_takes(outbox: MemoryOutbox) -> None:
    async with NextHop(keywords=(*DEFAULT_KEYWORDS, "LIMITS MAILMAX=50 RCPTMAX=2")) as hop:
        await deliver(hop, outbox, *(f"r{number}@example.net" for number in range(5)))
    assert [len(message.forward_paths) for message in hop.messages] == [2, 2, 1]


async def test_session_has_no_more_transactions_than_its_next_hop_allows(start: Start, outbox: MemoryOutbox) -> None:
    async with NextHop(keywords=(*DEFAULT_KEYWORDS, "LIMITS MAILMAX=2")) as hop:
        for _ in range(5):
            outbox.commit(make_envelope())
        await start(to_hop(hop, concurrency=1))
        await outbox.settled(5)
    assert [message.connection for message in hop.messages] == [1, 1, 2, 2, 3]
    assert hop.verbs(1)[-1] == hop.verbs(2)[-1] == "QUIT"
    assert all(isinstance(outcome, Delivered) for _, _, outcome in outbox.history)


async def test_recipients_beyond_a_sessions_limits_go_by_another_at_once(start: Start, outbox: MemoryOutbox) -> None:
    async with NextHop(keywords=(*DEFAULT_KEYWORDS, "LIMITS RCPTMAX=1 MAILMAX=2")) as hop:
        ident = outbox.commit(make_envelope(*(f"r{number}@example.net" for number in range(5))))
        await start(to_hop(hop, concurrency=1))
        await outbox.settled(1)
    assert [message.connection for message in hop.messages] == [1, 1, 2, 2, 3]
    assert len(outbox.settlements) == 1
    assert [type(outcome) for outcome in outbox.of(ident).values()] == [Delivered] * 5


async def test_session_has_no_more_domains_than_its_next_hop_allows(start: Start, outbox: MemoryOutbox) -> None:
    async with NextHop(keywords=(*DEFAULT_KEYWORDS, "LIMITS RCPTDOMAINMAX=2")) as hop:
        ident = outbox.commit(make_envelope("a@one.test", "b@two.test", "c@three.test", "d@one.test"))
        await start(to_hop(hop, concurrency=1))
        await outbox.settled(1)
        outbox.commit(make_envelope("e@one.test", "f@four.test"))
        await outbox.settled(2)
    assert [(message.connection, message.forward_paths) for message in hop.messages] == [
        (1, ["a@one.test", "b@two.test", "d@one.test"]),
        (2, ["c@three.test"]),
        (2, ["e@one.test"]),
        (3, ["f@four.test"]),
    ]
    assert [type(outcome) for outcome in outbox.of(ident).values()] == [Delivered] * 4


# --- what the sender is told


def status_of(content: bytes) -> list[Message]:
    """The fields of a report: those of the message, then those of each recipient."""
    report = message_from_bytes(content)
    assert report.get_content_type() == "multipart/report"
    fields = report.get_payload(1)
    assert isinstance(fields, Message)
    blocks = fields.get_payload()
    assert isinstance(blocks, list)
    return [block for block in blocks if isinstance(block, Message)]


async def told(start: Start, outbox: MemoryOutbox, hop: NextHop, *paths: str, **changes: object) -> list[bytes]:
    """One message, and the reports on it that were committed with its outcome."""
    outbox.commit(make_envelope(*paths, **changes), CONTENT)  # type: ignore[arg-type]  # shorthand
    await start(to_hop(hop))
    await outbox.settled(1)
    messages = outbox.settlements[0].messages
    await outbox.settled(1 + len(messages))  # the reports too, so that nothing is under way when the hop ends
    return [message.content for message in messages]


async def test_success_is_told_as_relayed_where_the_next_hop_reports_on_nothing(
    start: Start, outbox: MemoryOutbox
) -> None:
    async with NextHop() as hop:
        (report,) = await told(
            start,
            outbox,
            hop,
            "a@example.net",
            "b@example.net",
            envid="my id",
            notify=("SUCCESS", "FAILURE"),
            original_recipients=("rfc822;alias@example.net", ""),
        )
    message, recipient = status_of(report)
    assert message["Original-Envelope-Id"] == "my id"
    assert recipient["Action"] == "relayed" and recipient["Status"] == "2.0.0"
    assert recipient["Original-Recipient"] == "rfc822; alias@example.net"
    assert recipient["Final-Recipient"] == "rfc822; a@example.net"


@pytest.mark.parametrize(
    ("mode", "missing", "notify", "reports"),
    [
        ("N", "DELIVERBY", "", 1),
        ("N", "DELIVERBY", "SUCCESS", 1),
        ("N", "DELIVERBY", "NEVER", 0),
        ("N", "", "", 0),
        ("NT", "", "", 1),
        ("RT", "", "SUCCESS", 1),
        ("RT", "", "NEVER", 0),
        ("R", "", "", 0),
    ],
)
async def test_relaying_is_told_where_a_time_ends_or_a_trace_was_asked_for(
    start: Start, outbox: MemoryOutbox, mode: str, missing: str, notify: str, reports: int
) -> None:
    keywords = tuple(keyword for keyword in EVERYTHING if keyword != missing)
    by = time.time() + 1000
    async with NextHop(keywords=keywords) as hop:
        made = await told(start, outbox, hop, "a@example.net", notify=(notify,), deliver_by=by, deliver_by_mode=mode)
    assert [status_of(report)[1]["Action"] for report in made] == ["relayed"] * reports


async def test_success_is_the_next_hops_to_tell_where_it_offers_dsn(start: Start, outbox: MemoryOutbox) -> None:
    async with NextHop(keywords=EVERYTHING) as hop:
        assert await told(start, outbox, hop, "a@example.net", notify=("SUCCESS",)) == []


@pytest.mark.parametrize(("notify", "reports"), [("", 1), ("FAILURE", 1), ("NEVER", 0), ("SUCCESS,DELAY", 0)])
async def test_failure_is_told_to_whoever_wants_to_know(
    start: Start, outbox: MemoryOutbox, notify: str, reports: int
) -> None:
    async with NextHop(script={"RCPT": "550 5.1.1 nobody"}) as hop:
        made = await told(start, outbox, hop, "a@example.net", notify=(notify,) if notify else ())
    assert len(made) == reports


@pytest.mark.parametrize(
    ("ret", "third"), [("", "text/rfc822-headers"), ("HDRS", "text/rfc822-headers"), ("FULL", "message/rfc822")]
)
async def test_failure_returns_what_was_asked_for(start: Start, outbox: MemoryOutbox, ret: str, third: str) -> None:
    async with NextHop(script={"RCPT": "550 5.1.1 nobody"}) as hop:
        (report,) = await told(start, outbox, hop, "a@example.net", ret=ret)
    part = message_from_bytes(report).get_payload(2)
    assert isinstance(part, Message) and part.get_content_type() == third
    assert (b"..more" in report) is (ret == "FULL")


async def test_nothing_of_what_requires_tls_is_returned(start: Start, outbox: MemoryOutbox) -> None:
    async with NextHop(keywords=EVERYTHING) as hop:
        (report,) = await told(start, outbox, hop, "a@example.net", require_tls=True)
    assert b"hello" not in report
    assert status_of(report)[1]["Status"] == "5.7.30"


@pytest.mark.parametrize(("notify", "warned"), [("", 1), ("DELAY", 1), ("FAILURE", 0), ("NEVER", 0)])
async def test_who_wants_it_by_a_time_is_told_when_that_is_over(
    start: Start, outbox: MemoryOutbox, notify: str, warned: int
) -> None:
    async with NextHop(script={"RCPT": "450 4.2.1 later"}) as hop:
        made = await told(
            start,
            outbox,
            hop,
            "a@example.net",
            notify=(notify,) if notify else (),
            deliver_by=time.time() - 1,
            deliver_by_mode="N",
        )
    assert isinstance(next(iter(outbox.settlements[0].outcomes.values())), Deferred)
    assert len(made) == warned


async def test_what_did_not_fail_returns_the_header_whatever_ret_says(start: Start, outbox: MemoryOutbox) -> None:
    async with NextHop(rcpt={"no@example.net": "550 5.1.1 nobody"}) as hop:
        made = await told(start, outbox, hop, "no@example.net", "a@example.net", ret="FULL", notify=("", "SUCCESS"))
    bounce, relayed = [message_from_bytes(report) for report in made]
    parts = [report.get_payload(2) for report in (bounce, relayed)]
    assert [part.get_content_type() for part in parts if isinstance(part, Message)] == [
        "message/rfc822",
        "text/rfc822-headers",
    ]
    assert b"..more" not in relayed.as_bytes()

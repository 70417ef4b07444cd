"""One transaction with a next hop: each way it can go, over real sockets."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.delivery.conftest import to_hop
from tests.delivery.memory import CONTENT, MemoryOutbox, make_envelope
from tests.support.nexthop import DEFAULT_KEYWORDS, DROP, HANG, Answer, Break, Last, NextHop

from pillarbox.delivery import attempt as attempts
from pillarbox.delivery.abilities import Abilities
from pillarbox.delivery.attempt import read_path, say
from pillarbox.delivery.consignment import Consignment, Report, TryLater
from pillarbox.delivery.secrets import Secrets
from pillarbox.delivery.session import Session, open_session
from pillarbox.delivery.tls_policy import client_context
from pillarbox.smtp.path import Mailbox
from pillarbox.smtp.reply import Reply
from pillarbox.spool.base import Delivered, Failed, Unavailable

WITHOUT_PIPELINING = tuple(keyword for keyword in DEFAULT_KEYWORDS if keyword != "PIPELINING")
BOTH = pytest.mark.parametrize("keywords", [DEFAULT_KEYWORDS, WITHOUT_PIPELINING], ids=["pipelined", "one by one"])


async def connect(hop: NextHop, outbox: MemoryOutbox, **changes: object) -> Session:
    route = to_hop(hop, **changes)
    return await open_session(
        route,
        host="pillar.test",
        outbox=outbox,
        secrets=Secrets(),
        context=lambda: client_context(route),
        connect_timeout=5.0,
    )


async def lend(outbox: MemoryOutbox, *paths: str, content: bytes = CONTENT, **changes: object) -> Consignment:
    outbox.commit(make_envelope(*paths, content=content, **changes), content)
    (lease,) = await outbox.lease(2e9, 1)
    return Consignment(lease, lease.recipients)


async def deliver(hop: NextHop, outbox: MemoryOutbox, *paths: str, **changes: object) -> Report:
    """One message over a session of its own."""
    session = await connect(hop, outbox)
    try:
        return await session.deliver(await lend(outbox, *paths, **changes))  # type: ignore[arg-type]  # shorthand
    finally:
        await session.close()


@pytest.fixture(params=[True, False], ids=["inline", "opened"])
def any_outbox(request: pytest.FixtureRequest) -> MemoryOutbox:
    return MemoryOutbox(inline=request.param)


@BOTH
@pytest.mark.parametrize("single_octets", [False, True], ids=["whole", "octets"])
async def test_content_arrives_octet_by_octet(
    any_outbox: MemoryOutbox, keywords: tuple[str, ...], single_octets: bool
) -> None:
    async with NextHop(keywords=keywords, single_octets=single_octets) as hop:
        report = await deliver(hop, any_outbox, "a@example.net", "b@example.net")
    assert report.verdicts == dict.fromkeys((0, 1), Delivered("250 2.0.0 taken as 1", f"127.0.0.1:{hop.port}"))
    assert report.usable
    (message,) = hop.messages
    assert message.content == CONTENT
    assert message.forward_paths == ["a@example.net", "b@example.net"]
    assert message.reverse_path == "sender@example.org"
    assert message.mail_parameters == (f"SIZE={len(CONTENT)}",)
    assert hop.violations == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b".\r\n",
        b"..\r\n.\r\n",
        b"no line end",
        b"\r\n.\r\n\r\n",
        b"x" * 70_000 + b"\r\n" + b".y\r\n" * 40_000,
        b"8-bit: \xff\xfe\x80\r\n",
    ],
)
async def test_no_content_is_changed(any_outbox: MemoryOutbox, content: bytes) -> None:
    async with NextHop() as hop:
        report = await deliver(hop, any_outbox, content=content)
    assert isinstance(report.verdicts[0], Delivered)
    # SMTP cannot say that the last line has no end (RFC 5321 4.1.1.4): it gets one
    assert hop.messages[0].content == (content if not content or content.endswith(b"\r\n") else content + b"\r\n")
    assert hop.violations == []


async def test_commands_leave_in_one_write_and_content_with_its_dot_in_another(outbox: MemoryOutbox) -> None:
    writes: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hop\r\n")
        answers = [
            b"250-hop\r\n250 PIPELINING\r\n",
            b"250 a\r\n250 b\r\n250 c\r\n354 d\r\n",
            b"250 e\r\n",
            b"221 f\r\n",
        ]
        for answer in answers:
            writes.append(await reader.read(65_536))
            writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        hop = NextHop(port=server.sockets[0].getsockname()[1])
        report = await deliver(hop, outbox, "a@example.net", "b@example.net")
    assert isinstance(report.verdicts[1], Delivered)
    _, commands, content, quitting = writes
    assert commands.split(b"\r\n") == [
        b"MAIL FROM:<sender@example.org>",
        b"RCPT TO:<a@example.net>",
        b"RCPT TO:<b@example.net>",
        b"DATA",
        b"",
    ]
    assert content == CONTENT.replace(b"\r\n.", b"\r\n..") + b".\r\n"
    assert quitting == b"QUIT\r\n"


@BOTH
async def test_refused_recipients_fail_alone(outbox: MemoryOutbox, keywords: tuple[str, ...]) -> None:
    rcpt = {"no@example.net": "550 5.1.1 nobody here", "later@example.net": "450 4.2.0 busy"}
    async with NextHop(keywords=keywords, rcpt=rcpt) as hop:
        report = await deliver(hop, outbox, "no@example.net", "yes@example.net", "later@example.net", "z@example.net")
    name = f"127.0.0.1:{hop.port}"
    taken = Delivered("250 2.0.0 taken as 1", name)
    assert report.verdicts == {
        0: Failed("550 5.1.1 nobody here", name, "5.1.1"),
        1: taken,
        2: TryLater("450 4.2.0 busy"),
        3: taken,
    }
    assert hop.messages[0].forward_paths == ["yes@example.net", "z@example.net"]


@BOTH
@pytest.mark.parametrize("lenient", [False, True], ids=["554", "354"])
async def test_no_valid_recipient_and_the_connection_goes_on(
    outbox: MemoryOutbox, keywords: tuple[str, ...], lenient: bool
) -> None:
    rcpt = {"no@example.net": "550 5.1.1 nobody", "later@example.net": "450 4.2.1 busy"}
    async with NextHop(keywords=keywords, rcpt=rcpt, lenient_data=lenient) as hop:
        session = await connect(hop, outbox)
        report = await session.deliver(await lend(outbox, "no@example.net", "later@example.net"))
        assert isinstance(report.verdicts[0], Failed)
        assert report.verdicts[1] == TryLater("450 4.2.1 busy")
        assert report.usable
        after = await session.deliver(await lend(outbox, "yes@example.net"))
        assert isinstance(after.verdicts[0], Delivered)
        await session.close()
    assert len(hop.messages) == 1
    assert hop.violations == []


@BOTH
@pytest.mark.parametrize("point", ["MAIL", "DATA", "DOT"])
@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("550 5.7.1 not you", "5.7.1"),
        ("554 no", "5.0.0"),
        ("554 4.2.2 class and code differ", "5.0.0"),
        ("451 4.3.0 later", None),
        ("452 4.3.1 full", None),
    ],
)
async def test_refusal_of_the_whole_message(
    outbox: MemoryOutbox, keywords: tuple[str, ...], point: str, answer: str, verdict: str | None
) -> None:
    async with NextHop(keywords=keywords, script={point: [answer, "354 ok" if point == "DATA" else "250 ok"]}) as hop:
        session = await connect(hop, outbox)
        report = await session.deliver(await lend(outbox, "a@example.net", "b@example.net"))
        expected = TryLater(answer) if verdict is None else Failed(answer, f"127.0.0.1:{hop.port}", verdict)
        assert report.verdicts == {0: expected, 1: expected}
        assert report.usable
        after = await session.deliver(await lend(outbox))
        assert isinstance(after.verdicts[0], Delivered)
        await session.close()
    assert hop.violations == []


@BOTH
@pytest.mark.parametrize("point", ["MAIL", "RCPT", "DATA", "DOT"])
@pytest.mark.parametrize("how", [DROP, Last("421 4.3.2 closing")], ids=["dropped", "421"])
async def test_connection_that_ends_defers(
    outbox: MemoryOutbox, keywords: tuple[str, ...], point: str, how: Answer
) -> None:
    async with NextHop(keywords=keywords, script={point: how}) as hop:
        report = await deliver(hop, outbox, "a@example.net", "b@example.net")
    assert set(report.verdicts) == {0, 1}
    for verdict in report.verdicts.values():
        assert isinstance(verdict, TryLater)
        assert verdict.reason.startswith("421 4.3.2 closing" if isinstance(how, Last) else "4.4.2 connection lost")
    assert not report.usable
    assert report.unheard is (point == "MAIL")
    assert hop.messages == []


async def test_rcpt_verdicts_before_the_connection_ended_stand(outbox: MemoryOutbox) -> None:
    async with NextHop(script={"DOT": DROP}, rcpt={"no@example.net": "550 5.1.1 nobody"}) as hop:
        report = await deliver(hop, outbox, "no@example.net", "yes@example.net")
    assert isinstance(report.verdicts[0], Failed)
    assert isinstance(report.verdicts[1], TryLater)
    assert "the final dot" in report.verdicts[1].reason


async def test_connection_that_breaks_inside_the_content_defers() -> None:
    outbox = MemoryOutbox(inline=False)
    async with NextHop(script={"DATA": Break(100_000)}) as hop:
        report = await deliver(hop, outbox, content=b"0123456789abcde\r\n" * 1_000_000)
    assert isinstance(report.verdicts[0], TryLater)
    assert report.verdicts[0].reason.startswith("4.4.2")
    assert not report.usable


@pytest.mark.parametrize("point", ["MAIL", "RCPT", "DATA", "DOT"])
async def test_silence_defers(outbox: MemoryOutbox, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAIL_TIMEOUT", "RCPT_TIMEOUT", "DATA_TIMEOUT", "FINAL_TIMEOUT"):
        monkeypatch.setattr(attempts, name, 0.2)
    async with NextHop(script={point: HANG}) as hop:
        report = await deliver(hop, outbox)
    verdict = report.verdicts[0]
    assert isinstance(verdict, TryLater)
    where = "the final dot" if point == "DOT" else point
    assert verdict.reason == f"4.4.2 no answer in time at {where}"
    assert not report.usable


def test_time_limits_are_not_below_rfc_5321_4_5_3_2() -> None:
    assert attempts.MAIL_TIMEOUT >= 300
    assert attempts.RCPT_TIMEOUT >= 300
    assert attempts.DATA_TIMEOUT >= 120
    assert attempts.BLOCK_TIMEOUT >= 180
    assert attempts.FINAL_TIMEOUT >= 600


@pytest.mark.parametrize("answer", ["what", "250-a\n251 b", "999 x", "2500 x", "354 go on"])
async def test_nonsense_from_the_next_hop_defers(outbox: MemoryOutbox, answer: str) -> None:
    async with NextHop(script={"MAIL": answer}) as hop:
        report = await deliver(hop, outbox)
    verdict = report.verdicts[0]
    assert isinstance(verdict, TryLater)
    assert verdict.reason.startswith("4.5.0")
    assert not report.usable


@BOTH
async def test_positive_reply_to_data_that_is_not_354_defers(outbox: MemoryOutbox, keywords: tuple[str, ...]) -> None:
    async with NextHop(keywords=keywords, script={"DATA": "250 2.0.0 what?"}) as hop:
        report = await deliver(hop, outbox)
    assert isinstance(report.verdicts[0], TryLater)
    assert not report.usable


@BOTH
@pytest.mark.parametrize("answer", ["452 4.5.3 too many", "452 too many", "552 too many", "552 5.5.3 too many"])
async def test_recipients_over_the_next_hops_limit_follow_at_once(
    outbox: MemoryOutbox, keywords: tuple[str, ...], answer: str
) -> None:
    rcpt = {"b@example.net": [answer, "250 ok"], "c@example.net": [answer, answer, "250 ok"]}
    async with NextHop(keywords=keywords, rcpt=rcpt) as hop:
        report = await deliver(hop, outbox, "a@example.net", "b@example.net", "c@example.net")
    assert all(isinstance(verdict, Delivered) for verdict in report.verdicts.values())
    assert set(report.verdicts) == {0, 1, 2}
    assert [message.forward_paths for message in hop.messages] == [
        ["a@example.net"],
        ["b@example.net"],
        ["c@example.net"],
    ]
    assert {message.content for message in hop.messages} == {CONTENT}


@BOTH
async def test_nobody_taken_for_being_too_many_is_deferred(outbox: MemoryOutbox, keywords: tuple[str, ...]) -> None:
    async with NextHop(keywords=keywords, script={"RCPT": "452 4.5.3 too many"}) as hop:
        report = await deliver(hop, outbox, "a@example.net", "b@example.net")
    assert report.verdicts == dict.fromkeys((0, 1), TryLater("452 4.5.3 too many"))
    assert report.usable


async def test_full_mailbox_by_552_is_final(outbox: MemoryOutbox) -> None:
    rcpt = {"full@example.net": "552 5.2.2 mailbox full"}
    async with NextHop(rcpt=rcpt) as hop:
        report = await deliver(hop, outbox, "full@example.net", "b@example.net")
    assert report.verdicts[0] == Failed("552 5.2.2 mailbox full", f"127.0.0.1:{hop.port}", "5.2.2")
    assert len(hop.messages) == 1


async def test_more_than_a_hundred_recipients_go_in_several_transactions(outbox: MemoryOutbox) -> None:
    async with NextHop() as hop:
        report = await deliver(hop, outbox, *(f"r{number}@example.net" for number in range(250)))
    assert [len(message.forward_paths) for message in hop.messages] == [100, 100, 50]
    assert len(report.verdicts) == 250
    assert all(isinstance(verdict, Delivered) for verdict in report.verdicts.values())


async def test_recipients_of_a_later_transaction_are_deferred_when_the_connection_ends(outbox: MemoryOutbox) -> None:
    async with NextHop(script={"DOT": ["250 2.0.0 ok", DROP]}) as hop:
        report = await deliver(hop, outbox, *(f"r{number}@example.net" for number in range(250)))
    kinds = [type(report.verdicts[key]) for key in range(250)]
    assert kinds == [Delivered] * 100 + [TryLater] * 150


# -- what the next hop cannot carry


@pytest.mark.parametrize(
    ("keywords", "changes", "status"),
    [
        (("PIPELINING",), {"eight_bit": True}, "5.6.3"),
        (("PIPELINING", "8BITMIME"), {"smtputf8": True}, "5.6.7"),
        ((f"SIZE {len(CONTENT) - 1}",), {}, "5.3.4"),
    ],
)
async def test_what_the_next_hop_cannot_carry_fails_before_mail(
    outbox: MemoryOutbox, keywords: tuple[str, ...], changes: dict[str, bool], status: str
) -> None:
    async with NextHop(keywords=keywords) as hop:
        report = await deliver(hop, outbox, "a@example.net", "b@example.net", **changes)
    for verdict in report.verdicts.values():
        assert isinstance(verdict, Failed)
        assert verdict.status == status
        assert verdict.reason.startswith(status)
    assert len(report.verdicts) == 2
    assert report.usable
    assert "MAIL" not in hop.verbs()


@pytest.mark.parametrize("size", ["", " 0", f" {len(CONTENT)}", " 1e1", " -1"])
async def test_size_that_sets_no_limit_stops_nothing(outbox: MemoryOutbox, size: str) -> None:
    async with NextHop(keywords=(f"SIZE{size}",)) as hop:
        report = await deliver(hop, outbox)
    assert isinstance(report.verdicts[0], Delivered)
    assert hop.messages[0].mail_parameters == (f"SIZE={len(CONTENT)}",)


async def test_parameters_are_said_when_needed_and_offered(outbox: MemoryOutbox) -> None:
    content = "Subject: grüße\r\n\r\n".encode()
    async with NextHop() as hop:
        await deliver(hop, outbox, "ü@example.net", content=content, smtputf8=True)
    assert set(hop.messages[0].mail_parameters) == {f"SIZE={len(content)}", "BODY=8BITMIME", "SMTPUTF8"}
    assert hop.messages[0].forward_paths == ["ü@example.net"]


async def test_parameters_are_not_said_to_a_next_hop_that_has_none(outbox: MemoryOutbox) -> None:
    async with NextHop(keywords=()) as hop:
        await deliver(hop, outbox)
    assert hop.messages[0].mail_parameters == ()


async def test_assume_8bitmime_sends_eight_bits_without_the_parameter(outbox: MemoryOutbox) -> None:
    content = b"Subject: x\r\n\r\n\xfc\r\n"
    async with NextHop(keywords=("SIZE",)) as hop:
        session = await connect(hop, outbox, assume_8bitmime=True)
        report = await session.deliver(await lend(outbox, content=content))
        await session.close()
    assert isinstance(report.verdicts[0], Delivered)
    assert hop.messages[0].content == content
    assert hop.messages[0].mail_parameters == (f"SIZE={len(content)}",)


async def test_null_reverse_path(outbox: MemoryOutbox) -> None:
    async with NextHop() as hop:
        await deliver(hop, outbox, reverse_path="")
    assert hop.messages[0].reverse_path == ""


# -- the lease


@pytest.mark.parametrize("inline", [True, False])
async def test_nothing_is_ended_or_said_when_the_lease_is_lost_before_the_final_dot(inline: bool) -> None:
    outbox = MemoryOutbox(inline=inline)
    outbox.holds = False
    async with NextHop(rcpt={"no@example.net": "550 5.1.1 nobody"}) as hop:
        session = await connect(hop, outbox)
        report = await session.deliver(await lend(outbox, "no@example.net", "yes@example.net"))
        await session.close()
        await hop.until(lambda: hop.open_now == 0)
    assert report.stopped
    assert not report.usable
    assert 1 not in report.verdicts
    assert hop.messages == []
    assert "QUIT" not in hop.verbs()


async def test_lease_is_asked_for_after_the_content_and_before_the_dot() -> None:
    outbox = MemoryOutbox(inline=False)
    read: list[str] = []
    original_open, original_extend = outbox.open, outbox.extend

    async def watched(queue_id: str) -> AsyncIterator[bytes]:
        async for octets in original_open(queue_id):
            read.append("chunk")
            yield octets

    outbox.open = watched  # type: ignore[method-assign]  # watched in this test
    outbox.extend = lambda lease: (read.append("extend"), original_extend(lease))[1]  # type: ignore[method-assign,func-returns-value]  # as above
    async with NextHop() as hop:
        await deliver(hop, outbox, content=b"x" * 50 + b"\r\n" + b"y" * 150_000 + b"\r\n")
    assert read == ["chunk", "chunk", "chunk", "extend"]
    assert len(hop.messages) == 1


async def test_content_that_cannot_be_read_defers_without_a_final_dot() -> None:
    outbox = MemoryOutbox(inline=False)

    async def broken(queue_id: str) -> AsyncIterator[bytes]:
        yield b"Subject: half\r\n"
        raise Unavailable("the disk is gone")

    outbox.open = broken  # type: ignore[method-assign]  # broken in this test
    async with NextHop() as hop:
        report = await deliver(hop, outbox)
        await hop.until(lambda: hop.open_now == 0)
    assert report.verdicts == {0: TryLater("4.3.0 the content cannot be read now: the disk is gone")}
    assert not report.usable
    assert hop.messages == []


async def test_message_that_is_gone_is_left_alone() -> None:
    outbox = MemoryOutbox(inline=False)
    async with NextHop() as hop:
        session = await connect(hop, outbox)
        consignment = await lend(outbox)
        outbox.contents.clear()
        report = await session.deliver(consignment)
        await session.close()
    assert report.stopped
    assert report.verdicts == {}
    assert hop.messages == []


# -- pure parts


@pytest.mark.parametrize(
    ("path", "mailbox"),
    [
        ("a@example.org", Mailbox("a", "example.org")),
        ('"a b"@example.org', Mailbox("a b", "example.org")),
        (r'"a\"b\\c@d"@example.org', Mailbox(r'a"b\c@d', "example.org")),
        ("x@[192.0.2.1]", Mailbox("x", "[192.0.2.1]")),
        ("Postmaster", Mailbox("Postmaster", "")),
        ("ü@bücher.example", Mailbox("ü", "bücher.example")),
    ],
)
def test_read_path_is_the_inverse_of_the_wire_form(path: str, mailbox: Mailbox) -> None:
    assert read_path(path) == mailbox
    assert str(read_path(path)) == path


def test_reply_in_one_line() -> None:
    assert say(Reply(550, ("nobody", "of that name"), "5.1.1")) == "550 5.1.1 nobody of that name"
    assert say(Reply(250, ())) == "250"
    assert len(say(Reply(550, ("x" * 5000,)))) == 500


def test_size_is_not_a_number_because_python_says_so() -> None:
    for said in ("+5", "1_0", "٣", " 5", "5 5", "9" * 30):
        assert Abilities.of({"SIZE": said}, assume_8bitmime=False).size_limit is None

"""Loads against a scripted server that judges what it hears, and against the real submission role."""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from tests.bench.conftest import PASSWORD, USER, target
from tests.support.nexthop import DROP, HANG, Last, NextHop
from tests.support.submission import ANNA, submission
from tests.support.submission import PASSWORD as ANNAS_PASSWORD

from pillarbox.bench import load as module
from pillarbox.bench.load import run
from pillarbox.bench.session import SessionFailed
from pillarbox.bench.settings import Load, Target
from pillarbox.smtp.path import Mailbox

ALICE, BOB, CAROL = Mailbox("alice", "example.org"), Mailbox("bob", "example.net"), Mailbox("carol", "example.net")
FEW = Load(ALICE, (BOB,), messages=10, connections=3, per_connection=4, size=1000)


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REST", 0.0)


async def test_the_real_server_accepts_what_it_sends_over_both_ports(tmp_path: Path) -> None:
    async with submission(tmp_path) as server:
        for port, starttls in ((server.submissions, False), (server.submission, True)):
            goal = Target(
                "127.0.0.1", port, ANNA.login, ANNAS_PASSWORD, server.trust(), starttls, server_hostname="localhost"
            )
            sender = Mailbox("anna", "example.org")
            tally = await run(goal, replace(FEW, sender=sender, recipients=(BOB, CAROL)))
            assert (tally.accepted, tally.refused.total(), tally.failed.total()) == (10, 0, 0)
            assert len(tally.transaction_times) == 10
        committed = server.intake.committed
        assert len(committed) == 20
        assert {envelope.forward_paths for envelope, _ in committed} == {(str(BOB), str(CAROL))}
        ids = {content[content.index(b"Message-ID:") :].split(b"\r\n")[0] for _, content in committed}
        assert len(ids) == 20


async def test_so_many_messages_over_no_more_connections_than_they_need(
    server_tls: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    async with NextHop(tls=server_tls, implicit_tls=True, users={USER: PASSWORD}) as hop:
        tally = await run(target(hop.port, trust), FEW)
        assert (tally.accepted, len(hop.messages), hop.violations) == (10, 10, [])
        assert {len(message.content) for message in hop.messages} == {1000}
        assert tally.sessions == len(tally.session_times) == hop.connections - 1  # one was the trial
        assert tally.sessions <= 5
        assert hop.most_open <= 3


async def test_a_session_per_message(server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    async with NextHop(tls=server_tls, implicit_tls=True, users={USER: PASSWORD}) as hop:
        tally = await run(target(hop.port, trust), replace(FEW, per_connection=1))
        assert (tally.accepted, tally.sessions, hop.connections) == (10, 10, 11)
        assert len(hop.sign_ins) == 11


@pytest.mark.parametrize("keywords", [("PIPELINING",), ()])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_pipelining_only_where_it_is_offered_and_wanted(keywords: tuple[str, ...], pipelining: bool) -> None:
    async with NextHop(keywords=keywords) as hop:
        tally = await run(target(hop.port, sign_in=False), replace(FEW, pipelining=pipelining))
        assert (tally.accepted, hop.violations) == (10, [])


@pytest.mark.parametrize("point", ["MAIL", "RCPT", "DATA", "DOT"])
@pytest.mark.parametrize("keywords", [("PIPELINING",), ()])
async def test_refusals_are_counted_by_reply_and_the_session_goes_on(point: str, keywords: tuple[str, ...]) -> None:
    refusal = "452 4.3.1 no room"
    async with NextHop(
        script={point: [refusal, "250 2.0.0 ok" if point != "DATA" else "354 go"]}, keywords=keywords
    ) as hop:
        tally = await run(target(hop.port, sign_in=False), replace(FEW, connections=1, per_connection=10))
        assert tally.refused == {refusal: 1}
        assert (tally.accepted, tally.sessions, hop.violations) == (9, 1, [])


async def test_a_354_although_all_recipients_were_refused_gets_no_content() -> None:
    async with NextHop(script={"RCPT": "550 5.1.1 nobody"}, lenient_data=True) as hop:
        tally = await run(target(hop.port, sign_in=False), replace(FEW, messages=2, connections=1))
        assert tally.refused == {"550 5.1.1 nobody": 2}
        assert all(message.content == b"" for message in hop.messages)


async def test_a_wrong_password_is_tried_once_and_not_by_every_connection(
    server_tls: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    async with NextHop(tls=server_tls, implicit_tls=True, users={USER: "another"}) as hop:
        with pytest.raises(SessionFailed, match=r"^535 "):
            await run(target(hop.port, trust), FEW)
        assert hop.connections == 1
        assert hop.messages == []


async def test_no_password_over_a_connection_without_tls(server_tls: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    async with NextHop(users={USER: PASSWORD}) as hop:  # STARTTLS is not offered
        with pytest.raises(SessionFailed, match="STARTTLS is not offered"):
            await run(target(hop.port, trust, starttls=True), FEW)
        assert not any(line.startswith("AUTH") for _, line in hop.commands)


async def test_a_certificate_that_is_not_trusted(server_tls: ssl.SSLContext) -> None:
    async with NextHop(tls=server_tls, implicit_tls=True, users={USER: PASSWORD}) as hop:
        with pytest.raises(SessionFailed, match="the certificate is not trusted"):
            await run(target(hop.port, ssl.create_default_context()), FEW)


async def test_a_server_that_breaks_connections_ends_a_run_by_count() -> None:
    async with NextHop(script={"DOT": DROP}) as hop:
        tally = await run(target(hop.port, sign_in=False), FEW)
        assert (tally.accepted, tally.failed.total()) == (0, 10)


async def test_421_ends_the_session_and_is_counted_by_its_text() -> None:
    async with NextHop(script={"MAIL": ["250 2.1.0 ok", Last("421 4.3.2 going down")]}) as hop:
        tally = await run(target(hop.port, sign_in=False), replace(FEW, connections=1))
        assert tally.accepted == 1
        assert tally.failed == {"421 4.3.2 going down": 9}


async def test_a_silent_server_is_given_up() -> None:
    async with NextHop(script={"MAIL": HANG}) as hop:
        goal = replace(target(hop.port, sign_in=False), patience=0.2)
        tally = await run(goal, replace(FEW, messages=1, connections=1))
        assert tally.failed == {"no reply in time": 1}


async def test_by_time_it_ends_and_finishes_what_is_in_hand() -> None:
    async with NextHop() as hop, asyncio.timeout(20):
        tally = await run(target(hop.port, sign_in=False), replace(FEW, messages=None, seconds=0.2))
        assert tally.accepted == len(hop.messages) > 0
        assert tally.failed.total() == 0
        assert tally.seconds >= 0.2


async def test_nobody_there() -> None:
    async with NextHop() as hop:
        port = hop.port
    with pytest.raises(SessionFailed, match="refused"):
        await run(target(port, sign_in=False), FEW)

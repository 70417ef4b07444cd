"""Setting up a session: greeting, EHLO, TLS, sign-in; what is refused, and how it is said."""

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.delivery.conftest import to_hop
from tests.delivery.memory import MemoryOutbox, make_envelope
from tests.support.certs import Authority
from tests.support.nexthop import DROP, HANG, Answer, Last, NextHop

from pillarbox.delivery import session as sessions
from pillarbox.delivery.consignment import Consignment, NextHopUnavailable, Report
from pillarbox.delivery.secrets import Secrets
from pillarbox.delivery.session import Session, open_session
from pillarbox.delivery.settings import AuthSettings, SmarthostRoute, TlsMode
from pillarbox.delivery.tls_policy import TlsSettingsError, client_context
from pillarbox.spool.base import Delivered

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[int]:
    """A server of a few lines, for what NextHop does not do; yields its port."""

    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await talk(reader, writer)
        writer.transport.abort()
        asyncio.get_running_loop().call_soon(ended.set)  # after connection_lost

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await ended.wait()


async def connect(route: SmarthostRoute, outbox: MemoryOutbox, *, timeout: float = 5.0) -> Session:
    return await open_session(
        route,
        host="pillar.test",
        outbox=outbox,
        secrets=Secrets(),
        context=lambda: client_context(route),
        connect_timeout=timeout,
    )


async def deliver(route: SmarthostRoute, outbox: MemoryOutbox) -> Report:
    session = await connect(route, outbox)
    outbox.commit(make_envelope())
    (lease,) = await outbox.lease(2e9, 1)
    report = await session.deliver(Consignment(lease, lease.recipients))
    await session.close()
    return report


async def refusal(route: SmarthostRoute, outbox: MemoryOutbox, *, timeout: float = 5.0) -> str:
    with pytest.raises(NextHopUnavailable) as caught:
        await connect(route, outbox, timeout=timeout)
    return str(caught.value)


# -- plain


async def test_ehlo_says_our_host_and_quit_ends_it(outbox: MemoryOutbox) -> None:
    async with NextHop() as hop:
        report = await deliver(to_hop(hop), outbox)
        await hop.until(lambda: hop.open_now == 0)
    assert isinstance(report.verdicts[0], Delivered)
    assert report.tls is None
    assert hop.commands[0] == (1, "EHLO pillar.test")
    assert hop.verbs() == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


async def test_server_without_ehlo_gets_helo_and_no_extension(outbox: MemoryOutbox) -> None:
    async with NextHop(script={"EHLO": "502 5.5.1 what?"}) as hop:
        report = await deliver(to_hop(hop), outbox)
    assert isinstance(report.verdicts[0], Delivered)
    assert hop.verbs()[:3] == ["EHLO", "HELO", "MAIL"]
    assert hop.messages[0].mail_parameters == ()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"CONNECT": "554 5.7.1 not for you"}, "4.3.2 the next hop does not greet: 554 5.7.1 not for you"),
        ({"CONNECT": "421 busy"}, "4.3.2 the next hop does not greet: 421 busy"),
        ({"CONNECT": DROP}, "4.4.2 setting up the session: "),
        ({"EHLO": DROP}, "4.4.2 setting up the session: "),
        ({"EHLO": "451 later"}, "4.3.2 EHLO was refused: 451 later"),
        ({"EHLO": "550 5.7.1 go", "HELO": "550 5.7.1 away"}, "4.3.2 EHLO was refused: 550 5.7.1 away"),
        ({"CONNECT": "HTTP/1.0 400 what"}, "4.5.0 the next hop broke the protocol while setting up the session"),
    ],
)
async def test_refused_set_up_is_said_with_its_reason(
    outbox: MemoryOutbox, script: dict[str, Answer], reason: str
) -> None:
    async with NextHop(script=script) as hop:
        assert (await refusal(to_hop(hop), outbox)).startswith(reason)
        await hop.until(lambda: hop.open_now == 0)


async def test_refused_connection(outbox: MemoryOutbox) -> None:
    async with NextHop() as hop:
        route = to_hop(hop)
    assert (await refusal(route, outbox)).startswith("4.4.1 connecting: ")


async def test_silent_next_hop(outbox: MemoryOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "GREETING_TIMEOUT", 0.2)
    async with NextHop(script={"CONNECT": HANG}) as hop:
        assert await refusal(to_hop(hop), outbox) == "4.4.2 no answer in time while setting up the session"


async def test_silent_tls_handshake_ends_with_the_connect_timeout(outbox: MemoryOutbox) -> None:
    async with NextHop(script={"CONNECT": HANG}) as hop:
        route = to_hop(hop, tls=TlsMode.TLS)
        assert await refusal(route, outbox, timeout=0.3) == "4.4.1 no answer in time while connecting"


async def test_quit_without_an_answer_does_not_hold_us(outbox: MemoryOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "QUIT_TIMEOUT", 0.1)
    async with NextHop(script={"QUIT": HANG}) as hop:
        assert isinstance((await deliver(to_hop(hop), outbox)).verdicts[0], Delivered)


async def test_source_address(outbox: MemoryOutbox) -> None:
    peers: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        writer.write(b"554 no\r\n")
        await reader.read()

    async with listening(talk) as port:
        await refusal(SmarthostRoute(("*",), "127.0.0.1", port, tls=TlsMode.NONE, source_address="127.0.0.9"), outbox)
    assert peers == ["127.0.0.9"]


# -- TLS


@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.TLS])
async def test_tls_with_a_pinned_ca(
    outbox: MemoryOutbox, server_tls: ssl.SSLContext, authority: Authority, mode: TlsMode
) -> None:
    async with NextHop(tls=server_tls, implicit_tls=mode is TlsMode.TLS) as hop:
        report = await deliver(to_hop(hop, tls=mode, ca=authority.ca), outbox)
    assert isinstance(report.verdicts[0], Delivered)
    assert report.tls is not None and report.tls[0] == "TLSv1.3"
    assert hop.messages[0].tls
    assert hop.violations == []
    if mode is TlsMode.STARTTLS:
        assert hop.verbs() == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


async def test_what_was_offered_outside_tls_is_forgotten(
    outbox: MemoryOutbox, server_tls: ssl.SSLContext, authority: Authority
) -> None:
    outside = "250-hop\n250-SIZE 10\n250 STARTTLS"
    inside = "250-hop\n250 PIPELINING"
    async with NextHop(tls=server_tls, script={"EHLO": [outside, inside]}) as hop:
        report = await deliver(to_hop(hop, tls=TlsMode.STARTTLS, ca=authority.ca), outbox)
    assert isinstance(report.verdicts[0], Delivered)
    assert hop.messages[0].mail_parameters == ()


async def test_plaintext_is_refused_when_starttls_is_not_offered(outbox: MemoryOutbox) -> None:
    async with NextHop(users={"u": "p"}) as hop:
        route = to_hop(hop, tls=TlsMode.STARTTLS)
        reason = await refusal(route, outbox)
        await hop.until(lambda: hop.open_now == 0)
    assert reason == "4.7.4 the route wants STARTTLS and the next hop does not offer it"
    assert hop.verbs() == ["EHLO"]


@pytest.mark.parametrize("answer", ["454 4.7.0 not now", "501 5.5.2 no"])
async def test_plaintext_is_refused_when_starttls_is_refused(
    outbox: MemoryOutbox, server_tls: ssl.SSLContext, answer: str
) -> None:
    async with NextHop(tls=server_tls, script={"STARTTLS": answer}) as hop:
        reason = await refusal(to_hop(hop, tls=TlsMode.STARTTLS), outbox)
        await hop.until(lambda: hop.open_now == 0)
    assert reason == f"4.7.4 STARTTLS was refused: {answer}"
    assert hop.verbs() == ["EHLO", "STARTTLS"]


async def test_reply_smuggled_in_before_the_handshake_ends_it(
    outbox: MemoryOutbox, server_tls: ssl.SSLContext, authority: Authority
) -> None:
    async with NextHop(tls=server_tls, script={"STARTTLS": "220 go\n250-hop\n250 AUTH PLAIN"}) as hop:
        reason = await refusal(to_hop(hop, tls=TlsMode.STARTTLS, ca=authority.ca), outbox)
        await hop.until(lambda: hop.open_now == 0)
    assert reason.startswith("4.5.0")
    assert "injection" in reason
    assert hop.verbs() == ["EHLO", "STARTTLS"]


@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.TLS])
async def test_untrusted_certificate(outbox: MemoryOutbox, server_tls: ssl.SSLContext, mode: TlsMode) -> None:
    async with NextHop(tls=server_tls, implicit_tls=mode is TlsMode.TLS) as hop:
        reason = await refusal(to_hop(hop, tls=mode), outbox)
        await hop.until(lambda: hop.open_now == 0)
    assert reason.startswith("4.7.5 ")
    assert "the certificate is not trusted" in reason
    assert "MAIL" not in hop.verbs()


async def test_certificate_of_another_name(
    outbox: MemoryOutbox, server_tls: ssl.SSLContext, authority: Authority
) -> None:
    async with NextHop(tls=server_tls) as hop:
        wrong = to_hop(hop, tls=TlsMode.STARTTLS, ca=authority.ca, tls_name="other.test")
        reason = await refusal(wrong, outbox)
        right = to_hop(hop, tls=TlsMode.STARTTLS, ca=authority.ca, tls_name="hop.test")
        report = await deliver(right, outbox)
    assert reason.startswith("4.7.5 ")
    assert "other.test" in reason
    assert isinstance(report.verdicts[0], Delivered)


@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.TLS])
async def test_pinned_fingerprint_needs_no_ca_and_no_name(
    outbox: MemoryOutbox, authority: Authority, mode: TlsMode
) -> None:
    issued = authority.issue("whatever.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    pin = issued.fingerprint.upper()
    spelled = ":".join(pin[start : start + 2] for start in range(0, len(pin), 2))
    async with NextHop(tls=context, implicit_tls=mode is TlsMode.TLS) as hop:
        report = await deliver(to_hop(hop, tls=mode, fingerprint=spelled), outbox)
        reason = await refusal(to_hop(hop, tls=mode, fingerprint="0" * 64), outbox)
        await hop.until(lambda: hop.open_now == 0)
    assert isinstance(report.verdicts[0], Delivered)
    assert reason.startswith("4.7.5 the certificate's sha256 fingerprint is ")
    assert issued.fingerprint in reason
    assert len(hop.messages) == 1


async def test_pin_beside_a_ca_checks_both(outbox: MemoryOutbox, authority: Authority) -> None:
    issued = authority.issue("other.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    async with NextHop(tls=context) as hop:
        route = to_hop(hop, tls=TlsMode.STARTTLS, ca=authority.ca, fingerprint=issued.fingerprint)
        assert "not trusted" in await refusal(route, outbox)


async def test_client_certificate_is_shown(
    outbox: MemoryOutbox, server_tls: ssl.SSLContext, authority: Authority
) -> None:
    server_tls.verify_mode = ssl.CERT_REQUIRED
    server_tls.load_verify_locations(authority.ca)
    mine = authority.issue("pillar.test", client=True)
    async with NextHop(tls=server_tls, implicit_tls=True) as hop:
        report = await deliver(
            to_hop(hop, tls=TlsMode.TLS, ca=authority.ca, client_certificate=mine.certificate, client_key=mine.key),
            outbox,
        )
        reason = await refusal(to_hop(hop, tls=TlsMode.TLS, ca=authority.ca), outbox)
    assert isinstance(report.verdicts[0], Delivered)
    assert reason.startswith("4.")


def test_unusable_tls_files_are_named(tmp_path: Path, authority: Authority) -> None:
    nothing = tmp_path / "nothing.pem"
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("not a certificate")
    mine = authority.issue("pillar.test")
    other = authority.issue("other.test")
    cases: list[tuple[dict[str, Path], str]] = [
        ({"ca": nothing}, f"ca {nothing}: No such file"),
        ({"ca": rubbish}, f"ca {rubbish}: not usable"),
        ({"client_certificate": nothing}, f"client_certificate {nothing}: No such file"),
        ({"client_certificate": rubbish}, f"client_certificate {rubbish}: not usable"),
        (
            {"client_certificate": mine.certificate, "client_key": other.key},
            f"client_certificate {mine.certificate}: not usable",
        ),
    ]
    for files, words in cases:
        with pytest.raises(TlsSettingsError) as caught:
            client_context(SmarthostRoute(("*",), "hop.test", 25, **files))  # type: ignore[arg-type]  # shorthand
        assert str(caught.value).startswith(words)


async def test_unusable_ca_defers_and_says_which(outbox: MemoryOutbox, tmp_path: Path) -> None:
    async with NextHop() as hop:
        route = to_hop(hop, tls=TlsMode.TLS, ca=tmp_path / "none.pem")
        assert await refusal(route, outbox) == f"4.3.5 ca {tmp_path}/none.pem: No such file or directory"


def test_old_tls_is_not_spoken() -> None:
    context = client_context(SmarthostRoute(("*",), "hop.test", 25))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


# -- sign-in


def signs_in(tmp_path: Path, mechanism: str, secret: str = "pässw0rd") -> AuthSettings:
    (tmp_path / "secret").write_text(secret + "\n")
    return AuthSettings(mechanism, "relay@example.org", secret_file=tmp_path / "secret")


@pytest.mark.parametrize(
    ("mechanism", "secret"),
    [
        ("PLAIN", "pässw0rd"),
        ("LOGIN", "pässw0rd"),
        ("SCRAM-SHA-256", "pässw0rd"),
        ("XOAUTH2", "abc.DEF-1=="),
        ("OAUTHBEARER", "abc.DEF-1=="),
    ],
)
async def test_sign_in(
    outbox: MemoryOutbox,
    server_tls: ssl.SSLContext,
    authority: Authority,
    tmp_path: Path,
    mechanism: str,
    secret: str,
) -> None:
    users = {"relay@example.org": secret}
    async with NextHop(tls=server_tls, users=users) as hop:
        auth = signs_in(tmp_path, mechanism, secret)
        report = await deliver(to_hop(hop, tls=TlsMode.STARTTLS, ca=authority.ca, auth=auth), outbox)
    assert isinstance(report.verdicts[0], Delivered)
    assert hop.sign_ins == [(mechanism, "relay@example.org", True)]
    assert hop.messages[0].login == "relay@example.org"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER"])
async def test_refused_sign_in_defers_and_no_secret_is_said(
    outbox: MemoryOutbox, tmp_path: Path, mechanism: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with NextHop(users={"relay@example.org": "right"}) as hop:
        reason = await refusal(to_hop(hop, auth=signs_in(tmp_path, mechanism, "Wr0ngSecret")), outbox)
        await hop.until(lambda: hop.open_now == 0)
    assert reason == "4.7.8 the sign-in as relay@example.org was refused: 535 5.7.8 wrong"
    assert "MAIL" not in hop.verbs()
    said = capfd.readouterr().out
    assert "next_hop.sign_in_refused" in said
    for form in ("Wr0ngSecret", "V3IwbmdTZWNyZXQ", "AHJlbGF5"):  # in the clear, and in base64
        assert form not in said


async def test_a_next_hop_that_says_yes_without_knowing_the_password_gets_no_mail(
    outbox: MemoryOutbox, tmp_path: Path
) -> None:
    async with NextHop(users={"relay@example.org": "right"}) as hop:
        hop.proves_itself = False
        reason = await refusal(to_hop(hop, auth=signs_in(tmp_path, "SCRAM-SHA-256", "right")), outbox)
    assert reason == "4.7.0 the next hop says yes and has not proven that it knows the password"
    assert "MAIL" not in hop.verbs()


async def test_temporary_refusal_of_the_sign_in(outbox: MemoryOutbox, tmp_path: Path) -> None:
    async with NextHop(users={}, script={"AUTH": "454 4.7.0 directory down"}) as hop:
        reason = await refusal(to_hop(hop, auth=signs_in(tmp_path, "PLAIN")), outbox)
    assert reason.endswith("454 4.7.0 directory down")


async def test_connection_lost_at_the_sign_in(outbox: MemoryOutbox, tmp_path: Path) -> None:
    async with NextHop(users={}, script={"AUTH": DROP}) as hop:
        reason = await refusal(to_hop(hop, auth=signs_in(tmp_path, "PLAIN")), outbox)
    assert reason.startswith("4.4.2 ")


@pytest.mark.parametrize(("offered", "said"), [((), "nothing"), (("LOGIN", "X-OWN"), "LOGIN X-OWN")])
async def test_mechanism_that_is_not_offered(
    outbox: MemoryOutbox, tmp_path: Path, offered: tuple[str, ...], said: str
) -> None:
    async with NextHop(users={} if offered else None, mechanisms=offered) as hop:
        reason = await refusal(to_hop(hop, auth=signs_in(tmp_path, "PLAIN")), outbox)
    assert reason == f"4.7.0 the route signs in by PLAIN, the next hop offers {said}"
    assert "AUTH" not in hop.verbs()


async def test_endless_sign_in_is_left(outbox: MemoryOutbox, tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hop\r\n")
        await reader.readline()
        writer.write(b"250-hop\r\n250 AUTH LOGIN\r\n")
        while await reader.readline():
            writer.write(b"334 YWdhaW4=\r\n")

    async with listening(talk) as port:
        auth = signs_in(tmp_path, "LOGIN")
        reason = await refusal(SmarthostRoute(("*",), "127.0.0.1", port, tls=TlsMode.NONE, auth=auth), outbox)
    assert reason.startswith("4.5.0")


async def test_missing_secret_is_no_reason_to_send_without_it(outbox: MemoryOutbox, tmp_path: Path) -> None:
    async with NextHop(users={}) as hop:
        auth = AuthSettings("PLAIN", "u", secret_file=tmp_path / "none")
        reason = await refusal(to_hop(hop, auth=auth), outbox)
    assert reason == f"4.3.0 no secret to sign in with: {tmp_path}/none: No such file or directory"
    assert "MAIL" not in hop.verbs()


async def test_secret_that_the_mechanism_cannot_carry(outbox: MemoryOutbox, tmp_path: Path) -> None:
    async with NextHop(users={}) as hop:
        reason = await refusal(to_hop(hop, auth=signs_in(tmp_path, "XOAUTH2", "not a token")), outbox)
    assert reason == "4.3.5 XOAUTH2 needs a user and a bearer token"


async def test_refused_token_is_fetched_anew_for_the_next_connection(outbox: MemoryOutbox, tmp_path: Path) -> None:
    log = tmp_path / "runs"
    log.write_text("")
    program = (
        f"log = open({str(log)!r}, 'a+'); log.seek(0); print('old' if not log.read() else 'new'); log.write('x')"
    )
    auth = AuthSettings("XOAUTH2", "u", secret_command=(sys.executable, "-c", program))
    secrets = Secrets()
    async with NextHop(users={"u": "new"}) as hop:
        route = to_hop(hop, auth=auth)

        async def once() -> Session:
            return await open_session(
                route,
                host="pillar.test",
                outbox=outbox,
                secrets=secrets,
                context=lambda: client_context(route),
                connect_timeout=5.0,
            )

        with pytest.raises(NextHopUnavailable):
            await once()
        for _ in range(2):
            await (await once()).close()
    assert [right for _, _, right in hop.sign_ins] == [False, True, True]
    assert log.read_text() == "xx"


async def test_421_after_the_greeting(outbox: MemoryOutbox) -> None:
    async with NextHop(script={"EHLO": Last("421 4.3.2 down")}) as hop:
        assert await refusal(to_hop(hop), outbox) == "4.3.2 EHLO was refused: 421 4.3.2 down"

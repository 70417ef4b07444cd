"""A device's credentials are good at its legacy site and nowhere else, and nobody else's are good there: with every
mechanism, as if the password were wrong."""

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import scramp  # type: ignore[import-untyped]  # it ships no types
from tests.support.office import DEVICE, MECHANISMS, PASSWORDS, PERSON, Office, alias_of, office, token
from tests.support.submission import Talker, talker

FAILED = ["5.7.8 Authentication credentials invalid"]
Said = list[tuple[int, list[str]]]


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@asynccontextmanager
async def session(place: Office, port: int, login: str = "") -> AsyncIterator[Talker]:
    """Inside TLS; with a login its certificate is shown."""
    async with await talker(port, tls=place.context(login)) as client:
        await client.expect(220)
        await client.command("EHLO client.example", 250)
        yield client


async def attempt(client: Talker, mechanism: str, login: str, password: str) -> Said:
    """Signs in by a mechanism; returns each reply. A wrong password is also a wrong token."""
    said: Said = []

    async def say(line: str) -> str:
        client.say(line.encode() + b"\r\n")
        said.append(await client.reply())
        return said[-1][1][0]

    match mechanism:
        case "PLAIN":
            await say(f"AUTH PLAIN {b64(f'{chr(0)}{login}{chr(0)}{password}')}")
        case "LOGIN":
            for line in ("AUTH LOGIN", b64(login), b64(password)):
                await say(line)
        case "EXTERNAL":
            await say("AUTH EXTERNAL =")
        case "SCRAM-SHA-256":
            peer = scramp.ScramClient(["SCRAM-SHA-256"], login, password)
            first = await say(f"AUTH SCRAM-SHA-256 {b64(peer.get_client_first())}")
            said.pop()  # salts differ
            peer.set_server_first(base64.b64decode(first).decode())
            await say(b64(peer.get_client_final()))
            if said[-1][0] == 334:
                await say("")
        case _:
            bearer = token(login if password == PASSWORDS[login] else "nobody")
            ours = f"user={login}" if mechanism == "XOAUTH2" else f"n,a={login},"
            await say(f"AUTH {mechanism} {b64(f'{ours}{chr(1)}auth=Bearer {bearer}{chr(1)}{chr(1)}')}")
            if said[-1][0] == 334:
                await say("AQ==" if mechanism == "OAUTHBEARER" else "")
    return said


def sites(place: Office) -> tuple[tuple[int, str, str], ...]:
    """Each site's port inside TLS, who is at home there, and who is not."""
    return (place.normal_tls, PERSON, DEVICE), (place.legacy_tls, DEVICE, PERSON)


@pytest.mark.parametrize("mechanism", [name for name in MECHANISMS if name != "EXTERNAL"])
async def test_right_credentials_at_the_wrong_site_are_answered_as_wrong_ones(tmp_path: Path, mechanism: str) -> None:
    async with office(tmp_path) as place:
        guard = place.server.guard
        for port, at_home, foreign in sites(place):
            async with session(place, port) as client:
                wrong = await attempt(client, mechanism, foreign, "wrong")
                assert wrong[-1] == (535, FAILED)
                counted = len(guard.failures)
                assert await attempt(client, mechanism, foreign, PASSWORDS[foreign]) == wrong
                assert len(guard.failures) == counted + 1
                assert guard.failures[-1].login == foreign
                assert not [one for one in guard.successes if one.login == foreign]
                await client.command(f"MAIL FROM:<{foreign}>", 530)
                assert (await attempt(client, mechanism, at_home, PASSWORDS[at_home]))[-1][0] == 235
                await client.command(f"MAIL FROM:<{at_home}>", 250)
            guard.successes.clear()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_an_alias_is_good_where_its_account_is_and_nothing_is_told_of_it_elsewhere(
    tmp_path: Path, mechanism: str
) -> None:
    async with office(tmp_path) as place:
        for port, at_home, foreign in sites(place):
            async with session(place, port) as client:
                said = await attempt(client, mechanism, alias_of(foreign), PASSWORDS[foreign])
                assert said == [(535, FAILED)], "no signature of ours, which would confirm the password"
                assert (await attempt(client, mechanism, f"CN={alias_of(at_home)}", PASSWORDS[at_home]))[-1][0] == 235
                await client.command(f"MAIL FROM:<{at_home}>", 250)


async def test_a_certificate_at_the_wrong_site_is_nobodys(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        for port, at_home, foreign in sites(place):
            async with session(place, port, foreign) as client:
                assert await attempt(client, "EXTERNAL", "", "") == [(535, FAILED)]
                await client.sign_in(at_home, PASSWORDS[at_home])
            async with session(place, port, at_home) as client:
                assert (await attempt(client, "EXTERNAL", "", ""))[-1][0] == 235


@pytest.mark.usefixtures("json_log")
async def test_a_certificate_signs_nobody_in_by_itself_at_the_wrong_site(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with office(tmp_path, site={"certificate_signs_in": True}) as place:
        for port, at_home, foreign in sites(place):
            async with session(place, port, foreign) as client:
                await client.command(f"MAIL FROM:<{foreign}>", 530)
            async with session(place, port, at_home) as client:
                await client.command(f"MAIL FROM:<{at_home}>", 250)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [one["reason"] for one in lines if one["event"] == "signin.certificate_unknown"] == ["elsewhere"] * 2


@pytest.mark.usefixtures("json_log")
async def test_the_log_says_what_the_peer_is_not_told(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with office(tmp_path) as place, session(place, place.normal_tls) as client:
        await client.sign_in(DEVICE.upper(), PASSWORDS[DEVICE], 535)
        await client.sign_in(DEVICE, "wrong", 535)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    failed = [(one["login"], one["reason"], one["site"]) for one in lines if one["event"] == "signin.failed"]
    assert failed == [(DEVICE.upper(), "elsewhere", "mail.example.org"), (DEVICE, "wrong", "mail.example.org")]


async def test_a_right_password_at_the_wrong_site_is_answered_at_the_fixed_time(tmp_path: Path) -> None:
    fixed = 0.3
    async with (
        office(tmp_path, site={"failed_sign_in_time": fixed}) as place,
        session(place, place.normal_tls) as client,
    ):
        for password in (PASSWORDS[DEVICE], "wrong", PASSWORDS[DEVICE]):  # hashed, and remembered
            began = time.monotonic()
            await client.sign_in(DEVICE, password, 535)
            assert time.monotonic() - began >= fixed


async def test_the_salt_of_a_login_at_the_wrong_site_is_one_like_nobodys(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        salts = {}
        for port, names in (
            (place.normal_tls, (DEVICE, DEVICE.upper(), DEVICE.lower())),
            (place.normal_tls, ("nobody", "NOBODY")),
            (place.legacy_tls, (DEVICE,)),
        ):
            async with session(place, port) as client:
                for name in names:
                    (first,) = await client.command(f"AUTH SCRAM-SHA-256 {b64(f'n,,n={name},r=abc')}", 334)
                    salts[port, name] = base64.b64decode(first).decode().split(",")[1:]
                    await client.command("*", 501)
        here = [salts[place.normal_tls, name] for name in (DEVICE, DEVICE.upper(), DEVICE.lower())]
        assert here[0] == here[1] == here[2] != salts[place.legacy_tls, DEVICE]
        assert salts[place.normal_tls, "nobody"] == salts[place.normal_tls, "NOBODY"]


async def test_a_name_that_cannot_be_is_answered_like_any_other(tmp_path: Path) -> None:
    async with office(tmp_path) as place:
        for port, _, _ in sites(place):
            async with session(place, port) as client:
                assert await client.sign_in("a\u0007b", "x", 535) == FAILED
                await client.command(f"AUTH SCRAM-SHA-256 {b64(f'n,,n=a{chr(7)}b,r=abc')}", 334)
                await client.command("*", 501)


@pytest.mark.parametrize("without", [DEVICE, PERSON])
async def test_an_account_without_a_secret_counts_where_it_signs_in_and_nowhere_else(
    tmp_path: Path, without: str
) -> None:
    async with office(tmp_path, without_scram=without) as place:
        for port, at_home, _ in sites(place):
            async with session(place, port) as client:
                lines = await client.command("EHLO device.example", 250)
                (offered,) = [line for line in lines if line.startswith("AUTH ")]
                assert ("SCRAM-SHA-256" in offered) is (at_home != without)

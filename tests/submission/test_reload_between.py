"""A reload that comes between a connection's being made and its session: one plan decides all of it."""

import asyncio
import base64
from dataclasses import replace
from pathlib import Path

from tests.support.office import PASSWORDS, PERSON, office
from tests.support.submission import talker

from pillarbox.directory.chain import Member
from pillarbox.submission.site import make_plans

TURNS = 60


async def test_a_reload_that_ends_a_legacy_site_takes_no_password_in_the_clear(tmp_path: Path) -> None:
    """The address was a legacy site's a moment ago; now people sign in there, and never outside TLS."""
    response = base64.b64encode(f"\0{PERSON}\0{PASSWORDS[PERSON]}".encode())
    answers: set[int] = set()

    async with office(tmp_path, plaintext=True) as place:
        role, normal, legacy = place.server.role, place.server.site, place.legacy_site
        directory = role._plans[normal.submission[0]].default.directory
        addresses = legacy.submission

        async def visit() -> None:
            async with await talker(place.legacy) as client:
                _, (greeting, *_) = await client.reply()
                client.say(b"EHLO x\r\nAUTH PLAIN " + response + b"\r\n")
                await client.reply()
                code, _ = await client.reply()
                if greeting.startswith(normal.name):
                    answers.add(code)

        visits: list[asyncio.Task[None]] = []
        for turn in range(TURNS):
            for ours, theirs in (((), addresses), (addresses, ())):
                sites = [
                    replace(normal, submission=(normal.submission[0], *ours)),
                    replace(legacy, submission=theirs),
                ]
                role.apply(make_plans(sites, {"local": Member("local", directory)}))
                await role.refresh()
                if theirs:
                    visits = [asyncio.create_task(visit()) for _ in range(8)]
                    for _ in range(turn % 8):  # at one of them the connection is made and not yet accepted
                        await asyncio.sleep(0)
            await asyncio.gather(*visits, return_exceptions=True)
    assert answers == {530}

"""A chain of local accounts and a mailbox server: a slow server slows nobody else, an attack does not get through to
it, and what it may get is counted over a restart."""

import asyncio
import itertools
import re
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.line_server import LineServer, Peer, line_server
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

ANNA, RIGHT = "anna@example.org", "the mailbox password"
TRIES = 4
ADDRESSES = 50
CONTENT = b"From: ada@example.org\r\nSubject: s\r\n\r\ntext\r\n"
LOGIN = re.compile(rb'\S+ LOGIN "([^"]*)" "([^"]*)"')


class Mailboxes:
    """An IMAP server that counts the passwords that it is asked about and answers while ``answers`` is set."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()
        self.begun = asyncio.Event()
        self.asked: Counter[tuple[str, str]] = Counter()

    async def talk(self, peer: Peer) -> None:
        await peer.say(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        while line := await peer.line():
            tag, _, command = line.partition(b" ")
            if command == b"LOGOUT":
                return
            found = LOGIN.fullmatch(line)
            if found is not None:
                login, password = found[1].decode(), found[2].decode()
                self.asked[login, password] += 1
                self.begun.set()
                await self.answers.wait()
                await peer.say(tag + (b" OK in\r\n" if password == RIGHT else b" NO no\r\n"))
            else:
                await peer.say(tag + b" OK yes\r\n")

    def wrong(self, login: str = ANNA) -> int:
        """Wrong passwords of this person that came here."""
        return sum(count for (who, password), count in self.asked.items() if who == login and password != RIGHT)


@pytest.fixture
async def mailboxes() -> AsyncIterator[tuple[Mailboxes, LineServer]]:
    made = Mailboxes()
    async with line_server(made.talk) as server:
        yield made, server


@pytest.fixture
async def daemon(
    mailboxes: tuple[Mailboxes, LineServer],
    tmp_path: Path,
    authority: Authority,
    request: pytest.FixtureRequest,
    password: str,
) -> RunningDaemon:
    directories = f"""
[guard]
max_delay = "0s"
[[directory]]
name = "local"
[[directory]]
kind = "imap"
name = "mailboxes"
servers = ["127.0.0.1:{mailboxes[1].port}"]
tls = "none"
domains = ["example.org"]
wrong_tries = {TRIES}
timeout = "20s"
"""
    server = await asyncio.to_thread(
        start_daemon,
        tmp_path,
        authority,
        at_end=request.addfinalizer,
        server=("submission_workers = 2",),
        site=('directories = ["local", "mailboxes"]',),
        extra=directories,
    )
    await asyncio.to_thread(server.user, "ada", password, ["ada@example.org"])
    return server


def sign_in(daemon: RunningDaemon, user: str, password: str, source: str = "") -> str:
    """What a session of its own is answered."""
    with Talk(daemon.submissions, daemon.ca, source=source) as talk:
        talk.say("EHLO client.example.org")
        return talk.sign_in(user, password)


def send(daemon: RunningDaemon, password: str) -> str:
    """Ada's message, in a session of its own."""
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", password).startswith("235")
        talk.say("MAIL FROM:<ada@example.org>")
        talk.say("RCPT TO:<bob@elsewhere.example>")
        talk.say("DATA")
        talk.send(CONTENT)
        return talk.say(".")


def wait_for_metric(daemon: RunningDaemon, name: str) -> None:
    """Until the endpoint shows it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{daemon.metrics}/metrics", timeout=20) as page:
            if name.encode() in page.read():
                return
        time.sleep(0.1)
    raise AssertionError(f"no {name}")


async def attack(daemon: RunningDaemon, rounds: int, words: "itertools.count[int]") -> list[str]:
    """Guesses at Anna's password from many addresses at once; the answers."""

    def guess(address: int) -> list[str]:
        source = f"127.77.0.{address + 1}"
        return [sign_in(daemon, ANNA, f"guess {next(words)}", source) for _ in range(rounds)]

    with ThreadPoolExecutor(ADDRESSES) as threads:
        loop = asyncio.get_running_loop()
        guesses = [loop.run_in_executor(threads, guess, number) for number in range(ADDRESSES)]
        return [answer for each in await asyncio.gather(*guesses) for answer in each]


async def test_a_server_that_does_not_answer_slows_only_who_needs_it(
    daemon: RunningDaemon, mailboxes: tuple[Mailboxes, LineServer], password: str
) -> None:
    behind, _ = mailboxes
    assert (await asyncio.to_thread(send, daemon, password)).startswith("250")
    behind.answers.clear()
    behind.begun.clear()
    loop, threads = asyncio.get_running_loop(), ThreadPoolExecutor(8)
    waiting = [
        loop.run_in_executor(threads, sign_in, daemon, f"person{number}@example.org", RIGHT) for number in range(8)
    ]
    async with asyncio.timeout(20):
        await behind.begun.wait()
    for _ in range(10):
        assert (await asyncio.to_thread(send, daemon, password)).startswith("250")
    assert not any(task.done() for task in waiting), "all that while nobody of the other directory was answered"
    behind.answers.set()
    assert {(await task)[:3] for task in waiting} == {"235"}
    threads.shutdown()
    assert await asyncio.to_thread(daemon.stop) == 0


async def test_an_attack_reaches_the_server_no_more_often_than_was_set(
    daemon: RunningDaemon, mailboxes: tuple[Mailboxes, LineServer], password: str
) -> None:
    behind, _ = mailboxes
    assert (await asyncio.to_thread(sign_in, daemon, "ada", password)).startswith("235"), "this place is known now"
    words = itertools.count()
    answers = await attack(daemon, 3, words)
    assert {answer[:9] for answer in answers} == {"535 5.7.8"}
    assert behind.wrong() == TRIES // 2, "half of the tries is for strangers"
    assert (await asyncio.to_thread(sign_in, daemon, ANNA, RIGHT)).startswith("235"), "the owner gets in"
    reasons = Counter(line["reason"] for line in daemon.log() if line.get("event") == "signin.failed")
    assert reasons == {"opaque": TRIES // 2, "locked": len(answers) - TRIES // 2}
    await asyncio.to_thread(wait_for_metric, daemon, 'pillarbox_directory_tries_refused_total{directory="mailboxes"}')

    await asyncio.to_thread(daemon.kill9)
    await asyncio.to_thread(daemon.start)
    await attack(daemon, 1, words)
    assert behind.wrong() == TRIES // 2, "a restart forgets none of them"
    for number in range(TRIES):
        await asyncio.to_thread(sign_in, daemon, ANNA, f"typing error {number}")
    assert behind.wrong() == TRIES
    assert await asyncio.to_thread(daemon.stop) == 0

"""Silence, and what it may cost the others: connections that say nothing, and a drain while they are there."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.talk import Talk

A_SECOND = 150
LOBBY = 200


@pytest.fixture
def daemon(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> RunningDaemon:
    site = (f"max_unauthenticated_sessions = {LOBBY}",)
    server = ('drain_time = "100s"',)
    daemon = start_daemon(tmp_path, authority, at_end=request.addfinalizer, server=server, site=site)
    daemon.user("ada", "secret words", ["ada@example.org"])
    return daemon


@contextlib.contextmanager
def silence(daemon: RunningDaemon) -> Iterator[list[socket.socket]]:
    """New connections all the time, each from an address of its own, that say nothing and stay."""
    end, held = threading.Event(), list[socket.socket]()

    def go_on() -> None:
        for number in range(60 * A_SECOND):
            if end.wait(1 / A_SECOND):
                return
            source = (f"127.66.{number // 250}.{1 + number % 250}", 0)
            with contextlib.suppress(OSError):
                held.append(socket.create_connection(("127.0.0.1", daemon.submissions), 5, source))

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield held
    finally:
        end.set()
        thread.join()
        for each in held:
            each.close()


def wait_for_full_lobby(held: list[socket.socket]) -> None:
    for _ in range(600):
        if len(held) > 2 * LOBBY:
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"{len(held)} connections in 30 s")


def test_connections_that_say_nothing_do_not_keep_a_new_place_from_signing_in(daemon: RunningDaemon) -> None:
    """They once took the turns of those who would have spoken."""
    with silence(daemon) as held:
        wait_for_full_lobby(held)
        with Talk(daemon.submissions, daemon.ca, source="127.77.0.1") as talk:
            talk.say("EHLO x")
            assert talk.sign_in("ada", "secret words").startswith("235")


def test_connections_that_say_nothing_do_not_hold_up_the_end(daemon: RunningDaemon) -> None:
    """A worker with nobody in a transaction has nothing to wait for, whatever drain_time allows."""
    held = [socket.create_connection(("127.0.0.1", daemon.submissions)) for _ in range(20)]
    with Talk(daemon.submissions, daemon.ca) as talk:  # behind all of them: by now they were accepted
        talk.say("EHLO x")
        assert daemon.stop(timeout=50) == 0
    for each in held:
        each.close()

"""A running daemon with Ada's account, for the scenarios."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon

PASSWORD = "correct horse battery staple"


@pytest.fixture
def password() -> str:
    """Ada's password."""
    return PASSWORD


@pytest.fixture
def daemon(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> RunningDaemon:
    """A daemon of the test's own, whose mail goes into a maildir."""
    server = start_daemon(tmp_path, authority, at_end=request.addfinalizer)
    server.user("ada", PASSWORD, ["ada@example.org"])
    return server


@pytest.fixture(scope="module")
def shared_daemon(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, request: pytest.FixtureRequest
) -> Iterator[RunningDaemon]:
    """One daemon for all tests of a file that only talk to it."""
    server = start_daemon(tmp_path_factory.mktemp("shared"), authority, at_end=request.addfinalizer)
    server.user("ada", PASSWORD, ["ada@example.org"])
    yield server
    assert server.stop() == 0

"""Fixtures of every test: certificates made once per run, a fake clock, a small name server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.support.certs import Authority
from tests.support.clients import sample_message
from tests.support.clock import FakeClock
from tests.support.nameserver import NameServer
from tests.support.postgres import Postgres, running_postgres

from pillarbox.telemetry.events import configure

# The same examples on every machine, every time; time never decides a test. `make fuzz` looks for new ones.
exploring = "PILLARBOX_FUZZ_EXAMPLES" in os.environ
settings.register_profile(
    "pillarbox",
    derandomize=not exploring,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine is no finding
)
settings.load_profile("pillarbox")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority for this run; ``authority.issue("mail.example.org")`` makes a server certificate."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def clock() -> FakeClock:
    """A clock that goes only when told to."""
    return FakeClock()


@pytest.fixture
def json_log() -> Iterator[None]:
    """This process logs everything as JSON, and as before when the test has ended."""
    configure(form="json", level="debug")
    yield
    configure(form="readable")


@pytest.fixture
def nameserver() -> Iterator[NameServer]:
    """A name server on a free port of 127.0.0.1, without a record yet."""
    with NameServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A node of PostgreSQL for this run, started when first asked for; each test makes a database of its own."""
    with running_postgres() as node:
        yield node


@pytest.fixture
def message_path(tmp_path: Path) -> Path:
    """A UTF-8 message with an attachment, as octets in a file."""
    path = tmp_path / "message.eml"
    path.write_bytes(sample_message())
    return path

"""One slapd for the tests of this folder; who stops or hangs one starts their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.slapd import Slapd


@pytest.fixture(scope="session")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """Running, with its three trees."""
    folder: Path = tmp_path_factory.mktemp("slapd")
    server = Slapd(folder, Authority(folder))
    server.load()
    server.start()
    yield server
    server.stop()

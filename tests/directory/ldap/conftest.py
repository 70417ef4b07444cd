"""One slapd for the tests of this folder; who stops or hangs one starts their own.

Without python-ldap, which comes as source only, what imports it is left out; in CI that is an error.
"""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.support.certs import Authority
from tests.support.slapd import Slapd

collect_ignore: list[str] = []
if find_spec("ldap") is None and "CI" not in os.environ:
    collect_ignore += ["test_backend.py", "test_failures.py", "test_many.py", "test_presets.py"]


@pytest.fixture(scope="session")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """Running, with its three trees."""
    folder: Path = tmp_path_factory.mktemp("slapd")
    server = Slapd(folder, Authority(folder))
    server.load()
    server.start()
    yield server
    server.stop()

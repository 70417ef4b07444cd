"""The certificates role: where its sockets come from, when it cannot start, what a reload changes."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.ports import steady_ports

from pillarbox.config import Settings, parse
from pillarbox.daemon import certificates_role, entry, notify, paths
from pillarbox.daemon.certificates_role import CertificatesRole
from pillarbox.daemon.process import CannotStart, PrepareRefused
from pillarbox.daemon.sockets import Sockets, close
from pillarbox.submission.settings import Address

NAME = "acme.example.org"


def settings_for(tmp_path: Path, port: int, responder: int, more: str = "") -> Settings:
    """One site on ``port`` that wants a certificate, and where challenges are answered."""
    text = (
        '[server]\ndata_directory = "data"\nrun_directory = "run"\nsubmission_workers = 2\n'
        f'[[site]]\nname = "{NAME}"\nsubmission = ["127.0.0.1:{port}"]\ncertificate = "acme"\n'
        "[acme]\nagree_to_terms = true\n"
        f'listen = ["127.0.0.1:{responder}"]\n{more}[[route]]\nhost = "mx.example.org"\n'
    )
    return parse(text, tmp_path / "pillarbox.toml")


def without(tmp_path: Path) -> Settings:
    """A configuration in which nobody wants one."""
    text = (
        f'[[site]]\nname = "{NAME}"\nsubmission = ["127.0.0.1:5587"]\ncertificate = "c.pem"\nkey = "k.pem"\n'
        '[[route]]\nhost = "mx.example.org"\n'
    )
    return parse(text, tmp_path / "pillarbox.toml")


@pytest.fixture
def bound() -> Iterator[list[Sockets]]:
    """What a test binds is closed."""
    kept: list[Sockets] = []
    yield kept
    close(kept)


def test_the_tree_binds_the_responders_port_beside_the_sites(tmp_path: Path, bound: list[Sockets]) -> None:
    port, responder = steady_ports(2)
    workers, own = entry._sockets(settings_for(tmp_path, port, responder))
    bound += [*workers, own]
    assert [list(each) for each in workers] == [[Address("127.0.0.1", port)]] * 2
    assert list(own) == [Address("127.0.0.1", responder)]


def test_with_a_hook_or_without_a_site_that_wants_one_there_is_none(tmp_path: Path) -> None:
    assert certificates_role.addresses(without(tmp_path)) == []
    text = settings_for(tmp_path, 5587, 8080).text.replace('listen = ["127.0.0.1:8080"]', 'hook = ["x"]')
    assert certificates_role.addresses(parse(text, tmp_path / "pillarbox.toml")) == []


def test_a_port_that_is_taken_ends_the_start_and_lets_the_others_go(tmp_path: Path) -> None:
    (port,) = steady_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        responder = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{responder}"):
            entry._sockets(settings_for(tmp_path, port, responder))
    socket.create_server(("127.0.0.1", port)).close()


def test_systemd_passes_all_and_each_goes_where_it_belongs(
    tmp_path: Path, bound: list[Sockets], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    port, responder = first.getsockname()[1], second.getsockname()[1]
    passed = [os.dup(second.fileno()), os.dup(first.fileno())]
    first.close()
    second.close()
    monkeypatch.setattr(notify, "take_listen_fds", lambda _: passed)
    workers, own = entry._sockets(settings_for(tmp_path, port, responder))
    bound += [workers[0], own]
    assert list(workers[0]) == [Address("127.0.0.1", port)]
    assert list(own) == [Address("127.0.0.1", responder)]


def test_it_is_needed_only_where_a_site_wants_it(tmp_path: Path) -> None:
    assert paths.needed(without(tmp_path)) == paths.ROLES
    assert paths.needed(settings_for(tmp_path, 5587, 8080)) == paths.ALL_ROLES


async def test_without_a_site_or_the_library_it_says_why_it_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CannotStart, match='no site has certificate = "acme"'):
        await CertificatesRole(without(tmp_path), 0).start()
    monkeypatch.setattr(certificates_role, "missing_library", lambda: "install it: pip install pillarbox[acme]")
    with pytest.raises(CannotStart, match="pip install"):
        await CertificatesRole(settings_for(tmp_path, 5587, 8080), 0).start()


async def test_a_reload_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    (responder,) = steady_ports(1)
    role = CertificatesRole(settings_for(tmp_path, 5587, responder), 0)
    await role.start()
    try:
        with pytest.raises(PrepareRefused, match="no site has"):
            await role.prepare(without(tmp_path))
        commit = await role.prepare(settings_for(tmp_path, 5587, responder, 'email = "a@example.org"\n'))
        assert commit() is None
        assert role.status() == {"acme": {}}, "nothing was looked at yet"
    finally:
        await role.close()
    socket.create_server(("127.0.0.1", responder)).close()

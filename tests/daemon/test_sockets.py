"""Listening sockets: bound, described, inherited, adopted from socket activation."""

import os
import socket
from pathlib import Path

import pytest
from tests.support.ports import steady_ports

from pillarbox.daemon import notify, sockets
from pillarbox.submission.settings import Address


def test_each_worker_has_a_socket_of_its_own_for_each_address() -> None:
    addresses = [Address("127.0.0.1", port) for port in steady_ports(2)] + [Address("::1", steady_ports(1)[0])]
    bound = sockets.bind(addresses, 3)
    assert [list(own) for own in bound] == [addresses] * 3
    assert len({own[address].fileno() for own in bound for address in addresses}) == 9
    socket.create_connection((addresses[0].host, addresses[0].port)).close()
    sockets.close(bound)


def test_an_address_in_use_is_named_and_the_others_are_closed_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free, used = Address("127.0.0.1", steady_ports(1)[0]), Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(OSError, match=f"cannot listen on {used}: Address already in use"):
            sockets.bind([free, used], 1)
        sockets.close(sockets.bind([free], 1))


def test_one_worker_alone_does_not_share_its_port_with_another_program() -> None:
    (port,) = steady_ports(1)
    bound = sockets.bind([Address("127.0.0.1", port)], 1)
    with pytest.raises(OSError, match="in use"):
        sockets.bind([Address("127.0.0.1", port)], 2)
    sockets.close(bound)


def test_inherited_sockets_are_found_by_address_and_not_inherited_further() -> None:
    addresses = [Address("127.0.0.1", steady_ports(1)[0]), Address("::1", steady_ports(1)[0])]
    (own,) = sockets.bind(addresses, 1)
    copies = {address: socket.socket(fileno=os.dup(own[address].fileno())) for address in addresses}
    environment = {sockets.VARIABLE: sockets.describe(copies)}
    descriptors = {address: copy.detach() for address, copy in copies.items()}
    inherited = sockets.inherit(environment)
    assert {address: listening.fileno() for address, listening in inherited.items()} == descriptors
    assert not any(listening.get_inheritable() or listening.getblocking() for listening in inherited.values())
    sockets.close((own, inherited))


@pytest.mark.parametrize("value", ["x", "3=", "3=127.0.0.1", "=127.0.0.1:25", "3=[::1:587"])
def test_a_malformed_inheritance_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=sockets.VARIABLE):
        sockets.inherit({sockets.VARIABLE: value})


def test_without_inheritance_there_is_none() -> None:
    assert sockets.inherit({}) == {}


def test_activated_sockets_are_matched_with_the_configured_addresses() -> None:
    first, second = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    wanted = [Address(*listening.getsockname()) for listening in (first, second)]
    adopted = sockets.adopt([second.detach(), first.detach()], wanted)
    assert {address: listening.getsockname()[1] for address, listening in adopted.items()} == {
        address: address.port for address in wanted
    }
    sockets.close((adopted,))


def test_an_activated_socket_on_a_wildcard_takes_nobodys_own_address() -> None:
    wildcard, own = socket.socket(), socket.socket()
    for listening in (wildcard, own):
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    wildcard.bind(("", 0))
    port = wildcard.getsockname()[1]
    own.bind(("127.0.0.9", port))
    devices, people = Address("127.0.0.9", port), Address("127.0.0.8", port)
    adopted = sockets.adopt([wildcard.detach(), own.detach()], [devices, people])
    assert adopted[devices].getsockname()[0] == "127.0.0.9"
    assert adopted[people].getsockname()[0] != "127.0.0.9"
    sockets.close((adopted,))


def test_an_activated_socket_that_no_site_has_is_named() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    with pytest.raises(OSError, match=f"systemd passed a socket on 127.0.0.1:{port}, which no site has"):
        sockets.adopt([listening.detach()], [Address("127.0.0.1", 587)])


def test_an_address_without_an_activated_socket_is_named() -> None:
    with pytest.raises(OSError, match=r"systemd passed no socket for 127\.0\.0\.1:587"):
        sockets.adopt([], [Address("127.0.0.1", 587)])


def test_listen_fds_are_taken_once_and_by_the_process_meant() -> None:
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDNAMES": "x", "OTHER": "y"}
    assert notify.take_listen_fds(environment) == {}
    assert environment == {"OTHER": "y"}


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked(
    environment: dict[str, str], interval: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert notify.watchdog_interval() == interval


def test_a_service_manager_that_is_not_there_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    notify.notify("lost")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notify.notify("READY=1", "MAINPID=5")
        assert manager.recv(100) == b"READY=1\nMAINPID=5"
    notify.notify("lost too")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify.notify("to nobody")

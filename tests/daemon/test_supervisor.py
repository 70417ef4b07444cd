"""The supervisor over real processes: start, crash, restart, reload, drain, end."""

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemon.supervised import Supervised
from tests.support.ports import steady_ports

from pillarbox.control.channel import RemoteError


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    run = Path(tempfile.mkdtemp(prefix="pb-"))
    supervised = Supervised(tmp_path, run, *steady_ports(2))
    yield supervised
    supervised.kill()
    shutil.rmtree(run)


def tell(supervised: Supervised, what: str) -> Path:
    path = supervised.directory / what
    path.touch()
    return path


async def greeting(port: int) -> int:
    """The pid that greets a new connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    line = await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    await writer.wait_closed()
    return int(line)


async def test_it_starts_every_role_serves_and_ends_in_order(supervised: Supervised) -> None:
    supervised.start()
    await supervised.until("server.ready")
    status = await supervised.ask("status")
    assert status["ready"]
    assert [(process["role"], process["worker"]) for process in status["processes"]] == [
        ("delivery", 0),
        ("spool", 0),
        ("submission", 0),
        ("submission", 1),
    ]
    assert await greeting(supervised.port) in {process["pid"] for process in status["processes"][2:]}
    assert await supervised.ask("sessions") == [
        {"worker": 0, "of": "submission"},
        {"worker": 1, "of": "submission"},
    ]
    assert await asyncio.to_thread(supervised.stop) == 0
    ended = [line["role"] for line in supervised.lines() if line["event"] == "role.ended"]
    assert ended == ["submission", "submission", "delivery", "spool"]
    assert not (supervised.run / "control.sock").exists()


async def test_connections_go_to_both_workers(supervised: Supervised) -> None:
    supervised.start()
    await supervised.until("server.ready")
    assert len({await greeting(supervised.port) for _ in range(64)}) == 2


async def test_a_killed_worker_is_replaced_and_refuses_nobody(supervised: Supervised) -> None:
    supervised.start()
    await supervised.until("server.ready")
    workers = [p["pid"] for p in (await supervised.ask("status"))["processes"] if p["role"] == "submission"]
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    seen = await asyncio.gather(*(greeting(supervised.port) for _ in range(32)))
    assert not set(seen) & set(workers)
    ended = await supervised.until("process.ended", 2, of="submission")
    assert {line["reason"] for line in ended} == {"signal SIGKILL"}
    await supervised.until("role.started", 4, role="submission")
    status = await supervised.ask("status")
    assert [p["restarts"] for p in status["processes"] if p["role"] == "submission"] == [1, 1]


async def test_counters_of_processes_that_ended_stay_in_the_sums(supervised: Supervised) -> None:
    supervised.start()
    await supervised.until("server.ready")
    starts = 'pillarbox_trivial_starts_total{role="spool"}'
    await supervised.until_metric(starts, 1)
    (spool,) = [p["pid"] for p in (await supervised.ask("status"))["processes"] if p["role"] == "spool"]
    os.kill(spool, signal.SIGKILL)
    await supervised.until("role.started", 2, role="spool")
    found = await supervised.until_metric(starts, 2)
    assert found['pillarbox_process_restarts_total{role="spool"}'] == 1
    assert found['pillarbox_processes{role="spool"}'] == 1
    assert starts in await supervised.ask("metrics")


async def test_what_a_process_has_loaded_when_it_is_ready_is_no_garbage_collection_s(supervised: Supervised) -> None:
    """It would hold every session of the worker up for as long as it takes to look at all of it."""
    supervised.start()
    await supervised.until("server.ready")
    await supervised.until_metric('pillarbox_trivial_keeps_modules{role="spool"}', 1)


async def test_a_role_that_cannot_start_as_configured_ends_it_all(supervised: Supervised) -> None:
    tell(supervised, "submission.cannot")
    supervised.start()
    assert await asyncio.to_thread(supervised.wait) == 1
    (line, *_) = [line for line in supervised.lines() if line["event"] == "role.failed"]
    assert line["reason"] == "told not to"
    assert not [line for line in supervised.lines() if line["event"] == "server.ready"]


async def test_a_role_that_crashes_is_tried_again_with_growing_pauses(supervised: Supervised) -> None:
    crash = tell(supervised, "delivery.crash")
    supervised.start()
    ended = await supervised.until("process.ended", 3, of="delivery")
    assert {line["reason"] for line in ended} == {"exit code 3"}
    crash.unlink()
    await supervised.until("server.ready")


async def test_a_reload_reaches_every_role(supervised: Supervised) -> None:
    supervised.start()
    await supervised.until("server.ready")
    supervised.configure(drain_time="7s")
    assert await supervised.ask("reload") == {"processes": 4}
    await supervised.until_each("drain_time", 7.0)
    supervised.signal(signal.SIGHUP)
    await supervised.until("config.reloaded", 2)


async def test_a_bad_configuration_is_refused_whole_and_the_old_one_stays(supervised: Supervised) -> None:
    supervised.start()
    await supervised.until("server.ready")
    supervised.configure(drain_time="7s", certificate="certifikate")
    with pytest.raises(RemoteError, match="certifikate") as caught:
        await supervised.ask("reload")
    assert caught.value.kind == "ReloadRefused"
    assert f"{supervised.config}:" in str(caught.value)
    supervised.configure(drain_time="7s")
    refuses = tell(supervised, "delivery.refuses")
    with pytest.raises(RemoteError, match="delivery: told to refuse"):
        await supervised.ask("reload")
    refuses.unlink()
    (spool,) = [p["pid"] for p in (await supervised.ask("status"))["processes"] if p["role"] == "spool"]
    supervised.configure(drain_time="not a time")
    os.kill(spool, signal.SIGKILL)  # its successor gets what was accepted, whatever the file says now
    await supervised.until("role.started", 2, role="spool")
    status = await supervised.ask("status")
    assert status["reloaded_at"] is None
    await supervised.until_each("drain_time", 5.0)


async def test_changes_that_need_a_restart_are_named(supervised: Supervised) -> None:
    supervised.start()
    await supervised.until("server.ready")
    (other,) = steady_ports(1)
    supervised.configure(
        **{
            "submission_workers = 2": "submission_workers = 1",
            f'submission = ["127.0.0.1:{supervised.port}"]': f'submissions = ["127.0.0.1:{other}"]',
        }
    )
    with pytest.raises(RemoteError) as caught:
        await supervised.ask("reload")
    lines = str(caught.value).splitlines()
    assert [line.partition(";")[0] for line in lines] == [
        "server.submission_workers: 2 is in force, 1 is in the file",
        f'site "mail.example.org": 127.0.0.1:{other} (submissions) is new',
        f'site "mail.example.org": 127.0.0.1:{supervised.port} (submission) is gone',
    ]
    assert {line.partition(";")[2] for line in lines} == {" it needs a restart: systemctl restart pillarbox"}
    assert await supervised.ask("pending") == lines


async def test_drain_over_the_control_socket_ends_it_like_sigterm(supervised: Supervised) -> None:
    supervised.start()
    await supervised.until("server.ready")
    assert await supervised.ask("drain") is None
    assert await asyncio.to_thread(supervised.wait) == 0


async def test_a_role_that_does_not_drain_is_ended_and_said(supervised: Supervised) -> None:
    tell(supervised, "delivery.hangs")
    supervised.configure(drain_time="1s")
    supervised.start()
    await supervised.until("server.ready")
    assert await asyncio.to_thread(supervised.stop) == 1
    await supervised.until("drain.expired", of="delivery")
    await supervised.until("role.ended", role="spool")


async def test_a_second_sigterm_ends_at_once(supervised: Supervised) -> None:
    tell(supervised, "submission.hangs")
    supervised.configure(drain_time="1h")
    supervised.start()
    await supervised.until("server.ready")
    supervised.signal(signal.SIGTERM)
    await supervised.until("role.draining", 2, role="submission")
    supervised.signal(signal.SIGTERM)
    assert await asyncio.to_thread(supervised.wait) == 0


async def test_roles_end_when_their_supervisor_is_killed(supervised: Supervised) -> None:
    supervised.start()
    await supervised.until("server.ready")
    assert supervised.process is not None
    supervised.process.kill()
    supervised.process.wait()
    ended = await supervised.until("role.ended", 4)
    assert sorted(line["role"] for line in ended) == ["delivery", "spool", "submission", "submission"]


async def test_systemd_hears_ready_reloading_watchdog_and_stopping(supervised: Supervised) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = supervised.run / "notify"
        manager.bind(str(address))
        manager.setblocking(False)
        said: list[str] = []

        async def until(word: str) -> None:
            while not any(word in message.split("\n") for message in said):
                octets = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(manager, 4096), 30)
                said.append(octets.decode())

        supervised.start(NOTIFY_SOCKET=str(address), WATCHDOG_USEC="200000")
        await until("READY=1")
        await until("WATCHDOG=1")
        said.clear()
        supervised.signal(signal.SIGHUP)
        await until("RELOADING=1")
        assert any(line.startswith("MONOTONIC_USEC=") for line in said[-1].split("\n"))
        await until("READY=1")
        supervised.signal(signal.SIGTERM)
        await until("STOPPING=1")
    assert await asyncio.to_thread(supervised.wait) == 0

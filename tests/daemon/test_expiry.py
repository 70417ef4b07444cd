"""Certificates in use: what ends soon is said once a day, counted and shown; a new one of an authority is noticed."""

import asyncio
import datetime
import json
import os
from pathlib import Path

import pytest
from tests.support.certs import Authority

from pillarbox.config import Settings, parse
from pillarbox.daemon import expiry
from pillarbox.daemon.expiry import CertificateWatch
from pillarbox.telemetry import counters

NAME, COUNTED = "expiry.example.org", "counted.example.org"
DAY = datetime.timedelta(days=1)


class Renewed:
    """Counts how often a new certificate was announced."""

    def __init__(self) -> None:
        self.count = 0
        self.came = asyncio.Event()

    async def __call__(self) -> None:
        self.count += 1
        self.came.set()


def settings_for(tmp_path: Path, certificate: str, name: str = NAME) -> Settings:
    text = (
        f'[server]\ndata_directory = "data"\n[[site]]\nname = "{name}"\nsubmission = ["127.0.0.1:5587"]\n'
        f"{certificate}"
        '[acme]\nagree_to_terms = true\n[[route]]\nhost = "mx.example.org"\n'
    )
    return parse(text, tmp_path / "pillarbox.toml")


def with_files(tmp_path: Path, authority: Authority, not_after: datetime.timedelta, name: str = NAME) -> Settings:
    issued = authority.issue(name, not_after=not_after)
    issued.certificate.write_bytes(issued.certificate.read_bytes() + issued.ca.read_bytes())
    return settings_for(tmp_path, f'certificate = "{issued.certificate}"\nkey = "{issued.key}"\n', name)


def doubts(capfd: pytest.CaptureFixture[str]) -> list[str]:
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    return [
        line["reason"] for line in lines if line["event"] == "certificate.doubtful" and line["level"] == "warning"
    ]


def ends(name: str) -> list[tuple[float, ...]]:
    (row,) = [row for row in counters.snapshot() if row[1] == "certificate_expiry_timestamp_seconds"]
    return [numbers for labels, numbers in row[5].items() if labels == (name,)]


@pytest.mark.usefixtures("json_log")
def test_what_ends_soon_is_said_once_a_day(
    tmp_path: Path, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = with_files(tmp_path, authority, 5 * DAY)
    clock = [1000.0]
    watch = CertificateWatch(first=True, renewed=Renewed(), clock=lambda: clock[0])
    watch.look(settings, watch.stamps(settings))
    (said,) = doubts(capfd)
    assert "in 4 days" in said
    for hours in range(1, 24):
        clock[0] = 1000.0 + hours * 3600
        watch._examine()
    assert doubts(capfd) == []
    clock[0] += 3600
    watch._examine()
    assert len(doubts(capfd)) == 1
    watch.look(parse(settings.text, settings.path), {})
    assert len(doubts(capfd)) == 1, "after a reload it is said again: an operator looks on"


@pytest.mark.usefixtures("json_log")
def test_it_is_counted_and_shown_by_the_first_worker_alone(
    tmp_path: Path, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = with_files(tmp_path, authority, 60 * DAY, COUNTED)
    other = CertificateWatch(first=False, renewed=Renewed())
    other.look(settings, {})
    assert (ends(COUNTED), other.status()) == ([], None)
    watch = CertificateWatch(first=True, renewed=Renewed())
    watch.look(settings, {})
    ((at,),) = ends(COUNTED)
    left = datetime.datetime.fromtimestamp(at, datetime.UTC) - datetime.datetime.now(datetime.UTC)
    assert 59 * DAY < left <= 60 * DAY
    assert watch.status() == {COUNTED: {"until": at, "doubts": []}}
    assert doubts(capfd) == []


@pytest.mark.usefixtures("json_log")
def test_one_that_is_not_there_yet_is_shown_and_noticed_when_it_comes(
    tmp_path: Path, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(tmp_path, 'certificate = "acme"\n')
    watch = CertificateWatch(first=True, renewed=Renewed())
    watch.look(settings, watch.stamps(settings))
    (said,) = doubts(capfd)
    assert "TLS handshakes for this site fail" in said
    status = watch.status()
    assert status is not None
    assert (status[NAME]["until"], status[NAME]["doubts"]) == (None, [said])
    path = settings.sites[0].certificate
    path.parent.mkdir(parents=True)
    issued = authority.issue(NAME)
    path.write_bytes(issued.key.read_bytes() + issued.certificate.read_bytes() + issued.ca.read_bytes())
    watch.look(settings, watch.stamps(settings))
    status = watch.status()
    assert status is not None
    assert status[NAME]["doubts"] == []


async def test_another_file_is_announced_and_a_missing_one_is_not(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "LOOK_EVERY", 0.01)
    settings = settings_for(tmp_path, 'certificate = "acme"\n')
    path = settings.sites[0].certificate
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one")
    renewed = Renewed()
    watch = CertificateWatch(first=False, renewed=renewed)
    watch.look(settings, watch.stamps(settings))
    running = asyncio.create_task(watch.run())
    try:
        path.unlink()
        await asyncio.sleep(0.1)  # ten looks: what is not announced cannot be waited for
        assert renewed.count == 0
        new = path.with_name("new")
        new.write_bytes(b"two")
        os.replace(new, path)
        async with asyncio.timeout(20):
            await renewed.came.wait()
        watch.look(settings, watch.stamps(settings))
    finally:
        running.cancel()

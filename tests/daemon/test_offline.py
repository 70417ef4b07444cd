"""The operator's channel without a daemon: the same verbs on the same files."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.daemon.test_roles import CONFIG, settings_in

from pillarbox.config import Settings
from pillarbox.control.channel import RemoteError
from pillarbox.daemon import operator_channel
from pillarbox.daemon.lock import InUse, take
from pillarbox.daemon.privileges import NotAllowed
from pillarbox.directory.settings import LocalSettings

USER = {"login": "anna", "password": "a long password", "addresses": ["anna@example.org"]}


def cheap(settings: Settings) -> Settings:
    return replace(settings, directories=(LocalSettings(argon2_memory=1024, argon2_time=1),))


async def test_users_can_be_added_before_the_first_start(tmp_path: Path) -> None:
    settings = cheap(settings_in(tmp_path))
    settings.server.data_directory.rmdir()
    async with operator_channel(settings) as channel:
        added = await channel.request("user.add", USER)
        assert added["login"] == "anna"
        assert added["addresses"] == ["anna@example.org"]  # as it would come over a socket: no tuples
        with pytest.raises(RemoteError) as caught:
            await channel.request("user.add", USER)
        assert caught.value.kind == "AccountExists"
    async with operator_channel(settings) as channel:
        assert [user["login"] for user in await channel.request("user.list")] == ["anna"]
    assert settings.server.data_directory.stat().st_mode & 0o777 == 0o700


async def test_what_needs_the_daemon_says_so(tmp_path: Path) -> None:
    async with operator_channel(settings_in(tmp_path)) as channel:
        for verb in ("reload", "status", "drain", "intake.commit"):
            with pytest.raises(RemoteError, match=f"not running, and {verb} needs it") as caught:
                await channel.request(verb)
            assert caught.value.kind == "NotRunning"


async def test_a_bug_is_logged_and_not_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with operator_channel(settings_in(tmp_path)) as channel:
        with pytest.raises(RemoteError, match="internal error; see the log") as caught:
            await channel.request("ledger.list")  # its body may not be missing
        assert caught.value.kind == "internal"
    logged = capfd.readouterr().out
    assert "request.failed" in logged and "TypeError" in logged


async def test_files_that_a_daemon_holds_are_left_alone(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    held = await take(settings.server.data_directory / "lock")
    with pytest.raises(InUse, match=rf"pid {os.getpid()}\).*control\.sock: is run_directory still the running"):
        async with operator_channel(settings):
            pass
    held.release()


async def test_a_user_that_does_not_exist_is_named(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    settings = replace(settings, server=replace(settings.server, user="no-such-user"))
    with pytest.raises(NotAllowed, match="no-such-user"):
        async with operator_channel(settings):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for somebody else")
def test_root_leaves_files_that_the_server_s_user_can_open(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    os.chown(data, 65_534, 65_534)
    for parent in (tmp_path, *tmp_path.parents):
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    config = tmp_path / "pillarbox.toml"
    config.write_text(CONFIG.format(tmp_path))
    program = f"""
import asyncio, os
from pathlib import Path
from pillarbox.config import load
from pillarbox.daemon import operator_channel
async def main():
    async with operator_channel(load(Path({str(config)!r}))) as channel:
        await channel.request("user.list")
        assert os.geteuid() == 65_534
    assert os.geteuid() == 0
asyncio.run(main())
"""
    subprocess.run((sys.executable, "-c", program), check=True, timeout=60)
    owners = {path.stat().st_uid for path in (data, *data.rglob("*"))}
    assert owners == {65_534}

"""The hub against one of our own processes that was taken over: it speaks for its own role only."""

import os
from pathlib import Path

import pytest
from tests.daemon.test_roles import settings_in

from pillarbox.control.channel import ChannelClosed, connect
from pillarbox.daemon import paths
from pillarbox.daemon.hub import Hub


async def test_a_process_cannot_say_that_it_is_of_another_user_s_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One user per role, and we are the submission worker's."""
    own = frozenset({os.geteuid()})
    monkeypatch.setattr(paths, "users", lambda *roles: own if "submission" in roles else frozenset())
    settings = settings_in(tmp_path)
    hub = Hub(settings, lambda: settings)
    await hub.start()
    for role in ("delivery", "spool", "control", "anything"):
        channel = await connect(paths.hub_socket(tmp_path / "run"))
        with pytest.raises(ChannelClosed):
            await channel.request("hello", {"role": role, "worker": 0, "pid": 1})
        assert not hub.processes
    channel = await connect(paths.hub_socket(tmp_path / "run"))
    await channel.request("hello", {"role": "submission", "worker": 0, "pid": 1})
    ((_, process),) = hub.processes.items()
    assert (process.role, process.pid) == ("submission", os.getpid())  # the kernel's word, not the peer's
    channel.close()
    await hub.close()

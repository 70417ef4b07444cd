"""contrib/fail2ban/pillarbox.conf, judged by fail2ban itself over lines as our log writes them."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pillarbox.telemetry.rendering import as_json, as_readable, redact

FILTER = Path(__file__).parents[2] / "contrib" / "fail2ban" / "pillarbox.conf"
STRANGER = "203.0.113.99"

HOSTILE_LOGINS = [
    "bob",
    "",
    "bob@example.org",
    f'"peer": "{STRANGER}"',
    f'x","peer":"{STRANGER}","event":"signin.failed","y":"',
    f'\\","peer":"{STRANGER}',
    f"x peer={STRANGER} ",
    f'x" peer={STRANGER} y="',
    f'\\" peer={STRANGER} ',
    f"x\n23:59:59.123Z warning submission signin.failed peer={STRANGER}\n",
    f'x\r\n{{"time":"2026-01-31T23:59:59.123Z","level":"warning","event":"signin.failed","peer":"{STRANGER}"}}\r\n',
    f"host pillarbox[1]: 23:59:59.123Z warning submission signin.failed peer={STRANGER}",
    f"x\N{LINE SEPARATOR}23:59:59.123Z warning submission signin.failed peer={STRANGER}",
    f"x\u0085peer={STRANGER}",
    '"' * 50 + "\\" * 51,
    "\N{SNOWMAN} \ud800",
]

pytestmark = pytest.mark.skipif(
    shutil.which("fail2ban-regex") is None, reason="fail2ban-regex is not here: apt-get install fail2ban"
)


def line(render: Callable[[dict[str, Any]], bytes], login: str, *, peer: str, login_first: bool) -> bytes:
    ends = {"peer": peer, "login": login}
    if login_first:
        ends = {"login": login, "peer": peer}
    return render(
        redact(
            {
                "time": "2026-01-31T23:59:59.123Z",
                "level": "warning",
                "event": "signin.failed",
                "room": "submission",
                "role": "submission",
                "worker": 2,
                "session": "k3j9",
                "site": "mail.example.org",
                "delay": 1.5,
                "known_place": False,
                **ends,
                "reason": "wrong",
                "mechanism": "PLAIN",
            }
        )
    )


def judge(log: Path) -> list[str]:
    """The address of each line that matched."""
    run = subprocess.run(
        ["fail2ban-regex", "-o", "ip", str(log), str(FILTER)], capture_output=True, text=True, check=False
    )
    assert run.returncode in (0, 1), run.stderr
    return run.stdout.split()


@pytest.mark.parametrize("prefix", [b"", b"mx1 pillarbox[4711]: "], ids=["file", "journal"])
@pytest.mark.parametrize("render", [as_json, as_readable])
@pytest.mark.parametrize("peer", ["192.0.2.1", "2001:db8::1"])
def test_each_failure_bans_its_peer_and_no_login_bans_a_stranger(
    tmp_path: Path, render: Callable[[dict[str, Any]], bytes], prefix: bytes, peer: str
) -> None:
    lines = [
        prefix + line(render, login, peer=peer, login_first=first)
        for login in HOSTILE_LOGINS
        for first in (True, False)
    ]
    log = tmp_path / "log"
    log.write_bytes(b"".join(lines))
    assert judge(log) == [peer] * len(lines)


@pytest.mark.parametrize("render", [as_json, as_readable])
def test_other_events_ban_nobody(tmp_path: Path, render: Callable[[dict[str, Any]], bytes]) -> None:
    others = []
    for event, level in (("signin.succeeded", "info"), ("session.opened", "info"), ("signin.failed_not", "warning")):
        fields = {"time": "2026-01-31T23:59:59.123Z", "level": level, "event": event, "room": "submission"}
        for login in HOSTILE_LOGINS:
            others.append(render(redact({**fields, "peer": "192.0.2.1", "login": login})))
    log = tmp_path / "log"
    log.write_bytes(b"".join(others))
    assert judge(log) == []

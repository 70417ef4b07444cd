"""Passwords and tokens from files and commands (real processes)."""

import asyncio
import sys
from pathlib import Path

import pytest
from tests.support.clock import FakeClock

from pillarbox.delivery.secrets import Secrets, SecretUnavailable
from pillarbox.delivery.settings import AuthSettings

WORD = "corr3ct-horse"


def from_file(path: Path) -> AuthSettings:
    return AuthSettings("PLAIN", "user", secret_file=path)


def from_program(program: str, *arguments: str, lifetime: float = 3000.0) -> AuthSettings:
    return AuthSettings(
        "XOAUTH2", "user", secret_command=(sys.executable, "-c", program, *arguments), lifetime=lifetime
    )


COUNTED = """
import sys, pathlib
log = pathlib.Path(sys.argv[1]); log.write_text(log.read_text() + "x" if log.exists() else "x")
print(sys.argv[2].replace("RUN", str(len(log.read_text()))))
"""


@pytest.mark.parametrize("octets", [b"corr3ct-horse", b"corr3ct-horse\n", b"corr3ct-horse\r\n"])
async def test_one_line_end_is_not_part_of_the_secret(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "secret").write_bytes(octets)
    assert await Secrets().get(from_file(tmp_path / "secret")) == WORD


async def test_spaces_and_unicode_are_part_of_the_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes("  pässword {x} \n".encode())
    assert await Secrets().get(from_file(tmp_path / "secret")) == "  pässword {x} "


async def test_file_is_read_anew_each_time(tmp_path: Path) -> None:
    secrets = Secrets()
    (tmp_path / "secret").write_text("one\n")
    assert await secrets.get(from_file(tmp_path / "secret")) == "one"
    (tmp_path / "secret").write_text("two\n")
    assert await secrets.get(from_file(tmp_path / "secret")) == "two"


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"a\nb\n", "more than one line"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * 70_000, "larger"),
    ],
)
async def test_unusable_file_is_named_and_never_quoted(tmp_path: Path, octets: bytes, why: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(octets)
    with pytest.raises(SecretUnavailable) as caught:
        await Secrets().get(from_file(path))
    assert str(path) in str(caught.value)
    assert why in str(caught.value)
    assert "xxx" not in str(caught.value)


async def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SecretUnavailable, match="No such file"):
        await Secrets().get(from_file(tmp_path / "none"))


async def test_neither_file_nor_command() -> None:
    with pytest.raises(SecretUnavailable, match="neither"):
        await Secrets().get(AuthSettings("PLAIN", "user"))


async def test_command_output_is_kept_for_its_lifetime_and_then_made_anew(tmp_path: Path) -> None:
    clock = FakeClock()
    secrets = Secrets(now=clock.monotonic)
    auth = from_program(COUNTED, str(tmp_path / "log"), "word-RUN", lifetime=100.0)
    assert await secrets.get(auth) == "word-1"
    clock.advance(99)
    assert await secrets.get(auth) == "word-1"
    clock.advance(1)
    assert await secrets.get(auth) == "word-2"


async def test_token_says_itself_when_it_expires_and_goes_a_minute_early(tmp_path: Path) -> None:
    clock = FakeClock()
    secrets = Secrets(now=clock.monotonic)
    text = '{"access_token": "token-RUN", "expires_in": 600, "token_type": "Bearer"}'
    auth = from_program(COUNTED, str(tmp_path / "log"), text, lifetime=5.0)
    assert await secrets.get(auth) == "token-1"
    clock.advance(539)
    assert await secrets.get(auth) == "token-1"
    clock.advance(1)
    assert await secrets.get(auth) == "token-2"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ('{"access_token": "t", "expires_in": "3600"}', "t"),
        ('{"access_token": "t"}', "t"),
        ('{"access_token": "t", "expires_in": true}', "t"),
        ("{not json", "{not json"),
    ],
)
async def test_forms_of_output(tmp_path: Path, text: str, secret: str) -> None:
    assert await Secrets().get(from_program("import sys; print(sys.argv[1])", text)) == secret


@pytest.mark.parametrize("text", ["{}", '{"access_token": ""}', '{"access_token": 7}', '{"error": "denied"}'])
async def test_document_without_a_token_is_no_secret(text: str) -> None:
    with pytest.raises(SecretUnavailable, match="no access_token"):
        await Secrets().get(from_program("import sys; print(sys.argv[1])", text))


async def test_connections_that_need_it_at_once_share_one_run(tmp_path: Path) -> None:
    secrets = Secrets()
    auth = from_program(COUNTED, str(tmp_path / "log"), "word-RUN")
    assert await asyncio.gather(*(secrets.get(auth) for _ in range(5))) == ["word-1"] * 5


async def test_forgotten_secret_is_fetched_anew(tmp_path: Path) -> None:
    secrets = Secrets()
    auth = from_program(COUNTED, str(tmp_path / "log"), "word-RUN")
    await secrets.get(auth)
    secrets.forget(auth)
    assert await secrets.get(auth) == "word-2"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (f"import sys; print('{WORD}'); sys.exit(3)", "exit code 3"),
        (f"print('{WORD}' * 10000)", "more than"),
        (f"print('{WORD}\\n{WORD}')", "more than one line"),
        (f"import sys; sys.stdout.buffer.write(b'{WORD}' + bytes([255]))", "not UTF-8"),
        (f"import sys; print('{WORD}', file=sys.stderr)", "empty"),
    ],
)
async def test_failing_command_is_named_and_its_output_is_not(program: str, why: str) -> None:
    with pytest.raises(SecretUnavailable) as caught:
        await Secrets().get(from_program(program))
    error: BaseException | None = caught.value
    assert why in str(error)
    while error is not None:
        assert WORD not in repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


async def test_missing_program() -> None:
    with pytest.raises(SecretUnavailable, match="/none/such: No such file"):
        await Secrets().get(AuthSettings("PLAIN", "user", secret_command=("/none/such",)))


async def test_command_is_not_given_to_a_shell(tmp_path: Path) -> None:
    auth = AuthSettings("PLAIN", "u", secret_command=("/bin/echo", f"x; touch {tmp_path}/made", "$HOME"))
    assert await Secrets().get(auth) == f"x; touch {tmp_path}/made $HOME"
    assert not (tmp_path / "made").exists()


async def test_command_without_an_end_is_killed_with_its_children(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "child = os.fork()\n"
        "if child: open(sys.argv[1], 'w').write(f'{os.getpid()} {child}')\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(SecretUnavailable, match="no answer within"):
        await Secrets(time_limit=1.5).get(from_program(program, str(tmp_path / "pids")))
    for pid in (tmp_path / "pids").read_text().split():
        for _ in range(200):
            if not _alive(int(pid)):
                break
            await asyncio.sleep(0.02)
        assert not _alive(int(pid))


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_failure_is_not_kept(tmp_path: Path) -> None:
    secrets = Secrets()
    program = "import os, sys; print('now') if os.path.exists(sys.argv[1]) else sys.exit(1)"
    auth = from_program(program, str(tmp_path / "there"))
    with pytest.raises(SecretUnavailable):
        await secrets.get(auth)
    (tmp_path / "there").touch()
    assert await secrets.get(auth) == "now"

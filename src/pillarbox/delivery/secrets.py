"""The password or token that signs us in at a smarthost: from a file, or from a command's standard output.

A file is read anew for each connection, so a rotated secret needs no reload. A command's output is kept for
``lifetime`` seconds, or for as long as a JSON object with ``access_token`` and ``expires_in`` says (a minute less,
so that a token does not expire between here and the next hop). One line end at the end is not part of the secret.
A command runs without a shell, with an empty standard input and a time limit; several connections that need the
same secret share one run.

ERRORS
    SecretUnavailable: ``str()`` names the file or the program and says why; it never holds a word of its output.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from pillarbox.delivery.settings import AuthSettings

TIME_LIMIT = 30.0
MAX_OCTETS = 65_536
EARLY = 60.0


class SecretUnavailable(Exception):
    """The secret cannot be had now."""


class Secrets:
    """Keeps what commands said until it expires. ``now`` counts seconds and never goes back."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic, time_limit: float = TIME_LIMIT) -> None:
        self._now = now
        self._time_limit = time_limit
        self._kept: dict[tuple[str, ...], tuple[str, float]] = {}
        self._locks: dict[tuple[str, ...], asyncio.Lock] = {}

    async def get(self, auth: AuthSettings) -> str:
        """The secret. Raises SecretUnavailable."""
        if auth.secret_file is not None:
            octets = await asyncio.get_running_loop().run_in_executor(None, _read, auth.secret_file)
            return _parse(octets, str(auth.secret_file))[0]
        if not auth.secret_command:
            raise SecretUnavailable("neither secret_file nor secret_command is set")
        async with self._locks.setdefault(auth.secret_command, asyncio.Lock()):
            kept = self._kept.get(auth.secret_command)
            if kept is not None and self._now() < kept[1]:
                return kept[0]
            started = self._now()
            octets = await self._run(auth.secret_command)
            secret, expires_in = _parse(octets, auth.secret_command[0])
            lifetime = auth.lifetime if expires_in is None else max(expires_in - EARLY, 0.0)
            self._kept[auth.secret_command] = (secret, started + lifetime)
            return secret

    def forget(self, auth: AuthSettings) -> None:
        """The next hop refused it: the next ``get`` runs the command again."""
        self._kept.pop(auth.secret_command, None)

    async def _run(self, command: tuple[str, ...]) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # it could hold the secret, and we would have to log it
                start_new_session=True,  # so that its children can be ended with it
            )
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "cannot be started"
            raise SecretUnavailable(f"{command[0]}: {why}") from error
        try:
            octets = await asyncio.wait_for(_take_output(process), self._time_limit)
            code = process.returncode
        except TimeoutError:
            raise SecretUnavailable(f"{command[0]}: no answer within {self._time_limit:g} seconds") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if len(octets) > MAX_OCTETS:
            raise SecretUnavailable(f"{command[0]}: said more than {MAX_OCTETS} octets")
        if code != 0:
            raise SecretUnavailable(f"{command[0]}: ended with exit code {code}")
        return octets


async def _take_output(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None  # noqa: S101  (PIPE was asked for; tells the type checker)
    taken = bytearray()
    while len(taken) <= MAX_OCTETS and (chunk := await process.stdout.read(MAX_OCTETS)):
        taken += chunk
    if len(taken) <= MAX_OCTETS:
        await process.wait()
    return bytes(taken)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise SecretUnavailable(f"{path}: {error.strerror}") from error
    if len(octets) > MAX_OCTETS:
        raise SecretUnavailable(f"{path}: larger than {MAX_OCTETS} octets")
    return octets


def _parse(octets: bytes, source: str) -> tuple[str, float | None]:
    """The secret and, when it says so itself, for how many seconds it holds."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        # "from None": the exception holds the octets
        raise SecretUnavailable(f"{source}: not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if text.lstrip().startswith("{"):
        found = _parse_token(text, source)
        if found is not None:
            return found
    if not text:
        raise SecretUnavailable(f"{source}: empty")
    if "\n" in text or "\r" in text or "\0" in text:
        raise SecretUnavailable(f"{source}: more than one line")
    return text, None


def _parse_token(text: str, source: str) -> tuple[str, float | None] | None:
    try:
        body = json.loads(text)
    except ValueError:
        return None  # a password may begin with a brace
    token = body.get("access_token")
    expires_in = body.get("expires_in")
    if not isinstance(token, str) or not token:
        raise SecretUnavailable(f"{source}: a JSON object with no access_token")
    if isinstance(expires_in, str) and expires_in.isascii() and expires_in.isdigit():
        expires_in = int(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float):
        return token, None
    return token, float(expires_in)

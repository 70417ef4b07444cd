"""Answers an authority's dns-01 challenges through the site's own program.

    hook present _acme-challenge.mail.example.org <value>     make the TXT record; return when the world can see it
    hook remove  _acme-challenge.mail.example.org <value>     take it away again

The program gets a plain environment, no standard input, and a time; what it prints on standard error is the reason
when it fails. No shell is between.

STANDARDS
    RFC 8555 8.4 (dns-01).

ERRORS
    HookFailed from present: it cannot be started, returned something else than 0, or took too long. remove never
    raises: a record that stays does no harm, and is logged.
"""

import os
import subprocess
from collections.abc import Sequence

from pillarbox.telemetry.events import get_logger

_KEPT = ("PATH", "HOME", "LANG", "TZ")
_MOST_SAID = 500

log = get_logger("certificates")


class HookFailed(Exception):
    """The record was not made; ``str()`` says why."""


def present(command: Sequence[str], record: str, value: str, seconds: float) -> None:
    """Has the TXT record made. Blocks. Raises HookFailed."""
    _run((*command, "present", record, value), seconds)


def remove(command: Sequence[str], record: str, value: str, seconds: float) -> None:
    """Has the TXT record taken away. Blocks; never raises."""
    try:
        _run((*command, "remove", record, value), seconds)
    except HookFailed as failure:
        log.warning("acme.hook_failed", record=record, reason=str(failure))


def _run(argv: Sequence[str], seconds: float) -> None:
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own program, no shell, constant words
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HookFailed(f"{argv[0]} did not end within {seconds:g} s") from None
    except OSError as error:
        raise HookFailed(f"{argv[0]}: {error.strerror}") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[:_MOST_SAID]
        raise HookFailed(f"{argv[0]} {argv[-3]}: exit code {done.returncode}" + (f": {said}" if said else ""))

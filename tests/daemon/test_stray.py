"""Errors that nobody waits for are lines of the log, and few."""

import asyncio
import json
import sys

import pytest

from pillarbox.daemon import stray


@pytest.mark.usefixtures("json_log")
async def test_strangers_cannot_fill_the_log_with_tracebacks(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    now = 100.0
    loop = asyncio.get_running_loop()
    stray.watch(loop, clock=lambda: now)
    for _ in range(1_000):
        loop.call_exception_handler({"message": "accept failed", "exception": OSError(24, "Too many open files")})
    now += stray.EVERY
    loop.call_exception_handler({"message": "accept failed", "exception": OSError(24, "Too many open files")})
    out, err = capfd.readouterr()
    assert err == ""
    first, second = [json.loads(line) for line in out.splitlines()]
    assert (first["event"], first["level"], first["reason"]) == ("process.stray", "error", "accept failed: OSError")
    assert (first["untold"], second["untold"]) == (0, 999)

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


@pytest.mark.usefixtures("json_log")
async def test_a_connection_that_ends_within_its_handshake_is_no_stray_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transport reports it as a class; an instance is an error like any other."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    loop = asyncio.get_running_loop()
    stray.watch(loop)
    loop.call_exception_handler({"message": "SSL handshake failed", "exception": ConnectionResetError})
    assert capfd.readouterr().out == ""
    loop.call_exception_handler({"message": "read failed", "exception": ConnectionResetError()})
    assert json.loads(capfd.readouterr().out)["event"] == "process.stray"

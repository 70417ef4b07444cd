"""Events: what a logger writes, as a process's real standard output."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from pillarbox.telemetry import events


def run(code: str, **options: Any) -> list[str]:
    """The lines that a fresh process writes."""
    program = "from pillarbox.telemetry.events import configure, get_logger\nlog = get_logger('test')\n" + code
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_json_line_has_time_level_event_room_role_and_fields() -> None:
    (line,) = run("configure(form='json', role='spool'); log.bind(session='s1').info('x.done', n=1, password='p')")
    fields = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields.pop("time"))
    assert list(fields.items()) == [
        ("level", "info"),
        ("event", "x.done"),
        ("room", "test"),
        ("role", "spool"),
        ("session", "s1"),
        ("n", 1),
        ("password", "[redacted]"),
    ]


def test_before_configure_lines_are_readable_and_from_info_on() -> None:
    (line,) = run("log.debug('x.unseen'); log.info('x.seen')")
    assert " info " in line and " x.seen" in line


def test_loggers_made_before_configure_obey_it() -> None:
    lines = run(
        "bound = log.bind(a=1)\nlog.info('x.first')\nconfigure(form='json', level='error', worker=3, role='r')\n"
        "bound.warning('x.unseen')\nlog.error('x.second')\n"
        "configure(form='json', level='debug')\nbound.debug('x.third')"
    )
    assert len(lines) == 3
    assert [json.loads(line)["event"] for line in lines[1:]] == ["x.second", "x.third"]
    assert json.loads(lines[1])["worker"] == 3


def test_an_exception_has_its_traceback_on_the_same_line() -> None:
    (line,) = run("configure(form='json')\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('x.failed')")
    fields = json.loads(line)
    assert fields["level"] == "error"
    assert fields["traceback"].startswith("Traceback") and fields["traceback"].endswith("division by zero")


def test_an_error_can_carry_an_exception_from_elsewhere() -> None:
    (line,) = run("configure(form='json')\nlog.error('x.failed', exc_info=ValueError('why'))")
    assert json.loads(line)["traceback"] == "ValueError: why"


def test_a_reader_that_went_away_does_not_stop_the_server() -> None:
    program = (
        "import sys\nfrom pillarbox.telemetry.events import get_logger\nlog = get_logger('test')\n"
        "sys.stdin.readline()\nfor n in range(1000): log.info('x.done', n=n)\nsys.stderr.write('still here')"
    )
    process = subprocess.Popen(
        (sys.executable, "-c", program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.stdin.write(b"go\n")
    process.stdin.close()
    assert process.stderr.read() == b"still here"
    process.stderr.close()
    assert process.wait(30) == 0


def test_a_pipe_that_does_not_block_loses_no_line() -> None:
    program = (
        "import os, sys\nfrom pillarbox.telemetry.events import configure, get_logger\nconfigure(form='json')\n"
        "os.set_blocking(1, False)\nlog = get_logger('test')\nfor n in range(5000): log.info('x.done', n=n)\n"
    )
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, timeout=60, check=True)
    assert [json.loads(line)["n"] for line in done.stdout.splitlines()] == list(range(5000))


@pytest.mark.parametrize("wrong", [{"form": "xml"}, {"form": "json", "level": "loud"}])
def test_configure_refuses_what_it_does_not_know(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"xml|loud"):
        events.configure(**wrong)

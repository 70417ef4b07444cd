"""`pillarbox init` in a terminal: it asks, and asks again until an answer makes sense."""

import os
import pty
import select
import warnings
from pathlib import Path

from tests.cli.conftest import PROGRAM, SECONDS, Run

from pillarbox.config import load

DIALOGUE = (
    ("Name of the server: ", "not a name"),
    ("Name of the server: ", "mail.example.org"),
    ("Next hop (HOST[:PORT], or maildir:FOLDER): ", "bad relay"),
    ("Next hop (HOST[:PORT], or maildir:FOLDER): ", "mx.example.org:2525"),
    ("Login of the first user [", "alice@example.org"),
    ("Password: ", "correct horse"),
    ("Repeat for confirmation: ", "another"),
    ("Password: ", "correct horse"),
    ("Repeat for confirmation: ", "correct horse"),
)


def until(terminal: int, words: str) -> str:
    """What the terminal shows up to and with the words; with "" all there is."""
    shown = b""
    while not words or words.encode() not in shown:
        assert select.select([terminal], [], [], SECONDS)[0], shown
        try:
            octets = os.read(terminal, 4096)
        except OSError:  # how a terminal ends
            break
        if not octets:
            break
        shown += octets
    assert words.encode() in shown, shown
    return shown.decode()


def test_init_asks_for_what_was_not_given(run: Run, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of forking with threads: the child is another program at once
        child, terminal = pty.fork()
    if child == 0:
        os.execv(PROGRAM, ["pillarbox", "init", "--directory", str(tmp_path)])  # noqa: S606  a shell would not be asked
    shown = ""
    for question, answer in DIALOGUE:
        shown += until(terminal, question)
        os.write(terminal, answer.encode() + b"\n")
    shown += until(terminal, "")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)
    assert 'expected a host name such as "mail.example.org"' in shown
    assert "do not match" in shown
    assert "correct horse" not in shown
    assert "added alice@example.org" in shown
    assert load(tmp_path / "pillarbox.toml").sites[0].name == "mail.example.org"
    assert "alice@example.org" in run("user", "list").out

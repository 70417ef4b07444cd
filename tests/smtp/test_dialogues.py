"""Whole conversations as files: each is run turn by turn, octet by octet, and with everything in one packet.

dialogues/README.md documents the format, conversation.py is the session behind the connection.
"""

import re
from pathlib import Path

import pytest
from tests.smtp.conversation import FILES, Dialogue, Site, run

from pillarbox.sasl import SERVER_MECHANISMS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dialogue_turn_by_turn(path: Path) -> None:
    run(Dialogue(path), 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dialogue_octet_by_octet(path: Path) -> None:
    dialogue = Dialogue(path)
    if "one-packet" in dialogue.flags:
        pytest.skip("what it shows is one packet")
    run(dialogue, 1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dialogue_in_packets_that_cut_everywhere(path: Path) -> None:
    dialogue = Dialogue(path)
    if "one-packet" in dialogue.flags:
        pytest.skip("what it shows is one packet")
    for size in (2, 3, 5, 7):
        run(dialogue, size)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dialogue_pipelined(path: Path) -> None:
    dialogue = Dialogue(path)
    if "not-pipelined" in dialogue.flags:
        pytest.skip("a handshake stands between its turns")
    site = Site(dialogue)
    site.receive(b"".join(octets for octets, _, _ in dialogue.turns))
    if dialogue.turns[-1][2]:
        site.receive(b"")
    assert site.transcript == [line for _, lines, _ in dialogue.turns for line in lines], dialogue.title


def test_every_dialogue_names_its_section() -> None:
    assert len(FILES) >= 100
    for path in FILES:
        assert re.match(r"# RFC [0-9]{3,4} [0-9A-Z.]+: ", path.read_text("utf-8")), path.name


@pytest.mark.parametrize("mechanism", SERVER_MECHANISMS)
def test_every_mechanism_is_shown_with_all_that_can_become_of_it(mechanism: str) -> None:
    said = set()
    for path in FILES:
        tried = False
        for line in path.read_text("utf-8").splitlines():
            if (command := re.fullmatch(r"C[:-] AUTH ([^ ]+).*", line)) is not None:
                tried = command[1] == mechanism
            elif tried and line.startswith("S: "):
                said.add(line[3:])
    wanted = {
        "235 2.7.0 Welcome",
        "334 ",
        "535 5.7.8 No",
        "501 5.7.0 Cancelled",
        "501 5.5.2 Cannot decode the response: it must be base64",
        "500 5.5.6 The line of the sign-in is too long",
        "503 5.5.1 Already authenticated",
        "503 5.5.1 AUTH is not allowed inside a transaction",
        "504 5.5.4 Authentication mechanism not offered",
    }
    assert wanted - said == ({"334 "} if mechanism == "LOGIN" else set())  # LOGIN asks with words

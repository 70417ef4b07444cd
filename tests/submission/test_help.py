"""HELP tells strangers one thing, and who has signed in what the tables hold."""

from pathlib import Path

import pytest
from tests.support.submission import signed_in, submission, talker

from pillarbox.smtp.limits import Limits
from pillarbox.smtp.state import VERBS
from pillarbox.submission import replies
from pillarbox.submission.help import help_reply

OPEN = Limits(hold=60)


@pytest.mark.parametrize("topic", ["", "MAIL", "BDAT", "EXPN", "NO-SUCH"])
def test_strangers_get_the_same_whatever_they_ask(topic: str) -> None:
    assert help_reply(topic, OPEN, signed_in=False) is replies.HELP


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_that_is_there_has_its_topic_and_no_other(name: bytes) -> None:
    topic = name.decode()
    first = help_reply(topic, OPEN, signed_in=True).text[0]
    expected = f"Syntax: {topic}" if VERBS[name].read is not None else "Commands: "
    assert first.startswith(expected)


def test_parameters_are_those_that_the_site_offers() -> None:
    assert "HOLDFOR" in help_reply("MAIL", OPEN, signed_in=True).text[1]
    less = Limits(disabled=frozenset({"DSN", "CHUNKING"}))
    assert "HOLDFOR" not in help_reply("MAIL", less, signed_in=True).text[1]
    assert help_reply("RCPT", less, signed_in=True).text[1] == "Parameters: none"
    assert help_reply("BDAT", less, signed_in=True).text[0].startswith("Commands: ")
    assert "BDAT" not in help_reply("", less, signed_in=True).text[0].split()


async def test_help_before_and_after_sign_in(tmp_path: Path) -> None:
    async with submission(tmp_path) as server:
        async with await talker(server.submission) as client:
            await client.expect(220)
            assert "2.0.0 See RFC 6409" in await client.command("HELP mail", 214)
        async with await signed_in(server) as client:
            lines = await client.command("help Mail", 214)
            assert lines[0] == "2.0.0 Syntax: MAIL FROM:<address> [parameters]"
            assert "HOLDFOR" in lines[1]
            await client.command("HELP \xff\xfe", 214)

"""The page of the tables: as committed, and with a row for all that the tables hold."""

import re
import runpy
from pathlib import Path

import pytest

from pillarbox.smtp import hints, reference
from pillarbox.smtp.extensions import MAIL_PARAMETERS, RCPT_PARAMETERS
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.state import VERBS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "protocol.md"


def test_page_is_what_the_code_says() -> None:
    assert reference.render() == PAGE.read_text("utf-8")


def test_run_as_a_program_it_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(reference.__file__, run_name="__main__")
    assert capsys.readouterr().out == reference.render()


def test_every_verb_parameter_and_reply_has_its_row() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", reference.render(), re.MULTILINE)
    first = [row[0] for row in rows]
    for verb in VERBS:
        assert first.count(verb.decode()) >= 1
    for command, table in (("MAIL", MAIL_PARAMETERS), ("RCPT", RCPT_PARAMETERS)):
        for keyword in table:
            assert (command, keyword.decode()) in rows
    for name, reply in vars(hints).items():
        if isinstance(reply, Reply):
            assert (name, f"`{reply.render().decode().rstrip()}`") in rows


@pytest.mark.parametrize(
    "row",
    [
        "| EHLO | START READY MAIL RCPT CHUNKS |  |  | yes |",
        "| MAIL | READY | yes |  |  |",
        "| EXPN | never: 502 | yes |  |  |",
        "| GET | never: 421, closes |  |  |  |",
        "| MAIL | BY | DELIVERBY | deliver_by, deliver_by_mode | 17 |",
        "| MAIL | AUTH |  | checked, then ignored | 500 |",
        "| RCPT | NOTIFY | DSN | notify | 30 |",
        "250-FUTURERELEASE 2592000 1970-01-31T00:00:00Z",
        "250-LIMITS RCPTMAX=100",
    ],
)
def test_rows_say_what_they_mean(row: str) -> None:
    assert row in reference.render().splitlines()

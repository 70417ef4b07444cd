"""The tables in docs/explanation/protocol-core.md are the tables in the code."""

from pathlib import Path

from pillarbox.smtp import hints
from pillarbox.smtp.extensions import MAIL_PARAMETERS, RCPT_PARAMETERS
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.state import VERBS, State

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "protocol-core.md"


def verb_rows() -> list[str]:
    """The rows of the table of verbs, as the page has them."""
    rows = []
    for name, verb in VERBS.items():
        states = " ".join(state.name for state in State if state in verb.states) or "never"
        if verb.read is None:
            states = f"never: {verb.refusal.code}" + (", closes" if verb.fatal else "")
        marks = ["yes" if mark else "" for mark in (verb.sign_in, verb.tls, verb.last)]
        rows.append(f"| {name.decode()} | {states} | {marks[0]} | {marks[1]} | {marks[2]} |")
    return rows


def parameter_rows() -> list[str]:
    """The rows of the table of parameters."""
    return [
        f"| {command} | {name.decode()} | {parameter.field or 'checked, then ignored'} | {parameter.room} |"
        for command, table in (("MAIL", MAIL_PARAMETERS), ("RCPT", RCPT_PARAMETERS))
        for name, parameter in table.items()
    ]


def hint_rows() -> list[str]:
    """The rows of the table of hints."""
    return [
        f"| {name} | `{value.render().decode().rstrip()}` |"
        for name, value in vars(hints).items()
        if isinstance(value, Reply)
    ]


def test_the_page_has_the_table_of_verbs() -> None:
    page = PAGE.read_text("utf-8")
    assert "\n".join(verb_rows()) in page


def test_the_page_has_the_table_of_parameters() -> None:
    page = PAGE.read_text("utf-8")
    assert "\n".join(parameter_rows()) in page


def test_the_page_has_every_hint() -> None:
    page = PAGE.read_text("utf-8")
    assert "\n".join(hint_rows()) in page

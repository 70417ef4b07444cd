"""What comes from outside is shown, and neither steers the terminal nor looks like something else."""

import pytest

from pillarbox.cli.output import say, say_error, say_json, say_table

HOSTILE = "450 \x1b[31mred \x9b31m bell\x07 \u202eturned\u2066 \u200bhidden [red]markup[/red] [link=http://x]y"


def harmless(text: str) -> bool:
    """Nothing but line ends and what can be seen."""
    return all(character.isprintable() for character in text.replace("\n", ""))


def test_hostile_text_reaches_a_terminal_as_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # a line of this width is not folded
    say(HOSTILE)
    say_error(HOSTILE)
    say_table(["REPLY", "[bold]HEAD"], [(HOSTILE, "\x1b]0;title\x07")])
    out, err = capsys.readouterr()
    assert harmless(out)
    assert harmless(err)
    assert out.count("[red]markup[/red] [link=http://x]y") == 2  # shown as it came: no markup language


def test_hostile_text_in_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"reply": HOSTILE})
    (out, _) = capsys.readouterr()
    assert out.isascii()
    assert harmless(out)
    assert "\\u009b31m" in out


def test_an_id_is_never_broken_however_narrow_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    queue_id = "01KB0000000000000000000000-cell"
    say_table(
        ["QUEUE ID", "SENDER", "LAST REPLY"], [(queue_id, "somebody@example.org", "451 4.3.0 try again later " * 3)]
    )
    assert queue_id in capsys.readouterr().out

"""`pillarbox user` on the files of a server that does not run."""

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Run


def test_an_account_from_add_to_remove(run: Run, site: Path) -> None:
    config = ("-c", site)
    added = run("user", "add", "ada", "-a", "ada@example.org", "--password-stdin", *config, stdin="correct horse\n")
    assert (added.code, added.out) == (0, "")
    assert "added ada" in added.err
    listed = json.loads(run("user", "list", "--json", *config).out)
    assert [(user["login"], user["addresses"], user["disabled"]) for user in listed] == [
        ("ada", ["ada@example.org"], False)
    ]
    assert "hash" not in json.dumps(listed)
    assert run("user", "disable", "ada", *config).code == 0
    assert json.loads(run("user", "show", "ADA", "--json", *config).out)["disabled"] is True
    assert run("user", "enable", "ada", *config).code == 0
    assert "active" in run("user", "show", "ada", *config).out
    changed = run("user", "password", "ada", "--password-stdin", *config, stdin="another one\n")
    assert changed.code == 0
    refused = run("user", "remove", "ada", *config)
    assert refused.code == 2
    assert "--yes" in refused.err
    assert run("user", "remove", "ada", "--yes", *config).code == 0
    assert run("user", "list", *config).err == "no accounts; add one with `pillarbox user add`\n"


def test_further_logins_are_given_shown_and_taken_away(run: Run, site: Path) -> None:
    config = ("-c", site)
    text = site.read_text().replace("[[route]]", 'mechanisms = ["PLAIN", "SCRAM-SHA-256"]\n[[route]]', 1)
    site.write_text(f"{text}\n[[directory]]\nscram = true\n")
    amy = ("user", "add", "amy@example.org", "--alias", "Amy Wood/Sales/ACME", "--alias", "Amy Wood")
    assert run(*amy, "--password-stdin", *config, stdin="correct horse\n").code == 0
    made = run(
        "user", "add", "ada@example.org", "--alias", "amy wood", "--password-stdin", *config, stdin="correct\n"
    )
    assert made.code == 0 and "but not as amy wood: another account has that name, too" in made.err
    shown = run("user", "show", "CN=Amy Wood/OU=Sales/O=ACME", *config).out
    assert "Amy Wood/Sales/ACME, Amy Wood (ambiguous, does not count)" in shown
    assert "active, ambiguous: Amy Wood" in run("user", "list", *config).out
    checked = run("check", "--no-ports", *config)
    assert "nobody signs in as" in checked.out and "ada@example.org, amy@example.org have the name" in checked.out
    done = run(
        *("user", "change", "ada@example.org", "--alias", "Ada W", "--alias", "amy@example.org"),
        *("--remove-alias", "AMY WOOD", *config),
    )
    assert done.code == 0 and "ada@example.org may sign in as ada@example.org, Ada W" in done.err, done.err
    assert "but not as amy@example.org" in done.err
    found = {user["login"]: user for user in json.loads(run("user", "list", "--json", *config).out)}
    assert found["amy@example.org"]["void_aliases"] == []
    assert found["ada@example.org"]["aliases"] == ["Ada W", "amy@example.org"]
    assert found["ada@example.org"]["void_aliases"] == ["amy@example.org"]
    checked = run("check", "--no-ports", *config)
    assert "only the account of that login signs in as amy@example.org" in checked.out
    nothing = run("user", "change", "ada@example.org", *config)
    assert nothing.code == 2 and "--remove-alias" in nothing.err
    gone = run("user", "change", "ada@example.org", "--remove-alias", "Amy", *config)
    assert gone.code == 1 and "has no alias 'Amy'" in gone.err


def test_the_same_login_twice(run: Run, site: Path) -> None:
    arguments = ("user", "add", "ada@example.org", "--password-stdin", "-c", site)
    assert run(*arguments, stdin="correct horse\n").code == 0
    done = run(*arguments, stdin="correct horse\n")
    assert done.code == 1
    assert "there is a user ada@example.org already" in done.err


@pytest.mark.parametrize("verb", ["show", "disable", "enable", "remove", "password"])
def test_an_unknown_user(run: Run, site: Path, verb: str) -> None:
    more = {"remove": ["--yes"], "password": ["--password-stdin"]}.get(verb, [])
    done = run("user", verb, "nobody", *more, "-c", site, stdin="correct horse\n")
    assert done.code == 1
    assert done.err == "error: there is no user nobody; see `pillarbox user list`\n"


@pytest.mark.parametrize(
    ("stdin", "words"),
    [("", "the password is empty"), ("\n", "the password is empty"), ("x" * 2000 + "\n", "longer than 1024")],
)
def test_a_password_that_is_none(run: Run, site: Path, stdin: str, words: str) -> None:
    done = run("user", "add", "ada@example.org", "--password-stdin", "-c", site, stdin=stdin)
    assert done.code == 1
    assert words in done.err


def test_a_user_without_an_address(run: Run, site: Path) -> None:
    done = run("user", "add", "ada", "--password-stdin", "-c", site, stdin="correct horse\n")
    assert done.code == 2
    assert "which addresses may ada send from" in done.err


def test_an_address_that_is_none(run: Run, site: Path) -> None:
    done = run("user", "add", "ada", "-a", "not an address", "--password-stdin", "-c", site, stdin="correct horse\n")
    assert done.code == 1
    assert "not an address" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ada", "--address", "*@example.org"), "for all of a domain use --domain example.org"),
        (("ada", "--address", "@example.org"), "for all of a domain use --domain example.org"),
        (("*@example.org",), "there is no wildcard"),
    ],
)
def test_a_wildcard_is_not_taken_to_the_letter(run: Run, site: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run("user", "add", *arguments, "--password-stdin", "-c", site, stdin="correct horse\n")
    assert (done.code, words in done.err) == (2, True), done.err


def test_no_terminal_to_ask_for_a_password(run: Run, site: Path) -> None:
    done = run("user", "add", "ada@example.org", "-c", site)
    assert done.code == 2
    assert "--password-stdin" in done.err


def test_status_and_reload_need_the_daemon(run: Run, site: Path) -> None:
    for command in ("status", "reload"):
        done = run(command, "-c", site)
        assert done.code == 1
        assert done.err == (
            f"error: pillarbox is not running, and {command} needs it; start it with `pillarbox serve`\n"
        )

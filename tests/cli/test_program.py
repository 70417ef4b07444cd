"""Help, exit codes and errors of the real program."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.cli.conftest import PROGRAM, Run
from tests.support.certs import Authority

from pillarbox.cli.app import app
from pillarbox.cli.framework import help_pages
from pillarbox.cli.reference import render

COMMANDS = [name.split(" ")[1:] for name, _ in help_pages(app, "pillarbox")]
GROUPS: tuple[list[str], ...] = (
    *(
        ["user"],
        ["user", "certificate"],
        ["user", "app-password"],
        ["directory"],
        ["import"],
        ["queue"],
        ["spool"],
        ["guard"],
        ["cluster"],
        ["config"],
    ),
    [],
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(run: Run, command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.code == 0
    assert done.err == ""
    assert done.out.startswith("Usage: pillarbox")
    if command not in GROUPS:
        assert "Example: pillarbox " + " ".join(command) in " ".join(done.out.split())


def test_version(run: Run) -> None:
    assert run("version").out == "pillarbox 0.1.0\n"
    assert '"version": "0.1.0"' in run("version", "--json").out


def test_python_m_is_the_same(tmp_path: Path) -> None:
    command = [str(PROGRAM.parent / "python"), "-m", "pillarbox", "version"]
    assert subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=60).stdout == b"pillarbox 0.1.0\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["serve", "--no-such-option"],
        ["serve", "--worker", "1"],
        ["serve", "--role", "postman"],
        ["user", "add"],
        ["queue", "show", "not-an-id"],
        ["queue", "list", "--age", "yesterday"],
        ["queue", "retry"],
        ["queue", "delete", "0" * 26],
        ["queue", "delete", "0" * 26, "--bounce", "--silent"],
        ["queue", "delete", "--bounce"],
        ["guard", "unblock"],
        ["guard", "unblock", "192.0.2.1", "--login", "x"],
        ["init", "--relay", "x"],
        ["init", "--name", "a b", "--relay", "x"],
        ["init", "--name", "mail.example.org", "--relay", "a b"],
        ["init", "--name", "mail.example.org", "--relay", "x", "--ports", "25"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_says_why(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "rror: " in done.err


def test_no_configuration(run: Run) -> None:
    if Path("/etc/pillarbox/pillarbox.toml").exists():
        pytest.skip("this machine has a configuration")
    for command in (["check"], ["serve"], ["user", "list"], ["status"]):
        done = run(*command)
        assert done.code == 1
        assert "no configuration" in done.err
        assert "pillarbox init" in done.err


def test_a_configuration_that_is_not_there(run: Run) -> None:
    done = run("check", "--config", "nowhere.toml")
    assert (done.code, done.err) == (1, "error: nowhere.toml: there is no such file; `pillarbox init` writes one\n")


def test_the_variable_names_the_configuration(run: Run) -> None:
    assert "elsewhere.toml: there is no such file" in run("check", PILLARBOX_CONFIG="elsewhere.toml").err


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_mistake_of_syntax(run: Run, site: Path, command: str) -> None:
    site.write_text(site.read_text() + "[[site\n")
    done = run(command, "-c", site)
    line = site.read_text().count("\n")
    assert done.code == 1
    assert done.err.startswith(f"error: {site}:{line}: not TOML")


@pytest.mark.parametrize("command", ["check", "serve"])
def test_all_mistakes_of_meaning_at_once(run: Run, site: Path, command: str) -> None:
    text = site.read_text().replace("127.0.0.1:54651", "0.0.0.0:25")
    site.write_text(text + "colour = 1\n[logg]\n")
    done = run(command, "-c", site)
    assert done.code == 1
    assert "never a transfer server" in done.err
    assert "colour: unknown key in [[route]]" in done.err
    assert 'unknown key in the file; did you mean "log"?' in done.err
    assert len(done.err.splitlines()) == 3


def test_check_says_the_mistakes_as_json(run: Run, site: Path) -> None:
    site.write_text(site.read_text() + "colour = 1\n")
    done = run("check", "-c", site, "--json")
    assert done.code == 1
    assert '"ok": false' in done.out
    assert "unknown key" in done.out


def test_shell_completion(run: Run) -> None:
    script = run(_PILLARBOX_COMPLETE="source_bash")  # as --show-completion, for a shell that need not be ours
    assert script.code == 0
    assert "complete -o default -F _pillarbox_completion pillarbox" in script.out
    asked = {"_PILLARBOX_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    assert run(COMP_WORDS="pillarbox queue re", **asked).out.split() == ["retry", "release"]
    options = run(COMP_WORDS="pillarbox queue list --s", **{**asked, "COMP_CWORD": "3"}).out.split()
    assert options == ["--sender", "--state"]


# ---- check and the machine


def test_check_of_a_good_site(run: Run, site: Path) -> None:
    done = run("check", "-c", site)
    assert done.code == 0, done.out
    assert "the certificate is valid until" in done.out
    assert "port 127.0.0.1:54651: free" in done.out
    assert "the roles are not separated" in done.out


def test_check_of_a_key_that_is_not_there(run: Run, site: Path) -> None:
    lines = [line if not line.startswith("key") else 'key = "gone.pem"' for line in site.read_text().splitlines()]
    site.write_text("\n".join(lines))
    done = run("check", "-c", site)
    assert done.code == 1
    assert "gone.pem does not exist" in done.out
    assert "1 error" in done.err


def test_check_of_a_key_of_another_certificate(run: Run, site: Path, authority: Authority) -> None:
    other = authority.issue("other.example.org").key
    lines = [line if not line.startswith("key") else f'key = "{other}"' for line in site.read_text().splitlines()]
    site.write_text("\n".join(lines))
    done = run("check", "-c", site, "--json")
    assert done.code == 1
    assert "does not belong to the certificate" in done.out


def test_check_without_a_daemon_misses_the_accounts_of_devices(run: Run, site: Path) -> None:
    legacy = '[site.legacy]\nnetworks = ["127.0.0.0/8"]\nlogins = ["printer", "plotter"]\n'
    site.write_text(site.read_text().replace("[[route]]", f"{legacy}[[route]]"))
    words = 'site mail.example.org: there is no account "{}", which its devices sign in with'
    found = run("check", "--no-ports", "-c", site)
    assert words.format("printer") in found.out, found.out
    assert not (site.parent / "data").exists()  # it looks, and makes nothing
    made = ("user", "add", "printer", "--address", "p@example.org", "--password-stdin", "-c", site)
    assert run(*made, stdin="correct horse\n").code == 0
    found = run("check", "--no-ports", "-c", site)
    assert words.format("printer") not in found.out
    assert words.format("plotter") in found.out


def test_check_relay_walks_a_next_hop_that_is_away(run: Run, site: Path) -> None:
    done = run("check", "-c", site, "--relay", "127.0.0.1:1")
    assert done.code == 1
    assert "127.0.0.1 connect: port 1:" in done.out


def test_check_relay_options_without_relay(run: Run, site: Path) -> None:
    assert run("check", "-c", site, "--sender", "a@example.org").code == 2
    assert run("check", "-c", site, "--relay", "x:1:2").code == 2
    assert run("check", "-c", site, "--relay", "127.0.0.1", "--sender", "nobody").code == 2


# ---- the rest


def test_config_show_and_schema(run: Run, site: Path) -> None:
    shown = run("config", "show", "-c", site)
    assert f'[server]\ndata_directory = "{site.parent / "data"}"' in shown.out
    assert '"name": "mail.example.org"' in run("config", "show", "-c", site, "--json").out
    assert "Rules across keys are not in this schema" in run("config", "schema").out


def test_config_show_knows_networks_and_devices(run: Run, site: Path) -> None:
    text = site.read_text()
    devices = '[site.legacy]\nnetworks = ["10.0.0.0/8"]\nlogins = ["scanner", "printer"]\n'
    site.write_text(text.replace("[[route]]", f'proxy_from = ["10.0.0.5"]\n{devices}[[route]]', 1))
    (shown,) = json.loads(run("config", "show", "-c", site, "--json").out)["site"]
    assert shown["proxy_from"] == ["10.0.0.5"]
    assert shown["legacy"]["networks"] == ["10.0.0.0/8"]
    assert shown["legacy"]["logins"] == ["scanner", "printer"]
    assert '[site.legacy]\nnetworks = ["10.0.0.0/8"]' in run("config", "show", "-c", site).out


def test_an_internal_error_is_one_line(run: Run, site: Path) -> None:
    (site.parent / "run").write_text("a file where a folder should be")
    (site.parent / "data").write_text("and here")
    done = run("user", "list", "-c", site)
    assert done.code == 1
    assert done.err.startswith("error: ")


def test_interrupted_is_130_and_quiet(site: Path) -> None:
    # a shell's background job ignores SIGINT, and so would what it starts: as in a terminal, then
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [PROGRAM, "user", "add", "a@example.org", "--password-stdin", "-c", site],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    try:
        _wait_until_it_reads(process.pid)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)  # with its input open: an end of input could be read before the signal is heard
        out, err = process.communicate()
    finally:
        signal.signal(signal.SIGINT, before)
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert (out, err.strip()) == (b"", b"")


def _wait_until_it_reads(pid: int) -> None:
    """Until the process sleeps in a read of its standard input."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if Path(f"/proc/{pid}/syscall").read_text().startswith("0 0x0 "):
            return
        time.sleep(0.02)
    raise AssertionError("it never read its standard input")


def test_the_page_of_the_command_line_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
    assert page.read_text() == render(), "run `make docs`"

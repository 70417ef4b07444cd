"""`pillarbox init`: what it writes, what it never touches."""

import json
import ssl
import stat
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from pillarbox.cli.template import Answers, Relay, render
from pillarbox.config import check_files, load, parse
from pillarbox.delivery.settings import MaildirRoute, SmarthostRoute, TlsMode
from pillarbox.directory.settings import LocalSettings
from pillarbox.doctor.report import Severity

ARGUMENTS = ("init", "--name", "Mail.Example.org", "--relay", "mx.example.org:2525", "--ports", "5587,5465")


def test_writes_a_configuration_a_certificate_and_the_first_user(run: Run, tmp_path: Path) -> None:
    done = run(*ARGUMENTS, "--user", "ada", "--password-stdin", stdin="correct horse\n")
    assert done.code == 0, done.err
    assert done.out == ""
    assert "added ada, who may send from ada@example.org" in done.err
    assert "correct horse" not in done.err
    settings = load(tmp_path / "pillarbox.toml")
    assert settings.sites[0].name == "mail.example.org"
    assert {address.port for address in settings.sites[0].submission} == {5587}
    route = settings.delivery.routes[0]
    assert isinstance(route, SmarthostRoute)
    assert (route.host, route.port, route.tls) == ("mx.example.org", 2525, TlsMode.STARTTLS)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert not [f for f in check_files(settings, ports=False) if f.severity is Severity.ERROR]
    assert "ada" in run("user", "list").out


@pytest.mark.parametrize("scram", [False, True])
def test_scram_secrets_from_the_first_user_on(run: Run, tmp_path: Path, scram: bool) -> None:
    wanted = ("--scram",) if scram else ()
    assert run(*ARGUMENTS, "--user", "ada", "--password-stdin", *wanted, stdin="correct horse\n").code == 0
    (people,) = load(tmp_path / "pillarbox.toml").directories
    assert isinstance(people, LocalSettings) and people.scram is scram
    (ada,) = json.loads(run("user", "list", "--json").out)
    assert ada["scram"] is scram


def test_the_certificate_is_for_the_name_and_this_machine(run: Run, tmp_path: Path) -> None:
    assert run(*ARGUMENTS, "--user", "").code == 0
    context = ssl.create_default_context(cafile=tmp_path / "certificate.pem")
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    shown = context.get_ca_certs()[0]
    assert shown["subjectAltName"] == (
        ("DNS", "mail.example.org"),
        ("DNS", "localhost"),
        ("IP Address", "127.0.0.1"),
        ("IP Address", "0:0:0:0:0:0:0:1"),
    )


@pytest.mark.parametrize("name", ["pillarbox.toml", "certificate.pem", "key.pem"])
def test_never_overwrites(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    done = run(*ARGUMENTS, "--user", "ada", "--yes")
    assert done.code == 1
    assert f"{name} exists already and is never overwritten" in done.err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_makes_a_password_when_nobody_is_there_to_ask(run: Run, tmp_path: Path) -> None:
    done = run(*ARGUMENTS, "--user", "ada@example.org", "--yes")
    assert done.code == 0, done.err
    assert "shown this once: " in done.err
    password = done.err.split("shown this once: ")[1].split("\n")[0]
    assert len(password) >= 20
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]


def test_a_password_from_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("correct horse\n")
    assert run(*ARGUMENTS, "--user", "ada", "--password-file", "secret").code == 0


def test_a_password_file_that_is_not_there_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    done = run(*ARGUMENTS, "--user", "ada", "--password-file", "secret")
    assert done.code == 1
    assert "secret cannot be read" in done.err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(*ARGUMENTS, "--user", "", "--directory", tmp_path / "file" / "below")
    assert done.code == 1
    assert done.err.startswith("error: ")


def test_a_maildir_for_trying_things_out(run: Run, tmp_path: Path) -> None:
    assert run("init", "--name", "localhost", "--relay", "maildir:./out", "--user", "").code == 0
    assert load(tmp_path / "pillarbox.toml").delivery.routes[0] == MaildirRoute(("*",), tmp_path / "out")


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", "ü\x7f", "'''"])
def test_whatever_is_answered_stays_one_string(text: str) -> None:
    answers = Answers(
        name="mail.example.org",
        relay=Relay(maildir=text),
        listen=("127.0.0.1", "::1"),
        ports=(587, 465),
        data_directory=text,
        run_directory="run",
        service_user=None,
    )
    settings = parse(render(answers), Path("/x/pillarbox.toml"))
    assert settings.server.data_directory == Path("/x") / text
    assert settings.delivery.routes[0] == MaildirRoute(("*",), Path("/x") / text)


def test_relay_on_loopback_is_plain_unless_said_otherwise(run: Run, tmp_path: Path) -> None:
    for folder, more, mode in (("a", (), TlsMode.NONE), ("b", ("--relay-tls", "tls"), TlsMode.TLS)):
        arguments = ("init", "--name", "localhost", "--relay", "127.0.0.1:2525", "--user", "", "--directory", folder)
        assert run(*arguments, *more).code == 0
        route = load(tmp_path / folder / "pillarbox.toml").delivery.routes[0]
        assert isinstance(route, SmarthostRoute)
        assert route.tls is mode

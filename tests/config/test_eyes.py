"""As root, check looks with the eyes of the server's user: what only root can read does not help the server."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.certs import Authority

from pillarbox.config import check_files, parse
from pillarbox.config.eyes import check_folder, closed_folder, seeing_as, server_user, unreadable
from pillarbox.doctor.report import Finding, Severity

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look with another user's eyes")
SITE = """\
[server]
user = "nobody"
data_directory = "data"
run_directory = "run"
[spool]
min_free = 0
[[site]]
name = "mail.example.org"
submissions = ["127.0.0.1:5465"]
certificate = "certificate.pem"
key = "key.pem"
"""
MAILDIR = '[[route]]\nkind = "maildir"\npath = "mail/out"\n'


@pytest.fixture
def folder(authority: Authority) -> Iterator[Path]:
    """A folder that everybody may enter, with a certificate, root's key (0600), and folders of nobody's."""
    path = Path(tempfile.mkdtemp(prefix="pillarbox-eyes-"))
    path.chmod(0o755)
    issued = authority.issue("mail.example.org")
    shutil.copyfile(issued.certificate, path / "certificate.pem")
    shutil.copyfile(issued.key, path / "key.pem")
    (path / "key.pem").chmod(0o600)
    for name in ("data", "run", "mail"):
        (path / name).mkdir(mode=0o750)
        shutil.chown(path / name, "nobody")
    (path / "pillarbox.toml").touch(0o644)
    yield path
    shutil.rmtree(path)


def look(folder: Path, route: str = MAILDIR) -> list[Finding]:
    """What is worse than a note, but for what this machine and this certificate always have."""
    found = check_files(parse(SITE + route, folder / "pillarbox.toml"), ports=False)
    kept = [finding for finding in found if finding.severity in (Severity.ERROR, Severity.WARNING)]
    return [one for one in kept if one.subject not in ("roles", "user") and "intermediate" not in one.message]


def advised(found: list[Finding]) -> list[str]:
    return [finding.advice for finding in found]


@only_root
def test_a_key_that_only_root_can_read_blocks_and_the_advice_helps(folder: Path) -> None:
    (found,) = look(folder)
    key = folder / "key.pem"
    assert found.blocks
    assert found.message == f"the key {key} cannot be read by nobody"
    assert found.advice == f"chgrp nogroup {key}; chmod 0640 {key}"
    shutil.chown(key, group="nogroup")
    key.chmod(0o640)
    assert look(folder) == []


@only_root
def test_what_root_left_in_the_data_is_found_and_the_advice_helps(folder: Path) -> None:
    (folder / "key.pem").chmod(0o644)
    data = folder / "data"
    spool = data / "spool"
    spool.mkdir(mode=0o700)
    for left in (data / "lock", data / "accounts.db", spool / "spool.db"):
        left.touch(0o600)
        found = [one for one in look(folder) if one.subject == "data_directory"]
        assert advised(found) == [f"chown -R nobody {data}"]
        assert all(one.blocks for one in found)
        for path in (spool, left):
            shutil.chown(path, "nobody")
    (data / "lost+found").mkdir(mode=0o700)  # a file system's own
    assert [one for one in look(folder) if one.subject == "data_directory"] == []


@only_root
def test_the_folder_that_a_maildir_would_be_made_in(folder: Path) -> None:
    shutil.chown(folder / "key.pem", "nobody")
    assert look(folder) == []
    shutil.chown(folder / "mail", "root")
    (folder / "mail").chmod(0o755)
    (found,) = look(folder)
    assert (found.subject, found.blocks) == ("route[0]", True)
    assert found.message == f"the maildir {folder / 'mail/out'} does not exist and nobody cannot make it"
    assert found.advice == f"make it: install -d -m 0750 -o nobody {folder / 'mail/out'}"


@only_root
def test_folders_that_serve_makes_as_root_and_gives_away_are_no_error(folder: Path) -> None:
    shutil.chown(folder / "key.pem", "nobody")
    for name in ("data", "run"):
        (folder / name).rmdir()
    assert look(folder) == []
    (folder / "data").mkdir(mode=0o700)
    assert advised(look(folder)) == [f"chown -R nobody {folder / 'data'}"]


@only_root
def test_a_closed_folder_on_the_way_is_named(folder: Path) -> None:
    shutil.chown(folder / "key.pem", "nobody")
    folder.chmod(0o700)
    found = look(folder)
    assert {one.subject for one in found} == {
        "site mail.example.org", "data_directory", "run_directory", "route[0]", "configuration"
    }  # fmt: skip
    assert all(f"the folder {folder} is closed" in one.message for one in found)


@only_root
def test_files_of_a_route_and_of_tokens_and_the_configuration_itself(folder: Path) -> None:
    shutil.chown(folder / "key.pem", "nobody")
    secret, program, key = folder / "secret", folder / "program", folder / "token.key"
    secret.write_text("secret")
    key.write_text("a secret of at least thirty-two octets")
    program.write_text("#!/bin/sh\n")
    for path in (secret, key, folder / "pillarbox.toml"):
        path.chmod(0o600)
    program.chmod(0o700)
    route = '[[route]]\nhost = "mx.example.org"\n[route.auth]\nuser = "u"\n'
    tokens = '[[directory]]\ntoken_key = "token.key"\ntoken_issuer = "i"\ntoken_audience = "a"\n'
    found = look(folder, f'{route}secret_file = "secret"\n{tokens}')
    assert [(one.subject, one.severity.value) for one in found] == [
        ("route[0] to mx.example.org", "error"),
        ("directory local", "error"),
        ("configuration", "warning"),
    ]
    assert "a reload will be refused" in found[2].message
    found = look(folder, f'{route}secret_command = ["{program}"]\n')
    assert "there is no program" in found[0].message


@only_root
def test_an_interpreter_that_the_user_cannot_get_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """serve would bind, become the user, and start nothing."""
    home = folder / "root"
    home.mkdir(mode=0o700)
    settings = parse(SITE + MAILDIR, folder / "pillarbox.toml")
    for place, words in (
        (home / "python", [f"the folder {home} is closed"]),
        (folder / "key.pem", ["be read by nobody"]),
    ):
        monkeypatch.setattr(sys, "executable", str(place))
        found = [one for one in check_files(settings, ports=False) if one.subject == "user"]
        assert [word for word in words if word not in found[0].message] == []
        assert found[0].advice.startswith("install Pillarbox where everybody may look")
    monkeypatch.setattr(sys, "executable", str(folder / "certificate.pem"))
    assert [one for one in check_files(settings, ports=False) if one.subject == "user"] == []


@only_root
def test_afterwards_we_are_root_again_whatever_happened(folder: Path) -> None:
    server = parse(SITE + MAILDIR, folder / "pillarbox.toml").server
    before = (os.getresuid(), os.getresgid(), os.getgroups())
    with pytest.raises(ZeroDivisionError), seeing_as(server_user(server, "submission")):
        assert os.getresuid()[:2] == (65534, 65534)
        raise ZeroDivisionError
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


@only_root
def test_a_user_of_its_own_sees_the_same_as_root_who_looks_for_it(folder: Path) -> None:
    """The kernel is asked in both cases: what it tells nobody is what root is told of nobody."""
    (folder / "key.pem").chmod(0o600)
    code = (
        "import sys, os; from pathlib import Path; os.setgid(65534); os.setuid(65534)\n"
        "from pillarbox.config.eyes import unreadable\n"
        "print(unreadable('site', 'key', Path(sys.argv[1])).message)"
    )
    asked = [sys.executable, "-c", f"import pillarbox.config.eyes; {code}", str(folder / "key.pem")]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == f"the key {folder / 'key.pem'} cannot be read by nobody"


def test_what_is_not_there_or_no_folder(tmp_path: Path) -> None:
    assert unreadable("site", "key", tmp_path / "gone") is None
    assert closed_folder(tmp_path / "gone" / "further") is None
    (tmp_path / "file").touch()
    (found,) = check_folder("data_directory", "folder", tmp_path / "file" / "data")
    assert found.blocks
    assert "file is no folder" in found.message

"""passwd: signing in by a file, and what becomes of that when the file changes."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from tests.support.clock import FakeClock
from tests.support.password_files import ANNA_HASH, PEOPLE, RIGHT, DirectoryPasswd, replace

from pillarbox.directory.base import Denied, Identity, Reason, Unavailable
from pillarbox.directory.passwd import file as module
from pillarbox.directory.passwd.backend import PasswdBackend
from pillarbox.directory.passwd.entries import Entry
from pillarbox.directory.passwd.file import FRESH, LOOK_EVERY, PeopleFile, read_people
from pillarbox.directory.passwd.settings import PasswdSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Upstream
from pillarbox.sasl.mechanism import Credentials


def said(login: str, password: str) -> Credentials:
    return Credentials(authcid=login, password=password)


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Upstream]:
    made = await DirectoryPasswd(tmp_path).open()
    yield made
    made.close()


async def test_a_person_signs_in_by_the_password_in_the_file(directory: Upstream) -> None:
    answer = await directory.verify(said("Anna", RIGHT), known_place=True)
    assert isinstance(answer, Identity)
    assert answer.login == "anna" and answer.source == "files"
    assert answer.addresses == {"anna@example.org", "a.smith@example.org"}


@pytest.mark.parametrize(
    ("login", "password", "reason"),
    [
        ("anna", "wrong", Reason.WRONG),
        ("anna", "", Reason.WRONG),
        ("anna", RIGHT + "\0", Reason.WRONG),
        ("bob", RIGHT, Reason.DISABLED),
        ("nobody", RIGHT, Reason.UNKNOWN),
        ("anna:", RIGHT, Reason.UNKNOWN),
        ("#anna", RIGHT, Reason.UNKNOWN),
        ("x" * 10_000, RIGHT, Reason.WRONG),
    ],
)
async def test_who_is_not_let_in(directory: Upstream, login: str, password: str, reason: Reason) -> None:
    answer = await directory.verify(said(login, password), known_place=False)
    assert isinstance(answer, Denied) and answer.reason is reason


async def test_why_an_entry_with_a_limit_of_dovecots_is_refused_is_in_the_log(tmp_path: Path) -> None:
    settings = PasswdSettings(name="files", file=tmp_path / "people")
    replace(settings.file, f"anna:{ANNA_HASH}::::::allow_nets=192.0.2.0/24\n")
    told: list[str] = []
    directory = Upstream(PasswdBackend(settings, told.append), settings, Tries())
    for answer in (
        await directory.verify(said("anna", RIGHT), known_place=True),
        await directory.find_person("anna"),
    ):
        assert isinstance(answer, Denied) and answer.reason is Reason.LOCKED
        assert "allow_nets" in answer.details["cause"]
    directory.close()
    assert "locked: allow_nets" in "".join(told)


async def test_a_stored_password_that_is_not_understood_is_nobodys_mistake(tmp_path: Path) -> None:
    settings = PasswdSettings(name="files", file=tmp_path / "people")
    replace(settings.file, "anna:{NTLM}8846F7EAEE8FB117AD06BDD830B7586C\ncarl:{PLAIN}secret\n")
    told: list[str] = []
    backend = PasswdBackend(settings, told.append)
    for login in ("anna", "carl"):
        person = await backend.find(login)
        assert person is not None
        with pytest.raises(Unavailable) as unavailable:
            await backend.check(person, "secret")
        assert "8846F7" not in str(unavailable.value)
        assert ("{NTLM}" if login == "anna" else "not allowed") in str(unavailable.value)
    assert "8846F7" not in "".join(told) and "secret" not in "".join(told)
    backend.close()


class Looking:
    """A file that is looked at by a clock of ours."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "people"
        self.clock = FakeClock()
        self.epoch = 0.0
        settings = PasswdSettings(name="files", file=self.path)
        self.people = PeopleFile(settings, clock=self.clock.monotonic, now=lambda: self.epoch)

    def look(self, key: str = "anna") -> bool:
        """Whether there is such a person, at the next look."""
        self.clock.advance(LOOK_EVERY)
        return self.people.find(key) is not None


async def test_a_file_that_changes_is_read_again_at_the_next_look(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    replace(looking.path, PEOPLE)
    assert looking.look() and not looking.look("dora")
    replace(looking.path, f"dora:{ANNA_HASH}\n")
    assert looking.people.find("anna") is not None, "not looked at again within the second"
    assert looking.look("dora") and not looking.look()
    with looking.path.open("a") as file:
        file.write(f"emil:{ANNA_HASH}\n")
    assert looking.look("emil")


@pytest.mark.parametrize("age", [60, -86_400], ids=["old", "from the future"])
async def test_an_unchanged_file_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    looking = Looking(tmp_path)
    replace(looking.path, PEOPLE)
    looking.epoch = looking.path.stat().st_mtime + age
    assert looking.look()

    def read(_settings: PasswdSettings) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(module, "read_people", read)
    assert looking.look()


@pytest.mark.parametrize("known", [False, True])
async def test_a_broken_file_is_not_read_again_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    looking, reads = Looking(tmp_path), 0

    def read(settings: PasswdSettings) -> tuple[Mapping[str, Entry], module.Mark]:
        nonlocal reads
        reads += 1
        return read_people(settings)

    def look() -> bool:
        if known:
            return looking.look()
        with pytest.raises(Unavailable, match="the name of line 1 again"):
            looking.look()
        return True

    if known:
        replace(looking.path, PEOPLE)
        assert looking.look()
    monkeypatch.setattr(module, "read_people", read)
    replace(looking.path, "anna:x\nanna:y\n")
    looking.epoch = looking.path.stat().st_mtime + FRESH / 2
    assert look() and look() and reads == 2, "somebody may still be writing it, within the same tick"
    looking.epoch += 60
    assert look() and look() and look() and reads == 3
    replace(looking.path, f"dora:{ANNA_HASH}\n")
    assert looking.look("dora") and reads == 4


@pytest.mark.parametrize(
    "broken", [b"anna:{SHA}x\nbob:{SH", b"", b"# nobody\n", b"\xff\xfe:x\n", b"anna:x\nanna:y\n"]
)
async def test_a_half_written_empty_or_broken_file_keeps_the_old_people(tmp_path: Path, broken: bytes) -> None:
    looking = Looking(tmp_path)
    replace(looking.path, PEOPLE)
    assert looking.look()
    looking.path.write_bytes(broken)
    assert looking.look() and looking.look("bob")
    replace(looking.path, f"dora:{ANNA_HASH}\n")
    assert looking.look("dora") and not looking.look()


async def test_a_file_that_is_gone_keeps_the_old_people_and_one_that_never_was_has_none(tmp_path: Path) -> None:
    looking = Looking(tmp_path)
    with pytest.raises(Unavailable, match="No such file"):
        looking.look()
    replace(looking.path, PEOPLE)
    assert looking.look()
    looking.path.unlink()
    assert looking.look()


async def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIZE_CEILING", len(PEOPLE.encode()) - 1)
    looking = Looking(tmp_path)
    replace(looking.path, PEOPLE)
    with pytest.raises(Unavailable, match="larger"):
        looking.look()


async def test_a_new_password_in_the_file_ends_what_was_remembered_of_the_old_one(tmp_path: Path) -> None:
    backend = PasswdBackend(PasswdSettings(name="files", file=tmp_path / "people"))
    replace(tmp_path / "people", "anna:{SHA}dUiT/hqAZgAaXs7e5SSivRDx5BU=\n")
    before = await backend.find("anna")
    backend.close()
    backend = PasswdBackend(PasswdSettings(name="files", file=tmp_path / "people"))
    replace(tmp_path / "people", f"anna:{ANNA_HASH}\n")
    after = await backend.find("anna")
    backend.close()
    assert before is not None and after is not None
    assert before.key != after.key, "Upstream drops a remembered login whose key has changed"
    assert "SHA" not in before.key and "dUiT" not in before.key

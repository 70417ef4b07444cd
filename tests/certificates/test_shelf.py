"""Keys and certificates on the disk: whole or not at all, for their owner alone, never a pair that does not fit."""

import os
from pathlib import Path

import pytest
from tests.support.certs import Authority

from pillarbox.certificates.shelf import Shelf, Trouble, Unusable, new_key

NAME = "mail.example.org"


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty one."""
    made = Shelf(tmp_path / "certificates")
    made.prepare()
    return made


def test_a_pair_is_kept_in_one_file_for_its_owner_alone(shelf: Shelf, tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue(NAME)
    kept = shelf.put(NAME, issued.key.read_bytes(), issued.certificate.read_bytes())
    assert shelf.get(NAME) == kept
    assert kept.not_before < kept.not_after
    path = tmp_path / "certificates" / f"{NAME}.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert [each.name for each in path.parent.iterdir() if each.is_file()] == [path.name]


def test_a_chain_for_another_key_is_not_kept(shelf: Shelf, authority: Authority) -> None:
    issued = authority.issue(NAME)
    shelf.put(NAME, issued.key.read_bytes(), issued.certificate.read_bytes())
    before = shelf.get(NAME)
    with pytest.raises(Unusable, match="not for the key"):
        shelf.put(NAME, new_key(), authority.issue(NAME).certificate.read_bytes())
    assert shelf.get(NAME) == before


def test_a_chain_for_another_name_is_not_kept(shelf: Shelf, authority: Authority) -> None:
    issued = authority.issue("evil.example.net")
    with pytest.raises(Unusable, match=f"not for {NAME}"):
        shelf.put(NAME, issued.key.read_bytes(), issued.certificate.read_bytes())
    assert shelf.get(NAME) is None


@pytest.mark.parametrize(
    "octets", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_chain_is_not_kept(shelf: Shelf, octets: bytes) -> None:
    with pytest.raises(Unusable):
        shelf.put(NAME, new_key(), octets)


@pytest.mark.parametrize("octets", [b"", b"nonsense"])
def test_a_damaged_file_counts_as_none(shelf: Shelf, tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "certificates" / f"{NAME}.pem").write_bytes(octets)
    assert shelf.get(NAME) is None


def test_a_disk_that_fails_leaves_the_old_pair(
    shelf: Shelf, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = authority.issue(NAME), authority.issue(NAME)
    shelf.put(NAME, first.key.read_bytes(), first.certificate.read_bytes())
    before = shelf.get(NAME)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            shelf.put(NAME, second.key.read_bytes(), second.certificate.read_bytes())
    assert shelf.get(NAME) == before
    kept = shelf.put(NAME, second.key.read_bytes(), second.certificate.read_bytes())  # what was left is no hindrance
    assert shelf.get(NAME) == kept != before


def test_nobody_is_led_elsewhere_by_a_link(shelf: Shelf, tmp_path: Path, authority: Authority) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "certificates" / f"{NAME}.pem.new").symlink_to(elsewhere)
    issued = authority.issue(NAME)
    shelf.put(NAME, issued.key.read_bytes(), issued.certificate.read_bytes())
    assert not elsewhere.exists()
    assert not os.path.islink(tmp_path / "certificates" / f"{NAME}.pem")


def test_the_account_s_key_is_made_once(shelf: Shelf, tmp_path: Path) -> None:
    key = shelf.account_key()
    assert shelf.account_key() == key
    assert Shelf(tmp_path / "certificates").account_key() == key
    assert (tmp_path / "certificates" / "account" / "key.pem").stat().st_mode & 0o777 == 0o600


def test_a_damaged_account_key_is_said_and_not_replaced(shelf: Shelf, tmp_path: Path) -> None:
    path = tmp_path / "certificates" / "account" / "key.pem"
    path.write_bytes(b"nonsense")
    with pytest.raises(Unusable, match="move it away"):
        shelf.account_key()
    assert path.read_bytes() == b"nonsense"


def test_what_came_of_the_last_try_outlives_a_restart(shelf: Shelf, tmp_path: Path) -> None:
    assert shelf.trouble(NAME) == Trouble()
    shelf.note(NAME, Trouble(3, 1_700_000_000.5))
    assert Shelf(tmp_path / "certificates").trouble(NAME) == Trouble(3, 1_700_000_000.5)
    (tmp_path / "certificates" / "account" / f"{NAME}.json").write_bytes(b"[]")
    assert shelf.trouble(NAME) == Trouble()

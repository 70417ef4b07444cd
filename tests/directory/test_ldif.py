"""ldif.py: exports as RFC 2849 has them, and what is none."""

import io
from typing import Any

import pytest

from pillarbox.directory import ldif
from pillarbox.directory.ldif import LINE_CEILING, Entry, LdifBroken, read_entries

EXPORT = b"""\xef\xbb\xbfversion: 1
# an export
 of people
dn: CN=Anna Smith,O=ACME
objectClass: person
Mail: anna@exam
 ple.org
cn:: QW5uYSDDhA==
cn;lang-de:Anna
jpegPhoto:: AAAA
description:

dn:: Q049Qm9i
mail: bob@example.org\r
"""


def read(octets: bytes) -> list[Entry]:
    return list(read_entries(io.BytesIO(octets), {"mail", "cn", "objectclass"}))


def test_entries_are_unfolded_and_decoded_and_only_what_is_wanted_is_kept() -> None:
    anna, bob = read(EXPORT)
    assert anna.dn == b"CN=Anna Smith,O=ACME" and anna.line == 4
    assert anna.values("mail") == [b"anna@example.org"]
    assert anna.values("cn") == ["Anna Ä".encode(), b"Anna"]
    assert set(anna.attributes) == {"objectclass", "mail", "cn"}
    assert bob.dn == b"CN=Bob" and bob.values("mail") == [b"bob@example.org"]
    assert read(b"") == read(b"version: 1\n") == []


@pytest.mark.parametrize(
    ("octets", "where"),
    [
        (b"version: 2\n", "line 1"),
        (b"mail: x\n", "line 1"),
        (b"dn: a\ndn: b\n", "line 2"),
        (b"dn: a\nchangetype: delete\n", "line 2"),
        (b"dn: a\nmail:< file:///etc/passwd\n", "line 2"),
        (b"dn: a\nmail:: ***\n", "line 2"),
        (b"dn: a\nnonsense\n", "line 2"),
        (b"dn: a\n\x00: b\n", "line 2"),
    ],
)
def test_what_is_no_export_is_refused_with_the_line_and_without_its_text(octets: bytes, where: str) -> None:
    with pytest.raises(LdifBroken, match=where) as broken:
        read(octets)
    assert "***" not in str(broken.value) and "passwd" not in str(broken.value)


class _Endless(io.RawIOBase):
    """Octets without a line's end, as many as are asked for; how many that were is ``given``."""

    given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.given += len(buffer)
        buffer[:] = b"x" * len(buffer)
        return len(buffer)


def test_a_line_without_end_is_refused_before_it_is_read_whole() -> None:
    endless = _Endless()
    with pytest.raises(LdifBroken, match="line 1: longer than"):
        list(read_entries(io.BufferedReader(endless), {"mail"}))
    assert endless.given < 2 * LINE_CEILING


def test_an_entry_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldif, "ENTRY_CEILING", 10_000)
    people = b"".join(b"dn: CN=%d\nmail: %d@example.org\n\n" % (number, number) for number in range(500))
    assert len(read(people)) == 500
    with pytest.raises(LdifBroken, match="an entry of more than"):
        read(b"dn: CN=Anna\n" + b"mail: a\n" * 500)
    assert len(read(b"dn: CN=Anna\n" + b"jpegPhoto: a\n" * 500)) == 1

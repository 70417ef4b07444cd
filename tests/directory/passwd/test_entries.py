"""entries.py: the lines of htpasswd and passwd-file."""

import pytest
from tests.support.password_files import ANNA_HASH, PEOPLE

from pillarbox.directory.base import Reason
from pillarbox.directory.passwd import entries
from pillarbox.directory.passwd.entries import LINE_CEILING, FileBroken, parse


def test_a_passwd_file_gives_people_with_addresses_and_rights() -> None:
    people = parse(PEOPLE.encode())
    anna, bob = people["anna"], people["bob"]
    assert anna.identity.login == "anna" and anna.hashed.stored == ANNA_HASH and anna.denied is None
    assert anna.identity.addresses == {"anna@example.org", "a.smith@example.org"}
    assert bob.denied is Reason.DISABLED and bob.line == 4
    [shop] = parse(
        b"shop:{SHA}x::::::domains=Example.com,example.net may_redirect=yes recipients_per_hour=50\n"
    ).values()
    assert shop.identity.domains == {"example.com", "example.net"}
    assert shop.identity.may_redirect and shop.identity.recipients_per_hour == 50


def test_an_htpasswd_file_gives_addresses_by_login_and_domain() -> None:
    people = parse(b"anna:$apr1$x\r\nA.Smith@Example.org:$apr1$y\n", "example.com")
    assert people["anna"].identity.addresses == {"anna@example.com"}
    assert people["a.smith@example.org"].identity.login == "A.Smith@Example.org"
    assert people["a.smith@example.org"].identity.addresses == {"a.smith@example.org"}
    assert parse(b"anna:$apr1$x\n")["anna"].identity.addresses == frozenset()
    assert parse(b"Anna Smith:$apr1$x\n", "example.com")["anna smith"].identity.addresses == frozenset()


def test_dovecots_own_words_say_nothing_here() -> None:
    line = b"anna:{SHA}x:1:1:Anna, Smith:/home:/bin/sh:userdb_mail=maildir:~/Maildir nice=1 mail=a@b.example\n"
    assert parse(line)["anna"].identity.addresses == {"a@b.example"}


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ("", Reason.DISABLED),
        ("x", Reason.DISABLED),
        ("!$6$x", Reason.LOCKED),
        ("*", Reason.LOCKED),
        ("$6$x::::::nologin", Reason.DISABLED),
        ("$6$x::::::disabled=no", None),
    ],
)
def test_who_has_no_password_or_is_locked_is_not_let_in(stored: str, reason: Reason | None) -> None:
    assert parse(f"anna:{stored}\n".encode())["anna"].denied is reason


@pytest.mark.parametrize(
    "word", ["allow_nets=192.0.2.0/24", "allow_real_nets=::1", "noauthenticate", "noauthenticate=y"]
)
def test_a_limit_that_is_dovecots_alone_lets_nobody_in(word: str) -> None:
    [anna] = parse(f"anna:$6$x::::::mail=a@b.example {word}\n".encode()).values()
    assert anna.denied is Reason.LOCKED and word.partition("=")[0] in anna.cause and "192.0.2" not in anna.cause
    [anna] = parse(f"anna:$6$x::::::{word} nologin\n".encode()).values()
    assert anna.denied is Reason.DISABLED and anna.cause == ""
    assert parse(f"anna:$6$x::::::userdb_{word}\n".encode())["anna"].denied is None


def test_a_secret_of_rfc_5803_has_colons_of_its_own() -> None:
    people = parse(b"anna:SCRAM-SHA-256$4096:c2FsdA==$AAAA:BBBB::::::mail=a@b.example\n")
    assert people["anna"].hashed.stored == "SCRAM-SHA-256$4096:c2FsdA==$AAAA:BBBB"


BROKEN = {
    b"anna:{SHA}x": "no end",
    b"anna\n": 'line 1: no ":"',
    b":{SHA}x\n": "line 1",
    b"anna:{SHA}x\nANNA:{SHA}y\n": "line 2: the name of line 1 again",
    b"\xff:{SHA}x\n": "line 1: not UTF-8",
    b"an\0na:{SHA}x\n": "line 1",
    b"an\rna:{SHA}x\n": "line 1",
    b"anna:{SHA}x::::::mail=nonsense\n": "line 1",
    b"anna:{SHA}x::::::mail=a@b@c\n": "line 1",
    b"anna:{SHA}x::::::domains=@x\n": "line 1",
    b"anna:{SHA}x::::::recipients_per_hour=many\n": "line 1",
    b"anna:{SHA}x::::::recipients_per_hour=0\n": "line 1",
    b"\n\n" + b"n" * (LINE_CEILING + 1) + b"\n": "line 3: longer",
    ("n" * 300 + ":x\n").encode(): "line 1",
}


@pytest.mark.parametrize("octets", BROKEN)
def test_a_line_that_cannot_be_read_spoils_the_file_and_is_told_by_number_alone(octets: bytes) -> None:
    with pytest.raises(FileBroken) as broken:
        parse(octets)
    assert BROKEN[octets] in str(broken.value)
    assert "{SHA}" not in str(broken.value)


def test_more_people_than_the_ceiling_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "ENTRIES_CEILING", 2)
    assert len(parse(b"n1:x\nn2:x\n")) == 2
    with pytest.raises(FileBroken, match="more than"):
        parse(b"n1:x\nn2:x\nn3:x\n")

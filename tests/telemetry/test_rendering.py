"""Lines of the log: nothing secret in them, nothing in them that a peer could use."""

import enum
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillarbox.telemetry.rendering import REDACTED, as_json, as_readable, is_secret, redact

LINE = {"time": "2026-01-31T23:59:59.123Z", "level": "info", "event": "x.done", "room": "test"}


SECRET_KEYS = (
    *("password", "Password", "PASSWD", "smtp_password", "passphrase", "client-secret", "set.cookie"),
    *("accessToken", "tokens", "authorization", "response", "credentials"),
)


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_keys_that_name_a_secret(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize("key", ["reply", "queue_id", "passed", "respond", "secretary", "tokenizer", "login", ""])
def test_keys_that_only_look_like_one(key: str) -> None:
    assert not is_secret(key)


def test_secrets_are_replaced_at_any_depth() -> None:
    fields = {
        "login": "anna",
        "password": "hunter2",
        "more": {"token": b"hunter2", "list": [{"deep": ({"client_secret": "hunter2"},)}]},
    }
    line = as_json(redact(fields))
    assert b"hunter2" not in line
    assert line.count(REDACTED.encode()) == 3
    assert json.loads(line)["login"] == "anna"


@given(st.recursive(st.just("hunter2"), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_whatever_is_under_a_secret_key_never_comes_out(value: object) -> None:
    assert b"hunter2" not in as_json(redact({"password": value}))


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Colour(enum.Enum):
    RED = object()


def test_every_kind_of_value_becomes_plain() -> None:
    fields = redact({"octets": b"a\xff", "number": 2**80, "broken": Broken(), "colour": Colour.RED, "set": {1}, 5: 6})
    line = json.loads(as_json(fields))
    assert line == {
        "octets": "a\\xff",
        "number": 2**80,
        "broken": "<Broken>",
        "colour": "RED",
        "set": [1],
        "5": 6,
    }


@given(st.text())
def test_a_json_line_is_one_ascii_line_whatever_a_peer_sent(text: str) -> None:
    line = as_json(redact({**LINE, "argument": text}))
    assert line.isascii()
    assert line.endswith(b"\n") and len(line.decode().splitlines()) == 1
    assert all(octet >= 0x20 for octet in line[:-1])
    assert json.loads(line)["argument"] == text


@given(st.text())
def test_a_readable_line_is_one_line_without_control_characters(text: str) -> None:
    line = as_readable(redact({**LINE, "argument": text})).decode("utf-8", "surrogateescape")
    assert line.endswith("\n") and len(line.splitlines()) == 1
    assert line[:-1].isprintable()


def test_a_readable_line_shows_place_event_and_fields() -> None:
    line = as_readable({**LINE, "role": "submission", "worker": 2, "peer": "192.0.2.1", "text": "two words"})
    assert line.decode().split() == [
        "23:59:59.123Z",
        "info",
        "submission-2",
        "x.done",
        "peer=192.0.2.1",
        'text="two',
        'words"',
    ]

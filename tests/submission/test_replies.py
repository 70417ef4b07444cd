"""Replies: an enhanced status on each but the greeting and 354, of its code's class and in the registry."""

import inspect

import pytest

from pillarbox.smtp.reply import Reply
from pillarbox.submission import replies

REGISTERED = {
    *("0.0", "1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "1.8", "1.9", "1.10"),
    *("2.0", "2.1", "2.2", "2.3", "2.4", "3.0", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6"),
    *("4.0", "4.1", "4.2", "4.3", "4.4", "4.5", "4.6", "4.7", "5.0", "5.1", "5.2", "5.3", "5.4", "5.5", "5.6"),
    *("6.0", "6.1", "6.2", "6.3", "6.4", "6.5", "6.6", "6.7", "6.8", "6.9", "6.10"),
    *(f"7.{detail}" for detail in range(31)),
}
"""Subject and detail (RFC 3463, and what the registry of RFC 5248 has since)."""

PERMANENT_ONLY = {
    "1.1",
    "1.2",
    "1.3",
    "1.6",
    "1.7",
    "1.8",
    "2.3",
    "5.1",
    "5.2",
    "5.4",
    "6.1",
    "6.3",
    "7.1",
    "7.2",
    "7.3",
}
"""Details that say nothing as 4.y.z (RFC 3463 3, "useful only as a permanent error" and the like)."""

TEMPLATES = {
    "hold_too_long": replies.hold_too_long(60.0),
    "chunk_received": replies.chunk_received(7),
    "line_too_long": replies.line_too_long(1000),
    "queued": replies.queued("01M868RQ3SW610MR2RZ66DBNBV"),
    "may_not_send_as": replies.may_not_send_as("a@example.org", "From", smtputf8=False),
    "may_not_write_to": replies.may_not_write_to("a@example.org", smtputf8=False),
    "bad_header": replies.bad_header("a reason"),
}
CONSTANTS = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}
WITHOUT = {"START_CONTENT"}


def test_every_template_is_looked_at() -> None:
    made = {
        name
        for name, value in vars(replies).items()
        if inspect.isfunction(value) and value.__module__ == replies.__name__ and name != "escaped"
    }
    assert made == {*TEMPLATES, "greeting"}


@pytest.mark.parametrize("name", [*CONSTANTS, *TEMPLATES])
def test_status_is_registered_and_of_its_codes_class(name: str) -> None:
    reply = {**CONSTANTS, **TEMPLATES}[name]
    if name in WITHOUT:
        assert reply.enhanced is None
        return
    assert reply.enhanced is not None
    kind, _, detail = reply.enhanced.partition(".")
    assert kind == str(reply.code)[0]
    assert detail in REGISTERED
    assert kind == "5" or detail not in PERMANENT_ONLY


def test_the_greeting_and_354_have_none() -> None:
    assert replies.greeting("mail.example.org").enhanced is None
    assert replies.START_CONTENT.enhanced is None
    assert replies.START_CONTENT.code == 354

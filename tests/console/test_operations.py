"""The operator's verbs: errors in words, pages, bounces. What the verbs do is tested where they are served."""

from typing import Any

import pytest

from pillarbox.console.operations import Filter, OperationFailed, Operations
from pillarbox.control.channel import ChannelClosed, RemoteError
from pillarbox.message.envelope import Envelope
from pillarbox.spool.base import QueuedMessage, Recipient, State
from pillarbox.spool.wire import unpack_envelope


class Channel:
    """Answers each verb by a value, an exception, or a function of the body; keeps what was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {verb.replace("_", "."): answer for verb, answer in answers.items()}
        self.asked: list[tuple[str, Any]] = []

    async def request(self, verb: str, body: Any = None) -> Any:
        self.asked.append((verb, body))
        answer = self.answers[verb]
        if isinstance(answer, Exception):
            raise answer
        return answer(body) if callable(answer) else answer


def message(number: int, **more: Any) -> dict[str, Any]:
    recipient = Recipient(0, "x@example.net", "example.net", State.DUE, 0.0, 1, "451 later", None, False)
    fields = {"queue_id": f"{number:026}", "reverse_path": "ada@example.org", "forward_paths": ("x@example.net",)}
    envelope = Envelope(received_at=0.0, size=3, **(fields | more))
    queued = QueuedMessage(envelope, (recipient,), False)
    return {
        "envelope": {name: getattr(envelope, name) for name in Envelope.__dataclass_fields__},
        "recipients": [
            {name: getattr(recipient, name) for name in Recipient.__dataclass_fields__} | {"state": "due"}
        ],
        "leased": queued.leased,
    }


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RemoteError("UnknownAccount", "ada"), "there is no user ada"),
        (RemoteError("AccountExists", "ada"), "there is a user ada already"),
        (RemoteError("InvalidAccount", "the login is empty"), "the login is empty"),
        (RemoteError("internal", "internal error"), "its log says why"),
        (RemoteError("unknown_verb", "user.show"), "of another version"),
        (ChannelClosed("user.show"), "whether this was done is unknown"),
    ],
)
async def test_errors_in_words(error: Exception, words: str) -> None:
    with pytest.raises(OperationFailed, match=words):
        await Operations(Channel(user_show=error)).show_user("ada")


async def test_a_list_is_asked_for_in_pages() -> None:
    def page(body: Any) -> Any:
        _, _, limit, after = body
        start = int(after or "-1") + 1
        return [message(number) for number in range(start, min(start + limit, 250))]

    channel = Channel(ledger_list=page)
    verbs = Operations(channel)
    assert len(await verbs.list_messages(Filter(), limit=230)) == 230
    assert [body[2:] for _, body in channel.asked] == [(100, ""), (100, f"{99:026}"), (30, f"{199:026}")]
    assert len(await verbs.find_messages(Filter())) == 250


async def test_a_deletion_that_finds_a_message_gone_or_being_delivered() -> None:
    def show(queue_id: str) -> Any:
        if queue_id.endswith("1"):
            raise RemoteError("UnknownQueueId", queue_id)
        return message(int(queue_id))

    def expunge(body: Any) -> None:
        if body[0].endswith("2"):
            raise RemoteError("LeaseLost", body[0])

    channel = Channel(ledger_show=show, ledger_expunge=expunge)
    ids = [f"{number:026}" for number in range(3)]
    done = await Operations(channel).delete_messages(ids, with_bounce=False)
    assert (done.deleted, done.being_delivered) == ([ids[0]], [ids[2]])


@pytest.mark.parametrize(
    ("more", "bounces"), [({}, 1), ({"reverse_path": ""}, 0), ({"is_bounce": True, "reverse_path": ""}, 0)]
)
async def test_only_a_sender_gets_a_bounce(more: dict[str, Any], bounces: int) -> None:
    channel = Channel(ledger_show=message(0, **more), ledger_expunge=None)
    verbs = Operations(channel, host="mail.example.org")
    await verbs.delete_messages(["0" * 26], with_bounce=True)
    sent = channel.asked[-1][1][1]
    assert len(sent) == bounces
    if bounces:
        assert b"Final-Recipient: rfc822; x@example.net" in sent[0][1]


async def test_status_says_when_the_spool_does_not_answer() -> None:
    channel = Channel(status={"ready": False}, ledger_depth=RemoteError("NotRunning", "spool"))
    assert await Operations(channel).status() == {"ready": False, "queue": None}


@pytest.mark.parametrize(
    ("notify", "told"), [("", True), ("FAILURE,DELAY", True), ("NEVER", False), ("SUCCESS,DELAY", False)]
)
async def test_a_deletion_is_told_to_those_who_want_to_hear_of_failures(notify: str, told: bool) -> None:
    queued = message(0, priority=4, require_tls=True, queue_id="0" * 26 + "-b")
    queued["recipients"][0]["notify"] = notify
    channel = Channel(ledger_show=queued, ledger_expunge=None)
    await Operations(channel, host="mail.example.org").delete_messages(["0" * 26], with_bounce=True)
    bounces = [unpack_envelope(list(envelope)) for envelope, _ in channel.asked[-1][1][1]]
    assert {bounce.queue_id.partition("-")[2] for bounce in bounces} <= {"b"}, "it stays in the cell of its cause"
    assert [(bounce.priority, bounce.require_tls) for bounce in bounces] == [(4, True)] * told


async def test_early_is_asked_for_only_when_it_is_said() -> None:
    channel = Channel(ledger_retry=((), None), ledger_release=((), None))
    verbs = Operations(channel)
    await verbs.retry_messages(Filter())
    await verbs.release_messages(Filter())
    await verbs.retry_messages(Filter(), early=True)
    await verbs.release_messages(Filter(), early=True)
    assert [body[-1] for _, body in channel.asked] == [False, False, True, True]


async def test_a_deletion_s_bounce_names_the_operator_and_blames_no_other_system() -> None:
    channel = Channel(ledger_show=message(0), ledger_expunge=None)
    await Operations(channel, host="mail.example.org").delete_messages(["0" * 26], with_bounce=True)
    ((_, content),) = channel.asked[-1][1][1]
    told = b" ".join(content.split())
    assert b"Reason: The mail system's operator removed the message before it could be delivered." in told
    assert b"The last attempt to deliver it ended with: 451 later" in told
    assert b"refused the message" not in told
    assert b"said: " not in told

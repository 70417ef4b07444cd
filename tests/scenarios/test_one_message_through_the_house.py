"""One message walks through the house, on both ports, and its hops tell of it in their order."""

import pytest
from tests.support.clients import sample_message
from tests.support.daemon import RunningDaemon
from tests.support.talk import Talk

pytestmark = pytest.mark.scenario

HOPS = ["session.opened", "signin.succeeded", "transaction.opened", "message.accepted", "delivery.delivered"]


@pytest.mark.parametrize("port", ["submission", "submissions"])
def test_a_message_is_accepted_and_relayed_hop_by_hop(daemon: RunningDaemon, password: str, port: str) -> None:
    content = sample_message()
    before = len(daemon.log())
    with Talk(getattr(daemon, port), daemon.ca if port == "submissions" else None) as talk:
        if port == "submission":
            talk.start_tls(daemon.ca)
        else:
            talk.say("EHLO client.example.org")
        assert talk.sign_in("ada", password).startswith("235 2.7.0 ")
        reply = talk.transaction(content)
        assert reply.startswith("250 2.0.0 ")
        assert talk.say("QUIT").startswith("221 2.0.0 ")
    accepted = daemon.wait_for("message.accepted", after=before)
    assert accepted["queue_id"] in reply
    daemon.wait_for("delivery.delivered", after=before, queue_id=accepted["queue_id"])
    session = daemon.wait_for("session.closed", after=before)["session"]
    ours = [
        line
        for line in daemon.log()[before:]
        if line.get("session") == session or line.get("queue_id") == accepted["queue_id"]
    ]
    assert [line["event"] for line in ours if line["event"] in HOPS] == HOPS
    assert accepted["session"] == session
    (arrived,) = daemon.delivered()
    assert arrived.endswith(content)
    assert accepted["queue_id"].encode() in arrived
    assert daemon.stop() == 0

"""What a message asks of a next hop, at the edges of what the protocol can say."""

from pillarbox.delivery.abilities import Abilities
from pillarbox.message.envelope import Envelope


def test_a_time_to_deliver_by_that_is_long_past_is_said_in_nine_digits() -> None:
    """RFC 2852 4: a next hop would answer 501 to more, and the message would bounce for it."""
    abilities = Abilities.of({"DELIVERBY": ""}, assume_8bitmime=False)
    envelope = Envelope("Q", "a@x", ("b@y",), 0.0, 1, deliver_by=1.0, deliver_by_mode="N")
    assert abilities.mail_parameters(envelope, 2_000_000_000.0).deliver_by == -999_999_999
    assert abilities.mail_parameters(envelope, 11.5).deliver_by == -11

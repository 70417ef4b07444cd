"""Times that MAIL asks for: relative ones from when it was accepted, ceilings, and those that cannot both be kept."""

import pytest

from pillarbox.smtp.events import Body, MailParameters
from pillarbox.submission.replies import Refused
from pillarbox.submission.terms import NO_TERMS, Terms, agree

NOW = 1_800_000_000.0
DAY = 86_400


@pytest.mark.parametrize(
    "parameters",
    [
        MailParameters(),
        MailParameters(size=1, body=Body.EIGHT_BIT_MIME, priority=3, ret="HDRS", require_tls=True),
        MailParameters(hold_for=0),
        MailParameters(hold_until=NOW),
        MailParameters(hold_until=NOW - 1),
    ],
)
def test_nothing_asked_and_times_that_are_past_hold_nothing(parameters: MailParameters) -> None:
    assert agree(parameters, NOW, 30 * DAY) == NO_TERMS


@pytest.mark.parametrize(
    ("parameters", "terms"),
    [
        (MailParameters(hold_for=60), Terms(hold_until=NOW + 60)),
        (MailParameters(hold_for=30 * DAY), Terms(hold_until=NOW + 30 * DAY)),
        (MailParameters(hold_until=NOW + 30 * DAY), Terms(hold_until=NOW + 30 * DAY)),
        (MailParameters(deliver_by=120, deliver_by_mode="R"), Terms(deliver_by=NOW + 120)),
        (MailParameters(deliver_by=-5, deliver_by_mode="N"), Terms(deliver_by=NOW - 5)),
        (MailParameters(hold_for=60, deliver_by=61, deliver_by_mode="R"), Terms(NOW + 60, NOW + 61)),
    ],
)
def test_times_become_absolute(parameters: MailParameters, terms: Terms) -> None:
    assert agree(parameters, NOW, 30 * DAY) == terms


@pytest.mark.parametrize(
    "parameters",
    [
        MailParameters(hold_for=30 * DAY + 1),
        MailParameters(hold_until=NOW + 30 * DAY + 1),
        MailParameters(hold_for=60, deliver_by=60, deliver_by_mode="R"),
        MailParameters(hold_until=NOW + 60, deliver_by=-1, deliver_by_mode="N"),
    ],
)
def test_a_hold_beyond_the_ceiling_or_the_time_of_delivery_is_501_5_5_4(parameters: MailParameters) -> None:
    with pytest.raises(Refused) as caught:
        agree(parameters, NOW, 30 * DAY)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (501, "5.5.4")

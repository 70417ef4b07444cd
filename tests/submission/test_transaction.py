"""One transaction without a socket: what MAIL and RCPT asked for, and header fields, in the envelope."""

from pathlib import Path

import pytest
from tests.support.submission import ANNA, KeepingIntake

from pillarbox.message.envelope import Envelope
from pillarbox.smtp.events import Body, EndOfContent, MailParameters, RcptParameters
from pillarbox.submission.settings import SiteSettings
from pillarbox.submission.terms import NO_TERMS, Terms
from pillarbox.submission.transaction import Origin, Transaction

NOW = 1_800_000_000.0
SITE = SiteSettings("mail.example.org", (), (), Path(), Path())
HEADER = b"From: anna@example.org\r\n"
NOTHING = MailParameters()
PLAIN = RcptParameters()


def transaction(intake: KeepingIntake, parameters: MailParameters = NOTHING, terms: Terms = NO_TERMS) -> Transaction:
    return Transaction(
        identity=ANNA,
        reverse_path=ANNA.login,
        parameters=parameters,
        queue_id="01M868RQ3SW610MR2RZ66DBNBV",
        now=NOW,
        site=SITE,
        origin=Origin("s", "client.example", True, "192.0.2.7", ("TLSv1.3", "X")),
        intake=intake,
        terms=terms,
    )


async def submitted(
    parameters: MailParameters = NOTHING,
    terms: Terms = NO_TERMS,
    recipients: tuple[RcptParameters, ...] = (PLAIN,),
    header: bytes = HEADER,
) -> Envelope:
    """The envelope that the spool was given."""
    intake = KeepingIntake()
    made = transaction(intake, parameters, terms)
    for number, asked in enumerate(recipients):
        assert made.add_recipient(f"{number}@example.net", asked)
    content = header + b"\r\ntext\r\n"
    await made.add_content(content)
    await made.commit(EndOfContent(len(content), frozenset(), False))
    ((envelope, _),) = intake.committed
    return envelope


async def test_who_asks_for_nothing_has_an_envelope_that_asks_for_nothing() -> None:
    envelope = await submitted(recipients=(PLAIN, PLAIN))
    bare = Envelope(
        queue_id=envelope.queue_id,
        reverse_path=ANNA.login,
        forward_paths=("0@example.net", "1@example.net"),
        received_at=NOW,
        size=envelope.size,
        login=ANNA.login,
        site="mail.example.org",
        session_id="s",
    )
    assert envelope == bare


async def test_everything_that_mail_asks_for_is_in_the_envelope() -> None:
    parameters = MailParameters(
        size=100,
        body=Body.BINARY_MIME,
        ret="HDRS",
        envid="QQ314159",
        hold_for=60,
        deliver_by=120,
        deliver_by_mode="RT",
        priority=-4,
        require_tls=True,
    )
    envelope = await submitted(parameters, Terms(NOW + 60, NOW + 120))
    assert (envelope.binary, envelope.ret, envelope.envid) == (True, "HDRS", "QQ314159")
    assert (envelope.hold_until, envelope.deliver_by, envelope.deliver_by_mode) == (NOW + 60, NOW + 120, "RT")
    assert (envelope.priority, envelope.require_tls, envelope.tls_optional) == (-4, True, False)


async def test_what_recipients_ask_for_stands_beside_each_in_their_order() -> None:
    envelope = await submitted(
        recipients=(
            PLAIN,
            RcptParameters("SUCCESS,DELAY", "rfc822;b@example.org"),
            RcptParameters("NEVER"),
        )
    )
    assert envelope.forward_paths == ("0@example.net", "1@example.net", "2@example.net")
    assert envelope.notify == ("", "SUCCESS,DELAY", "NEVER")
    assert envelope.original_recipients == ("", "rfc822;b@example.org", "")


async def test_what_no_recipient_asks_for_is_an_empty_tuple() -> None:
    envelope = await submitted(recipients=(PLAIN, RcptParameters("NEVER")))
    assert (envelope.notify, envelope.original_recipients) == (("", "NEVER"), ())
    envelope = await submitted(recipients=(RcptParameters("", "rfc822;b@example.org"), PLAIN))
    assert (envelope.notify, envelope.original_recipients) == ((), ("rfc822;b@example.org", ""))


async def test_a_recipient_given_twice_keeps_what_was_asked_first() -> None:
    made = transaction(KeepingIntake())
    assert made.add_recipient("b@example.net", RcptParameters("NEVER"))
    assert not made.add_recipient("b@example.net", RcptParameters("SUCCESS"))
    assert made.forward_paths == {"b@example.net": RcptParameters("NEVER")}


@pytest.mark.parametrize(
    ("fields", "optional"),
    [
        (b"", False),
        (b"TLS-Required: No\r\n", True),
        (b"tls-required:NO \r\n", True),
        (b"TLS-Required: Yes\r\n", False),
        (b"TLS-Required: No (really)\r\n", False),
        (b"TLS-Required: No\r\nTLS-Required: No\r\n", False),
    ],
)
async def test_tls_required_no_is_in_the_envelope(fields: bytes, optional: bool) -> None:
    """RFC 8689 5: given more than once, or with another value, the field is ignored."""
    envelope = await submitted(header=HEADER + fields)
    assert envelope.tls_optional is optional


async def test_requiretls_wins_over_tls_required_no() -> None:
    envelope = await submitted(MailParameters(require_tls=True), header=HEADER + b"TLS-Required: No\r\n")
    assert (envelope.require_tls, envelope.tls_optional) == (True, False)

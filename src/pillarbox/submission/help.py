"""HELP: the same two lines for strangers whatever they ask; the commands and their parameters for who has signed in.

Verbs and parameters come from the protocol core's tables, so that nothing is told that is not there.

STANDARDS
    RFC 5321 4.1.1.8.

ERRORS
    None: an unknown topic gets the list of topics.
"""

from collections.abc import Mapping
from typing import Final

from pillarbox.smtp.extensions import MAIL_PARAMETERS, RCPT_PARAMETERS, Parameter
from pillarbox.smtp.limits import Limits
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.state import VERBS
from pillarbox.submission import replies

_SYNTAX: Final[Mapping[str, str]] = {
    "AUTH": "AUTH mechanism [initial-response]",
    "BDAT": "BDAT size [LAST]",
    "EHLO": "EHLO domain",
    "HELO": "HELO domain",
    "HELP": "HELP [command]",
    "MAIL": "MAIL FROM:<address> [parameters]",
    "RCPT": "RCPT TO:<address> [parameters]",
    "VRFY": "VRFY address",
}
"""Of the commands that take an argument; the others are their own name."""

_PARAMETERS: Final = {"MAIL": MAIL_PARAMETERS, "RCPT": RCPT_PARAMETERS}


def help_reply(topic: str, limits: Limits, *, signed_in: bool) -> Reply:
    """The 214; ``topic`` in upper case, as the peer wrote it otherwise."""
    if not signed_in:
        return replies.HELP
    topics = [name.decode("ascii") for name, verb in VERBS.items() if verb.read is not None]
    if "CHUNKING" in limits.disabled:
        topics.remove("BDAT")
    if topic not in topics:
        return Reply(214, ("Commands: " + " ".join(topics), "HELP command tells more; see RFC 6409"), "2.0.0")
    lines = [f"Syntax: {_SYNTAX.get(topic, topic)}"]
    if topic in _PARAMETERS:
        lines.append("Parameters: " + " ".join(_offered(_PARAMETERS[topic], limits)))
    return Reply(214, tuple(lines), "2.0.0")


def _offered(parameters: Mapping[bytes, Parameter], limits: Limits) -> list[str]:
    off = limits.disabled if limits.hold else limits.disabled | {"FUTURERELEASE"}
    return [keyword.decode("ascii") for keyword, row in parameters.items() if row.extension not in off] or ["none"]

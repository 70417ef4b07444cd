"""docs/reference/protocol.md, written from the tables: verbs, extensions, parameters, replies.

    python -m pillarbox.smtp.reference > docs/reference/protocol.md

It must not import anything but the protocol core.
"""

from pillarbox.smtp import hints
from pillarbox.smtp.extensions import MAIL_PARAMETERS, RCPT_PARAMETERS, Offering, Parameter, ehlo_reply
from pillarbox.smtp.limits import Limits
from pillarbox.smtp.reply import Reply
from pillarbox.smtp.state import VERBS, State, Verb

_HEAD = """\
# The protocol's tables

This page is written from the tables in the code (`make docs`). They are the single source: the server obeys them.

## Verbs

Asked in this order: sign-in (530), TLS (530), whether it is implemented (502), the state (503), the argument (501,
553, 555). Sign-in comes first, so that a port scan learns nothing. START is before EHLO or HELO, READY after it,
MAIL and RCPT are inside a transaction, CHUNKS is between two BDATs, REFUSED is after a negative greeting. A legacy
site with `minimum_tls = "none"` takes AUTH outside TLS too; a STARTTLS after it forgets who signed in.

BDAT before sign-in, and one whose size cannot be read, closes the connection; one that comes at a wrong moment is
answered when its octets were thrown away, so that they never become commands. The verbs of HTTP close it because a
web page can make a browser post mail commands to any port.

| verb | allowed in | after sign-in only | inside TLS only | last of a group |
|---|---|---|---|---|
"""

_EXTENSIONS = """
## What EHLO offers

As said inside TLS, before sign-in, by a site with every extension on; AUTH lists the mechanisms of the site.

```
"""

_PARAMETERS = """```

## Parameters

One that is not here, or whose extension the site has switched off (`disabled_extensions`), is 555; a malformed or
repeated one is 501.

| command | parameter | extension | fills | room in the line, octets |
|---|---|---|---|---|
"""

_REPLIES = """
## Replies that the core proposes

| name | reply |
|---|---|
"""


def render() -> str:
    """The page."""
    limits = Limits(recipients=100, hold=2_592_000)
    offering = Offering(limits, tls=True, authenticated=False, offer_starttls=True, mechanisms=("PLAIN",), now=0.0)
    offer = ehlo_reply("mail.example.org", offering)
    parameters = [("MAIL", *item) for item in MAIL_PARAMETERS.items()]
    parameters += [("RCPT", *item) for item in RCPT_PARAMETERS.items()]
    replies = [(name, value) for name, value in vars(hints).items() if isinstance(value, Reply)]
    return (
        _HEAD
        + "".join(_verb(name, verb) for name, verb in VERBS.items())
        + _EXTENSIONS
        + offer.render().decode().replace("\r\n", "\n")
        + _PARAMETERS
        + "".join(_parameter(*row) for row in parameters)
        + _REPLIES
        + "".join(f"| {name} | `{reply.render().decode().rstrip()}` |\n" for name, reply in replies)
    )


def _verb(name: bytes, verb: Verb) -> str:
    states = " ".join(state.name for state in State if state in verb.states) or "never"
    if verb.read is None:
        states = f"never: {verb.refusal.code}" + (", closes" if verb.fatal else "")
    marks = " | ".join("yes" if mark else "" for mark in (verb.sign_in, verb.tls, verb.last))
    return f"| {name.decode()} | {states} | {marks} |\n"


def _parameter(command: str, name: bytes, parameter: Parameter) -> str:
    fills = parameter.field or ("deliver_by, deliver_by_mode" if parameter.spread else "checked, then ignored")
    return f"| {command} | {name.decode()} | {parameter.extension} | {fills} | {parameter.room} |\n"


if __name__ == "__main__":
    print(render(), end="")

"""``pillarbox queue``: accepted mail that has not left yet."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

from pillarbox.cli.configuration import load, operations, run
from pillarbox.cli.framework import (
    Argument,
    CommandError,
    ConfigOption,
    Exit,
    JsonOption,
    Option,
    UsageError,
    YesOption,
    example,
    group,
)
from pillarbox.cli.output import ago, moment_text, remark, say, say_json, say_table
from pillarbox.cli.user import ask_or_refuse
from pillarbox.config.values import parse_time
from pillarbox.console.operations import Deletion, Filter, Operations, QueuedMessage, Recipient, State, is_future
from pillarbox.message.envelope import Envelope, is_queue_id

app = group("queue", "Accepted mail that waits to be relayed.", "pillarbox queue list")


class Wanted(StrEnum):
    """What --state takes: the states of recipients, and those due ones whose sender asked for a later time."""

    DUE = State.DUE.value
    HELD = State.HELD.value
    DEAD = State.DEAD.value
    FUTURE = "future"


_RETURNS = {"FULL": "the whole message in a bounce", "HDRS": "only the header in a bounce"}
_LATE = {"R": "returned to the sender when late", "N": "the sender is told when it is late"}

Ids = Annotated[list[str] | None, Argument(help="Queue ids.", metavar="[QUEUE-ID]...", show_default=False)]
OneId = Annotated[str, Argument(help="A queue id.", metavar="QUEUE-ID", show_default=False)]
Sender = Annotated[
    str | None, Option(metavar="ADDRESS", help="The reverse path; * is a wildcard.", show_default=False)
]
RecipientOption = Annotated[
    str | None, Option("--recipient", metavar="ADDRESS", help="A forward path; * is a wildcard.", show_default=False)
]
Domain = Annotated[
    str | None, Option(metavar="DOMAIN", help="A recipient's domain; * is a wildcard.", show_default=False)
]
LoginOption = Annotated[
    str | None, Option("--login", metavar="LOGIN", help="Who submitted it; * is a wildcard.", show_default=False)
]
StateOption = Annotated[
    Wanted | None,
    Option(
        "--state",
        help='Recipients in this state; "future": due later because the sender asked for it.',
        show_default=False,
    ),
]
Early = Annotated[
    bool, Option("--early", help="Also messages whose sender asked for a later time: send them now all the same.")
]
Age = Annotated[
    str | None, Option(metavar="TIME", help='Accepted at least so long ago: "30m", "4h", "2d".', show_default=False)
]
All = Annotated[bool, Option("--all", help="Every message.")]


def _filter(
    ids: Sequence[str] | None,
    sender: str | None,
    recipient: str | None,
    domain: str | None,
    login: str | None,
    state: Wanted | None,
    age: str | None,
) -> Filter:
    try:
        seconds = None if age is None else parse_time(age)
    except ValueError as error:
        raise UsageError(f'found "{age}"; {error}', param_hint="--age") from None
    names = tuple(checked_id(queue_id) for queue_id in ids or ())
    future = state is Wanted.FUTURE
    stored = State.DUE if future else None if state is None else State(state.value)
    return Filter(names, sender, recipient, domain, login, stored, seconds, future)


def checked_id(queue_id: str) -> str:
    """A queue id as it could be; a typing error is told from a message that has left."""
    name, dash, tag = queue_id.partition("-")
    name = name.upper() + dash + tag.lower()
    if not is_queue_id(name):
        raise UsageError(
            f'"{queue_id}" is no queue id: expected 26 letters and digits, and over a cluster "-" and the name of a '
            "cell, as `pillarbox queue list` shows"
        )
    return name


@example(app, "list", "pillarbox queue list --domain example.net --age 4h --state held")
def list_messages(
    sender: Sender = None,
    recipient: RecipientOption = None,
    domain: Domain = None,
    login: LoginOption = None,
    state: StateOption = None,
    age: Age = None,
    limit: Annotated[int, Option(min=1, metavar="NUMBER", help="At most so many.")] = 100,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List messages, the oldest first."""
    which = _filter(None, sender, recipient, domain, login, state, age)
    settings = load(config)

    async def work() -> tuple[Sequence[QueuedMessage], dict[str, str]]:
        async with operations(settings) as verbs:
            return await verbs.list_messages(which, limit), verbs.missing

    found, missing = run(work())
    if as_json:
        say_json([as_data(message) for message in found])
    elif found:
        head = ("QUEUE ID", "AGE", "SIZE", "SENDER", "RECIPIENTS", "STATE", "NEXT TRY", "LAST REPLY")
        say_table(head, [_row(message) for message in found])
        if len(found) == limit:
            remark(f"the first {limit}; there may be more (--limit)")
    else:
        remark("no message")
    _tell_missing(missing)


def _tell_missing(missing: dict[str, str]) -> None:
    """Cells that could not be asked, on standard error, and exit code 1: what was printed is not all."""
    for cell, reason in sorted(missing.items()):
        remark(f"cell {cell} cannot be asked, so its messages are left out: {reason}")
    if missing:
        raise Exit(1)


def _row(message: QueuedMessage) -> tuple[str, ...]:
    now = time.time()
    recipients = message.recipients
    first = recipients[0].forward_path if recipients else "-"
    more = f" and {len(recipients) - 1} more" if len(recipients) > 1 else ""
    shown = [_state(message.envelope, each, now) for each in recipients]
    states = "trying" if message.leased else " ".join(dict.fromkeys(shown))
    due = min((each.due_at for each in recipients if each.state is State.DUE), default=None)
    replies = [each.last_reply for each in recipients if each.last_reply]
    return (
        message.envelope.queue_id,
        ago(message.envelope.received_at, now),
        _size(message.envelope.size),
        message.envelope.reverse_path or "<>",
        first + more,
        states,
        _next_try(message.envelope, due, now, future=all(state == Wanted.FUTURE for state in shown)),
        replies[0] if replies else "-",
    )


def _state(envelope: Envelope, recipient: Recipient, now: float) -> str:
    """As --state finds it: what an operator holds is held, whatever its sender asked for."""
    if recipient.state is State.DUE and is_future(envelope, recipient, now):
        return Wanted.FUTURE.value
    return recipient.state.value


def _next_try(envelope: Envelope, due: float | None, now: float, *, future: bool) -> str:
    if future and due is not None:
        return f"released at {moment_text(envelope.hold_until)}"
    return "now" if due is not None and due <= now else ago(due, now)


def _size(octets: int) -> str:
    for size, unit in ((1 << 20, "M"), (1 << 10, "K")):
        if octets >= size:
            return f"{octets / size:.1f}{unit}"
    return str(octets)


def as_data(message: QueuedMessage) -> dict[str, Any]:
    """What --json prints of a message. What its sender did not ask for is null."""
    envelope = message.envelope
    now = time.time()
    return {
        "queue_id": envelope.queue_id,
        "sender": envelope.reverse_path,
        "login": envelope.login,
        "site": envelope.site,
        "received_at": envelope.received_at,
        "size": envelope.size,
        "is_bounce": envelope.is_bounce,
        "leased": message.leased,
        "hold_until": envelope.hold_until or None,
        "priority": envelope.priority,
        "deliver_by": envelope.deliver_by or None,
        "deliver_by_mode": envelope.deliver_by_mode or None,
        "ret": envelope.ret or None,
        "envid": envelope.envid or None,
        "require_tls": envelope.require_tls,
        "tls_optional": envelope.tls_optional,
        "binary": envelope.binary,
        "smtputf8": envelope.smtputf8,
        "recipients": [
            {
                "recipient": recipient.forward_path,
                "domain": recipient.domain,
                "state": recipient.state.value,
                "future": is_future(envelope, recipient, now),
                "due_at": recipient.due_at,
                "attempts": recipient.attempts,
                "last_reply": recipient.last_reply,
                "last_attempt_at": recipient.last_attempt_at,
                "delay_warned": recipient.delay_warned,
                "notify": recipient.notify.split(",") if recipient.notify else None,
                "orcpt": recipient.original_recipient or None,
            }
            for recipient in message.recipients
        ],
    }


@example(app, "show", "pillarbox queue show 06CZ3VJ4M8Q2N5R7T9W1X3Y5Z7")
def show(queue_id: OneId, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show one message with each of its recipients."""
    name = checked_id(queue_id)
    settings = load(config)

    async def work() -> QueuedMessage:
        async with operations(settings) as verbs:
            return await verbs.show_message(name)

    message = run(work())
    if as_json:
        say_json(as_data(message))
        return
    envelope = message.envelope
    say(f"queue id   {envelope.queue_id}{' (a bounce)' if envelope.is_bounce else ''}")
    say(f"sender     {envelope.reverse_path or '<>'}")
    say(f"submitted  {moment_text(envelope.received_at)} by {envelope.login or 'Pillarbox itself'}")
    say(f"site       {envelope.site or '-'}")
    say(f"session    {envelope.session_id or '-'}")
    say(f"size       {envelope.size} octets")
    for wish in _wishes(message):
        say(wish)
    if message.leased:
        say("delivery   is trying it now")
    _say_recipients(message)


def _wishes(message: QueuedMessage) -> list[str]:
    """What the sender asked for, a line each."""
    envelope = message.envelope
    release = moment_text(envelope.hold_until)
    held = any(recipient.state is State.HELD for recipient in message.recipients)
    mode = envelope.deliver_by_mode
    late = f"{moment_text(envelope.deliver_by)}; {_LATE.get(mode[:1], mode)}{', traced' if mode[1:] else ''}"
    lines = (
        (
            envelope.hold_until,
            f"hold       asked for {release}; held by an operator" if held else f"hold       released at {release}",
        ),
        (envelope.priority, f"priority   {envelope.priority:+d}"),
        (envelope.deliver_by, f"deliver by {late}"),
        (envelope.envid, f"envid      {envelope.envid}"),
        (envelope.ret, f"ret        {envelope.ret}: {_RETURNS.get(envelope.ret, '')}"),
        (envelope.require_tls, "tls        required on every hop (REQUIRETLS)"),
        (envelope.tls_optional, "tls        may be missing (TLS-Required: No)"),
        (envelope.binary, "body       BINARYMIME"),
    )
    return [line for asked, line in lines if asked]


def _say_recipients(message: QueuedMessage) -> None:
    envelope, recipients = message.envelope, message.recipients
    now = time.time()
    head = ["RECIPIENT", "STATE", "ATTEMPTS", "LAST TRY", "NEXT TRY", "LAST REPLY"]
    rows = [
        [
            recipient.forward_path,
            _state(envelope, recipient, now),
            recipient.attempts,
            moment_text(recipient.last_attempt_at),
            moment_text(recipient.due_at) if recipient.state is State.DUE else "-",
            recipient.last_reply or "-",
        ]
        for recipient in recipients
    ]
    asked = (
        ("NOTIFY", [recipient.notify for recipient in recipients]),
        ("ORCPT", [recipient.original_recipient for recipient in recipients]),
    )
    for name, values in asked:
        if any(values):
            head.append(name)
            for row, value in zip(rows, values, strict=True):
                row.append(value or "-")
    say_table(head, rows)


Change = Callable[[Operations, Filter], Awaitable[Sequence[str]]]


def _change(
    word: str, change: Change, which: Filter, every: bool, config: Any, as_json: bool, remind: bool = False
) -> None:
    """Carries out one verb on the messages meant, which somebody must have named in some way.

    ``remind``: say when some of them go on waiting for the time that their sender asked for.
    """
    if which == Filter() and not every:
        raise UsageError("which messages? Give queue ids, a filter such as --domain, or --all")
    settings = load(config)

    async def work() -> tuple[Sequence[str], Sequence[QueuedMessage], dict[str, str]]:
        async with operations(settings) as verbs:
            for queue_id in which.queue_ids:
                # a message that is not there is an error, not a change of nothing
                await verbs.show_message(queue_id)
            changed = await change(verbs, which)
            waiting = replace(which, state=State.DUE, future=True)
            return changed, await verbs.list_messages(waiting, 1) if remind else (), verbs.missing

    changed, waiting, missing = run(work())
    if as_json:
        say_json({"changed": list(changed)})
    else:
        for queue_id in changed:
            say(queue_id)
        remark(f"{word}: {len(changed)} {'message' if len(changed) == 1 else 'messages'}")
    if waiting:
        remark(
            "what waits for the time that its sender asked for still does; `pillarbox queue retry --early` sends it"
        )
    _tell_missing(missing)


@example(app, "retry", "pillarbox queue retry --domain example.net")
def retry(
    ids: Ids = None,
    sender: Sender = None,
    recipient: RecipientOption = None,
    domain: Domain = None,
    login: LoginOption = None,
    state: StateOption = None,
    age: Age = None,
    every: All = False,
    early: Early = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Try messages again now, whatever the schedule says.

    A message whose sender asked for a later time waits for that time, unless --early says so. What is being delivered
    just now is left alone: that attempt is the new one.
    """
    which = _filter(ids, sender, recipient, domain, login, state, age)
    _change(
        "to be tried now",
        lambda verbs, some: verbs.retry_messages(some, early=early),
        which,
        every,
        config,
        as_json,
        not early,
    )


@example(app, "hold", "pillarbox queue hold --login alice")
def hold(
    ids: Ids = None,
    sender: Sender = None,
    recipient: RecipientOption = None,
    domain: Domain = None,
    login: LoginOption = None,
    state: StateOption = None,
    age: Age = None,
    every: All = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Hold messages back until they are released."""
    which = _filter(ids, sender, recipient, domain, login, state, age)
    _change("held", lambda verbs, some: verbs.hold_messages(some), which, every, config, as_json)


@example(app, "release", "pillarbox queue release --login alice")
def release(
    ids: Ids = None,
    sender: Sender = None,
    recipient: RecipientOption = None,
    domain: Domain = None,
    login: LoginOption = None,
    state: StateOption = None,
    age: Age = None,
    every: All = False,
    early: Early = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Release held messages, and bounces that failed, to be tried now.

    A message whose sender asked for a later time then waits for that time, unless --early says so.
    """
    which = _filter(ids, sender, recipient, domain, login, state, age)
    _change(
        "released",
        lambda verbs, some: verbs.release_messages(some, early=early),
        which,
        every,
        config,
        as_json,
        not early,
    )


@example(app, "delete", "pillarbox queue delete 06CZ3VJ4M8Q2N5R7T9W1X3Y5Z7 --bounce")
def delete(
    ids: Ids = None,
    bounce: Annotated[bool, Option("--bounce", help="Tell the sender by a bounce.")] = False,
    silent: Annotated[bool, Option("--silent", help="Tell nobody: the message is gone.")] = False,
    sender: Sender = None,
    recipient: RecipientOption = None,
    domain: Domain = None,
    login: LoginOption = None,
    state: StateOption = None,
    age: Age = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Delete messages: either their senders get a bounce, or (--silent) nobody is told."""
    if bounce == silent:
        raise UsageError("say one of --bounce (the sender is told) and --silent (nobody is told)")
    which = _filter(ids, sender, recipient, domain, login, state, age)
    if which == Filter():
        raise UsageError("which messages? Give queue ids or a filter such as --login")
    settings = load(config)

    async def meant() -> tuple[list[str], dict[str, str]]:
        async with operations(settings) as verbs:
            for queue_id in which.queue_ids:
                await verbs.show_message(queue_id)
            return await verbs.find_messages(which), verbs.missing

    names, missing = run(meant())
    if len(names) > 1 and not yes:
        ask_or_refuse(f"Delete {len(names)} messages {'with bounces' if bounce else 'silently'}?")

    async def work() -> Deletion:
        async with operations(settings) as verbs:
            return await verbs.delete_messages(names, with_bounce=bounce)

    _report(run(work()), as_json)
    _tell_missing(missing)


def _report(done: Deletion, as_json: bool) -> None:
    if as_json:
        say_json({"deleted": done.deleted, "being_delivered": done.being_delivered})
    else:
        for queue_id in done.deleted:
            say(queue_id)
        remark(f"deleted: {len(done.deleted)} {'message' if len(done.deleted) == 1 else 'messages'}")
    if done.being_delivered:
        names = " ".join(done.being_delivered)
        raise CommandError(f"being delivered just now, so not deleted: {names}", "hold them, then try again")

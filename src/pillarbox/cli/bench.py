"""``pillarbox bench``: how many messages a second a submission server takes, or a sink for what it relays."""

import asyncio
import re
import signal
import ssl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

from pillarbox.bench.idle import hold
from pillarbox.bench.load import run as run_load
from pillarbox.bench.session import SessionFailed
from pillarbox.bench.settings import Load, Target
from pillarbox.bench.sink import Sink, serve
from pillarbox.bench.tally import Tally, in_ms
from pillarbox.cli.framework import CommandError, Exit, JsonOption, Option, Typer, UsageError, example
from pillarbox.cli.output import remark, say, say_json, say_table
from pillarbox.cli.user import PasswordFile, PasswordStdin, read_password
from pillarbox.config.values import parse_address, parse_endpoint, parse_size, parse_time
from pillarbox.smtp.path import Mailbox

T = TypeVar("T")
SUBMISSION, SUBMISSIONS = 587, 465
_ADDRESS = re.compile(r"([^\s<>@\x00-\x1f\"]+)@([^\s<>@\x00-\x1f\"]+)")


def register(app: Typer) -> None:
    """Adds the command of this module."""
    example(app, "bench", "pillarbox bench --to mail.example.org:465 --user alice@example.org --messages 1000")(bench)


def bench(
    to: Annotated[
        str | None,
        Option(metavar="HOST[:PORT]", help="The submission server. Default port: 465, or 587.", show_default=False),
    ] = None,
    user: Annotated[str | None, Option(metavar="LOGIN", help="Who signs in.", show_default=False)] = None,
    password_file: PasswordFile = None,
    password_stdin: PasswordStdin = False,
    starttls: Annotated[bool, Option("--starttls", help="STARTTLS instead of implicit TLS.")] = False,
    ca: Annotated[
        Path | None, Option(metavar="FILE", help="CA certificates to trust, PEM. Default: the system's.")
    ] = None,
    sender: Annotated[
        str | None, Option(metavar="ADDRESS", help="The sender. Default: the login.", show_default=False)
    ] = None,
    recipient: Annotated[
        list[str] | None,
        Option("--recipient", metavar="ADDRESS", help="Repeat it. Default: the sender.", show_default=False),
    ] = None,
    messages: Annotated[int | None, Option(min=1, metavar="NUMBER", help="Send so many.", show_default=False)] = None,
    seconds: Annotated[
        str | None, Option(metavar="TIME", help='Or send for so long: "10s". Default: 10s.', show_default=False)
    ] = None,
    connections: Annotated[int, Option(min=1, max=10_000, metavar="NUMBER", help="Open at once.")] = 16,
    per_connection: Annotated[
        int, Option(min=1, metavar="NUMBER", help="Messages of one connection; 1: each signs in anew.")
    ] = 100,
    size: Annotated[str, Option(metavar="SIZE", help="Octets of a message.")] = "8KiB",
    pipelining: Annotated[bool, Option(help="Send MAIL, RCPT and DATA together where that is offered.")] = True,
    idle: Annotated[int, Option(min=0, metavar="NUMBER", help="Hold so many idle signed-in sessions beside it.")] = 0,
    sink: Annotated[
        str | None,
        Option(
            metavar="ADDRESS:PORT",
            help="Instead: be an SMTP server that accepts and counts until it is interrupted.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send REAL messages to a submission server and measure, or be a sink to relay to (--sink)."""
    if sink is not None:
        if to is not None or user is not None:
            raise UsageError("--sink does not go with --to and --user")
        _be_sink(sink, as_json)
        return
    if to is None or user is None:
        raise UsageError("give --to and --user, or --sink")
    if messages is not None and seconds is not None:
        raise UsageError("give one of --messages and --seconds")
    from_ = _mailbox(sender or user, "--sender")
    recipients = tuple(_mailbox(address, "--recipient") for address in recipient or [str(from_)])
    span = _read(parse_time, seconds or "10s", "--seconds") if messages is None else None
    octets = _read(parse_size, size, "--size")
    load = Load(from_, recipients, messages, span, connections, per_connection, octets, pipelining)
    host, port = _read(partial(parse_endpoint, default_port=SUBMISSION if starttls else SUBMISSIONS), to, "--to")
    password = read_password(password_file, password_stdin)
    target = Target(host, port, user, password, _context(ca), starttls)
    _warn(load, host, port)
    _report(_measure(target, load, idle), as_json)


def _measure(target: Target, load: Load, idle: int) -> Tally:
    from pillarbox.daemon import loop  # late: the loop of the server, and nothing else of it

    async def work() -> Tally:
        async with hold(target, idle):
            return await run_load(target, load)

    loop.raise_file_limit()
    try:
        return loop.run(work())
    except SessionFailed as failure:
        raise CommandError(f"{target.host}:{target.port}: {failure}") from None


def _warn(load: Load, host: str, port: int) -> None:
    many = f"{load.messages}" if load.messages is not None else f"for {load.seconds:g} s as many as go"
    more = f" and {len(load.recipients) - 1} more" if len(load.recipients) > 1 else ""
    remark(f"sending REAL messages ({many}) from {load.sender} to {load.recipients[0]}{more} through {host}:{port}")


def _report(tally: Tally, as_json: bool) -> None:
    if as_json:
        say_json(tally.as_data())
    else:
        say(
            f"accepted  {tally.accepted} in {tally.seconds:.1f} s: {tally.rate:.1f}/s, over {tally.sessions} sessions"
        )
        rows = [
            (name, *("-" if value is None else value for value in in_ms(times).values()))
            for name, times in (
                ("MAIL to the final 250", tally.transaction_times),
                ("session", tally.session_times),
            )
        ]
        say_table(("MILLISECONDS", "P50", "P95", "P99", "LONGEST"), rows)
        for reason, count in tally.refused.most_common():
            say(f"refused   {count} x {reason}")
        for reason, count in tally.failed.most_common():
            say(f"failed    {count} x {reason}")
    if not tally.accepted:
        raise Exit(1)


def _be_sink(address: str, as_json: bool) -> None:
    from pillarbox.daemon import loop  # late: the loop of the server, and nothing else of it

    where = _read(parse_address, address, "--sink")
    try:
        sink = loop.run(_sink_until_interrupted(where.host, where.port))
    except OSError as error:
        raise CommandError(f"{address}: {error.strerror or error}") from None
    if as_json:
        say_json({"accepted": sink.accepted, "octets": sink.octets, "sessions": sink.sessions})
    else:
        say(f"accepted  {sink.accepted} messages, {sink.octets} octets, in {sink.sessions} sessions")


async def _sink_until_interrupted(host: str, port: int) -> Sink:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with serve(host, port) as (sink, bound):
        remark(f"a sink on {host}:{bound}: accepts everything, keeps nothing; interrupt it for the count")
        await _tell_rates(sink, ended)
    return sink


async def _tell_rates(sink: Sink, ended: asyncio.Event) -> None:
    """A line a second while something comes."""
    seen, at = 0, time.monotonic()
    while not ended.is_set():
        try:
            async with asyncio.timeout(1.0):
                await ended.wait()
        except TimeoutError:
            now = time.monotonic()
            if sink.accepted != seen:
                remark(f"{sink.accepted} messages, {(sink.accepted - seen) / (now - at):.0f}/s")
            seen, at = sink.accepted, now


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, OSError) as error:
        raise CommandError(f"{ca}: not a readable PEM file of CA certificates ({error.strerror})") from None


def _read(parse: Callable[[str], T], text: str, flag: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f'found "{text}"; {error}', param_hint=flag) from None


def _mailbox(address: str, flag: str) -> Mailbox:
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise UsageError(f'found "{address}"; expected an address such as person@example.org', param_hint=flag)
    return Mailbox(found.group(1), found.group(2))

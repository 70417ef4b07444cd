"""``pillarbox guard``: who failed to sign in, and who is refused for it."""

from collections.abc import Sequence
from typing import Annotated, Any

from pillarbox.cli.configuration import load, operations, run
from pillarbox.cli.framework import Argument, ConfigOption, JsonOption, Option, UsageError, example, group
from pillarbox.cli.output import ago, count, remark, say, say_json, say_table
from pillarbox.config.values import parse_network

app = group("guard", "Failed sign-ins, and the addresses refused because of them.", "pillarbox guard list")


@example(app, "list", "pillarbox guard list")
def list_standings(
    limit: Annotated[int, Option(min=1, metavar="NUMBER", help="At most so many of each.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List blocked addresses, and the addresses and logins with failures."""
    settings = load(config)

    async def work() -> dict[str, Any]:
        async with operations(settings) as verbs:
            return await verbs.list_guard(limit)

    found = run(work())
    if as_json:
        say_json(found)
        return
    if not any(found.values()):
        remark("nobody failed to sign in lately")
        return
    blocks = [(block["prefix"], block["failures"], ago(block["until"])) for block in found["blocks"]]
    tables: list[tuple[Sequence[str], Sequence[Sequence[object]]]] = [(("BLOCKED", "FAILURES", "UNTIL"), blocks)]
    for head, key in (("ADDRESS", "prefixes"), ("LOGIN", "logins")):
        rows = [
            (one["name"], one["failures"], ago(one["last_at"]), "yes" if one["known"] else "no") for one in found[key]
        ]
        tables.append(((head, "FAILURES", "LAST", "KNOWN PLACE"), rows))
    for number, (names, lines) in enumerate(table for table in tables if table[1]):
        if number:
            say("")
        say_table(names, lines)


@example(app, "unblock", "pillarbox guard unblock 192.0.2.7")
def unblock(
    address: Annotated[
        str | None, Argument(metavar="[ADDRESS]", help="An address, or a prefix as listed.", show_default=False)
    ] = None,
    login: Annotated[
        str | None, Option(metavar="LOGIN", help="Or a login whose failures to forget.", show_default=False)
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Let an address in again and forget its failures, or those of a login."""
    if (address is None) == (login is None):
        raise UsageError("give one of an address and --login")
    if address is not None:
        try:
            parse_network(address)
        except ValueError as error:
            raise UsageError(f"{address}: {error}") from None
    settings = load(config)

    async def work() -> tuple[bool, int]:
        async with operations(settings) as verbs:
            return await verbs.unblock(address=address, login=login)

    blocked, forgotten = run(work())
    if not blocked and not forgotten:
        remark(f"{address or login} was not blocked and had no failures")
    else:
        remark(
            f"{address or login}: {'no longer blocked, ' if blocked else ''}{count(forgotten, 'failure')} forgotten"
        )

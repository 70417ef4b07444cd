"""``pillarbox user app-password``: passwords of single devices and programs."""

import datetime
import time
from typing import Annotated, Any

from pillarbox.cli.configuration import load, operations, run
from pillarbox.cli.framework import Argument, CommandError, ConfigOption, JsonOption, Option, example, group
from pillarbox.cli.output import moment_text, remark, say, say_json, say_table
from pillarbox.config import Settings
from pillarbox.config.values import parse_time
from pillarbox.directory.settings import UpstreamSettings

app = group(
    "app-password",
    "Passwords of single devices and programs, for people of any directory.",
    "pillarbox user app-password list alice",
)

Login = Annotated[
    str,
    Argument(
        help="The login: of a local account, or as the person signs in to the site's other directories.",
        metavar="LOGIN",
        show_default=False,
    ),
]


@example(app, "add", 'pillarbox user app-password add alice --label "scanner, 2nd floor" --from 10.20.0.0/16')
def add(
    login: Login,
    label: Annotated[str, Option("--label", metavar="TEXT", help="What it is for.", show_default=False)],
    networks: Annotated[
        list[str] | None,
        Option(
            "--from",
            metavar="NETWORK",
            help="Good from this address or network only; repeat it. Default: anywhere.",
            show_default=False,
        ),
    ] = None,
    expires: Annotated[
        str | None,
        Option("--expires", metavar="WHEN", help="After so long, such as 90d, or on a day.", show_default=False),
    ] = None,
    addresses: Annotated[
        list[str] | None,
        Option(
            "--address",
            metavar="ADDRESS",
            help="May send from this address of the person's only; repeat it. Default: all of them.",
            show_default=False,
        ),
    ] = None,
    directory: Annotated[
        str | None,
        Option(
            "--directory",
            metavar="NAME",
            help="Whose person it is, when it has no local account. Default: the only other directory there is.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make one and show it, once."""
    settings = load(config)
    whose = _directory(settings, directory)
    ends = None if expires is None else _moment(expires)

    async def work() -> dict[str, Any]:
        async with operations(settings) as verbs:
            return await verbs.add_app_password(
                login,
                label,
                expires_at=ends,
                networks=tuple(networks or ()),
                addresses=tuple(addresses or ()),
                directory=whose,
            )

    made = run(work())
    if as_json:
        say_json(made)
        return
    say(made["password"])
    remark(f"app password {made['id']} of {login}, shown this once; dashes and case do not matter when it is typed")


def _directory(settings: Settings, named: str | None) -> str:
    """The directory that was named, or the only one that people could be of; "": none."""
    others = [each.name for each in settings.directories if isinstance(each, UpstreamSettings)]
    if named is not None:
        if named not in others:
            there = ", ".join(others) or "none but the local accounts"
            raise CommandError(f"--directory {named}: no such directory of other people; there are: {there}", code=2)
        return named
    return others[0] if len(others) == 1 else ""


def _moment(text: str) -> float:
    """Seconds since the epoch: in so long, or the end of a day here."""
    try:
        return time.time() + parse_time(text)
    except ValueError:
        pass
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        raise CommandError(f'--expires {text}: expected "90d" or a day such as 2030-12-31', code=2) from None
    return datetime.datetime.combine(day, datetime.time.max).astimezone().timestamp()


@example(app, "list", "pillarbox user app-password list alice")
def list_app_passwords(login: Login, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List those of a login, with their last use on this machine."""
    settings = load(config)

    async def work() -> list[dict[str, Any]]:
        async with operations(settings) as verbs:
            return await verbs.list_app_passwords(login)

    found = run(work())
    if as_json:
        say_json(found)
    elif found:
        head = ("ID", "LABEL", "FROM", "ADDRESSES", "EXPIRES", "LAST USED", "USED FROM")
        say_table(head, [_row(one) for one in found])
    else:
        remark(f"{login} has no app passwords")


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        one["id"],
        one["label"],
        " ".join(one["networks"]) or "anywhere",
        " ".join(one["addresses"]) or "all",
        "never" if one["expires_at"] is None else moment_text(one["expires_at"]),
        moment_text(one["used_at"]),
        one["used_from"] or "-",
    )


@example(app, "revoke", "pillarbox user app-password revoke alice 0a1b2c3d")
def revoke(
    login: Login,
    number: Annotated[str, Argument(help="Which, as in the list.", metavar="ID", show_default=False)],
    config: ConfigOption = None,
) -> None:
    """Take one back; sessions that it let in end at their next command."""
    settings = load(config)

    async def work() -> str:
        async with operations(settings) as verbs:
            return await verbs.revoke_app_password(login, number)

    remark(f"revoked {number} of {login}: {run(work())}")

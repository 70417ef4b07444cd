"""``pillarbox directory``: where people's passwords are, and whether it answers."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from pillarbox.cli.configuration import load, log_to_stderr, run
from pillarbox.cli.framework import (
    Argument,
    CommandError,
    ConfigOption,
    Exit,
    JsonOption,
    Option,
    example,
    group,
    prompt,
)
from pillarbox.cli.output import remark, say, say_error, say_json, say_table
from pillarbox.config import Settings
from pillarbox.config.shown import keys_of
from pillarbox.directory.base import AccountLookup, Denied, Identity, Reason, Unavailable, Unusable
from pillarbox.directory.chain import matches
from pillarbox.directory.settings import DirectorySettings, LocalSettings, UpstreamSettings

if TYPE_CHECKING:
    from pillarbox.console.directories import Examined

app = group("directory", "The directories that people sign in at.", "pillarbox directory test corp anna")

REFUSED, CANNOT_SAY = 1, 3

_LONGEST = 65_536
_WORDS = {
    Reason.UNKNOWN: "nobody has this login, or more than one person",
    Reason.WRONG: "the password is wrong",
    Reason.DISABLED: "the person is disabled",
    Reason.LOCKED: "the person is locked there",
    Reason.EXPIRED: "the password, the person or the token has expired",
    Reason.ELSEWHERE: "right, but not at this place",
    Reason.OPAQUE: "the server says no; it does not say why",
}
_WRONG_TOKEN = "the token does not count"  # noqa: S105  words, no secret


@example(app, "list", "pillarbox directory list")
def list_directories(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the directories, and the sites that use them in that order."""
    settings = load(config)
    kinds = {table["name"]: table["kind"] for table in keys_of(settings)["directory"]}
    rows = [
        {
            "name": each.name,
            "kind": kinds[each.name],
            "names": list(each.names),
            "sites": [site.name for site in settings.sites if each.name in site.directories],
        }
        for each in settings.directories
    ]
    if as_json:
        say_json(rows)
        return
    cells = [(row["name"], row["kind"], " ".join(row["names"]) or "*", " ".join(row["sites"]) or "-") for row in rows]
    say_table(("NAME", "KIND", "LOGINS", "SITES"), cells)


@example(app, "test", "pillarbox directory test corp anna")
def test(
    name: Annotated[str, Argument(help="The directory's name in the file.", metavar="NAME", show_default=False)],
    user: Annotated[
        str | None,
        Argument(help="Who signs in; the password is asked for.", metavar="[USER]", show_default=False),
    ] = None,
    password_stdin: Annotated[
        bool, Option("--password-stdin", help="Read the password, or the token, from standard input.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Ask a directory in this process and tell each step: without USER, whether its server answers; with USER, who it
    is, or why not. A wrong password counts as a failure at the server behind, as any other does; of what this server
    may pass on (wrong_tries), nothing is taken. Exit code 1: refused, 3: it cannot say."""
    settings = load(config)
    chosen = next((each for each in settings.directories if each.name == name), None)
    if chosen is None:
        known = ", ".join(each.name for each in settings.directories)
        raise CommandError(f'no directory is named "{name}"; there are: {known}', code=2)
    if password_stdin and user is None:
        raise CommandError("--password-stdin: whose? Name a USER", code=2)
    steps: list[str] = []

    def narrate(line: str) -> None:
        steps.append(line)
        if not as_json:
            remark(line)

    with log_to_stderr():
        result = run(_test(settings, chosen, user, password_stdin, narrate))
    code = result.pop("code")
    if as_json:
        say_json({"directory": name, "user": user, **result, "steps": steps})
    else:
        _tell(result, user, counts=isinstance(chosen, UpstreamSettings) and chosen.wrong_tries is not None)
    if code:
        raise Exit(code)


async def _test(
    settings: Settings, chosen: DirectorySettings, user: str | None, stdin: bool, narrate: Any
) -> dict[str, Any]:
    from pillarbox.console.directories import examined  # late: not needed for --help

    if user is not None and not matches(user, chosen.names):
        narrate(f"no site asks it for {user}: the login is none of its names ({' '.join(chosen.names)})")
    try:
        async with _accounts(settings) as accounts:
            with examined(chosen, settings.directories, accounts, narrate) as directory:
                if user is None:
                    return {"code": 0, "result": "reached" if await directory.reach() else "untried"}
                secret = _read_secret(directory, stdin)
                return _result(await directory.sign_in(user, secret), token=directory.takes_tokens)
    except Unusable as error:
        raise CommandError(str(error)) from None
    except Unavailable as error:
        return {"code": CANNOT_SAY, "result": "unavailable", "cause": str(error)}


@asynccontextmanager
async def _accounts(settings: Settings) -> AsyncIterator[AccountLookup | None]:
    """The running server's; None: it does not run, or there is no local directory."""
    from pillarbox.control.link import Link
    from pillarbox.daemon import paths
    from pillarbox.directory.remote import RemoteAccounts

    socket = paths.spool_socket(settings.server.run_directory, "submission")
    if not any(isinstance(each, LocalSettings) for each in settings.directories) or not socket.exists():
        yield None
        return
    handlers: dict[str, Any] = {}
    link = Link(socket, handlers, name="spool")
    accounts = RemoteAccounts(link)
    handlers.update(accounts.handlers())
    try:
        await link.start(2.0)
        yield accounts if link.connected else None
    finally:
        await link.close()


def _read_secret(directory: "Examined", stdin: bool) -> str:
    """Never from the command line, which others can see."""
    what = "token" if directory.takes_tokens else "password"
    if stdin:
        secret = sys.stdin.readline(_LONGEST).removesuffix("\n").removesuffix("\r")
    elif sys.stdin.isatty():
        secret = str(prompt(what.capitalize(), hide_input=True, err=True))
    else:
        raise CommandError(f"no {what}: use --password-stdin, or run this in a terminal", code=2)
    if not secret:
        raise CommandError(f"the {what} is empty", code=2)
    return secret


def _result(answer: Identity | Denied, *, token: bool) -> dict[str, Any]:
    if isinstance(answer, Denied):
        reason = answer.reason
        why = _WRONG_TOKEN if token and reason is Reason.WRONG else _WORDS[reason]
        details = {"login": answer.login, **answer.details}
        return {"code": REFUSED, "result": "refused", "reason": reason.name.lower(), "why": why, **details}
    return {
        "code": 0,
        "result": "ok",
        "login": answer.login,
        "addresses": sorted(answer.addresses),
        "domains": sorted(answer.domains),
        "may_redirect": answer.may_redirect,
        "recipients_per_hour": answer.recipients_per_hour,
    }


def _tell(result: dict[str, Any], user: str | None, *, counts: bool) -> None:
    """``counts``: there is a server behind that may count failures; files and tables of hashes do not."""
    match result["result"]:
        case "reached":
            remark("it answers")
        case "untried":
            remark("nothing was tried: its server can only say whether a password is right; name a USER")
        case "unavailable":
            say_error(f"it cannot say: {result['cause']}")
        case "refused":
            cause = f" ({result['cause']})" if result.get("cause") else ""
            say_error(f"{user} is not let in: {result['why']}{cause}")
            if counts and result["reason"] in ("wrong", "opaque") and result["why"] is not _WRONG_TOKEN:
                remark("if the server behind counts failures, it has counted this one")
        case _:
            _tell_identity(result)


def _tell_identity(result: dict[str, Any]) -> None:
    rights: Sequence[tuple[str, str]] = (
        ("login", result["login"]),
        ("addresses", " ".join(result["addresses"]) or "none: nothing can be sent"),
        ("domains", " ".join(result["domains"]) or "-"),
        ("may redirect", "yes" if result["may_redirect"] else "no"),
        ("recipients per hour", str(result["recipients_per_hour"] or "as the site says")),
    )
    say("signed in:")
    for name, value in rights:
        say(f"  {name}: {value}")

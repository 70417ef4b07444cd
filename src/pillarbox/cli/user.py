"""``pillarbox user``: the local accounts."""

import sys
from pathlib import Path
from typing import Annotated, Any

from pillarbox.cli import user_app_password, user_certificate
from pillarbox.cli.configuration import load, operations, run
from pillarbox.cli.framework import (
    Argument,
    CommandError,
    ConfigOption,
    JsonOption,
    Option,
    YesOption,
    confirm,
    example,
    group,
    prompt,
)
from pillarbox.cli.output import moment_text, remark, say, say_json, say_table
from pillarbox.console.operations import NewUser, User

app = group(
    "user",
    "People and programs that may sign in (local accounts).",
    "pillarbox user add alice --address alice@example.org",
)
app.add_typer(user_certificate.app)
app.add_typer(user_app_password.app)

Login = Annotated[str, Argument(help="The login.", metavar="LOGIN", show_default=False)]
PasswordFile = Annotated[
    Path | None,
    Option(
        "--password-file", metavar="FILE", help="Read the password from this file's first line.", show_default=False
    ),
]
PasswordStdin = Annotated[bool, Option("--password-stdin", help="Read the password from standard input.")]

_LONGEST = 1024


def read_password(file: Path | None, stdin: bool, *, ask: bool = True) -> str:
    """The password from where the flags say, else typed twice. Never from the command line, which others can see."""
    if file is not None and stdin:
        raise CommandError("give one of --password-file and --password-stdin", code=2)
    if file is not None:
        try:
            with file.open(encoding="utf-8") as source:
                return _checked(source.readline(_LONGEST + 2))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise CommandError(f"the password file {file} cannot be read: {reason}") from None
    if stdin:
        return _checked(sys.stdin.readline(_LONGEST + 2))
    if not ask or not sys.stdin.isatty():
        raise CommandError("no password: use --password-stdin or --password-file, or run this in a terminal", code=2)
    return _checked(str(prompt("Password", hide_input=True, confirmation_prompt=True)))


def _checked(line: str) -> str:
    password = line.removesuffix("\n").removesuffix("\r")
    if not password:
        raise CommandError("the password is empty")
    if len(password) > _LONGEST:
        raise CommandError(f"the password is longer than {_LONGEST} characters")
    return password


@example(app, "add", "pillarbox user add alice --address alice@example.org")
def add(
    login: Login,
    address: Annotated[
        list[str] | None,
        Option(
            "--address",
            "-a",
            metavar="ADDRESS",
            help="An address this person may send from; repeat it. Default: the login.",
            show_default=False,
        ),
    ] = None,
    domain: Annotated[
        list[str] | None,
        Option(
            "--domain", metavar="DOMAIN", help="A whole domain (application accounts); repeat it.", show_default=False
        ),
    ] = None,
    may_redirect: Annotated[
        bool, Option(help="May pass on mail with a foreign From under an own Resent-From.")
    ] = False,
    recipients_per_hour: Annotated[
        int | None, Option(min=1, metavar="NUMBER", help="Instead of the site's own limit.", show_default=False)
    ] = None,
    alias: Annotated[
        list[str] | None,
        Option("--alias", metavar="NAME", help="A further login name; repeat it.", show_default=False),
    ] = None,
    password_file: PasswordFile = None,
    password_stdin: PasswordStdin = False,
    config: ConfigOption = None,
) -> None:
    """Add an account."""
    addresses = tuple(address or ([login] if "@" in login else []))
    if not addresses and not domain:
        raise CommandError(f"which addresses may {login} send from? Give --address or --domain", code=2)
    _refuse_wildcards(login, addresses)
    settings = load(config)
    password = read_password(password_file, password_stdin)
    new = NewUser(login, addresses, tuple(domain or ()), may_redirect, recipients_per_hour, tuple(alias or ()))

    async def work() -> User:
        async with operations(settings) as verbs:
            return await verbs.add_user(new, password)

    made = run(work())
    remark(f"added {made.login}, who may send from {', '.join((*made.addresses, *(f'*@{d}' for d in made.domains)))}")
    _warn_of_void(made)


@example(app, "change", 'pillarbox user change alice --alias "Alice Smith/Sales/Acme"')
def change(
    login: Login,
    alias: Annotated[
        list[str] | None,
        Option("--alias", metavar="NAME", help="Add a further login name; repeat it.", show_default=False),
    ] = None,
    remove_alias: Annotated[
        list[str] | None,
        Option("--remove-alias", metavar="NAME", help="Take one away; repeat it.", show_default=False),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Change the further login names of an account; its sessions end at their next command."""
    if not alias and not remove_alias:
        raise CommandError("what is to change? Give --alias or --remove-alias", code=2)
    settings = load(config)

    async def work() -> User:
        async with operations(settings) as verbs:
            return await verbs.alias_user(login, add=alias or (), remove=remove_alias or ())

    made = run(work())
    names = ", ".join((made.login, *made.aliases))
    remark(f"{made.login} may sign in as {names}")
    _warn_of_void(made)


def _warn_of_void(user: User) -> None:
    for name in user.void_aliases:
        remark(f"but not as {name}: another account has that name, too")


def _refuse_wildcards(login: str, addresses: tuple[str, ...]) -> None:
    """They would be taken to the letter, and match nothing that anybody sends."""
    if login.startswith("*"):
        raise CommandError("a login is one account's name: there is no wildcard", code=2)
    for one in addresses:
        if one.startswith(("*@", "@")):
            raise CommandError(f"--address {one}: for all of a domain use --domain {one.partition('@')[2]}", code=2)


@example(app, "list", "pillarbox user list --json")
def list_users(
    as_json: JsonOption = False,
    no_scram: Annotated[
        bool,
        Option(
            "--no-scram", help="Only enabled ones without a SCRAM secret: they keep SCRAM-SHA-256 from being offered."
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """List the accounts."""
    settings = load(config)

    async def work() -> list[User]:
        async with operations(settings) as verbs:
            return await verbs.list_users()

    users = [user for user in run(work()) if not (no_scram and (user.scram or user.disabled or user.elsewhere))]
    if as_json:
        say_json([as_data(user) for user in users])
    elif users:
        head = ("LOGIN", "ADDRESSES", "DOMAINS", "STATE", "PASSWORD CHANGED")
        say_table(head, [_row(user) for user in users])
    elif no_scram:
        remark("every enabled account has a SCRAM secret")
    else:
        remark("no accounts; add one with `pillarbox user add`")


def _row(user: User) -> tuple[str, ...]:
    state = _state(user)
    return user.login, " ".join(user.addresses), " ".join(user.domains), state, moment_text(user.password_changed_at)


def _state(user: User) -> str:
    state = "app passwords only" if user.elsewhere else "disabled" if user.disabled else "active"
    void = f", ambiguous: {', '.join(user.void_aliases)}" if user.void_aliases else ""
    return state + (", here only" if user.alone else "") + void


def _aliases(user: User) -> str:
    marked = (f"{name} (ambiguous, does not count)" if name in user.void_aliases else name for name in user.aliases)
    return ", ".join(marked) or "-"


def as_data(user: User) -> dict[str, Any]:
    """What --json prints of an account: never its hash."""
    return {
        "login": user.login,
        "addresses": list(user.addresses),
        "domains": list(user.domains),
        "may_redirect": user.may_redirect,
        "recipients_per_hour": user.recipients_per_hour,
        "disabled": user.disabled,
        "scram": user.scram,
        "certificates": list(user.certificates),
        "alone": user.alone,
        "elsewhere": user.elsewhere,
        "app_passwords": user.app_passwords,
        "aliases": list(user.aliases),
        "void_aliases": list(user.void_aliases),
        "created_at": user.created_at,
        "password_changed_at": user.password_changed_at,
    }


@example(app, "show", "pillarbox user show alice")
def show(login: Login, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Show one account."""
    settings = load(config)

    async def work() -> User:
        async with operations(settings) as verbs:
            return await verbs.show_user(login)

    user = run(work())
    if as_json:
        say_json(as_data(user))
        return
    say(f"login                {user.login}")
    say(f"state                {_state(user)}")
    say(f"further logins       {_aliases(user)}")
    say(f"addresses            {' '.join(user.addresses) or '-'}")
    say(f"domains              {' '.join(user.domains) or '-'}")
    say(f"may redirect         {'yes' if user.may_redirect else 'no'}")
    say(f"recipients per hour  {user.recipients_per_hour or 'as the site says'}")
    say(f"SCRAM secret         {'yes' if user.scram else 'no'}")
    say(f"certificates         {' '.join(user.certificates) or '-'}")
    say(f"app passwords        {user.app_passwords or '-'}")
    say(f"created              {moment_text(user.created_at)}")
    say(f"password changed     {moment_text(user.password_changed_at)}")


@example(app, "password", "pillarbox user password alice")
def password(
    login: Login,
    password_file: PasswordFile = None,
    password_stdin: PasswordStdin = False,
    config: ConfigOption = None,
) -> None:
    """Set a new password; sessions of this login end at their next command."""
    settings = load(config)
    secret = read_password(password_file, password_stdin)

    async def work() -> None:
        async with operations(settings) as verbs:
            await verbs.set_password(login, secret)

    run(work())
    remark(f"{login} has a new password")


@example(app, "disable", "pillarbox user disable alice")
def disable(login: Login, config: ConfigOption = None) -> None:
    """Disable an account; its sessions end at their next command."""
    settings = load(config)

    async def work() -> None:
        async with operations(settings) as verbs:
            await verbs.disable_user(login)

    run(work())
    remark(f"{login} is disabled")


@example(app, "enable", "pillarbox user enable alice")
def enable(login: Login, config: ConfigOption = None) -> None:
    """Enable a disabled account."""
    settings = load(config)

    async def work() -> None:
        async with operations(settings) as verbs:
            await verbs.enable_user(login)

    run(work())
    remark(f"{login} is enabled")


@example(app, "remove", "pillarbox user remove alice --yes")
def remove(login: Login, yes: YesOption = False, config: ConfigOption = None) -> None:
    """Remove an account. Mail that it sent stays in the queue."""
    settings = load(config)
    if not yes:
        ask_or_refuse(f"Remove {login}?")

    async def work() -> None:
        async with operations(settings) as verbs:
            await verbs.remove_user(login)

    run(work())
    remark(f"{login} is removed")


@example(app, "publish", "pillarbox user publish")
def publish(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Bring accounts that this machine has alone into the cluster. Nothing there is overwritten."""
    settings = load(config)

    async def work() -> dict[str, Any]:
        async with operations(settings) as verbs:
            return await verbs.publish_users()

    done = run(work())
    if as_json:
        say_json(done)
        return
    remark(f"{len(done['published'])} published, {len(done['refused'])} refused")
    for login, why in done["refused"]:
        remark(f"not published: {login}: {why}")
    for login in done["superseded"]:
        remark(f"gave way to the cluster's before: {login}")


def ask_or_refuse(question: str) -> None:
    """Goes on only after a yes; without a terminal nobody can say it."""
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Say --yes: there is no terminal to ask", code=2)
    if not confirm(question, err=True):
        raise CommandError("nothing was done")

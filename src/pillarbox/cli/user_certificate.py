"""``pillarbox user certificate``: which client certificates sign in as an account."""

from pathlib import Path
from typing import Annotated

from pillarbox.cli.configuration import load, operations, run
from pillarbox.cli.framework import Argument, CommandError, ConfigOption, JsonOption, Option, example, group
from pillarbox.cli.output import remark, say, say_json
from pillarbox.console.operations import User

app = group(
    "certificate",
    "Client certificates that sign in as an account (mechanism EXTERNAL).",
    "pillarbox user certificate list alice",
)

Login = Annotated[str, Argument(help="The login.", metavar="LOGIN", show_default=False)]
Mark = Annotated[
    str | None,
    Argument(
        help="sha256:FINGERPRINT, email:ADDRESS (of the subject alternative name) or cn:NAME (the subject's).",
        metavar="[MARK]",
        show_default=False,
    ),
]
File = Annotated[
    Path | None,
    Option("--file", metavar="FILE", help="Or the certificate itself, PEM: its fingerprint.", show_default=False),
]


@example(app, "add", "pillarbox user certificate add alice email:alice@example.org")
def add(login: Login, mark: Mark = None, file: File = None, config: ConfigOption = None) -> None:
    """Let a certificate sign in as this account. The CA that issued it is the site's client_ca."""
    settings = load(config)
    chosen = _chosen(mark, file)

    async def work() -> None:
        async with operations(settings) as verbs:
            await verbs.certify_user(login, chosen)

    run(work())
    remark(f"{chosen} signs in as {login}")


@example(app, "remove", "pillarbox user certificate remove alice email:alice@example.org")
def remove(login: Login, mark: Mark = None, file: File = None, config: ConfigOption = None) -> None:
    """Take that back; sessions of this login end at their next command."""
    settings = load(config)
    chosen = _chosen(mark, file)

    async def work() -> None:
        async with operations(settings) as verbs:
            await verbs.decertify_user(login, chosen)

    run(work())
    remark(f"{chosen} signs in as {login} no longer")


@example(app, "list", "pillarbox user certificate list alice")
def list_certificates(login: Login, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the certificates of an account."""
    settings = load(config)

    async def work() -> User:
        async with operations(settings) as verbs:
            return await verbs.show_user(login)

    user = run(work())
    if as_json:
        say_json(list(user.certificates))
    elif user.certificates:
        for mark in user.certificates:
            say(mark)
    else:
        remark(f"no certificate signs in as {user.login}")


def _chosen(mark: str | None, file: Path | None) -> str:
    if (mark is None) == (file is None):
        raise CommandError("give one of MARK and --file", code=2)
    return mark if mark is not None else _fingerprint(file)


def _fingerprint(file: Path | None) -> str:
    from pillarbox.directory.certificate import fingerprint_mark  # late: --help needs no cryptography

    try:
        return fingerprint_mark(b"" if file is None else file.read_bytes())
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from None
    except ValueError:
        raise CommandError(f"{file}: not a certificate in PEM") from None

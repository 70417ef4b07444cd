"""``pillarbox init``: a first configuration, certificate and user. Never overwrites anything."""

import os
import pwd
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pillarbox.cli.certificate import make_self_signed
from pillarbox.cli.configuration import operations, run
from pillarbox.cli.framework import CommandError, Option, Typer, UsageError, YesOption, example, prompt
from pillarbox.cli.output import remark
from pillarbox.cli.template import Answers, Relay, render
from pillarbox.cli.user import PasswordFile, PasswordStdin, read_password
from pillarbox.config import ConfigError, Settings, parse
from pillarbox.config.values import is_loopback, parse_endpoint, parse_host_name
from pillarbox.console.operations import NewUser

T = TypeVar("T")

_SYSTEM = Path("/etc/pillarbox")
_SERVICE_USER = "pillarbox"
_PASSWORD_OCTETS = 15


def register(app: Typer) -> None:
    """Adds the command of this module."""
    line = "pillarbox init --name mail.example.org --relay mx.example.org:25 --user alice@example.org"
    example(app, "init", line)(initialise)


def initialise(
    name: Annotated[
        str | None, Option(metavar="NAME", help="The public name of the server.", show_default=False)
    ] = None,
    relay: Annotated[
        str | None,
        Option(
            metavar="HOST[:PORT]",
            help="The next hop, HOST[:PORT], or maildir:FOLDER to try things out.",
            show_default=False,
        ),
    ] = None,
    relay_tls: Annotated[
        str | None,
        Option(
            metavar="MODE", help="none, starttls or tls. Default: starttls; none on loopback.", show_default=False
        ),
    ] = None,
    user: Annotated[
        str | None,
        Option(metavar="LOGIN", help="The first user's login; none with an empty one.", show_default=False),
    ] = None,
    address: Annotated[
        list[str] | None,
        Option(metavar="ADDRESS", help="Addresses of the first user. Default: the login.", show_default=False),
    ] = None,
    password_file: PasswordFile = None,
    password_stdin: PasswordStdin = False,
    directory: Annotated[
        Path | None, Option(metavar="FOLDER", help="Where to write. Default: here.", show_default=False)
    ] = None,
    data_directory: Annotated[
        str | None,
        Option(
            metavar="FOLDER",
            help='Default: "data" beside the file; /var/lib/pillarbox for /etc/pillarbox.',
            show_default=False,
        ),
    ] = None,
    run_directory: Annotated[
        str | None,
        Option(
            metavar="FOLDER",
            help='Default: "run" beside the file; /run/pillarbox for /etc/pillarbox.',
            show_default=False,
        ),
    ] = None,
    ports: Annotated[
        str | None,
        Option(
            metavar="PORT,PORT",
            help="submission,submissions. Default: 587,465 as root, else 5587,5465.",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[
        list[str] | None,
        Option(metavar="ADDRESS", help='IP addresses to listen on. Default: "0.0.0.0" and "::".', show_default=False),
    ] = None,
    scram: Annotated[
        bool, Option("--scram", help="Keep a SCRAM-SHA-256 secret with each password, from the first user on.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Write a commented pillarbox.toml, a self-signed certificate to start with, and the first user."""
    folder = (directory or Path()).absolute()
    files = _Files(folder / "pillarbox.toml", folder / "certificate.pem", folder / "key.pem")
    files.refuse_existing()
    service_user = _service_user(folder)
    asks = not yes and sys.stdin.isatty() and not password_stdin
    site_name = _answer(asks, "Name of the server", name, "--name", parse_host_name, _guess_name(name))
    next_hop = _answer(asks, "Next hop (HOST[:PORT], or maildir:FOLDER)", relay, "--relay", _relay(relay_tls), None)
    answers = Answers(
        name=site_name,
        relay=next_hop,
        listen=tuple(listen or ("0.0.0.0", "::")),  # noqa: S104  # a server that people reach from anywhere
        ports=_ports(ports),
        data_directory=data_directory or _place(folder, "data", "/var/lib/pillarbox"),
        run_directory=run_directory or _place(folder, "run", "/run/pillarbox"),
        service_user=service_user.pw_name if service_user else None,
        scram=scram,
    )
    login = _answer(asks, "Login of the first user", user, "--user", str, _first_login(user, yes, site_name))
    text = render(answers)
    try:
        settings = parse(text, files.settings)
    except ConfigError as error:
        raise CommandError("these answers make no valid configuration:", *map(str, error.mistakes)) from None
    new = _new_user(login, address, site_name)
    password, generated = _password(new, password_file, password_stdin, asks)
    files.write(text, *make_self_signed(site_name), service_user)
    if new is not None:
        _add_first_user(settings, new, password, generated)
    _next_steps(files)


@dataclass(frozen=True, slots=True)
class _Files:
    settings: Path
    certificate: Path
    key: Path

    def refuse_existing(self) -> None:
        """Says of every file that is there already that it stays as it is."""
        there = [path for path in (self.settings, self.certificate, self.key) if path.exists()]
        if there:
            lines = [f"{path} exists already and is never overwritten" for path in there]
            raise CommandError(*lines, "move it away, or name another folder with --directory")

    def write(self, text: str, certificate: bytes, key: bytes, reader: pwd.struct_passwd | None) -> None:
        """Writes all three, the configuration last: with it there, the others are. ``reader``'s group may read the
        key."""
        try:
            self.settings.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _write_new(self.key, key, 0o600)
            if reader is not None:
                os.chown(self.key, -1, reader.pw_gid)
                self.key.chmod(0o640)
            _write_new(self.certificate, certificate, 0o644)
            _write_new(self.settings, text.encode(), 0o644)
        except OSError as error:
            raise CommandError(
                f"{error.filename or self.settings.parent}: cannot be written: {error.strerror}"
            ) from None
        for path in (self.settings, self.certificate, self.key):
            remark(f"wrote {path}")


def _service_user(folder: Path) -> pwd.struct_passwd | None:
    """Whom the server becomes when its configuration is the system's."""
    if folder != _SYSTEM or os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_SERVICE_USER)
    except KeyError:
        raise CommandError(
            f"there is no user {_SERVICE_USER} for the server to run as",
            f"make it first: useradd --system --shell /usr/sbin/nologin {_SERVICE_USER}",
        ) from None


def _write_new(path: Path, octets: bytes, mode: int) -> None:
    """A new file with its final mode from the start; FileExistsError when there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as target:
        target.write(octets)


def _answer(
    asks: bool, question: str, given: str | None, flag: str, parse_it: Callable[[str], T], default: str | None
) -> T:
    """A flag's value, or what is typed; asked again until it makes sense."""
    if given is None and not asks:
        if default is None:
            raise UsageError(f"{flag} is needed")
        given = default
    if given is not None:
        try:
            return parse_it(given)
        except ValueError as error:
            raise UsageError(f'found "{given}"; {error}', param_hint=flag) from None
    while True:
        try:
            return parse_it(str(prompt(question, default=default, err=True)))
        except ValueError as error:
            remark(str(error))


def _guess_name(given: str | None) -> str | None:
    """The machine's own name as a suggestion; only when it is a whole one."""
    if given is not None:
        return None
    name = os.uname().nodename.lower()
    try:
        return parse_host_name(name) if "." in name else None
    except ValueError:
        return None


def _first_login(given: str | None, yes: bool, name: str) -> str | None:
    if given is not None:
        return None
    return "" if yes or not sys.stdin.isatty() else f"{os.environ.get('USER', 'user')}@{_domain(name)}"


def _domain(name: str) -> str:
    """The mail domain that a server's name suggests: mail.example.org serves example.org."""
    _, _, rest = name.partition(".")
    return rest if "." in rest else name


def _relay(tls: str | None) -> Callable[[str], Relay]:
    def parse_relay(text: str) -> Relay:
        if text.startswith("maildir:"):
            if not text.removeprefix("maildir:"):
                raise ValueError("expected a folder such as maildir:./received")
            return Relay(maildir=text.removeprefix("maildir:"))
        host, port = parse_endpoint(text, 465 if tls == "tls" else 25)
        chosen = tls or ("none" if is_loopback(host) else "starttls")
        if chosen not in ("none", "starttls", "tls"):
            raise UsageError(f'found "{chosen}"; expected none, starttls or tls', param_hint="--relay-tls")
        return Relay(host=host, port=port, tls=chosen)

    return parse_relay


def _ports(text: str | None) -> tuple[int, int]:
    if text is None:
        return (587, 465) if os.geteuid() == 0 else (5587, 5465)
    parts = text.split(",")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and 1 <= int(part) <= 65535 for part in parts):
        raise UsageError(f'found "{text}"; expected two ports such as 587,465', param_hint="--ports")
    return int(parts[0]), int(parts[1])


def _place(folder: Path, local: str, system: str) -> str:
    return system if folder == _SYSTEM else local


def _new_user(login: str, addresses: list[str] | None, name: str) -> NewUser | None:
    if not login:
        return None
    own = tuple(addresses or [login if "@" in login else f"{login}@{_domain(name)}"])
    return NewUser(login, own)


def _password(new: NewUser | None, file: Path | None, stdin: bool, asks: bool) -> tuple[str, bool]:
    """(password, whether it was made here and has to be shown)."""
    if new is None:
        return "", False
    if file is None and not stdin and not asks:
        return secrets.token_urlsafe(_PASSWORD_OCTETS), True
    return read_password(file, stdin, ask=asks), False


def _add_first_user(settings: Settings, new: NewUser, password: str, generated: bool) -> None:
    async def work() -> None:
        async with operations(settings) as verbs:
            await verbs.add_user(new, password)

    try:
        run(work())
    except CommandError as error:
        lines = (f"the user {new.login} was not added:", *error.lines)
        raise CommandError(*lines, f"put that right, then: pillarbox user add {new.login}") from None
    remark(f"added {new.login}, who may send from {', '.join(new.addresses)}")
    if generated:
        remark(f"their password, shown this once: {password}")


def _next_steps(files: _Files) -> None:
    remark("")
    remark("next:")
    remark(f"  pillarbox check --config {files.settings}")
    remark(f"  pillarbox serve --config {files.settings}")

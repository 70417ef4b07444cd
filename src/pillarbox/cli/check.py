"""``pillarbox check``: the configuration, the machine, and (--relay) the next hop."""

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pillarbox.cli.check_sign_in import imported_hashes, look_at_sign_in
from pillarbox.cli.configuration import find, operations, run
from pillarbox.cli.framework import CommandError, ConfigOption, Exit, JsonOption, Option, Typer, UsageError, example
from pillarbox.cli.output import count, mark, remark, say, say_error, say_json
from pillarbox.cli.probe import make_probe
from pillarbox.config import ConfigError, Settings, check_files
from pillarbox.config import load as load_settings
from pillarbox.console.cells import look_at
from pillarbox.console.operations import User
from pillarbox.directory.domino_names import name_key
from pillarbox.directory.preparation import login_key
from pillarbox.doctor.relay import walk
from pillarbox.doctor.report import Finding, Severity, as_data, worst
from pillarbox.spool.settings import CellsSettings
from pillarbox.submission.settings import SiteSettings

_PATIENCE = 2.0
_CELL_PATIENCE = 10.0
"""Seconds for a cell, each of its users and hosts."""
_NAMED = 20


def register(app: Typer) -> None:
    """Adds the command of this module."""
    example(app, "check", "pillarbox check --relay mx.example.org:25")(check)


def check(
    relay: Annotated[
        str | None,
        Option(
            metavar="HOST[:PORT]", help="Also walk this next hop, HOST[:PORT]; nothing is sent.", show_default=False
        ),
    ] = None,
    recipient: Annotated[
        str | None,
        Option(metavar="ADDRESS", help="With --relay: an address outside to name in RCPT.", show_default=False),
    ] = None,
    sender: Annotated[
        str | None,
        Option(
            metavar="ADDRESS",
            help="With --relay: the reverse path. Default: postmaster at the site's domain.",
            show_default=False,
        ),
    ] = None,
    ports: Annotated[bool, Option(help="Try whether the ports are free.")] = True,
    cells: Annotated[bool, Option(help="Ask the cells of a cluster.")] = True,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Check configuration, files, ports, permissions and role separation; with --relay also the next hop."""
    path = find(config)
    try:
        settings = load_settings(path)
    except ConfigError as error:
        if as_json:
            say_json({"ok": False, "mistakes": [str(mistake) for mistake in error.mistakes], "findings": []})
            raise Exit(1) from None
        raise CommandError(*map(str, error.mistakes)) from None
    findings = [Finding(Severity.OK, "configuration", f"{path} is valid")]
    running = _daemon_runs(settings)
    if running:
        findings.append(Finding(Severity.NOTE, "daemon", "it runs, so its ports were not tried"))
    findings += check_files(settings, ports=ports and not running)
    findings += look_at_sign_in(settings)
    if running:
        findings += run(_look_at_what_waits_for_a_restart(settings))
    if cells and isinstance(settings.spool, CellsSettings):
        findings += [one for look in run(look_at(settings.spool, patience=_CELL_PATIENCE)) for one in look.findings]
    findings += run(_look_at_accounts(settings, running=running))
    if relay is not None:
        findings += run(_walk(settings, relay, sender, recipient))
    elif sender is not None or recipient is not None:
        raise UsageError("--sender and --recipient go with --relay")
    _print(findings, as_json)


def _announcing_scram(settings: Settings) -> list[SiteSettings]:
    return [
        site
        for site in settings.sites
        if any("SCRAM-SHA-256" in site.mechanisms_of(implicit_tls=implicit) for implicit in (False, True))
    ]


async def _look_at_what_waits_for_a_restart(settings: Settings) -> list[Finding]:
    """What `pillarbox reload` would refuse; of another file than the daemon's nothing is known."""
    try:
        async with operations(settings) as verbs:
            if (await verbs.status())["config"] != str(settings.path.resolve()):
                return []
            lines = await verbs.pending()
    except CommandError:
        return []
    return [Finding(Severity.NOTE, "reload", line) for line in lines]


async def _look_at_accounts(settings: Settings, *, running: bool) -> list[Finding]:
    """What is odd about the accounts, and what the settings want of them; without a daemon its files are asked, if
    there are any yet. A cell is asked without a daemon only for what the settings want."""
    scram = _announcing_scram(settings)
    legacy = [site for site in settings.sites if site.legacy is not None]
    if not running and not scram and not legacy and isinstance(settings.spool, CellsSettings):
        return []
    if not running and not _are_there(settings.server.data_directory / "accounts.db"):
        return [finding for site in legacy for finding in _devices(site, ())]
    try:
        async with operations(settings) as verbs:
            users = await verbs.list_users()
    except CommandError as error:
        return [Finding(Severity.NOTE, "accounts", f"they could not be asked: {error.lines[0]}")]
    found = [*_ambiguous(users), *imported_hashes(users), *(_secrets(site, users) for site in scram)]
    return found + [finding for site in legacy for finding in _devices(site, users)]


def _ambiguous(users: Sequence[User]) -> Iterator[Finding]:
    """Aliases that let nobody in."""
    void = {name_key(name): name for user in users for name in user.void_aliases}
    owners: dict[str, list[str]] = {key: [] for key in void}
    for user in users:
        for key in {name_key(name) for name in (user.login, *user.aliases)} & void.keys():
            owners[key].append(user.login)
    logins = {login_key(user.login) for user in users}
    told = sorted(void)
    for key in told[:_NAMED]:
        who = "only the account of that login" if key in logins else "nobody"
        yield Finding(
            Severity.WARNING,
            "accounts",
            f"{who} signs in as {void[key]}: {', '.join(sorted(owners[key]))} have the name",
            "pillarbox user change LOGIN --remove-alias NAME",
        )
    if len(told) > _NAMED:
        yield Finding(Severity.WARNING, "accounts", f"so it is with {len(told) - _NAMED} more names")


def _are_there(accounts: Path) -> bool:
    try:
        return accounts.exists()
    except PermissionError:  # whoever opens them will say so
        return True


def _devices(site: SiteSettings, users: Sequence[User]) -> Iterator[Finding]:
    """Logins of a legacy site that nobody has: its devices would be refused."""
    there = {login_key(user.login) for user in users}
    for login in sorted(site.legacy.logins - there if site.legacy is not None else ()):
        yield Finding(
            Severity.WARNING,
            f"site {site.name}",
            f'there is no account "{login}", which its devices sign in with',
            f"pillarbox user add {login}, or take it out of logins",
        )


def _secrets(site: SiteSettings, users: Sequence[User]) -> Finding:
    """Whether SCRAM-SHA-256 is offered at a site: it is, once every account that may sign in there has a secret."""
    counted = [user for user in users if not user.disabled and _is_home_of(site, login_key(user.login))]
    missing = sum(not user.scram for user in counted)
    subject = f"site {site.name}"
    if not missing:
        return Finding(Severity.OK, subject, "SCRAM-SHA-256: every account that may sign in here has a secret")
    return Finding(
        Severity.WARNING,
        subject,
        f"SCRAM-SHA-256 is not offered: {missing} of {len(counted)} accounts have no secret",
        "see `pillarbox user list --no-scram`; each gets one with its next password",
    )


def _is_home_of(site: SiteSettings, key: str) -> bool:
    """As submission.site has it."""
    return key not in site.foreign_logins if site.legacy is None else key in site.legacy.logins


async def _walk(settings: Settings, relay: str, sender: str | None, recipient: str | None) -> list[Finding]:
    probe, findings = await make_probe(settings, relay, sender, recipient)
    return findings + await walk(probe)


def _daemon_runs(settings: Settings) -> bool:
    """Whether somebody listens where operators ask."""
    from pillarbox.daemon.paths import control_socket  # late: `check --help` needs nothing of the daemon

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(str(control_socket(settings.server.run_directory)))
        except PermissionError:
            return True
        except OSError:
            return False
    return True


def _print(findings: list[Finding], as_json: bool) -> None:
    failed = worst(findings) is Severity.ERROR
    if as_json:
        say_json({"ok": not failed, "mistakes": [], "findings": as_data(findings)})
    else:
        for finding in findings:
            say(f"{mark(finding.severity)} {finding.subject}: {finding.message}")
            if finding.advice:
                say(f"        -> {finding.advice}")
        _sum_up(findings)
    if failed:
        raise Exit(1)


def _sum_up(findings: list[Finding]) -> None:
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    warnings = sum(finding.severity is Severity.WARNING for finding in findings)
    if errors:
        say_error(f"{count(errors, 'error')}, {count(warnings, 'warning')}")
    else:
        remark(f"no errors, {count(warnings, 'warning')}")

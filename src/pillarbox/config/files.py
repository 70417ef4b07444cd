"""What the configuration names outside itself: certificates, folders, ports, secrets, users.

    for finding in check_files(settings): print(finding)

The file may be right and the machine not; this looks, changes nothing, and says what to do. As root it looks with the
eyes of the server's user: what only root can read does not help the server.

ERRORS
    None raised: what is wrong is a Finding.
"""

import errno
import os
import pwd
import shutil
import socket
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

from pillarbox.config.acme import examine_acme, examine_issued
from pillarbox.config.certificate import examine_authorities, examine_pair, now_utc, read_file
from pillarbox.config.eyes import check_folder, seeing_as, server_user, unreadable
from pillarbox.config.settings import Settings
from pillarbox.config.values import format_network, format_size
from pillarbox.delivery.settings import AuthSettings, MaildirRoute, SmarthostRoute, TlsMode
from pillarbox.directory.dovecot.settings import DovecotSettings
from pillarbox.directory.ldap.settings import LdapSettings
from pillarbox.directory.mailbox.settings import MailboxSettings
from pillarbox.directory.oauth.settings import OauthSettings
from pillarbox.directory.passwd.entries import FileBroken
from pillarbox.directory.passwd.file import read_people
from pillarbox.directory.passwd.settings import PasswdSettings
from pillarbox.directory.schemes.stored import survey
from pillarbox.directory.settings import LocalSettings
from pillarbox.directory.sql.settings import SqlSettings
from pillarbox.directory.token import KeyUnusable, load_key
from pillarbox.doctor.report import Finding, Severity
from pillarbox.spool.settings import CellsSettings, EmbeddedSettings, Role
from pillarbox.submission.settings import Address, SiteSettings
from pillarbox.telemetry.advice import install

_UNIT_FOLDERS = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
_UNIT = "pillarbox-submission.service"
_DEFAULT_FREE = (1 << 30, 0.05)

_CELL_ROLES: tuple[tuple[str, Role], ...] = (
    ("submission", "submission"),
    ("delivery", "delivery"),
    ("spool", "keeper"),
)
"""As whom each process asks a cell."""

User = pwd.struct_passwd | None
"""With whose eyes files are looked at; None: with our own."""


def check_files(settings: Settings, *, ports: bool = True) -> list[Finding]:
    """All findings about the machine. ``ports``: also try to bind each address; not while the daemon has them."""
    found: list[Finding] = []
    submission, delivery = server_user(settings.server, "submission"), server_user(settings.server, "delivery")
    for site in settings.sites:
        found.extend(_site(site, submission))
    for number, route in enumerate(settings.delivery.routes):
        found.extend(_route(f"route[{number}]", route, delivery))
    found.extend(examine_acme(settings.acme))
    found.extend(_token_keys(settings, submission))
    found.extend(_providers(settings, submission))
    found.extend(_mailboxes(settings, submission))
    found.extend(_ldap(settings, submission))
    found.extend(_password_files(settings, submission))
    found.extend(_databases(settings, submission))
    found.extend(_cells(settings))
    found.extend(_file(settings))
    found.extend(_catch_all(settings))
    found.extend(_folders(settings))
    found.extend(_free(settings))
    found.extend(_users(settings))
    found.extend(_program(settings))
    if ports:
        found.extend(check_ports(settings))
    return found


def _closed_to(user: User, subject: str, *files: tuple[str, Path | None]) -> Iterator[Finding]:
    """Which of these files another user than us cannot read; what we cannot read we will see when we try."""
    if user is not None:
        with seeing_as(user):
            found = [unreadable(subject, what, path) for what, path in files if path is not None]
        yield from (finding for finding in found if finding is not None)


def _file(settings: Settings) -> Iterator[Finding]:
    """A reload reads the file when root is long given up."""
    for finding in _closed_to(server_user(settings.server, "control"), "configuration", ("file", settings.path)):
        message = f"{finding.message}: a reload will be refused"
        yield replace(finding, severity=Severity.WARNING, message=message, blocks=False)


def _site(site: SiteSettings, user: User) -> Iterator[Finding]:
    subject = f"site {site.name}"
    files = (("certificate", site.certificate), ("key", site.key), ("certificate", site.tls.client_ca))
    if site.acme:
        yield from examine_issued(subject, site)
    else:
        yield from _closed_to(user, subject, *files)
        yield from examine_pair(subject, site.certificate, site.key, now_utc(), site.name)
        yield from _secrecy(subject, "key", site.key)
    if site.tls.client_ca is not None:
        yield from examine_authorities(subject, site.tls.client_ca)
    if site.legacy is not None:
        where = ", ".join(map(format_network, site.legacy.networks))
        if site.legacy.plaintext:
            message = f"sign-in without TLS is taken from {where}: passwords can be read there"
        else:
            message = f"it is for devices in {where} alone"
        yield Finding(Severity.NOTE, subject, message)
        if any("SCRAM-SHA-256" in site.mechanisms_of(implicit_tls=implicit) for implicit in (False, True)):
            yield Finding(
                Severity.WARNING,
                subject,
                "SCRAM-SHA-256 is offered to devices: the guard counts each of their wrong passwords, however often "
                "it is the same",
                "leave it out of mechanisms here",
            )


def _token_keys(settings: Settings, user: User) -> Iterator[Finding]:
    for directory in settings.directories:
        if isinstance(directory, LocalSettings) and directory.tokens is not None:
            yield from _closed_to(user, f"directory {directory.name}", ("token_key", directory.tokens.key))
            try:
                key = load_key(directory.tokens.key)
            except KeyUnusable as unusable:
                yield Finding(Severity.ERROR, f"directory {directory.name}", str(unusable), "correct token_key", True)
            else:
                if key.algorithm == "HS256":
                    yield from _secrecy(f"directory {directory.name}", "token_key", directory.tokens.key)


def _providers(settings: Settings, user: User) -> Iterator[Finding]:
    """What the directories of tokens read."""
    for directory in settings.directories:
        if not isinstance(directory, OauthSettings):
            continue
        subject = f"directory {directory.name}"
        if find_spec("aiohttp") is None:
            message = "aiohttp, which asks the provider, is not installed"
            yield Finding(Severity.ERROR, subject, message, install("oauth"))
        yield from _closed_to(user, subject, ("client_secret", directory.client_secret), ("ca", directory.ca))
        if directory.ca is not None:
            yield from examine_authorities(subject, directory.ca)
        if directory.client_secret is not None:
            found: list[Finding] = []
            octets = read_file(subject, "client_secret", directory.client_secret, found, "write the secret into it")
            yield from found
            if octets is not None and not octets.strip():
                message = f"the client_secret {directory.client_secret} is empty"
                yield Finding(Severity.ERROR, subject, message, "write the secret into it", True)
            yield from _secrecy(subject, "client_secret", directory.client_secret)


def _mailboxes(settings: Settings, user: User) -> Iterator[Finding]:
    """What the directories of mailbox servers read, and the sockets that they connect to."""
    for directory in settings.directories:
        subject = f"directory {directory.name}"
        if isinstance(directory, MailboxSettings) and directory.ca is not None:
            yield from _closed_to(user, subject, ("ca", directory.ca))
            yield from examine_authorities(subject, directory.ca)
        if isinstance(directory, DovecotSettings):
            for place in directory.servers:
                if place.path:
                    yield from _unconnectable(subject, place.path, user)


def _ldap(settings: Settings, user: User) -> Iterator[Finding]:
    """What the directories of LDAP servers read, and the library that asks them."""
    for directory in settings.directories:
        if not isinstance(directory, LdapSettings):
            continue
        subject = f"directory {directory.name}"
        if find_spec("ldap") is None:
            advice = f"apt install gcc python3-dev libldap2-dev libsasl2-dev; {install('ldap')}"
            yield Finding(Severity.ERROR, subject, "python-ldap, which asks the server, is not installed", advice)
        paths = [(key, getattr(directory, key)) for key in ("ca", "certificate", "key", "password_file")]
        yield from _closed_to(user, subject, *paths)
        if directory.ca is not None:
            yield from examine_authorities(subject, directory.ca)
        for key, path in paths[2:]:
            if path is not None:
                yield from _secrecy(subject, key, path)
        if directory.password_file is not None:
            found: list[Finding] = []
            octets = read_file(subject, "password_file", directory.password_file, found, "write the password into it")
            yield from found
            if octets is not None and not octets.strip():
                message = f"the password_file {directory.password_file} is empty"
                yield Finding(Severity.ERROR, subject, message, "write the password into it", True)


def _password_files(settings: Settings, user: User) -> Iterator[Finding]:
    """Who is in the password files, and with what hashes."""
    for directory in settings.directories:
        if not isinstance(directory, PasswdSettings):
            continue
        subject = f"directory {directory.name}"
        yield from _closed_to(user, subject, ("file", directory.file))
        yield from _secrecy(subject, "password file", directory.file)
        try:
            people, _ = read_people(directory)
        except (FileBroken, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            yield Finding(Severity.ERROR, subject, f"{directory.file}: {reason}", "nobody can sign in by it so")
            continue
        stored = (entry.hashed.stored for entry in people.values() if entry.denied is None)
        found = survey(stored, plain=directory.plain)
        yield Finding(Severity.OK, subject, f"{directory.file}: {len(people)} people")
        for why, count in Counter(entry.cause for entry in people.values() if entry.cause).items():
            advice = "they cannot sign in: here it would count from everywhere; give them an entry without it"
            yield Finding(Severity.WARNING, subject, f"{count} of {len(people)} people: {why}", advice)
        for why, count in found.unusable.items():
            advice = "they get 454; give them another hash"
            yield Finding(Severity.ERROR, subject, f"{count} of {len(people)} people: {why}", advice)
        if found.weak:
            told = ", ".join(f"{count} of {scheme}" for scheme, count in found.weak.items())
            advice = "renew them with bcrypt, SHA-crypt or Argon2; keep the file from others"
            yield Finding(Severity.WARNING, subject, f"hashes that are broken fast: {told}", advice)


def _databases(settings: Settings, user: User) -> Iterator[Finding]:
    """What the directories in databases read."""
    for directory in settings.directories:
        if not isinstance(directory, SqlSettings):
            continue
        subject = f"directory {directory.name}"
        yield from _closed_to(
            user, subject, ("SQLite file", directory.sqlite), ("password_file", directory.password_file)
        )
        if directory.sqlite is not None and not directory.sqlite.exists():
            yield Finding(Severity.ERROR, subject, f"there is no {directory.sqlite}", "correct sqlite")
        if directory.postgresql and find_spec("psycopg") is None:
            yield Finding(Severity.ERROR, subject, "the driver of PostgreSQL is missing", install("sql"), True)
        if directory.password_file is not None:
            yield from _secrecy(subject, "password_file", directory.password_file)


def _unconnectable(subject: str, path: str, user: User) -> Iterator[Finding]:
    try:
        with seeing_as(user), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(1.0)
            sock.connect(path)
    except OSError as error:
        advice = "make it in Dovecot (unix_listener in service auth), with this user as its owner"
        yield Finding(Severity.WARNING, subject, f"cannot connect to {path}: {error.strerror or error}", advice)


def _secrecy(subject: str, what: str, path: Path) -> Iterator[Finding]:
    """Who may read a secret. The group may: that is how roles with users of their own share a key."""
    mode = _mode(path)
    if mode is None:
        return
    if mode & stat.S_IROTH:
        yield Finding(
            Severity.WARNING, subject, f"everybody on this machine can read the {what} {path}", "chmod o= it"
        )
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Finding(
            Severity.WARNING, subject, f"others than its owner can change the {what} {path}", "chmod 0640 it"
        )


def _route(subject: str, route: SmarthostRoute | MaildirRoute, user: User) -> Iterator[Finding]:
    if isinstance(route, MaildirRoute):
        with seeing_as(user):
            found = list(check_folder(subject, "maildir", route.path))
        yield from found
        return
    subject = f"{subject} to {route.host}"
    files = (("certificate", route.ca), ("certificate", route.client_certificate), ("key", route.client_key))
    if route.tls is TlsMode.NONE and not _is_near(route.host):
        yield Finding(
            Severity.WARNING,
            subject,
            'tls = "none": whoever is on the way can read and change the mail',
            'take "starttls" or "tls", or name a host on loopback or in a private network by its address',
        )
    secret = route.auth.secret_file if route.auth is not None else None
    yield from _closed_to(user, subject, *files, ("secret", secret))
    if route.ca is not None:
        yield from examine_authorities(subject, route.ca)
    if route.client_certificate is not None and route.client_key is not None:
        yield from examine_pair(subject, route.client_certificate, route.client_key, now_utc())
        yield from _secrecy(subject, "client key", route.client_key)
    if route.auth is not None:
        yield from _secret(subject, route.auth, user)


def _is_near(host: str) -> bool:
    """Whether ``host`` is on this machine or in a private network, by its very form; names are not resolved."""
    try:
        return ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def _secret(subject: str, auth: AuthSettings, user: User) -> Iterator[Finding]:
    if auth.secret_file is not None:
        found: list[Finding] = []
        octets = read_file(subject, "secret", auth.secret_file, found, "write the password into it")
        yield from found
        if octets is not None and not octets.strip():
            yield Finding(
                Severity.ERROR, subject, f"the secret {auth.secret_file} is empty", "write the password into it"
            )
        yield from _secrecy(subject, "secret", auth.secret_file)
        return
    program = auth.secret_command[0]
    with seeing_as(user):
        found_at = shutil.which(program)
    if found_at is None:
        yield Finding(
            Severity.ERROR, subject, f"secret_command: there is no program {program}", "give its whole path"
        )


def _cells(settings: Settings) -> Iterator[Finding]:
    """The cell itself is for `pillarbox cluster check`."""
    if not isinstance(settings.spool, CellsSettings):
        return
    if find_spec("psycopg") is None:
        yield Finding(
            Severity.ERROR,
            "spool",
            "the driver of PostgreSQL is missing",
            f"install it: {install('cluster')}",
            blocks=True,
        )
    for cell in settings.spool.cells:
        found: list[Finding] = []
        for process, role in _CELL_ROLES:
            path = cell.of(role).password_file
            if path is not None:
                subject = f"cell {cell.name}"
                found += _closed_to(server_user(settings.server, process), subject, ("password_file", path))
                read_file(subject, "password_file", path, found, "write the password into it")
                found += _secrecy(subject, "password_file", path)
        yield from dict.fromkeys(found)


def _catch_all(settings: Settings) -> Iterator[Finding]:
    rest = [route for route in settings.delivery.routes if "*" in route.domains]
    if any(not route.sites for route in rest):
        return
    without = {site.name for site in settings.sites}.difference(*(route.sites for route in rest))
    if without:
        whose = f" for {', '.join(sorted(without))}" if rest else ""
        yield Finding(
            Severity.WARNING,
            "routes",
            f'no route{whose} has domains = ["*"]: mail to any other domain will bounce',
            "add one unless that is meant",
        )


def _folders(settings: Settings) -> Iterator[Finding]:
    server, root = settings.server, os.geteuid() == 0
    with seeing_as(server_user(server, "spool") if server.user is not None else None):
        found = [
            *check_folder("data_directory", "folder", server.data_directory, made_for_us=root),
            *check_folder("run_directory", "folder", server.run_directory, made_for_us=root),
        ]
    yield from found
    mode = _mode(server.data_directory)
    if mode is not None and mode & (stat.S_IROTH | stat.S_IWOTH):
        folder = server.data_directory
        yield Finding(
            Severity.WARNING, "data_directory", f"everybody on this machine may look into {folder}", "chmod 0750 it"
        )


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except OSError:
        return None


def _free(settings: Settings) -> Iterator[Finding]:
    if not isinstance(settings.spool, EmbeddedSettings):
        return
    folder = settings.spool.directory
    while _mode(folder) is None and folder != folder.parent:
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    reserve = settings.spool.min_free
    if reserve is None:
        reserve = max(_DEFAULT_FREE[0], int(usage.total * _DEFAULT_FREE[1]))
    if usage.free < reserve:
        free, least = format_size(usage.free >> 20 << 20), format_size(reserve >> 20 << 20)
        yield Finding(
            Severity.ERROR,
            "spool",
            f"{free} are free where the spool lies, less than the reserve of {least}: mail would be answered 452",
            "make room, or set [spool] min_free",
        )


def _users(settings: Settings) -> Iterator[Finding]:
    server = settings.server
    if server.user is not None:
        try:
            pwd.getpwnam(server.user)
        except KeyError:
            advice = f"make it: useradd --system {server.user}"
            yield Finding(Severity.ERROR, "user", f'there is no user "{server.user}" here', advice, True)
    if server.run_as_root:
        yield Finding(
            Severity.WARNING, "user", "run_as_root = true: a mistake anywhere is a mistake of root", "set user"
        )
    elif os.geteuid() == 0 and server.user is None:
        yield Finding(
            Severity.WARNING, "user", "no user is set: `pillarbox serve` refuses to run as root", "set [server] user"
        )
    if not any(Path(folder, _UNIT).exists() for folder in _UNIT_FOLDERS):
        yield Finding(
            Severity.WARNING,
            "roles",
            "the roles are not separated: `pillarbox serve` runs them all as one user",
            "contrib/systemd has a unit and a user for each role",
        )


def _program(settings: Settings) -> Iterator[Finding]:
    """Our processes are started by the user: an interpreter in root's home is out of its reach."""
    user = server_user(settings.server, "control") if settings.server.user is not None else None
    advice = "install Pillarbox where everybody may look, such as /opt/pillarbox"
    for finding in _closed_to(user, "user", ("interpreter", Path(sys.executable).resolve())):
        yield replace(finding, advice=advice)


def check_ports(settings: Settings) -> list[Finding]:
    """Tries to bind each address once, and lets it go."""
    addresses = {address for site in settings.sites for address in (*site.submission, *site.submissions)}
    if settings.metrics is not None:
        addresses.add(settings.metrics)
    if settings.acme is not None and not settings.acme.hook:
        addresses |= {Address(host, port) for host, port in settings.acme.listen}
    return [_try_port(address) for address in sorted(addresses, key=lambda one: (one.port, one.host))]


def _try_port(address: Address) -> Finding:
    subject = f"port {address}"
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address.host, address.port))
            probe.listen(1)
    except OSError as error:
        return _no_port(subject, address, error)
    return Finding(Severity.OK, subject, "free")


def _no_port(subject: str, address: Address, error: OSError) -> Finding:
    if error.errno == errno.EADDRINUSE:
        advice = f"see who has it: ss -ltnp 'sport = :{address.port}'"
        return Finding(Severity.ERROR, subject, "in use by another program", advice)
    if error.errno in (errno.EACCES, errno.EPERM):
        return Finding(
            Severity.WARNING,
            subject,
            "this user may not listen on a port below 1024",
            "let systemd open it (contrib/systemd), or give CAP_NET_BIND_SERVICE",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        advice = "see them: ip address; or listen on 0.0.0.0 or [::]"
        return Finding(Severity.ERROR, subject, f"{address.host} is no address of this machine", advice)
    return Finding(Severity.ERROR, subject, f"cannot listen: {error.strerror}")

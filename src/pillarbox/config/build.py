"""From the tables of the file to each room's frozen settings.

Relative paths are relative to the file. Decides nothing but defaults that depend on other keys.

ERRORS
    None: what comes here has passed model.py and rules.py.
"""

import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from pillarbox.certificates.settings import folder_in, pair_file
from pillarbox.config.acme_table import ACME, build_acme
from pillarbox.config.directories import kinds
from pillarbox.config.model import (
    FileTable,
    LegacyTable,
    LogTable,
    MaildirTable,
    ServerTable,
    SiteTable,
    SmarthostTable,
    SpoolTable,
)
from pillarbox.config.settings import LogSettings, ServerSettings, Settings
from pillarbox.delivery.settings import AuthSettings, DeliverySettings, MaildirRoute, Route, SmarthostRoute, TlsMode
from pillarbox.directory.settings import DirectorySettings, LocalSettings
from pillarbox.guard.settings import GuardSettings
from pillarbox.spool.settings import CellSettings, CellsSettings, EmbeddedSettings
from pillarbox.submission.settings import ClientCertificates, LegacySettings, Mailboxes, SiteSettings, TlsSettings

STRICT_TEXT_LINE = 1000
"""998 octets and CRLF (RFC 5321 4.5.3.1.6)."""

_MOST_WORKERS = 4


def build(tables: FileTable, path: Path, text: str) -> Settings:
    """Every room's settings from one valid file."""
    base = path.absolute().parent
    server = _server(tables.server, base)
    return Settings(
        path=path,
        text=text,
        server=server,
        log=_log(tables.log, base),
        metrics=tables.metrics.listen if tables.metrics else None,
        spool=_spool(tables.spool, server, base),
        guard=GuardSettings(**dict(tables.guard)),
        directories=_directories(tables, base),
        sites=_sites(tables, server, base),
        delivery=_delivery(tables, base),
        acme=build_acme(
            tables.acme, [site.name for site in tables.site if site.certificate == ACME], server.data_directory, base
        ),
    )


def _log(table: LogTable, base: Path) -> LogSettings:
    lines = table.domino_lines
    return LogSettings(table.form, table.level, None if lines is None else base / lines)


def _server(table: ServerTable, base: Path) -> ServerSettings:
    workers = table.submission_workers or min(os.cpu_count() or 1, _MOST_WORKERS)
    return ServerSettings(
        data_directory=base / table.data_directory,
        run_directory=base / table.run_directory,
        user=table.user,
        run_as_root=table.run_as_root,
        submission_workers=workers,
        delivery_workers=table.delivery_workers,
        drain_time=table.drain_time,
    )


def _spool(table: SpoolTable, server: ServerSettings, base: Path) -> EmbeddedSettings | CellsSettings:
    if table.kind == "embedded":
        return EmbeddedSettings(server.data_directory / "spool", table.min_free)
    cells = [
        CellSettings(cell.name, cell.dsn, _maybe(base, cell.password_file), cell.max_size, cell.accepts)
        for cell in table.cell
    ]
    return CellsSettings(tuple(cells), table.durability)


def _directories(tables: FileTable, base: Path) -> tuple[DirectorySettings, ...]:
    return tuple(kinds.build(table, base) for table in tables.directory) or (LocalSettings(),)


def _maybe_tuple(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _sites(tables: FileTable, server: ServerSettings, base: Path) -> tuple[SiteSettings, ...]:
    """Logins of devices are foreign at every site but their own."""
    devices = frozenset(login for site in tables.site if site.legacy for login in site.legacy.logins)
    folder = folder_in(server.data_directory)
    return tuple(
        _site(site, base, devices, pair_file(folder, site.name) if site.certificate == ACME else None)
        for site in tables.site
    )


def _legacy(table: LegacyTable) -> LegacySettings:
    return LegacySettings(
        networks=tuple(table.networks),
        logins=frozenset(table.logins),
        senders=_mailboxes(table.senders),
        recipients=None if table.recipients is None else _mailboxes(table.recipients),
        plaintext=table.minimum_tls == "none",
    )


def _mailboxes(entries: Sequence[str]) -> Mailboxes:
    return Mailboxes(
        frozenset(entry for entry in entries if not entry.startswith("@")),
        frozenset(entry[1:] for entry in entries if entry.startswith("@")),
    )


_VERSIONS = {
    "none": ssl.TLSVersion.TLSv1,
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}


def _site(table: SiteTable, base: Path, devices: frozenset[str], pair: Path | None) -> SiteSettings:
    """``pair``: where an authority's certificate and its key are, at a site that gets them there."""
    legacy = table.legacy
    return SiteSettings(
        name=table.name,
        submission=tuple(table.submission),
        submissions=tuple(table.submissions),
        certificate=pair or base / table.certificate,
        key=pair or base / (table.key or ""),
        acme=pair is not None,
        domains=frozenset(table.domains),
        tls=TlsSettings(
            minimum_version=_VERSIONS[table.tls_minimum_version if legacy is None else legacy.minimum_tls],
            ciphers=table.tls_ciphers,
            client_certificates=ClientCertificates(table.client_certificates),
            client_ca=_maybe(base, table.client_ca),
        ),
        mechanisms=tuple(table.mechanisms),
        submission_mechanisms=_maybe_tuple(table.submission_mechanisms),
        submissions_mechanisms=_maybe_tuple(table.submissions_mechanisms),
        certificate_signs_in=table.certificate_signs_in,
        certificate_login=table.certificate_login or "",
        directories=tuple(table.directories),
        app_passwords=table.app_passwords,
        max_message_size=table.max_message_size,
        max_recipients=table.max_recipients,
        recipients_per_hour=table.recipients_per_hour,
        max_text_line=STRICT_TEXT_LINE if table.strict_text_lines else table.max_text_line,
        hide_client_address=table.hide_client_address,
        failed_sign_in_time=table.failed_sign_in_time,
        max_sessions=table.max_sessions,
        max_sessions_per_address=table.max_sessions_per_address,
        max_unauthenticated_sessions=table.max_unauthenticated_sessions,
        max_unauthenticated_sessions_per_address=table.max_unauthenticated_sessions_per_address,
        max_handshakes=table.max_handshakes,
        max_handshakes_per_address=table.max_handshakes_per_address,
        max_delayed_sessions=table.max_delayed_sessions,
        max_delayed_sessions_per_address=table.max_delayed_sessions_per_address,
        idle_timeout=table.idle_timeout,
        unauthenticated_timeout=table.unauthenticated_timeout,
        handshake_timeout=table.handshake_timeout,
        proxy_from=tuple(table.proxy_from),
        data_timeout=table.data_timeout,
        data_total_timeout=table.data_total_timeout,
        disabled_extensions=tuple(table.disabled_extensions),
        max_hold=table.max_hold,
        legacy=None if legacy is None else _legacy(legacy),
        foreign_logins=devices if legacy is None else frozenset(),
    )


def _delivery(tables: FileTable, base: Path) -> DeliverySettings:
    table = tables.delivery
    host = table.host or tables.site[0].name
    return DeliverySettings(
        host=host,
        routes=tuple(_route(route, base) for route in tables.route),
        retry=tuple(map(float, table.retry)),
        max_age=table.max_age,
        delay_warning=table.delay_warning,
        concurrency=table.concurrency,
        postmaster=table.postmaster or f"postmaster@{host}",
        connect_timeout=table.connect_timeout,
        idle_connection=table.idle_connection,
        messages_per_connection=table.messages_per_connection,
    )


def _route(table: SmarthostTable | MaildirTable, base: Path) -> Route:
    if isinstance(table, MaildirTable):
        return MaildirRoute(tuple(table.domains), base / table.path, tuple(table.sites))
    return SmarthostRoute(
        domains=tuple(table.domains),
        host=table.host,
        port=table.port or _default_port(table),
        tls=TlsMode(table.tls),
        ca=_maybe(base, table.ca),
        tls_name=table.tls_name,
        fingerprint=table.fingerprint.replace(":", "").lower() if table.fingerprint else None,
        client_certificate=_maybe(base, table.client_certificate),
        client_key=_maybe(base, table.client_key),
        source_address=table.source_address,
        auth=_auth(table, base),
        assume_8bitmime=table.assume_8bitmime,
        concurrency=table.concurrency,
        sites=tuple(table.sites),
    )


def _default_port(table: SmarthostTable) -> int:
    if table.tls == "tls":
        return 465
    return 587 if table.auth else 25


def _auth(table: SmarthostTable, base: Path) -> AuthSettings | None:
    auth = table.auth
    if auth is None:
        return None
    return AuthSettings(
        mechanism=auth.mechanism,
        user=auth.user,
        secret_file=_maybe(base, auth.secret_file),
        secret_command=tuple(auth.secret_command),
        lifetime=auth.lifetime,
    )


def _maybe(base: Path, name: str | None) -> Path | None:
    return base / name if name else None

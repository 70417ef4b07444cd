"""The shape of pillarbox.toml: one class per table, one field per key; what a key holds is in fields.py.

A field's description is the reference page and the JSON Schema; its default is the room's own. What one key may hold
is said here; rules between keys are in rules.py. ``validate`` returns the tables or every complaint.

ERRORS
    None raised: complaints are values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pillarbox.config import values
from pillarbox.config.acme_table import AcmeTable
from pillarbox.config.directories import kinds
from pillarbox.config.directories.kinds import AnyDirectoryTable
from pillarbox.config.directories.ldap import LdapGroupTable
from pillarbox.config.fields import (
    RESTART,
    BeforeValidator,
    CellName,
    Count,
    Discriminator,
    Extension,
    Field,
    FilePath,
    HostName,
    IpAddress,
    IpNetwork,
    Listener,
    Login,
    Loopback,
    Mailbox,
    Mechanism,
    NextHop,
    Port,
    RouteDomain,
    Size,
    Table,
    Tag,
    Text,
    Time,
    ValidationError,
)
from pillarbox.delivery.settings import DeliverySettings
from pillarbox.guard.settings import GuardSettings
from pillarbox.submission.settings import Address, SiteSettings

_GUARD = GuardSettings()
_SITE = SiteSettings(name="", submission=(), submissions=(), certificate=Path(), key=Path())
_DELIVERY = DeliverySettings(host="", routes=())

KINDS = {"route": ("smarthost", "maildir"), "directory": tuple(kinds.TABLES)}
"""Of the arrays whose tables are told apart by ``kind``."""


class ServerTable(Table):
    """Processes and places."""

    data_directory: FilePath = Field(
        "/var/lib/pillarbox", description="What must last: the spool, accounts, the guard's counts." + RESTART
    )
    run_directory: FilePath = Field("/run/pillarbox", description="The sockets of the running daemon." + RESTART)
    user: Text | None = Field(None, description="The user to become after start-up when started as root." + RESTART)
    run_as_root: bool = Field(False, description="Whether to stay root. Never needed; refused unless true." + RESTART)
    submission_workers: Count | None = Field(
        None, le=256, description="Processes that take mail. Default: one per core, at most 4." + RESTART
    )
    delivery_workers: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="Processes that relay mail." + RESTART
    )
    drain_time: Time = Field(30.0, description="At a stop: how long transactions in hand may take to finish.")


class LogTable(Table):
    """The log, on standard output."""

    form: Literal["json", "readable"] = Field("json", description="JSON for machines, or readable lines.")
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level that is written."
    )
    domino_lines: FilePath | None = Field(
        None,
        description="A file that also gets the console lines of a Domino SMTP task, for its fail2ban jail and tools.",
        examples=["/var/log/pillarbox/console.log"],
    )


class MetricsTable(Table):
    """The Prometheus endpoint. Without this table there is none."""

    listen: Loopback = Field(Address("127.0.0.1", 9587), description="Where it listens: a loopback address.")


class CellTable(Table):
    """A PostgreSQL cluster that keeps the queue, for kind = "cluster"; one is enough, each more carries more."""

    name: CellName = Field(description="A short name for it, of at most 8 letters a-z and digits." + RESTART)
    dsn: Text = Field(
        description="How libpq reaches its database, without a password; all hosts of the cell. PGSSLMODE, "
        "PGSSLROOTCERT and the like in the environment do not count." + RESTART,
        examples=["host=pg1,pg2,pg3 dbname=pillarbox user=pillarbox sslmode=verify-full"],
    )
    password_file: FilePath | None = Field(
        None, description="A file with the password. Default: passfile in dsn, PGPASSFILE or PGPASSWORD." + RESTART
    )
    max_size: Size | None = Field(
        None, description="Octets of its database from which on it takes no mail. Default: no limit." + RESTART
    )
    accepts: bool = Field(
        True, description="Whether new mail goes there. If not, what is in it is still delivered." + RESTART
    )


class SpoolTable(Table):
    """Where accepted mail waits."""

    kind: Literal["embedded", "cluster"] = Field(
        "embedded",
        description="embedded: files in data_directory. cluster: PostgreSQL, on several machines." + RESTART,
    )
    min_free: Size | None = Field(
        None, description="Octets kept free on the file system. Default: the larger of 1GiB and 5 %." + RESTART
    )
    durability: Literal["quorum", "local"] = Field(
        "quorum",
        description="What a 250 promises of a cluster: a quorum of machines has it, or one machine's disk." + RESTART,
    )
    cell: list[CellTable] = []


class GuardTable(Table):
    """Failed sign-ins: how they are counted and answered."""

    free_failures: Count = Field(
        _GUARD.free_failures, description="Distinct failures of an address before replies get slower."
    )
    block_failures: Count = Field(_GUARD.block_failures, description="Failures at which an address is refused.")
    login_failures: Count = Field(
        _GUARD.login_failures, description="Failures of a login from strangers that slow further strangers."
    )
    window: Time = Field(_GUARD.window, description="How long a failure counts.")
    block_time: Time = Field(_GUARD.block_time, description="How long an address is refused.")
    max_delay: Time = Field(_GUARD.max_delay, description="The longest delay of a reply to a failed sign-in.")
    good_for: Time = Field(_GUARD.good_for, description="How long a good sign-in makes an address a known place.")


class LegacyTable(Table):
    """Makes the site above it a legacy site: for printers and scanners, theirs alone, from their networks only."""

    networks: list[IpNetwork] = Field(
        min_length=1, max_length=64, description="Where the devices are. Anybody else is turned away at once."
    )
    logins: list[Login] = Field(
        min_length=1, max_length=1000, description="The accounts that sign in here. They are good at no other site."
    )
    senders: list[Mailbox] = Field(
        [],
        max_length=1000,
        description="What each of them may send as beside its own addresses, such as a From that cannot be changed; "
        '"@example.org" is a domain.',
    )
    recipients: list[Mailbox] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description='Whom they may write to; "@example.org" is a domain. Default: anybody.',
    )
    minimum_tls: Literal["none", "1.0", "1.1", "1.2"] = Field(
        "1.2", description='The lowest TLS version; "none": sign-in without TLS as well.'
    )


class SiteTable(Table):
    """One public name with its listeners, certificate, mechanisms and directories."""

    name: HostName = Field(description="The public name: greeting, Received fields, certificate.")
    submission: list[Listener] = Field([], description="Addresses for STARTTLS, usually port 587." + RESTART)
    submissions: list[Listener] = Field([], description="Addresses for implicit TLS, usually port 465." + RESTART)
    certificate: FilePath = Field(description='The certificate with its chain, PEM; or "acme": see [acme].')
    key: FilePath | None = Field(
        None,
        description='The certificate\'s private key, PEM, not encrypted. With certificate = "acme" there is none.',
    )
    mechanisms: list[Mechanism] = Field(
        ["PLAIN", "LOGIN"], min_length=1, description="SASL mechanisms offered, inside TLS only but at a legacy site."
    )
    submission_mechanisms: list[Mechanism] | None = Field(
        None, min_length=1, description="Those of the submission listeners. Default: mechanisms."
    )
    submissions_mechanisms: list[Mechanism] | None = Field(
        None, min_length=1, description="Those of the submissions listeners. Default: mechanisms."
    )
    domains: list[HostName] = Field(
        [],
        max_length=1000,
        description="The site's own mail domains: who has no address in one of them cannot sign in here, and sends "
        "with those addresses alone. Default: everybody's own addresses.",
    )
    directories: list[Text] = Field(
        list(_SITE.directories),
        min_length=1,
        max_length=16,
        description="The directories that know who may sign in; the first that knows the person decides.",
    )
    app_passwords: Literal["off", "allowed", "required"] = Field(
        "allowed",
        description='App passwords (`pillarbox user app-password`); "required": no other password lets anybody in.',
    )
    max_message_size: Size = Field(_SITE.max_message_size, description="The largest message accepted (SIZE).")
    max_recipients: Count = Field(_SITE.max_recipients, description="Recipients of one message.")
    recipients_per_hour: Count = Field(
        _SITE.recipients_per_hour, description="Recipients one person may write to within 60 minutes."
    )
    max_text_line: Size = Field(_SITE.max_text_line, description="The longest line of content, with its CRLF.")
    strict_text_lines: bool = Field(False, description="Hold lines of content to RFC 5321's 998 octets and CRLF.")
    hide_client_address: bool = Field(_SITE.hide_client_address, description="Leave the client out of Received.")
    failed_sign_in_time: Time = Field(
        _SITE.failed_sign_in_time,
        description="Every failed sign-in is answered so long after the command, or a whole multiple of it.",
    )
    tls_minimum_version: Literal["1.2", "1.3"] = Field("1.2", description="The lowest TLS version. Per address.")
    tls_ciphers: Text | None = Field(
        None, description="OpenSSL cipher list for TLS 1.2. Per address. Default: OpenSSL's own."
    )
    client_certificates: Literal["none", "optional", "required"] = Field(
        "none", description="Whether clients are asked for a certificate, or need one. Per address."
    )
    client_ca: FilePath | None = Field(None, description="CA certificates that client certificates are checked with.")
    certificate_signs_in: bool = Field(
        _SITE.certificate_signs_in,
        description="Whoever shows a certificate that an account names is signed in without AUTH (Thunderbird).",
    )
    certificate_login: Literal["san-email", "san-upn", "subject-cn"] | None = Field(
        None,
        description="Which name in a certificate is its holder's login, for people of any directory that finds them "
        "without a password. There must be one such name in it. Default: none; only accounts name certificates.",
    )
    proxy_from: list[IpNetwork] = Field(
        [],
        max_length=64,
        description="Load balancers whose connections begin with a PROXY protocol header (1 or 2). Per address.",
    )
    max_sessions: Count = Field(_SITE.max_sessions, description="Sessions of one worker at a time.")
    max_sessions_per_address: Count = Field(
        _SITE.max_sessions_per_address, description="Sessions of one client address at a time."
    )
    max_unauthenticated_sessions: Count = Field(
        _SITE.max_unauthenticated_sessions,
        description="Of these, sessions of one worker that have not signed in. From places where nobody signed in "
        "lately the newest takes the place of the oldest.",
    )
    max_unauthenticated_sessions_per_address: Count = Field(
        _SITE.max_unauthenticated_sessions_per_address,
        description="The same, of one client address where nobody signed in lately.",
    )
    max_handshakes: Count = Field(
        _SITE.max_handshakes, description="TLS handshakes of one worker at a time, counted as those before sign-in."
    )
    max_handshakes_per_address: Count = Field(
        _SITE.max_handshakes_per_address, description="The same, of one client address where nobody signed in lately."
    )
    max_delayed_sessions: Count = Field(
        _SITE.max_delayed_sessions, description="Sessions kept waiting after a failed sign-in, in all."
    )
    max_delayed_sessions_per_address: Count = Field(
        _SITE.max_delayed_sessions_per_address, description="The same, of one client address."
    )
    idle_timeout: Time = Field(_SITE.idle_timeout, description="How long a signed-in client may be silent.")
    unauthenticated_timeout: Time = Field(
        _SITE.unauthenticated_timeout, description="How long a client may take to sign in."
    )
    handshake_timeout: Time = Field(_SITE.handshake_timeout, description="How long a TLS handshake may take.")
    data_timeout: Time = Field(_SITE.data_timeout, description="How long a client may pause within content.")
    data_total_timeout: Time = Field(
        _SITE.data_total_timeout, description="How long the content of one message may take to come."
    )
    disabled_extensions: list[Annotated[Extension, BeforeValidator(values.upper)]] = Field(
        [], description="Extensions of SMTP that are not offered (EHLO)."
    )
    max_hold: Time = Field(
        _SITE.max_hold,
        description="How long a sender may have a message held (FUTURERELEASE). 0: not offered.",
    )
    legacy: LegacyTable | None = Field(None, description="Makes it a site for printers and scanners.")


class DeliveryTable(Table):
    """How accepted mail leaves, whatever its route."""

    host: HostName | None = Field(None, description="Our name towards next hops (EHLO). Default: the first site's.")
    retry: list[Time] = Field(
        list(_DELIVERY.retry),
        min_length=1,
        description="Waits after the 1st, 2nd, ... failure; the last repeats.",
        # pydantic writes the defaults of a list's elements as they are
        json_schema_extra={"default": [values.format_time(wait) for wait in _DELIVERY.retry]},
    )
    max_age: Time = Field(_DELIVERY.max_age, description="When a recipient is given up and a bounce is sent.")
    delay_warning: Time = Field(_DELIVERY.delay_warning, description="When the sender is told of a delay (0: never).")
    concurrency: Count = Field(_DELIVERY.concurrency, description="Connections to all next hops of one worker.")
    postmaster: Text | None = Field(None, description="From of bounces. Default: postmaster@ and the host.")
    connect_timeout: Time = Field(_DELIVERY.connect_timeout, description="How long a connection may take to open.")
    idle_connection: Time = Field(_DELIVERY.idle_connection, description="How long an idle connection is kept.")
    messages_per_connection: Count = Field(
        _DELIVERY.messages_per_connection, description="After so many messages a connection is renewed."
    )


class AuthTable(Table):
    """How we sign in at a next hop."""

    mechanism: Annotated[
        Literal["PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER"], BeforeValidator(values.parse_mechanism)
    ] = Field("PLAIN", description="The SASL mechanism.")
    user: Text = Field(description="The user to sign in as.")
    secret_file: FilePath | None = Field(None, description="A file that holds the password or token.")
    secret_command: list[Text] = Field([], description="Or a command that prints it: program and arguments.")
    lifetime: Time = Field(3000.0, description="How long a command's output is kept.")


_DOMAINS = Field(["*"], min_length=1, description='Recipient domains; ".example.org" with subdomains, "*" the rest.')
_SITES: Any = Field([], description="Only for mail of these sites, by name; it goes first there. Default: all.")


class SmarthostTable(Table):
    """Mail to these domains goes to one next hop, and not by MX."""

    kind: Literal["smarthost"] = Field("smarthost", description="smarthost: an SMTP server.")
    domains: list[RouteDomain] = _DOMAINS
    sites: list[HostName] = _SITES
    host: NextHop = Field(description="Name or IP address of the next hop.")
    port: Port | None = Field(None, description='Default: 465 with tls = "tls", 587 with [route.auth], else 25.')
    tls: Literal["none", "starttls", "tls"] = Field("starttls", description="How the connection is encrypted.")
    ca: FilePath | None = Field(None, description="CA certificates to trust instead of the system's.")
    tls_name: HostName | None = Field(None, description="The name in its certificate, when not host.")
    fingerprint: Text | None = Field(None, description="SHA-256 of its certificate (hex): trusted instead of a CA.")
    client_certificate: FilePath | None = Field(None, description="A certificate to show it.")
    client_key: FilePath | None = Field(None, description="That certificate's key.")
    source_address: IpAddress | None = Field(None, description="The local address to connect from.")
    assume_8bitmime: bool = Field(False, description="Send 8-bit content though 8BITMIME is not offered (Domino).")
    concurrency: Count = Field(20, description="Connections to it of one delivery worker.")
    auth: AuthTable | None = Field(None, description="How to sign in there.")


class MaildirTable(Table):
    """Mail to these domains is written to a maildir: for trying things out."""

    kind: Literal["maildir"] = Field("maildir", description="maildir: files in a folder.")
    domains: list[RouteDomain] = _DOMAINS
    sites: list[HostName] = _SITES
    path: FilePath = Field(description="The folder; made when missing.")


def _route_kind(value: Any) -> str:
    found = value.get("kind", "smarthost") if isinstance(value, dict) else getattr(value, "kind", "smarthost")
    return found if isinstance(found, str) else "?"


RouteTable = Annotated[
    Annotated[SmarthostTable, Tag("smarthost")] | Annotated[MaildirTable, Tag("maildir")],
    Discriminator(_route_kind),
]


class FileTable(Table):
    """The file."""

    server: ServerTable = ServerTable()
    log: LogTable = LogTable()
    metrics: MetricsTable | None = None
    spool: SpoolTable = SpoolTable()
    guard: GuardTable = GuardTable()
    directory: list[AnyDirectoryTable] = []
    site: list[SiteTable] = []
    acme: AcmeTable | None = None
    delivery: DeliveryTable = DeliveryTable()
    route: list[RouteTable] = []


TABLES: dict[tuple[str, ...], tuple[type[Table], ...]] = {
    (): (FileTable,),
    ("server",): (ServerTable,),
    ("log",): (LogTable,),
    ("metrics",): (MetricsTable,),
    ("spool",): (SpoolTable,),
    ("spool", "cell"): (CellTable,),
    ("guard",): (GuardTable,),
    ("directory",): tuple(kinds.TABLES.values()),
    ("directory", "group"): (LdapGroupTable,),
    ("site",): (SiteTable,),
    ("site", "legacy"): (LegacyTable,),
    ("acme",): (AcmeTable,),
    ("delivery",): (DeliveryTable,),
    ("route",): (SmarthostTable, MaildirTable),
    ("route", "auth"): (AuthTable,),
}
"""Every table by its name, arrays without their positions."""

ARRAYS = frozenset({("directory",), ("directory", "group"), ("site",), ("route",), ("spool", "cell")})
"""Those that are arrays of tables."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that pydantic minds. ``kind`` is its error type, ``found`` the value, ``context`` its details."""

    path: tuple[str | int, ...]
    kind: str
    message: str
    found: Any
    context: Mapping[str, Any]


def validate(data: Mapping[str, Any]) -> FileTable | list[Complaint]:
    """The tables, or every complaint about a single key."""
    try:
        return FileTable.model_validate(data)
    except ValidationError as error:
        return [
            Complaint(
                _path(tuple(item["loc"]), item["type"]), item["type"], item["msg"], item["input"], item.get("ctx", {})
            )
            for item in error.errors(include_url=False)
        ]


def json_schema() -> dict[str, Any]:
    """JSON Schema of one file, without the rules between keys."""
    return FileTable.model_json_schema(mode="serialization")


def _path(path: tuple[str | int, ...], kind: str) -> tuple[str | int, ...]:
    """pydantic puts the kind of a table into the path, where the file has no level; a wrong kind it leaves out."""
    if kind == "union_tag_invalid":
        return (*path, "kind")
    if len(path) > 2 and path[2] in KINDS.get(str(path[0]), ()):
        return path[:2] + path[3:]
    return path

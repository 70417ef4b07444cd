"""Whether a PostgreSQL cell keeps the promise of a 250: a quorum of machines has what COMMIT confirmed.

    facts = await look(store.read, "cell a")           # one round trip
    for finding in judge(facts, durability="quorum", now=time.time()): ...

What the promise rests on: fsync and full_page_writes, a primary that waits for standbys (synchronous_standby_names,
as Patroni's synchronous_mode sets it), enough of them connected to confirm, a clock that agrees with ours. A cell
that is weaker is an ERROR, with the setting to change; ``durability = "local"`` says in so many words that one
machine's disk is enough, and then standbys are only a WARNING. That its own disk does not lie is nobody's to waive.

STANDARDS
    PostgreSQL 15 and newer: synchronous_standby_names, pg_stat_replication.

ERRORS
    ``look`` raises what the store raises; ``judge`` raises nothing.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pillarbox.doctor.report import Finding, Severity

Durability = Literal["quorum", "local"]

OLDEST_SERVER = 15
CLOCK_WARNING = 2.0
"""Seconds between its clock and ours from which on due times are noticeably wrong."""
CLOCK_ERROR = 15.0
"""Half of the time after which a worker without a heartbeat loses its leases."""

Reader = Callable[..., Awaitable[list[list[tuple[Any, ...]]]]]
"""Store.read: statements with their values; the rows of each."""

_SETTINGS = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
_NAMES = ("fsync", "full_page_writes", "synchronous_standby_names", "server_version_num", "server_encoding")
_STATE = (
    "SELECT pg_is_in_recovery(), extract(epoch FROM clock_timestamp())::float8, "
    "(SELECT system_identifier FROM pg_control_system())"
)
_STANDBYS = "SELECT application_name, coalesce(state, ''), coalesce(sync_state, '') FROM pg_stat_replication"


@dataclass(frozen=True, slots=True)
class Standby:
    """One that is connected. ``sync_state``: "quorum", "sync", "potential", "async"; "" when we may not see it."""

    name: str
    state: str
    sync_state: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What one cell says of itself. ``clock``: its time, seconds since the epoch; ``system``: the cluster's own
    identifier, the same on all of its servers."""

    cell: str
    settings: dict[str, str]
    in_recovery: bool
    clock: float
    system: int
    standbys: tuple[Standby, ...]


async def look(read: Reader, cell: str) -> Facts:
    """Asks the server that the DSN leads to."""
    settings, state, standbys = await read((_SETTINGS, (list(_NAMES),)), (_STATE, ()), (_STANDBYS, ()))
    in_recovery, clock, system = state[0]
    return Facts(cell, dict(settings), in_recovery, clock, system, tuple([Standby(*row) for row in standbys]))


def judge(facts: Facts, *, durability: Durability, now: float) -> list[Finding]:
    """Everything that is weaker than promised, or one OK that says what a 250 means here."""
    found = [*_server(facts), *_disk(facts), *_copies(facts, durability), *_clock(facts, now)]
    return found or [_finding(facts, Severity.OK, _promise(facts.settings.get("synchronous_standby_names", "")))]


def same_cluster(cells: Sequence[tuple[str, int]]) -> list[Finding]:
    """Cells, with their clusters' identifiers, that are one cluster under two names: what one of them loses, the
    other has lost as well."""
    found, seen = [], dict[int, str]()
    for cell, system in cells:
        if (other := seen.setdefault(system, cell)) != cell:
            message = f"is the same PostgreSQL cluster as {other}"
            advice = "give each cell a cluster of its own, or leave one of them out"
            found.append(Finding(Severity.ERROR, f"cell {cell}", message, advice, blocks=True))
    return found


def moved(cell: str, known: int, system: int) -> list[Finding]:
    """A cell that was one cluster, by its identifier, and is another now: its mail is elsewhere."""
    if system == known:
        return []
    message = f"is another PostgreSQL cluster than before (its system identifier was {known} and is {system})"
    advice = "name in dsn the hosts of the cluster that has its mail; if the new one is meant, restart Pillarbox"
    return [Finding(Severity.ERROR, f"cell {cell}", message, advice, blocks=True)]


@dataclass(frozen=True, slots=True)
class Host:
    """One server that a cell's DSN names; ``facts`` None: it did not answer, and ``trouble`` says why."""

    name: str
    facts: Facts | None
    trouble: str


def one_cluster(cell: str, hosts: Sequence[Host]) -> list[Finding]:
    """Whether all of a cell's hosts are one cluster with one primary. One that is away is only a doubt."""
    subject, found = f"cell {cell}", []
    there = [(host.name, host.facts) for host in hosts if host.facts is not None]
    for host in hosts if there else ():  # else it was said
        if host.facts is None:
            message = f"{host.name} did not answer: {host.trouble}"
            found.append(Finding(Severity.WARNING, subject, message, advice_for(host.trouble)))
    for name, facts in there[1:]:
        if facts.system != there[0][1].system:
            message = f"{name} and {there[0][0]} are two PostgreSQL clusters under one name: mail would be in either"
            advice = "name in dsn the hosts of one cluster only"
            found.append(Finding(Severity.ERROR, subject, message, advice, blocks=True))
    primaries = [name for name, facts in there if not facts.in_recovery and facts.system == there[0][1].system]
    if len(primaries) > 1:
        message = f"{' and '.join(primaries)} both take writes: one of them was a primary before"
        advice = "stop the one that patronictl list does not call Leader; Patroni's watchdog (mode: required) does it"
        found.append(Finding(Severity.ERROR, subject, message, advice))
    return found


_ADVICE = (
    ("session is read-only", "that is a standby: name all hosts of the cell in dsn, and the primary is found"),
    ("does not match host name", "name it in dsn as its certificate does, or give it a certificate for that name"),
    ("certificate verify failed", "sslrootcert in dsn must be the CA that issued the server's certificate"),
    ("root certificate file", "name the CA of the cell's servers as sslrootcert in dsn"),
    ("server does not support SSL", "set ssl = on at the server, with a certificate"),
    ("password authentication failed", "password_file must hold what that user was given; psql's \\password sets it"),
    ("no password supplied", "name a password_file, or a client certificate (sslcert, sslkey) in dsn"),
    ("valid client certificate", "name a client certificate and its key in dsn: sslcert and sslkey"),
    ("certificate authentication failed", "the client certificate's common name must be the user's, or pg_ident's"),
    ("private key file", "sslkey must be readable by the server's user and closed to others"),
    ("no pg_hba.conf entry", "add a line for that user and database and our address to pg_hba.conf of all hosts"),
    ("permission denied for", "`pillarbox cluster upgrade` gives each user its rights"),
    ("too many connections", "raise max_connections"),
    ("remaining connection slots", "raise max_connections"),
    ("or newer is needed", "upgrade that server"),
)


def advice_for(trouble: str) -> str:
    """What to change when a cell says this; "" when nobody can know."""
    text = trouble.lower()
    if "does not exist" in text and ("role " in text or "database " in text):
        return "make them: see docs/howto/cluster.md"
    return next((advice for sign, advice in _ADVICE if sign.lower() in text), "")


@dataclass(frozen=True, slots=True)
class Waiting:
    """For whom a primary waits: ``confirmations`` of the standbys in ``names`` (empty: of any)."""

    confirmations: int
    names: tuple[str, ...]


def waiting(names: str) -> Waiting | None:
    """``synchronous_standby_names`` read; None: it waits for nobody. Raises ValueError for what the server itself
    would not take."""
    text = names.strip()
    if not text:
        return None
    match = _LIST.fullmatch(text)
    if match is None:
        raise ValueError(f"synchronous_standby_names is {names!r}")
    count, inside = (int(match["count"]), match["inside"]) if match["count"] else (1, text)
    listed = tuple([name.strip().strip('"') for name in inside.split(",")])
    return Waiting(count, () if "*" in listed else listed)


_LIST = re.compile(r"(?:(?:ANY|FIRST)?\s*(?P<count>\d+)\s*\((?P<inside>[^()]*)\)|[^()]+)", re.IGNORECASE)


def _server(facts: Facts) -> Iterator[Finding]:
    version = int(facts.settings.get("server_version_num", "0")) // 10_000
    if version < OLDEST_SERVER:
        yield _finding(
            facts, Severity.ERROR, f"PostgreSQL {version}", f"upgrade it: {OLDEST_SERVER} or newer is needed"
        )
    if facts.in_recovery:
        yield _finding(
            facts,
            Severity.ERROR,
            "a standby, which takes no mail",
            "name all hosts of the cell in its dsn: the primary among them is found",
        )
    if (encoding := facts.settings.get("server_encoding", "")) != "UTF8":
        yield _finding(
            facts, Severity.ERROR, f"the database's encoding is {encoding}", "create it with ENCODING 'UTF8'"
        )


def _disk(facts: Facts) -> Iterator[Finding]:
    for name, danger in (
        ("fsync", "a crash of the machine loses mail that was accepted"),
        ("full_page_writes", "a crash of the machine may damage the tables"),
    ):
        if facts.settings.get(name) != "on":
            yield _finding(facts, Severity.ERROR, f"{name} is off: {danger}", f"set {name} = on")


def _copies(facts: Facts, durability: Durability) -> Iterator[Finding]:
    if facts.in_recovery:
        return
    severity = Severity.ERROR if durability == "quorum" else Severity.WARNING
    wanted = waiting(facts.settings.get("synchronous_standby_names", ""))
    if wanted is None:
        yield _finding(
            facts,
            severity,
            "no standby confirms a commit: when this machine's disk is lost, mail that was accepted is lost",
            'set synchronous_mode: quorum and synchronous_mode_strict: true in Patroni, or say durability = "local"'
            if durability == "quorum"
            else "",
        )
        return
    known = [standby for standby in facts.standbys if standby.sync_state]
    if facts.standbys and not known:
        yield _finding(
            facts, Severity.WARNING, "we may not see its standbys", "GRANT pg_read_all_stats to the role of the check"
        )
        return
    ready = [one for one in known if one.state == "streaming" and one.sync_state in ("quorum", "sync")]
    if len(ready) < wanted.confirmations:
        yield _finding(
            facts,
            Severity.ERROR,
            f"commits wait for {wanted.confirmations} standbys and {len(ready)} can confirm: MAIL is answered 451",
            "bring the standbys back (patronictl list)",
            passing=True,
        )


def _clock(facts: Facts, now: float) -> Iterator[Finding]:
    skew = abs(facts.clock - now)
    if skew >= CLOCK_WARNING:
        yield _finding(
            facts,
            Severity.ERROR if skew >= CLOCK_ERROR else Severity.WARNING,
            f"its clock and ours are {skew:.0f} s apart",
            "synchronise both (chrony or systemd-timesyncd)",
        )


def _promise(names: str) -> str:
    wanted = waiting(names)
    if wanted is None:
        return "a 250 means: on this server's disk"
    return f"a 250 means: on the disks of {wanted.confirmations + 1} machines"


def _finding(facts: Facts, severity: Severity, message: str, advice: str = "", *, passing: bool = False) -> Finding:
    """``passing``: no setting is at fault, and the promise is kept: nothing is confirmed meanwhile."""
    blocks = severity is Severity.ERROR and not passing
    return Finding(severity, f"cell {facts.cell}", message, advice, blocks=blocks)

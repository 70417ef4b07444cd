"""What a cell must have for a 250 to mean a quorum of machines: read off facts, and off a real server."""

import time
from dataclasses import replace

import pytest
from tests.support.postgres import Postgres

from pillarbox.doctor.cell import (
    CLOCK_ERROR,
    Facts,
    Host,
    Standby,
    Waiting,
    judge,
    look,
    one_cluster,
    same_cluster,
    waiting,
)
from pillarbox.doctor.report import Severity
from pillarbox.store.postgresql import Store

NOW = 1_800_000_000.0
QUORUM = Facts(
    cell="a",
    settings={
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_standby_names": 'ANY 1 ("n2","n3")',
        "server_version_num": "150012",
        "server_encoding": "UTF8",
    },
    in_recovery=False,
    clock=NOW,
    system=7,
    standbys=(Standby("n2", "streaming", "quorum"), Standby("n3", "streaming", "quorum")),
)


def with_settings(**settings: str) -> Facts:
    return replace(QUORUM, settings=QUORUM.settings | settings)


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        ("", None),
        ("  ", None),
        ("*", Waiting(1, ())),
        ("n2", Waiting(1, ("n2",))),
        ("n2, n3", Waiting(1, ("n2", "n3"))),
        ('ANY 2 ("n2", n3,n4)', Waiting(2, ("n2", "n3", "n4"))),
        ("any 1 (*)", Waiting(1, ())),
        ("FIRST 2 (n2,n3)", Waiting(2, ("n2", "n3"))),
        ("2(n2,n3)", Waiting(2, ("n2", "n3"))),
    ],
)
def test_whom_a_primary_waits_for(names: str, meant: Waiting | None) -> None:
    assert waiting(names) == meant


def test_a_list_that_no_server_has_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="ANY"):
        waiting("ANY x (n2")


def test_a_cell_that_keeps_the_promise_says_what_a_250_means() -> None:
    (finding,) = judge(QUORUM, durability="quorum", now=NOW)
    assert str(finding) == "ok: cell a: a 250 means: on the disks of 2 machines"


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (with_settings(fsync="off"), "set fsync = on"),
        (with_settings(full_page_writes="off"), "set full_page_writes = on"),
        (with_settings(server_version_num="140010"), "15 or newer is needed"),
        (with_settings(server_encoding="SQL_ASCII"), "ENCODING 'UTF8'"),
        (replace(QUORUM, in_recovery=True), "name all hosts of the cell in its dsn"),
        (replace(QUORUM, clock=NOW - CLOCK_ERROR - 1), "16 s apart; synchronise both"),
    ],
)
@pytest.mark.parametrize("durability", ["quorum", "local"])
def test_what_breaks_the_promise_is_an_error_whatever_was_asked(facts: Facts, says: str, durability: str) -> None:
    (finding,) = judge(facts, durability="local" if durability == "local" else "quorum", now=NOW)
    assert finding.severity is Severity.ERROR
    assert finding.blocks
    assert says in str(finding)


@pytest.mark.parametrize(
    "standbys",
    [(), (Standby("n2", "catchup", "quorum"),), (Standby("n9", "streaming", "async"),)],
)
@pytest.mark.parametrize("durability", ["quorum", "local"])
def test_a_quorum_that_is_missing_for_now_is_an_error_and_no_reason_not_to_start(
    standbys: tuple[Standby, ...], durability: str
) -> None:
    facts = replace(QUORUM, standbys=standbys)
    (finding,) = judge(facts, durability="local" if durability == "local" else "quorum", now=NOW)
    assert (finding.severity, finding.blocks) == (Severity.ERROR, False)
    assert "commits wait for 1 standbys and 0 can confirm" in str(finding)


def test_one_machine_is_enough_only_for_who_says_so() -> None:
    alone = with_settings(synchronous_standby_names="")
    (refused,) = judge(alone, durability="quorum", now=NOW)
    (told,) = judge(alone, durability="local", now=NOW)
    assert (refused.severity, told.severity) == (Severity.ERROR, Severity.WARNING)
    assert 'synchronous_mode_strict: true in Patroni, or say durability = "local"' in refused.advice


def test_standbys_that_we_may_not_see_are_not_taken_for_missing() -> None:
    (finding,) = judge(replace(QUORUM, standbys=(Standby("n2", "", ""),)), durability="quorum", now=NOW)
    assert finding.severity is Severity.WARNING
    assert "pg_read_all_stats" in finding.advice


def test_a_clock_a_little_off_is_told() -> None:
    (finding,) = judge(replace(QUORUM, clock=NOW + 3), durability="quorum", now=NOW)
    assert finding.severity is Severity.WARNING


def test_two_cells_that_are_one_cluster_are_refused() -> None:
    (finding,) = same_cluster([("a", 7), ("b", 8), ("c", 7)])
    assert finding.subject == "cell c"
    assert "the same PostgreSQL cluster as a" in finding.message


def test_hosts_of_two_clusters_or_two_primaries_under_one_name_are_told() -> None:
    standby = replace(QUORUM, in_recovery=True)
    assert one_cluster("a", [Host("pg1", QUORUM, ""), Host("pg2", standby, "")]) == []
    (other,) = one_cluster("a", [Host("pg1", standby, ""), Host("pg2", replace(QUORUM, system=8), "")])
    assert "pg2 and pg1 are two PostgreSQL clusters under one name" in other.message
    (stale,) = one_cluster("a", [Host("pg1", QUORUM, ""), Host("pg2", QUORUM, "")])
    assert "pg1 and pg2 both take writes" in stale.message
    refused = 'server certificate for "x" does not match host name "pg2"'
    (away,) = one_cluster("a", [Host("pg1", QUORUM, ""), Host("pg2", None, refused)])
    assert (away.severity, "name it in dsn as its certificate does" in away.advice) == (Severity.WARNING, True)


async def test_a_real_server_that_waits_for_nobody_and_syncs_nothing_is_seen_as_that(postgres: Postgres) -> None:
    store = Store(postgres.create_database())
    try:
        facts = await look(store.read, "a")
    finally:
        await store.close()
    assert not facts.in_recovery
    assert abs(facts.clock - time.time()) < CLOCK_ERROR
    assert facts.system > 0
    found = judge(facts, durability="quorum", now=time.time())
    assert {"set fsync = on", "set full_page_writes = on"} <= {finding.advice for finding in found}
    assert any("no standby confirms a commit" in finding.message for finding in found)

"""Who signs in to a cell over TLS, and who hears what to change: real certificates at Debian's PostgreSQL."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.support.cell_faults import Said, assert_told, in_check, in_log
from tests.support.cell_users import make_owned
from tests.support.certs import Authority, Issued
from tests.support.postgres import Postgres, running_postgres
from tests.support.processes import hand_over

from pillarbox.daemon import cells
from pillarbox.spool.settings import CellSettings

pytestmark = pytest.mark.cluster

HOST = "db.example.org"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """The daemon's log."""
    log = Said()
    monkeypatch.setattr(cells, "log", log)
    return log


@pytest.fixture(scope="module")
def cas(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Authority]:
    """Whose certificates the server has and takes, and another one."""
    ours, other = (Authority(tmp_path_factory.mktemp("ca"), name) for name in ("Cell", "Other"))
    return ours, other


@pytest.fixture(scope="module")
def secure(cas: tuple[Authority, Authority]) -> Iterator[Postgres]:
    """With TLS, a certificate for HOST, and nothing else over TCP."""
    with running_postgres(durable=True, tls=True) as running:
        issued = cas[0].issue(HOST)
        for source, name in ((issued.certificate, "server.crt"), (issued.key, "server.key"), (issued.ca, "ca.crt")):
            shutil.copyfile(source, running.folder / name)
            (running.folder / name).chmod(0o600)
            hand_over(running.folder / name)
        running.settings |= {
            "ssl": "on",
            "ssl_cert_file": str(running.folder / "server.crt"),
            "ssl_key_file": str(running.folder / "server.key"),
            "ssl_ca_file": str(running.folder / "ca.crt"),
        }
        admit(running, "all", "trust")
        running.restart()
        yield running


def admit(node: Postgres, database: str, method: str) -> None:
    """How users of a database sign in over TLS, from the next reload on."""
    hba = node.data / "pg_hba.conf"
    kept = [line for line in hba.read_text().splitlines() if line.startswith(("local", "hostssl"))]
    hba.write_text("\n".join([f"hostssl {database} all 127.0.0.1/32 {method}", *kept]) + "\n")


def over_tls(cell: CellSettings, node: Postgres, **more: str | Path) -> CellSettings:
    """The way to it by TCP, as the configuration has it; HOST is 127.0.0.1."""
    parts = {"host": HOST, "hostaddr": "127.0.0.1", "sslmode": "verify-full", **more}
    dsn = cell.dsn.replace(f"host={node.folder}", " ".join(f"{key}={value}" for key, value in parts.items()))
    return CellSettings("a", dsn)


async def test_a_certificate_of_the_authority_for_the_host_is_fine(
    secure: Postgres, cas: tuple[Authority, Authority], said: Said
) -> None:
    cell = over_tls(await make_owned(secure), secure, sslrootcert=cas[0].ca)
    assert await in_check(cell) == []
    assert await in_log(cell, said) == []


async def test_a_certificate_of_another_host_is_told(
    secure: Postgres, cas: tuple[Authority, Authority], said: Said
) -> None:
    cell = over_tls(await make_owned(secure), secure, host="pg1.example.org", sslrootcert=cas[0].ca)
    await assert_told(cell, said, "does not match host name", "; name it in dsn as its certificate does")


async def test_another_authority_is_told(secure: Postgres, cas: tuple[Authority, Authority], said: Said) -> None:
    cell = over_tls(await make_owned(secure), secure, sslrootcert=cas[1].ca)
    await assert_told(cell, said, "certificate verify failed", "; sslrootcert in dsn must be the CA")


async def test_an_authority_whose_file_is_missing_is_told(secure: Postgres, tmp_path: Path, said: Said) -> None:
    cell = over_tls(await make_owned(secure), secure, sslrootcert=tmp_path / "none.pem")
    await assert_told(cell, said, "root certificate file", "; name the CA of the cell's servers as sslrootcert")


async def test_each_role_signs_in_with_a_client_certificate_of_its_own_or_is_told_what_is_wrong_with_it(
    secure: Postgres, cas: tuple[Authority, Authority], tmp_path: Path, said: Said
) -> None:
    owned = await make_owned(secure)
    name = str(psycopg.conninfo.conninfo_to_dict(owned.dsn)["dbname"])
    admit(secure, name, "cert")
    await asyncio.to_thread(reload, secure)

    def place(role: str, issued: Issued) -> None:
        shutil.copyfile(issued.certificate, tmp_path / f"{role}.pem")
        shutil.copyfile(issued.key, tmp_path / f"{role}.key")
        (tmp_path / f"{role}.key").chmod(0o600)

    for role in ("owner", "submission", "delivery", "keeper"):
        place(role, cas[0].issue(f"{name}_{role}", client=True))
    pair = {"sslcert": tmp_path / "{role}.pem", "sslkey": tmp_path / "{role}.key"}
    cell = over_tls(owned, secure, sslrootcert=cas[0].ca, **pair)
    assert await in_check(cell) == []
    assert await in_log(cell, said) == []

    without = over_tls(owned, secure, sslrootcert=cas[0].ca)
    await assert_told(without, said, "valid client certificate", "; name a client certificate and its key in dsn")
    said.lines.clear()
    place("submission", cas[0].issue(f"{name}_delivery", client=True))
    await assert_told(cell, said, "certificate authentication failed", "; the client certificate's common name must")
    said.lines.clear()
    (tmp_path / "submission.key").chmod(0o644)
    await assert_told(cell, said, "private key file", "; sslkey must be readable by the server's user and closed")


def reload(node: Postgres) -> None:
    with psycopg.connect(node.dsn("postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_reload_conf()")

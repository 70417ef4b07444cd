"""`pillarbox spool export | import`: nothing is lost on the way to a file and back, and nothing doubled."""

import asyncio
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
from tests.cli.conftest import PROGRAM, Run
from tests.cli.spools import CLUSTER, LARGE, Kept, add, contents, fill, kept, take_everything
from tests.support.cell_users import create_owned
from tests.support.postgres import Postgres

from pillarbox.spool.base import State
from pillarbox.spool.embedded import open_spool
from pillarbox.spool.settings import EmbeddedSettings


@pytest.fixture
def directory(site: Path) -> Path:
    """Of an embedded spool with messages of every kind."""
    directory = site.parent / "data" / "spool"
    directory.parent.mkdir()
    asyncio.run(fill(directory))
    return directory


@pytest.fixture
def cluster(run: Run, site: Path, postgres: Postgres) -> Path:
    """A configuration of two empty cells, a and b."""
    path = site.with_name("cluster.toml")
    text = site.read_text().replace('"data"', '"data-c"').replace("[spool]\nmin_free = 0\n", "")
    path.write_text(text + CLUSTER.format(a=postgres.create_database(), b=postgres.create_database()))
    assert run("cluster", "init", "-c", path).code == 0
    return path


def untagged(found: dict[str, Kept]) -> dict[str, Kept]:
    """Messages by the first 26 characters of their names."""
    return {queue_id[:26]: each for queue_id, each in found.items()}


def test_there_and_back_through_files_and_cells_everything_is_as_it_was(
    run: Run, site: Path, directory: Path, cluster: Path
) -> None:
    before = asyncio.run(contents(directory))
    first, second = site.with_name("first.tar"), site.with_name("second.tar")
    assert run("spool", "export", first, "-c", site).err == "6 messages exported\n"
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert run("spool", "import", first, "--cell", "b", "-c", cluster).err == "6 messages imported\n"
    assert run("spool", "export", second, "--cell", "b", "-c", cluster).err == "6 messages exported\n"
    assert run("spool", "export", "-", "--cell", "a", "-c", cluster).err == "0 messages exported\n"

    back = site.with_name("back.toml")
    back.write_text(site.read_text().replace('"data"', '"back"'))
    site.with_name("back").mkdir()
    assert run("spool", "import", second, "-c", back).err == "6 messages imported\n"
    after = asyncio.run(contents(site.with_name("back") / "spool"))
    assert after == before
    assert {len(each.content) for each in after.values()} >= {0, len(LARGE)}
    assert {each.state for one in after.values() for each in one.message.recipients} == set(State)


def test_a_pipe_from_one_spool_to_another(run: Run, site: Path, directory: Path, cluster: Path) -> None:
    with subprocess.Popen([PROGRAM, "spool", "export", "-", "-c", site], stdout=subprocess.PIPE) as source:
        done = subprocess.run(
            [PROGRAM, "spool", "import", "-", "--json", "-c", cluster],
            stdin=source.stdout,
            capture_output=True,
            timeout=60,
        )
    assert source.returncode == 0
    assert json.loads(done.stdout) == {"restored": 6, "already": 0, "done": 0, "refused": {}}


@pytest.mark.parametrize("kind", ["embedded", "cluster"])
def test_an_import_that_is_repeated_after_delivery_doubles_nothing(
    request: pytest.FixtureRequest, run: Run, site: Path, directory: Path, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "spool.tar"
    assert run("spool", "export", file, "-c", site).code == 0
    if kind == "cluster":
        target = request.getfixturevalue("cluster")
    else:
        target = site.with_name("other.toml")
        target.write_text(site.read_text().replace('"data"', '"other"'))
        site.with_name("other").mkdir()
    assert run("spool", "import", file, "-c", target).code == 0
    assert "6 were there or imported before" in run("spool", "import", file, "-c", target).err
    asyncio.run(take_everything(target))
    assert run("spool", "export", tmp_path / "none.tar", "-c", target).err == "0 messages exported\n"
    assert json.loads(run("spool", "import", file, "--json", "-c", target).out)["already"] == 6
    assert run("spool", "export", tmp_path / "none.tar", "-c", target).err == "0 messages exported\n"
    assert json.loads(run("spool", "import", file, "--json", "--again", "-c", target).out)["restored"] == 6


def test_what_is_held_on_the_way_in_waits_for_the_operator(
    run: Run, site: Path, directory: Path, cluster: Path, tmp_path: Path
) -> None:
    file = tmp_path / "spool.tar"
    run("spool", "export", file, "-c", site)
    assert run("spool", "import", file, "--hold", "-c", cluster).code == 0
    found = asyncio.run(kept(cluster, "a"))
    assert {each.state for one in found.values() for each in one.message.recipients} == {State.HELD, State.DEAD}
    assert untagged(found).keys() == asyncio.run(contents(directory)).keys()


def test_of_a_damaged_file_what_is_whole_is_imported_and_the_rest_named(
    run: Run, site: Path, directory: Path, cluster: Path, tmp_path: Path
) -> None:
    file = tmp_path / "spool.tar"
    run("spool", "export", file, "-c", site)
    octets = bytearray(file.read_bytes())
    middle = octets.index(LARGE) + 1000
    octets[middle] ^= 1
    file.write_bytes(octets)
    done = run("spool", "import", file, "-c", cluster)
    assert done.code == 1
    assert "5 messages imported" in done.err
    assert "its digest is another one" in done.err
    file.write_bytes(octets[:middle])
    cut = run("spool", "import", file, "-c", cluster)
    assert cut.code == 1
    assert "it was cut" in cut.err
    assert LARGE not in [each.content for each in asyncio.run(kept(cluster, "a")).values()]


def test_other_files_and_newer_ones_are_refused(run: Run, site: Path, directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "spool.tar"
    file.write_text("hello")
    refused = run("spool", "import", file, "-c", site)
    assert (refused.code, refused.err) == (1, "error: not a file of `pillarbox spool export`\n")
    run("spool", "export", file, "-c", site)
    file.write_bytes(file.read_bytes().replace(b'"version":1', b'"version":2'))
    newer = run("spool", "import", file, "-c", site)
    assert newer.code == 1
    assert "newer Pillarbox" in newer.err
    assert run("spool", "import", tmp_path / "nothing", "-c", site).err == (
        f"error: {tmp_path / 'nothing'}: No such file or directory\n"
    )


async def test_beside_a_running_server_it_exports_and_does_not_import(
    run: Run, site: Path, directory: Path, tmp_path: Path
) -> None:
    file = tmp_path / "spool.tar"
    spool = await open_spool(EmbeddedSettings(directory, 0))
    try:
        await add(spool, b"while it runs")
        done = await asyncio.to_thread(run, "spool", "export", file, "-c", site)
        assert done.err == "7 messages exported\n"
        refused = await asyncio.to_thread(run, "spool", "import", file, "-c", site)
        assert refused.code == 1
        assert "stop the server first" in refused.err
        await add(spool, b"and goes on")
    finally:
        await spool.close()


def test_a_content_that_is_missing_is_named_and_the_rest_exported(
    run: Run, site: Path, directory: Path, cluster: Path, tmp_path: Path
) -> None:
    (large,) = (directory / "content").iterdir()
    large.unlink()
    file = tmp_path / "spool.tar"
    done = run("spool", "export", file, "-c", site)
    assert done.code == 1
    assert f"NOT in the file: {large.name}" in done.err
    assert run("spool", "import", file, "-c", cluster).err == "5 messages imported\n"


def test_no_file_is_better_than_half_of_one(run: Run, site: Path, directory: Path, tmp_path: Path) -> None:
    (directory / "spool.db").rename(directory / "elsewhere")
    folder = tmp_path / "backups"
    folder.mkdir()
    done = run("spool", "export", folder / "spool.tar", "-c", site)
    assert done.code == 1
    assert "there is no spool" in done.err
    assert os.listdir(folder) == []


def test_a_cell_that_is_not_configured(run: Run, site: Path, directory: Path, cluster: Path, tmp_path: Path) -> None:
    assert run("spool", "export", tmp_path / "f", "--cell", "z", "-c", cluster).code == 2
    assert run("spool", "export", tmp_path / "f", "--cell", "a", "-c", site).code == 2


def test_the_ordinary_owner_of_cells_may_do_all_of_it_and_the_keeper_is_told_why_not(
    run: Run, site: Path, directory: Path, postgres: Postgres, tmp_path: Path
) -> None:
    path, file = site.with_name("owned.toml"), tmp_path / "spool.tar"
    text = site.read_text().replace('"data"', '"data-o"').replace("[spool]\nmin_free = 0\n", "")
    path.write_text(text + CLUSTER.format(a=create_owned(postgres).dsn, b=create_owned(postgres).dsn))
    assert run("cluster", "init", "-c", path).code == 0
    assert run("spool", "migrate", "--to", path, "-c", site).err == "6 messages moved\n"
    assert run("spool", "export", file, "-c", path).err == "6 messages exported\n"
    assert run("spool", "import", file, "-c", path).err == "0 messages imported; 6 were there or imported before\n"
    assert run("spool", "give-back", "--yes", "-c", path).err == "0 messages given back\n"
    path.write_text(path.read_text().replace("{role}", "keeper"))
    refused = run("spool", "export", file, "-c", path)
    assert refused.code == 1
    assert "name that user with --admin-dsn" in refused.err

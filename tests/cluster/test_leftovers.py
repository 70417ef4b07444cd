"""What a killed run leaves behind is found by the next one and removed; what somebody still uses is left alone."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.leftovers import mounted, swept

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which needs root"),
]

ROOT = Path(__file__).parent.parent.parent
OWNER = """\
import subprocess, sys
from pathlib import Path
from tests.cluster.leftovers import owned
folder = Path(sys.argv[1])
with owned(folder):
    child = subprocess.Popen((str(folder / "postgres"), "600"), cwd=folder / "disk", start_new_session=True)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """With a mounted disk, and a program that is called as one of ours."""
    folder = tmp_path / "cluster-x"
    disk, image = folder / "disk", folder / "small.ext4"
    disk.mkdir(parents=True)
    shutil.copy("/bin/sleep", folder / "postgres")
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(("mkfs.ext4", "-q", "-F", str(image)), check=True)
    subprocess.run(("mount", "-o", "loop", str(image), str(disk)), check=True)
    yield folder
    for mount in mounted(folder):
        subprocess.run(("umount", "--lazy", str(mount)), check=True)


def test_the_folder_of_a_killed_run_is_unmounted_and_removed_and_that_of_a_living_one_is_not(folder: Path) -> None:
    command = (sys.executable, "-c", OWNER, str(folder))
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        left = int(owner.stdout.readline())
        assert swept(folder.parent) == []
        assert mounted(folder) == [folder / "disk"]
        assert Path(f"/proc/{left}").exists()
        owner.kill()
    (said,) = swept(folder.parent)
    assert said == f"{folder}, of a run that was killed: removed, 1 processes, the mount {folder / 'disk'}"
    assert not folder.exists()
    assert mounted(folder) == []
    assert swept(folder.parent) == []


def test_a_folder_without_an_owners_file_is_left_alone(folder: Path) -> None:
    assert swept(folder.parent) == []
    assert mounted(folder) == [folder / "disk"]

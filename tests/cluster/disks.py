"""A small file system below one node's PostgreSQL, that can be filled up. Linux, as root: a file with ext4, mounted.

    with small_disk(node) as disk:             # the node starts anew, with an empty data folder on it
        disk.fill()                            # not one octet is left; again when something was freed
        disk.make_room()
                                               # and once more anew, on its own disk

While it is mounted the node's data is there and nowhere else. Synchronous.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.cell_node import Node
from tests.support.processes import hand_over

SIZE = 1_500_000_000
"""Octets: a cell's data with two checkpoints of WAL. The file is sparse."""


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """What is mounted at ``folder``."""

    folder: Path

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Takes what is free now, whoever had it before."""
        with self._ballast.open("ab") as file:
            step = 64 << 20
            while step >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
                except OSError:  # it does not fit
                    step //= 4

    def make_room(self) -> None:
        """Gives all of it back."""
        self._ballast.unlink(missing_ok=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"


@contextlib.contextmanager
def small_disk(node: Node) -> Iterator[SmallDisk]:
    """See the module's text. Raises AssertionError when it cannot be mounted (a container without the right)."""
    image = node.folder / "small.ext4"
    folder = node.data.parent
    with image.open("wb") as file:
        file.truncate(SIZE)
    try:
        _run("mkfs.ext4", "-q", "-m", "0", "-F", str(image))
        node.lose_disk()
        try:
            _run("mount", "-o", "loop", str(image), str(folder))
            try:
                hand_over(folder)
                node.start()
                yield SmallDisk(folder)
            finally:
                node.kill("patroni", "postgres")
                _run("umount", str(folder))
        finally:
            node.start()
    finally:
        image.unlink()

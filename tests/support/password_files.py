"""Password files as other programs write them, and directories over them for the contract's suite."""

import os
from pathlib import Path

from pillarbox.directory.passwd.backend import PasswdBackend
from pillarbox.directory.passwd.settings import PasswdSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Upstream

RIGHT = "right: ünïcödé and spaces"
ANNA_HASH = "{SHA512-CRYPT}$6$rounds=1000$36m93Zb36cuCxgdS$Myujvo7o/DvTJuNVgQ/Lu3090ggUrMTrcMuMiFylxA.N7M.Vgt453LzfYi/P6fjYhNwV8kpnZ7uceEJO96sZK."  # noqa: E501  of RIGHT; a hash cannot be broken
PEOPLE = f"""\
# people of the office
anna:{ANNA_HASH}:1000:1000::/nowhere:/bin/false:mail=anna@example.org,a.smith@example.org

bob:{ANNA_HASH}:::::: mail=bob@example.org disabled
"""


def replace(path: Path, text: str | bytes) -> None:
    """A new file under the old name, at once."""
    new = path.with_suffix(".new")
    new.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.replace(new, path)


class DirectoryPasswd:
    """A passwd-file with Anna and Bob, who is disabled."""

    def __init__(self, folder: Path) -> None:
        self.settings = PasswdSettings(name="files", file=folder / "people")

    async def open(self) -> Upstream:
        """The directory; close() it."""
        replace(self.settings.file, PEOPLE)
        return Upstream(PasswdBackend(self.settings), self.settings, Tries())

"""What the room needs to know; made by config, never read from a file here.

ERRORS
    None.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pillarbox.telemetry.advice import install

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


@dataclass(frozen=True, slots=True)
class AcmeSettings:
    """Which authority issues, for whom, and how it is shown that the names are ours.

    ``folder``: where the account's key and the certificates are kept. ``names``: host names, one certificate each.
    ``directory``: the URL of the authority's directory (RFC 8555 7.1.1). ``authority``: PEM of the CA certificates
    that its HTTPS is checked with; None: the usual ones. ``listen``: (host, port) of the http-01 responder.
    ``hook``: program and arguments that publish a TXT record: dns-01 then takes http-01's place. ``hook_time``:
    seconds that it may take. ``external_account``: the name of an account that the authority gave out (key
    identifier, RFC 8555 7.3.4), and the file with its key (base64url).
    """

    folder: Path
    names: tuple[str, ...]
    directory: str = LETS_ENCRYPT
    email: str | None = None
    authority: Path | None = None
    listen: tuple[tuple[str, int], ...] = ()
    hook: tuple[str, ...] = ()
    hook_time: float = 300.0
    external_account: str | None = None
    external_key_file: Path | None = None

    def pair(self, name: str) -> Path:
        """The file of one name's certificate."""
        return pair_file(self.folder, name)


def pair_file(folder: Path, name: str) -> Path:
    """The file with the key and the chain of ``name``, both: replaced at once, they always belong together."""
    return folder / f"{name}.pem"


def folder_in(data_directory: Path) -> Path:
    """Where certificates are kept below the data directory."""
    return data_directory / "certificates"


def missing_library() -> str | None:
    """Why nobody can be asked: the extra is not installed. None: it is."""
    if find_spec("acme") is not None:
        return None
    return f"the ACME library is missing; install it: {install('acme')}"

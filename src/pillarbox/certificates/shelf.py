"""Where keys and certificates are kept: files of mode 0600, replaced whole. The room's only importer of cryptography.

    shelf = Shelf(folder); shelf.prepare()
    key = shelf.account_key()                # of the account with the authority; made when there is none
    shelf.put("mail.example.org", new_key(), chain)
    shelf.get("mail.example.org")            # -> Kept with its times, or None

A file is written beside its place, synced, and renamed; the folder is synced after it. Who reads it finds the old
one or the new one, at any moment and after any crash. Key and chain are in one file, so they belong together.

STANDARDS
    RFC 5280 (certificates), RFC 7468 (their text form), RFC 5958 (PKCS #8).

ERRORS
    OSError: the disk. Unusable: an authority's chain that is not for this key and name, or a damaged account key.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from pillarbox.certificates.settings import pair_file

ACCOUNT = "account"
"""The folder of what only the one that speaks to the authority needs; no site can have that name."""


class Unusable(Exception):
    """What was read is not what it should be; ``str()`` says what."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A certificate that is there: its chain (PEM), and from when to when it is good (seconds since the epoch)."""

    chain: bytes
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """What came of the last tries for one name: kept over a restart, so that no crash hurries an authority.

    ``failures``: tries in a row that failed; ``next_try``: seconds since the epoch.
    """

    failures: int = 0
    next_try: float = 0.0


def new_key() -> bytes:
    """A new ECDSA key on P-256, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Shelf:
    """See the module's text. Blocks: for a thread, or for a start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Makes the folders. Raises OSError."""
        for folder in (self._folder, self._folder / ACCOUNT):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, parents=True)

    def account_key(self) -> bytes:
        """The key of the account, PEM. Raises Unusable, OSError."""
        path = self._folder / ACCOUNT / "key.pem"
        try:
            octets = path.read_bytes()
        except FileNotFoundError:
            octets = new_key()
            _write(path, octets)
            return octets
        try:
            load_pem_private_key(octets, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Unusable(f"{path} holds no private key: move it away, and a new account is made") from None
        return octets

    def put(self, name: str, key: bytes, chain: bytes) -> Kept:
        """Keeps a new pair. Raises Unusable when the chain is not for the key and the name, OSError."""
        kept = _examine(chain, key, name)
        _write(pair_file(self._folder, name), key.rstrip(b"\n") + b"\n" + chain)
        return kept

    def get(self, name: str) -> Kept | None:
        """The pair that is there; None when there is none that can be used. Raises OSError."""
        try:
            octets = pair_file(self._folder, name).read_bytes()
        except FileNotFoundError:
            return None
        at = octets.find(b"-----BEGIN CERTIFICATE-----")
        try:
            return _examine(octets[at:], octets, name)
        except Unusable:
            return None

    def trouble(self, name: str) -> Trouble:
        """What came of the last tries; a new start when nothing readable is there."""
        try:
            found: Any = json.loads(self._trouble_file(name).read_bytes())
            return Trouble(int(found["failures"]), float(found["next_try"]))
        except (OSError, ValueError, TypeError, KeyError):
            return Trouble()

    def note(self, name: str, trouble: Trouble) -> None:
        """Keeps what came of a try. Raises OSError."""
        _write(self._trouble_file(name), json.dumps(asdict(trouble)).encode("ascii"))

    def _trouble_file(self, name: str) -> Path:
        return self._folder / ACCOUNT / f"{name}.json"


def _examine(chain: bytes, key: bytes, name: str) -> Kept:
    """The times of a chain that is for ``key`` and ``name``. Raises Unusable."""
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        own = load_pem_private_key(key, password=None).public_key()
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ours = leaf.public_key().public_bytes(*form) == own.public_bytes(*form)
    except (ValueError, TypeError, IndexError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
        raise Unusable(f"the certificate cannot be read: {error}") from None
    if not ours:
        raise Unusable("the certificate is not for the key that it was asked for")
    if name not in (each.lower() for each in names.get_values_for_type(x509.DNSName)):
        raise Unusable(f"the certificate is not for {name}")
    return Kept(chain, leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp())


def _write(path: Path, octets: bytes) -> None:
    """Replaces a file, durably."""
    new = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):  # what a crash left
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

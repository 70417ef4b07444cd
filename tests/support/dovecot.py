"""A real Dovecot (2.3) for tests, on loopback: IMAP and POP3, plain and in TLS, and its authentication sockets.

    with running_dovecot(authority.issue("localhost"), PEOPLE) as dovecot:
        ... dovecot.imaps, dovecot.auth_socket, dovecot.log() ...

An ordinary process with a configuration and folders of its own, and without the penalty that makes each answer to an
address wait longer after wrong passwords. Started by root it serves as nobody, else as whoever
started it. ``people``: login to password. ``closed``: people whose right password does not let them in (extra field
``nologin``), ``denied``: people whom a deny passdb disables; ``plain=False`` leaves LOGIN as the only way in.
"""

import base64
import contextlib
import getpass
import grp
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.certs import Issued
from tests.support.clients import missing, require
from tests.support.ports import steady_ports
from tests.support.processes import end, until_ready

PASSWORD = "right: ünïcödé and spaces"

_CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
listen = 127.0.0.1
protocols = imap pop3
hostname = localhost
ssl = yes
ssl_cert = <{folder}/certificate.pem
ssl_key = <{folder}/key.pem
disable_plaintext_auth = no
login_trusted_networks = 127.0.0.0/8
auth_mechanisms = {mechanisms}
auth_username_format = {username_format}
auth_failure_delay = 0
auth_verbose = yes
first_valid_uid = 1
mail_location = maildir:{folder}/mail/%u
default_login_user = {user}
default_internal_user = {user}
default_internal_group = {group}
default_process_limit = 50
default_client_limit = 300
default_vsz_limit = 0
passdb {{
  driver = passwd-file
  deny = yes
  args = {folder}/denied
}}
passdb {{
  driver = passwd-file
  args = {folder}/broken-%d
  result_internalfail = return-fail
  skip = authenticated
}}
passdb {{
  driver = passwd-file
  args = {folder}/people
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%u
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
  }}
}}
service auth {{
  unix_listener {folder}/auth-client {{
    mode = 0666
  }}
  inet_listener {{
    address = 127.0.0.1
    port = {auth}
  }}
}}
{more}
"""


@dataclass
class Dovecot:
    """See the module's text."""

    folder: Path
    imap: int
    imaps: int
    pop3: int
    pop3s: int
    auth: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def auth_socket(self) -> Path:
        """What auth clients connect to; ``auth`` is the same as a TCP port."""
        return self.folder / "auth-client"

    def log(self) -> str:
        """What Dovecot has logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Starts it and returns when it takes connections."""
        program = require("dovecot")
        self.process = subprocess.Popen(
            [program, "-F", "-c", str(self.folder / "dovecot.conf")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        until_ready(self.process, self._greeting, self.log)

    def _greeting(self) -> None:
        with socket.create_connection(("127.0.0.1", self.imap), 1.0) as sock:
            if sock.recv(4) != b"* OK":
                raise ConnectionError("not ready yet")

    def stop(self) -> None:
        """Ends it with all its processes."""
        if self.process is not None:
            end(self.process)
            self.process = None


@contextlib.contextmanager
def running_dovecot(
    issued: Issued,
    people: Mapping[str, str],
    *,
    closed: Sequence[str] = (),
    denied: Sequence[str] = (),
    mechanisms: str = "plain login",
    username_format: str = "%Lu",
    more: str = "",
    clear: bool = False,
    files: Mapping[str, str] | None = None,
) -> Iterator[Dovecot]:
    """See the module's text. ``more`` is added to its configuration. ``clear``: it has the passwords themselves,
    as SCRAM needs them. ``files``: more files in its folder; in them, and in ``more``, "FOLDER" is that."""
    version = subprocess.run([require("dovecot"), "--version"], capture_output=True, text=True, check=True).stdout
    if not version.startswith("2.3."):
        missing(f"the tests' configuration is for Dovecot 2.3; this is {version.strip()}")
    if not Path("/usr/lib/dovecot/pop3").exists():
        missing("dovecot-imapd and dovecot-pop3d are not installed; `make interop` installs them on Debian")
    # Dovecot serves as another user: the folder must be open to it, as a test's own one is not
    folder = Path(tempfile.mkdtemp(prefix="dovecot-"))
    imap, imaps, pop3, pop3s, auth = steady_ports(5)
    dovecot = Dovecot(folder, imap, imaps, pop3, pop3s, auth)
    try:
        _write(dovecot, issued, people, closed, denied, clear)
        for name, text in (files or {}).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("FOLDER", str(folder)))
        _configure(dovecot, mechanisms, username_format, more.replace("FOLDER", str(folder)))
        dovecot.start()
        yield dovecot
    finally:
        dovecot.stop()
        shutil.rmtree(folder)


def _write(
    dovecot: Dovecot,
    issued: Issued,
    people: Mapping[str, str],
    closed: Sequence[str],
    denied: Sequence[str],
    clear: bool,
) -> None:
    folder = dovecot.folder
    folder.chmod(0o755)
    (folder / "mail").mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder / "mail", "nobody", "nogroup")
    shutil.copy(issued.certificate, folder / "certificate.pem")
    shutil.copy(issued.key, folder / "key.pem")
    lines = []
    for login, password in people.items():
        octets = password.encode()
        stored = base64.b64encode(octets if clear else hashlib.sha256(octets).digest()).decode()
        scheme = "PLAIN.b64" if clear else "SHA256"
        extra = "nologin=y" if login in closed else ""
        lines.append(f"{login}:{{{scheme}}}{stored}::::::{extra}\n")
    (folder / "people").write_text("".join(lines))
    (folder / "denied").write_text("".join(f"{login}:\n" for login in denied))
    broken = folder / "broken-broken.example"  # for whoever is of that domain: a passdb that cannot say
    broken.touch(0o000)


def _configure(dovecot: Dovecot, mechanisms: str, username_format: str, more: str) -> None:
    root = os.geteuid() == 0
    nobody = (dovecot.folder / "mail").stat()
    text = _CONFIGURATION.format(
        folder=dovecot.folder,
        mechanisms=mechanisms,
        username_format=username_format,
        user="nobody" if root else getpass.getuser(),
        group="nogroup" if root else grp.getgrgid(os.getgid()).gr_name,
        uid=nobody.st_uid,
        gid=nobody.st_gid,
        imap=dovecot.imap,
        imaps=dovecot.imaps,
        pop3=dovecot.pop3,
        pop3s=dovecot.pop3s,
        auth=dovecot.auth,
        more=more,
    )
    (dovecot.folder / "dovecot.conf").write_text(text)

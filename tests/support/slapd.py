"""A real LDAP server for tests: OpenLDAP's slapd as an ordinary process on loopback, with its own folder.

    slapd = Slapd(folder, authority)
    slapd.load(10_000)                 # so many people beside those of slapd_tree.py
    slapd.start()
    slapd.settings("openldap", ...)    # what the configuration would make
    slapd.stop()

It listens for ldap (with StartTLS) and ldaps; both ports stay its own while it is down. ``EXTERNAL`` with a client
certificate for pillarbox.example.org is the service account of the OpenLDAP tree. A bind without a password succeeds
as anonymous, as servers of old did: it must be us who refuse it.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.support import slapd_tree
from tests.support.certs import Authority
from tests.support.clients import missing
from tests.support.ports import steady_ports
from tests.support.processes import end, until_ready

from pillarbox.config.directories import ldap as config
from pillarbox.config.directories.ldap import LdapTable
from pillarbox.directory.ldap.settings import LdapSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Upstream

SCHEMA = Path("/etc/ldap/schema")
OWN_SCHEMA = Path(__file__).parent / "slapd_schema"
MODULES = Path("/usr/lib/ldap")
SUFFIXES = {
    "openldap": slapd_tree.OPENLDAP,
    "active-directory": slapd_tree.ACTIVE_DIRECTORY,
    "domino": slapd_tree.DOMINO,
}


def require_ldap() -> str:
    """Where slapd is; skips (fails in CI) without it or without python-ldap."""
    if find_spec("ldap") is None:
        missing("python-ldap is not installed; `make interop` installs it on Debian")
    found = shutil.which("slapd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return found or missing("slapd is not installed; `make interop` installs it on Debian")


class Slapd:
    """See the module's text."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._program = require_ldap()
        self.folder = folder
        self.served = authority.issue("localhost", "127.0.0.1")
        self.client = authority.issue("pillarbox.example.org", client=True)
        self.port, self.tls_port = steady_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self.password_file = folder / "service-password"
        self.password_file.write_text(slapd_tree.SERVICE_PASSWORD + "\n")
        (folder / "slapd.conf").write_text(self._configuration())

    @property
    def uri(self) -> str:
        """Where it listens for ldap."""
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_uri(self) -> str:
        """Where it listens for ldaps."""
        return f"ldaps://127.0.0.1:{self.tls_port}"

    def load(self, more: int = 0) -> None:
        """Writes the trees, while it is down."""
        trees: dict[str, Iterable[str]] = {
            "openldap": [*slapd_tree.openldap(), *slapd_tree.people(more)],
            "active-directory": slapd_tree.active_directory(),
            "domino": slapd_tree.domino(),
        }
        for name in trees:
            (self.folder / name).mkdir()
        for name, records in trees.items():
            records_file = self.folder / f"{name}.ldif"
            records_file.write_text("\n".join(records))
            command = [str(Path(self._program).with_name("slapadd")), "-q", "-f", str(self.folder / "slapd.conf")]
            command += ["-b", SUFFIXES[name], "-l", str(records_file)]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
            assert done.returncode == 0, done.stdout.decode()

    def start(self) -> None:
        """Returns when it answers."""
        listen = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        command = [self._program, "-d", "0", "-f", str(self.folder / "slapd.conf"), "-h", listen]
        with (self.folder / "slapd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until_ready(
            self._process,
            lambda: socket.create_connection(("127.0.0.1", self.tls_port), timeout=1.0).close(),
            (self.folder / "slapd.log").read_text,
        )

    def stop(self) -> None:
        """Ends it, if it runs."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def settings(self, preset: str, **keys: Any) -> LdapSettings:
        """What pillarbox.toml with these keys makes; without them the service account over StartTLS."""
        found: dict[str, Any] = {
            "name": "corp",
            "kind": "ldap",
            "preset": preset,
            "servers": [self.uri],
            "base": SUFFIXES[preset],
            "ca": str(self.served.ca),
            "bind_dn": slapd_tree.SERVICE[SUFFIXES[preset]],
            "password_file": str(self.password_file),
        } | keys
        table = LdapTable.model_validate({key: value for key, value in found.items() if value is not None})
        assert list(config.check(table)) == []
        return config.build(table, self.folder)

    def _configuration(self) -> str:
        lines = [f"include {SCHEMA / name}.schema" for name in ("core", "cosine", "inetorgperson")]
        lines += [f"include {path}" for path in sorted(OWN_SCHEMA.glob("*.schema"))]
        lines += [
            f"pidfile {self.folder / 'slapd.pid'}",
            f"modulepath {MODULES}",
            "moduleload back_mdb",
            f"TLSCACertificateFile {self.served.ca}",
            f"TLSCertificateFile {self.served.certificate}",
            f"TLSCertificateKeyFile {self.served.key}",
            "TLSVerifyClient try",
            "allow bind_anon_cred",
            "security simple_bind=0",
            "authz-policy none",
            f'authz-regexp "cn=pillarbox.example.org" "{slapd_tree.SERVICE[slapd_tree.OPENLDAP]}"',
        ]
        for name, suffix in SUFFIXES.items():
            lines += [
                "",
                "database mdb",
                f'suffix "{suffix}"',
                f"directory {self.folder / name}",
                "maxsize 268435456",
                "dbnosync",
                "index objectClass,uid,mail,cn,sn,givenName eq",
                f'limits dn.exact="{slapd_tree.SERVICE[suffix]}" size=100',
                "access to attrs=userPassword by anonymous auth by * none",
                f'access to * by dn.exact="{slapd_tree.SERVICE[suffix]}" read by self read by * none',
            ]
        return "\n".join(lines) + "\n"


class DirectoryLdap:
    """For the suite over all kinds of directory: anna, and bob, who is disabled."""

    def __init__(self, folder: Path) -> None:
        self.slapd = Slapd(folder, Authority(folder))
        self.slapd.load()

    async def open(self) -> Upstream:
        """Starts the server, and makes the directory."""
        from pillarbox.directory.ldap.backend import LdapBackend

        self.slapd.start()
        disabled = f"cn=disabled,ou=groups,{slapd_tree.OPENLDAP}"
        settings = self.slapd.settings("openldap", group=[{"dn": disabled, "disabled": True}])
        return Upstream(LdapBackend(settings), settings, Tries())

    async def close(self) -> None:
        """Ends the server."""
        self.slapd.stop()

"""A real Postfix as other people run it: MX with SMTP AUTH, a DNS blacklist and a rule on own-domain senders.

It needs root and the namespaces of ``tests/interop/run``: ports 25 and 465, and a resolver that asks 127.0.0.1. Its
rules are the usual ones of a server that fights spam, asked when a client connects (``smtpd_delay_reject = no``):
an address on the blacklist is refused, and no stranger may name the site's own domain as sender. ``relay_clients``
are the addresses that these rules do not touch, as an administrator sets them for a host of the site's own. Each
session has a process of its own (``max_use = 1``): one that lives on remembers what the blacklist said.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.certs import Issued
from tests.support.clients import missing, require

_MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {directory}/log/postfix
maillog_file_prefixes = {directory}
myhostname = mx.{domain}
mydestination =
inet_interfaces = all
inet_protocols = ipv4
max_use = 1
mynetworks = {relay_clients}
alias_maps =
local_recipient_maps =
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {directory}/mailboxes
virtual_mailbox_maps = inline:{{ {mailboxes} }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
default_transport = discard:nothing leaves the namespace
smtpd_tls_chain_files = {key}, {certificate}
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
smtpd_sasl_local_domain = {domain}
cyrus_sasl_config_path = {directory}/etc/sasl
smtpd_delay_reject = no
smtpd_client_restrictions = permit_mynetworks, reject_rbl_client {blacklist}
smtpd_sender_restrictions = permit_mynetworks, check_sender_access inline:{{ {{ {domain} = REJECT {rule} }} }}
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
"""

_MASTER = """\
{host}:25 inet n - n - - smtpd
{host}:465 inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
discard unix - - n - - discard
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

_SASL = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {directory}/sasl/sasldb
mech_list: PLAIN LOGIN
"""

OWN_DOMAIN_RULE = "nobody outside may send as us"


class Postfix:
    """``with Postfix(...) as mx``: it listens on 25 and 465 (implicit TLS); ``mailbox("ada")`` tells what came."""

    def __init__(
        self,
        issued: Issued,
        users: dict[str, str],
        *,
        host: str = "127.0.0.10",
        domain: str = "example.org",
        blacklist: str = "dialup.example",
        relay_clients: tuple[str, ...] = (),
    ) -> None:
        self.host = host
        self.domain = domain
        self.blacklist = blacklist
        self._issued = issued
        self._users = users
        self._relay_clients = relay_clients

    def __enter__(self) -> Self:
        require("postfix")
        require("saslpasswd2")
        if os.environ.get("PILLARBOX_INTEROP_NAMESPACE") != "inside":
            missing("needs ports 25 and 53 of a network namespace of its own: run it with `make interop`")
        # Postfix runs as its own user: the folder must be open to it, as a test's own one is not
        self.directory = Path(tempfile.mkdtemp(prefix="postfix-"))
        self._etc = self.directory / "etc"
        self._write()
        self._add_users()
        _command("postfix", "-c", str(self._etc), "start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run([require("postfix"), "-c", str(self._etc), "stop"], check=True, capture_output=True)
        shutil.rmtree(self.directory)

    def mailbox(self, local_part: str) -> list[bytes]:
        """The messages in a mailbox, oldest first, with the LF line ends that the mailbox has."""
        new = self.directory / "mailboxes" / local_part / "new"
        return [path.read_bytes() for path in sorted(new.iterdir())] if new.is_dir() else []

    def wait_for_mail(self, local_part: str, count: int) -> list[bytes]:
        """The messages in a mailbox once there are ``count``; the log is in the error if they do not come."""
        deadline = time.monotonic() + 20
        while len(messages := self.mailbox(local_part)) < count:
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)
        return messages

    def log(self) -> str:
        """What Postfix has logged."""
        return (self.directory / "log" / "postfix").read_text()

    def _write(self) -> None:
        for name in ("etc", "etc/sasl", "spool", "data", "log", "sasl", "mailboxes"):
            (self.directory / name).mkdir()
        self.directory.chmod(0o755)
        shutil.chown(self.directory / "data", "postfix")
        shutil.chown(self.directory / "mailboxes", "nobody", "nogroup")
        nobody = (self.directory / "mailboxes").stat()
        key, certificate = self._etc / "key.pem", self._etc / "certificate.pem"
        shutil.copy(self._issued.key, key)
        shutil.copy(self._issued.certificate, certificate)
        main = _MAIN.format(
            directory=self.directory,
            domain=self.domain,
            host=self.host,
            blacklist=self.blacklist,
            relay_clients=" ".join(f"{address}/32" for address in self._relay_clients),
            mailboxes=" ".join(f"{{ {user}@{self.domain} = {user}/ }}" for user in self._users),
            uid=nobody.st_uid,
            gid=nobody.st_gid,
            key=key,
            certificate=certificate,
            rule=OWN_DOMAIN_RULE,
        )
        (self._etc / "main.cf").write_text(main)
        (self._etc / "master.cf").write_text(_MASTER.format(host=self.host))
        # Debian's Postfix looks beside its main.cf, whatever cyrus_sasl_config_path says
        (self._etc / "sasl" / "smtpd.conf").write_text(_SASL.format(directory=self.directory))

    def _add_users(self) -> None:
        database = self.directory / "sasl" / "sasldb"
        for user, password in self._users.items():
            command = ["saslpasswd2", "-p", "-c", "-f", str(database), "-u", self.domain, user]
            _command(*command, stdin=password.encode())
        shutil.chown(database, "postfix")


def _command(program: str, *arguments: str, stdin: bytes = b"") -> None:
    done = subprocess.run(
        [require(program), *arguments], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, f"{program}: {done.stdout.decode(errors='replace')}"

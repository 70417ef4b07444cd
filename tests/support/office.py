"""A legacy site and a normal one in one process, with the real local directory: Anna, and the printer.

    async with office(tmp_path, minimum=ssl.TLSVersion.TLSv1, plaintext=True) as place:
        async with await talker(place.legacy) as printer: ...
        async with await talker(place.normal_tls, tls=place.context()) as person: ...

``server`` is the normal site's; both share its spool, guard and log. Each account has every kind of credentials.
"""

import asyncio
import socket
import ssl
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import jwt
from tests.support.certs import Authority
from tests.support.submission import Server, Talker, submission

from pillarbox.directory.accounts import AccountsStore
from pillarbox.directory.base import Account, Alias
from pillarbox.directory.chain import Member
from pillarbox.directory.local import LocalDirectory
from pillarbox.directory.password import Passwords
from pillarbox.directory.scram import create_secret
from pillarbox.directory.settings import LocalSettings, TokenSettings
from pillarbox.submission.settings import (
    Address,
    ClientCertificates,
    LegacySettings,
    SiteSettings,
    TlsSettings,
)
from pillarbox.submission.site import make_plans

PERSON, DEVICE = "anna@example.org", "Printer@example.org"
PASSWORDS = {PERSON: "correct horse battery", DEVICE: "paper jam"}
SECRET = "a secret of at least thirty-two octets"
MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2", "EXTERNAL")
LOOPBACK = (ip_network("127.0.0.0/8"),)


@dataclass
class Office:
    """The ports are of 127.0.0.1; those with _tls speak TLS from the start."""

    server: Server
    clients: Authority
    legacy_site: SiteSettings
    normal: int
    normal_tls: int
    legacy: int
    legacy_tls: int

    def context(self, login: str = "") -> ssl.SSLContext:
        """Trusts both sites; with a login it shows that account's certificate."""
        context = self.server.trust()
        if login:
            issued = self.clients.issue(login, client=True)
            context.load_cert_chain(issued.certificate, issued.key)
        return context

    def old_context(self, version: ssl.TLSVersion) -> ssl.SSLContext:
        """A client that knows this version of TLS and no other."""
        context = self.server.trust()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = version
            context.maximum_version = version
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        return context


@asynccontextmanager
async def office(
    folder: Path,
    *,
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    site: dict[str, Any] | None = None,
    without_scram: str = "",
    **legacy: Any,
) -> AsyncIterator[Office]:
    """``legacy``: fields of LegacySettings, ``site``: of both sites' SiteSettings,
    ``without_scram``: who has no secret."""
    for name in ("clients", "site"):
        (folder / name).mkdir()
    clients = Authority(folder / "clients", "Clients")
    tls = TlsSettings(client_certificates=ClientCertificates.OPTIONAL, client_ca=clients.ca)
    devices = frozenset((DEVICE.lower(),))
    both: dict[str, Any] = {"mechanisms": MECHANISMS, "tls": tls, **(site or {})}
    async with AsyncExitStack() as stack:
        directory = await _people(folder, stack, without_scram)
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        addresses = [Address("127.0.0.1", sock.getsockname()[1]) for sock in sockets]
        server = await stack.enter_async_context(
            submission(folder / "site", people=directory, foreign_logins=devices, **both)
        )
        issued = server.authority.issue("print.example.org", "localhost")
        legacy_site = replace(
            server.site,
            name="print.example.org",
            submission=(addresses[0],),
            submissions=(addresses[1],),
            certificate=issued.certificate,
            key=issued.key,
            tls=replace(tls, minimum_version=minimum),
            legacy=LegacySettings(**{"networks": LOOPBACK, "logins": devices, **legacy}),
            foreign_logins=frozenset(),
        )
        server.role.apply(make_plans([server.site, legacy_site], {"local": Member("local", directory)}))
        for address, sock in zip(addresses, sockets, strict=True):
            await server.role.listen(address, sock)
        yield Office(
            server, clients, legacy_site, server.submission, server.submissions, addresses[0].port, addresses[1].port
        )


def alias_of(login: str) -> str:
    """A further login name of the account."""
    return f"{login.partition('@')[0]}/Office"


async def _people(folder: Path, stack: AsyncExitStack, without_scram: str) -> LocalDirectory:
    (folder / "token.key").write_text(SECRET)
    tokens = TokenSettings(folder / "token.key", "https://id.example", "pillarbox")
    local = LocalSettings(argon2_memory=64, argon2_time=1, scram=True, tokens=tokens)
    accounts = await AccountsStore.open(folder / "accounts.db")
    stack.push_async_callback(accounts.close)
    passwords = Passwords(local)
    for login, password in PASSWORDS.items():
        hashed = await passwords.hash(password)
        scram = None if login == without_scram else create_secret(password, iterations=4096)
        also: dict[str, Any] = {"certificates": (f"cn:{login}",), "aliases": (Alias(alias_of(login)),)}
        await accounts.add(Account(login, (), (), False, None, False, 0, 0.0, 0.0, hashed, scram, **also))
    directory = LocalDirectory(accounts, local, passwords=passwords)
    stack.callback(directory.close)
    return directory


def token(login: str) -> str:
    """A bearer token that is good for an hour."""
    claims = {"iss": "https://id.example", "aud": "pillarbox", "sub": login, "exp": time.time() + 3600}
    return jwt.encode(claims, SECRET, algorithm="HS256")


async def from_source(port: int, source: str) -> Talker:
    """Connects from another address of loopback."""
    return Talker(*await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))

"""certificate_login: certificates of the site's own CA, in real TLS, for people of a directory behind."""

import datetime
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.certs import Authority, Issued
from tests.support.submission import Server, Talker, submission, talker

from pillarbox.directory.passwd.backend import PasswdBackend
from pillarbox.directory.passwd.settings import PasswdSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Upstream
from pillarbox.submission.settings import ClientCertificates, TlsSettings

LOGIN = "anna@example.org"
PEOPLE = f"{LOGIN}:{{SSHA}}x::::::mail={LOGIN},a.smith@example.org\nbob@example.org:{{SSHA}}x::::::disabled\nAnna:!\n"


@dataclass
class House:
    """A site whose people are in a password file; their passwords are nobody's."""

    server: Server
    clients: Authority
    people: Path

    @asynccontextmanager
    async def session(self, issued: Issued) -> AsyncIterator[Talker]:
        context = self.server.trust()
        context.load_cert_chain(issued.certificate, issued.key)
        async with await talker(self.server.submissions, tls=context) as client:
            await client.expect(220)
            await client.command("EHLO client.example", 250)
            yield client

    async def sign_in(self, *names: str, code: int) -> None:
        """EXTERNAL with a certificate for these: a common name, and what else is in it."""
        async with self.session(self.clients.issue(*names, client=True)) as client:
            await client.command("AUTH EXTERNAL =", code)


@asynccontextmanager
async def house(folder: Path, rule: str = "san-email") -> AsyncIterator[House]:
    for name in ("clients", "site"):
        (folder / name).mkdir()
    clients = Authority(folder / "clients", "Clients")
    file = folder / "people"
    file.write_text(PEOPLE)
    settings = PasswdSettings(name="people", file=file)
    people = Upstream(PasswdBackend(settings), settings, Tries())
    tls = TlsSettings(client_certificates=ClientCertificates.OPTIONAL, client_ca=clients.ca)
    async with submission(
        folder / "site", people=people, tls=tls, mechanisms=("PLAIN", "EXTERNAL"), certificate_login=rule
    ) as server:
        yield House(server, clients, file)
    people.close()


async def test_who_is_found_under_the_address_in_it_is_in_with_todays_addresses(tmp_path: Path) -> None:
    async with (
        house(tmp_path) as site,
        site.session(site.clients.issue("x", "Anna@Example.org", client=True)) as client,
    ):
        await client.command("AUTH EXTERNAL =", 235)
        await client.command("MAIL FROM:<a.smith@example.org>", 250)
        await client.command("RSET", 250)
        await client.command("MAIL FROM:<bob@example.org>", 550)


@pytest.mark.usefixtures("json_log")
@pytest.mark.parametrize(
    "names",
    [
        ("x", "nobody@example.org"),
        ("x", "bob@example.org"),  # is disabled
        ("x", "anna@example.org", "bob@example.org"),  # whose is it?
        ("x", "nobody@example.org", "anna@example.org"),
        ("anna@example.org.evil.example",),
        ("Anna",),  # has no address in it, and the common name is not asked for
    ],
)
async def test_unknown_disabled_and_ambiguous_are_no(
    tmp_path: Path, names: tuple[str, ...], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with house(tmp_path) as site:
        await site.sign_in(*names, code=535)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    (told,) = [line for line in lines if line["event"] == "signin.failed"]
    assert told["reason"] == ("disabled" if names == ("x", "bob@example.org") else "unknown")
    assert len(told["fingerprint"]) == 64


async def test_only_oneself_as_authzid(tmp_path: Path) -> None:
    async with house(tmp_path) as site:
        issued = site.clients.issue("x", LOGIN, client=True)
        async with site.session(issued) as client:
            await client.command("AUTH EXTERNAL Ym9iQGV4YW1wbGUub3Jn", 535)
            await client.command("AUTH EXTERNAL QW5uYUBleGFtcGxlLm9yZw==", 235)


async def test_the_common_name_counts_where_the_site_says_so(tmp_path: Path) -> None:
    async with house(tmp_path, "subject-cn") as site:
        await site.sign_in(LOGIN, code=235)
        await site.sign_in("x", LOGIN, code=535)
        await site.sign_in("Anna", code=535)  # is locked


async def test_another_authoritys_and_an_expired_one_get_no_session(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    async with house(tmp_path) as site:
        foreign = Authority(tmp_path / "foreign", "Clients").issue("x", LOGIN, client=True)
        expired = site.clients.issue("x", LOGIN, client=True, not_after=-datetime.timedelta(hours=1))
        for issued in (foreign, expired):
            with pytest.raises((ssl.SSLError, EOFError, ConnectionError)):
                async with site.session(issued):
                    pass


async def test_a_directory_that_cannot_say_is_454(tmp_path: Path) -> None:
    async with house(tmp_path) as site:
        site.people.unlink()
        async with site.session(site.clients.issue("x", LOGIN, client=True)) as client:
            await client.command("AUTH EXTERNAL =", 454)

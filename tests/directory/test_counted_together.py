"""settings.counted_at: two directories at one server share the wrong passwords that may reach it."""

from dataclasses import replace
from typing import Any

from tests.support.clock import FakeClock

from pillarbox.directory.base import Denied, Identity, Reason
from pillarbox.directory.ldap.settings import LdapSettings, Preset
from pillarbox.directory.mailbox.settings import MailboxSettings
from pillarbox.directory.settings import UpstreamSettings
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Person, Upstream
from pillarbox.directory.wire import Place
from pillarbox.sasl.mechanism import PasswordCredentials


def test_directories_at_one_server_are_counted_together() -> None:
    def mailbox(name: str, *hosts: str, port: int = 993, **more: Any) -> str:
        servers = tuple(Place(host, port) for host in hosts)
        return MailboxSettings(name=name, protocol="imap", servers=servers, domains=("x.org",), **more).counted_at

    def ldap(name: str, *servers: str) -> str:
        made = LdapSettings(
            name=name, preset=Preset.OPENLDAP, servers=servers, base="", filter="", login_attribute="",
            address_attributes=(), group_filter="",
        )  # fmt: skip
        return made.counted_at

    imap = mailbox("imap", "a.example.org", "b.example.org")
    assert imap == mailbox("pop3", "B.example.org", "a.example.org", port=995)
    others = {
        mailbox("imap", "a.example.org"),
        mailbox("imap", "a.example.org", "b.example.org", wrong_window=60.0),
        ldap("imap", "ldaps://a.example.org", "ldaps://b.example.org"),
    }
    assert len(others) == 3 and imap not in others
    assert ldap("one", "ldaps://A.example.org") == ldap("two", "ldap://a.example.org:389")
    assert UpstreamSettings(name="sql").counted_at == "sql"


async def test_imap_and_pop3_of_one_server_together_pass_on_what_one_may() -> None:
    class Refusing:
        """Says no to every password, and counts them."""

        opaque = True
        asked = 0

        async def find(self, login: str) -> Person:
            return Person(login, Identity(login, frozenset()))

        async def check(self, person: Person, password: str) -> Identity | Denied:
            self.asked += 1
            return Denied(Reason.OPAQUE)

        def close(self) -> None:
            pass

    tries, server = Tries(FakeClock().monotonic), Refusing()
    places = {"imap": 993, "pop3": 995}
    settings = [
        MailboxSettings(name=name, protocol="imap", servers=(Place("a.example.org", port),), domains=("x.org",))
        for name, port in places.items()
    ]
    directories = [Upstream(server, replace(each, wrong_tries=5), tries) for each in settings]
    for number in range(10):
        for each in directories:
            await each.verify(PasswordCredentials("anna", f"guess {number}"), known_place=True)
    assert server.asked == 5

"""Ten thousand people: each is found, and nobody costs more than one search and one bind."""

import asyncio
from pathlib import Path

from tests.support import slapd_tree
from tests.support.certs import Authority
from tests.support.ldap_front import Front
from tests.support.slapd import Slapd

from pillarbox.directory.base import Denied, Identity
from pillarbox.directory.ldap.backend import LdapBackend
from pillarbox.directory.tries import Tries
from pillarbox.directory.upstream import Upstream
from pillarbox.sasl.mechanism import PasswordCredentials

PEOPLE = 10_000


async def test_ten_thousand_people_sign_in_by_an_index_over_few_connections(tmp_path: Path) -> None:
    slapd = Slapd(tmp_path, Authority(tmp_path))
    slapd.load(PEOPLE)
    slapd.start()
    front = await Front(slapd.port).start()
    settings = slapd.settings("openldap", servers=[front.uri], starttls=False, timeout="60s")
    directory = Upstream(LdapBackend(settings), settings, Tries())

    async def sign_in(number: int, password: str) -> Identity | Denied:
        credentials = PasswordCredentials(f"user{number}@example.org", password)
        return await directory.verify(credentials, known_place=True)

    try:
        numbers = range(0, PEOPLE, 50)
        found = await asyncio.gather(*(sign_in(number, f"password {number}") for number in numbers))
        assert [getattr(each, "login", None) for each in found] == [f"user{number}" for number in numbers]
        assert all(isinstance(each, Identity) for each in found)
        people = f"ou=people,{slapd_tree.OPENLDAP}"
        assert front.count(f"search {slapd_tree.OPENLDAP}") == len(numbers)
        assert sum(asked.startswith("bind uid=") and asked.endswith(people) for asked in front.asked) == len(numbers)
        assert front.connections <= 2 * settings.connections
        again = await asyncio.gather(*(sign_in(number, f"password {number}") for number in numbers))
        assert all(isinstance(each, Identity) for each in again)
        assert front.count(f"search {slapd_tree.OPENLDAP}") == len(numbers)  # remembered
        wrong = await sign_in(7, "password 8")
        assert isinstance(wrong, Denied)
    finally:
        directory.close()
        await front.stop()
        slapd.stop()

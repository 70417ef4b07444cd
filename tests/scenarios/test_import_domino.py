"""People of a Domino Directory are imported and sign in with the password that they have, with the whole server."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.scram_client import scram
from tests.support.talk import Talk

from pillarbox.directory.domino_people import read_people

pytestmark = pytest.mark.scenario

EXPORT = """\
version: 1

dn: CN=Jada Correr,OU=Sales,O=ACME
objectClass: dominoPerson
cn: Jada Correr
mail: Jada.Correr@example.org
HTTPPassword: (HosOQowHtnaYQqFo/XlScup0mC30mC3KmC30mCeACAxp
 jQN2u)

dn: CN=No Password,O=ACME
objectClass: dominoPerson
cn: No Password
mail: nobody@example.org

dn: CN=Sales
objectClass: dominoGroup
"""
LOGIN = "jada.correr@example.org"


def pillarbox(daemon: RunningDaemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-P", "-m", "pillarbox", *arguments, "--config", str(daemon.config))
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def sign_in(
    daemon: RunningDaemon, password: str, login: str = "Jada.Correr@Example.org", address: str = LOGIN
) -> str:
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        reply = talk.sign_in(login, password)
        if reply.startswith("235 "):
            assert talk.say(f"MAIL FROM:<{address}>").startswith("250 "), "the session outlives the new hash"
        return reply


def test_an_imported_person_signs_in_and_has_a_hash_of_ours_from_then_on(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    daemon = start_daemon(tmp_path, authority, at_end=request.addfinalizer, site=('failed_sign_in_time = "50ms"',))
    export = tmp_path / "people.ldif"
    export.write_text(EXPORT)

    dry = pillarbox(daemon, "import", "domino", str(export), "--dry-run")
    assert dry.returncode == 0 and "nothing was done" in dry.stderr, dry.stderr
    assert LOGIN not in pillarbox(daemon, "user", "list").stdout

    done = pillarbox(daemon, "import", "domino", str(export), "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["counts"] == {"added": 1, "skipped": 1} and told["others"] == 1
    assert [(each["who"], each["why"]) for each in told["people"] if each["done"] == "skipped"] == [
        ("No Password", "no Internet password")
    ]

    assert sign_in(daemon, "wrong").startswith("535 ")
    assert sign_in(daemon, "pleaseletmein").startswith("235 ")
    daemon.wait_for("account.rehashed", login=LOGIN)
    assert sign_in(daemon, "pleaseletmein").startswith("235 ")
    again = json.loads(pillarbox(daemon, "import", "domino", str(export), "--json").stdout)
    jada = next(each for each in again["people"] if each["who"] == "Jada Correr")
    assert (jada["done"], jada["why"]) == ("unchanged", "the password stays as it is here")

    export.write_text("dn: CN=x\nnonsense\n")
    broken = pillarbox(daemon, "import", "domino", str(export))
    assert broken.returncode == 1 and "line 2" in broken.stderr and "nothing was done" in broken.stderr


NAMES = """\
version: 1

dn: CN=Jada Correr,OU=Sales,O=ACME
objectClass: dominoPerson
cn: Jada Correr
cn: JCo
cn: CN=Jada Correr-Smith/O=ACME
givenName: Jada
sn: Correr
uid: jcorrer
mail: Jada.Correr@example.org
HTTPPassword: (GDJ0nDZI8l8RJzlRbemg)

dn: CN=Sam Wood,OU=Sales,O=ACME
objectClass: dominoPerson
cn: Sam Wood
cn: Twin
givenName: Sam
mail: sam@example.org
HTTPPassword: (GDJ0nDZI8l8RJzlRbemg)

dn: CN=Sam Wood,OU=Works,O=ACME
objectClass: dominoPerson
cn: Sam Wood
givenName: Jada
mail: sam.wood@example.org
HTTPPassword: (355E98E7C7B59BD810ED845AD0FD2FC4)

dn: CN=No Account,O=ACME
objectClass: dominoPerson
cn: No Account
cn: Twin
"""
FEWER = (
    "Jada Correr/Sales/ACME",
    "CN=Jada Correr/OU=Sales/O=ACME",
    "cn=jada correr/ou=sales/o=acme",
    "Jada Correr",
    "CN=JADA CORRER",
    "jco",
    "Jada Correr-Smith/ACME",
    "jada.correr@EXAMPLE.org",
)
MORE = ("Correr", "jcorrer")


def test_imported_people_sign_in_by_the_names_that_count_at_domino(
    tmp_path: Path, authority: Authority, request: pytest.FixtureRequest
) -> None:
    """Each name with Domino's own hash; whom two people share, nobody signs in by."""
    site = ('failed_sign_in_time = "50ms"', 'mechanisms = ["SCRAM-SHA-256", "PLAIN"]')
    extra = '[guard]\nblock_failures = 1000\nmax_delay = "0s"\n[[directory]]\nscram = true\n'
    daemon = start_daemon(tmp_path, authority, at_end=request.addfinalizer, site=site, extra=extra)
    export = tmp_path / "people.ldif"
    export.write_text(NAMES)

    def bring_in(*options: str) -> dict[str, list[str]]:
        done = pillarbox(daemon, "import", "domino", str(export), "--json", *options)
        assert done.returncode == 0, done.stderr
        return {each["login"] or each["who"]: each["ambiguous"] for each in json.loads(done.stdout)["people"]}

    def can(login: str, password: str = "hashcat", address: str = LOGIN) -> bool:
        reply = sign_in(daemon, password, login, address)
        assert reply[:4] in ("235 ", "535 "), reply
        return reply.startswith("235 ")

    assert bring_in() == {
        "No Account": [],
        LOGIN: [],
        "sam@example.org": ["Sam Wood", "Twin"],
        "sam.wood@example.org": ["Sam Wood"],
    }
    jada = read_people(io.BytesIO(NAMES.encode())).found[0]
    person = {"login": jada.login, "addresses": jada.addresses, "names": jada.names, "dry_run": False}
    for login in FEWER:  # each with the hash that was imported
        daemon.ask("user.remove", {"login": LOGIN})
        assert daemon.ask("user.import", {**person, "password_hash": jada.password_hash})["done"] == "added"
        assert can(login), login
    for login in (*MORE, "Jada", "Jada Correr/ACME", "Sales", "Jada Correr/Sales"):
        assert not can(login), login
    for password in ("hashcat", "password"):
        assert not can("Sam Wood", password) and not can("CN=Sam Wood", password) and not can("Twin", password)
    assert can("Sam Wood/Sales/ACME", address="sam@example.org")
    assert can("Sam Wood/Works/ACME", "password", "sam.wood@example.org")
    assert not can("Sam Wood/Works/ACME"), "a name is one person's, and so is the password"

    shown = json.loads(pillarbox(daemon, "user", "show", "sam@example.org", "--json").stdout)
    assert shown["aliases"] == ["Sam Wood/Sales/ACME", "Sam Wood"] and shown["void_aliases"] == ["Sam Wood"]
    checked = pillarbox(daemon, "check").stdout
    assert "nobody signs in as Sam Wood: sam.wood@example.org, sam@example.org have the name" in checked

    with Talk(daemon.submissions, daemon.ca) as talk:  # all have signed in, so all have a secret
        assert "SCRAM-SHA-256" in talk.say("EHLO client.example.org")
        assert scram(talk, "CN=Jada Correr/OU=Sales/O=ACME", "hashcat").startswith("235 ")
        assert talk.say(f"MAIL FROM:<{LOGIN}>").startswith("250 ")
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        assert scram(talk, "Sam Wood", "hashcat").startswith("535 ")

    assert bring_in("--names", "more")[LOGIN] == ["Jada"]
    assert all(map(can, MORE)) and not can("Jada")
    bring_in()
    assert not any(map(can, MORE)), "what an import gave the next one takes away"
    signed_in = {line["login"] for line in daemon.log() if line["event"] == "signin.succeeded"}
    assert signed_in == {LOGIN, "sam@example.org", "sam.wood@example.org"}, "never an alias"

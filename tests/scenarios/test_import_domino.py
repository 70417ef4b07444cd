"""People of a Domino Directory are imported and sign in with the password that they have, with the whole server."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.certs import Authority
from tests.support.daemon import RunningDaemon, start_daemon
from tests.support.talk import Talk

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


def sign_in(daemon: RunningDaemon, password: str) -> str:
    with Talk(daemon.submissions, daemon.ca) as talk:
        talk.say("EHLO client.example.org")
        reply = talk.sign_in("Jada.Correr@Example.org", password)
        if reply.startswith("235 "):
            assert talk.say(f"MAIL FROM:<{LOGIN}>").startswith("250 "), "the session outlives the new hash"
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

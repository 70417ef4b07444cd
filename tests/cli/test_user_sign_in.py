"""`pillarbox user`: SCRAM secrets and certificates of accounts."""

import json
from pathlib import Path

from tests.cli.conftest import Run
from tests.support.certs import Authority


def add(run: Run, site: Path, login: str) -> None:
    done = run("user", "add", login, "--password-stdin", "-c", site, stdin="correct horse\n")
    assert done.code == 0, done.err


def test_who_has_no_scram_secret_is_listed_until_a_new_password(run: Run, site: Path) -> None:
    before = site.read_text()
    add(run, site, "old@example.org")
    site.write_text(f"{before}\n[[directory]]\nscram = true\n")
    add(run, site, "new@example.org")
    listed = json.loads(run("user", "list", "--no-scram", "--json", "-c", site).out)
    assert [user["login"] for user in listed] == ["old@example.org"]
    assert run("user", "disable", "old@example.org", "-c", site).code == 0
    assert run("user", "list", "--no-scram", "--json", "-c", site).out == "[]\n"
    assert run("user", "enable", "old@example.org", "-c", site).code == 0
    assert run("user", "password", "old@example.org", "--password-stdin", "-c", site, stdin="another one\n").code == 0
    done = run("user", "list", "--no-scram", "-c", site)
    assert (done.code, done.err) == (0, "every enabled account has a SCRAM secret\n")


def test_certificates_from_add_to_remove(run: Run, site: Path, tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("Ada", client=True)
    add(run, site, "ada@example.org")
    certificate = ("user", "certificate")
    assert "no certificate" in run(*certificate, "list", "ada@example.org", "-c", site).err
    assert run(*certificate, "add", "ada@example.org", "cn:Ada", "-c", site).code == 0
    assert run(*certificate, "add", "ada@example.org", "--file", issued.certificate, "-c", site).code == 0
    marks = ["cn:Ada", f"sha256:{issued.fingerprint}"]
    assert run(*certificate, "list", "ada@example.org", "-c", site).out.split("\n")[:-1] == marks
    assert json.loads(run(*certificate, "list", "ada@example.org", "--json", "-c", site).out) == marks
    assert "cn:Ada" in run("user", "show", "ada@example.org", "-c", site).out
    assert run(*certificate, "remove", "ada@example.org", "cn:Ada", "-c", site).code == 0
    assert run(*certificate, "list", "ada@example.org", "-c", site).out.split() == marks[1:]


def test_a_mark_that_cannot_be_says_why(run: Run, site: Path, tmp_path: Path) -> None:
    add(run, site, "ada@example.org")
    add(run, site, "bob@example.org")
    command = ("user", "certificate", "add")
    assert run(*command, "ada@example.org", "cn:Ada", "-c", site).code == 0
    taken = run(*command, "bob@example.org", "cn:Ada", "-c", site)
    assert (taken.code, taken.err) == (1, "error: the certificate is that of ada@example.org already\n")
    assert "expected sha256:FINGERPRINT" in run(*command, "ada@example.org", "Ada", "-c", site).err
    assert run(*command, "ada@example.org", "-c", site).code == 2
    assert "No such file" in run(*command, "ada@example.org", "--file", tmp_path / "none", "-c", site).err
    assert "not a certificate in PEM" in run(*command, "ada@example.org", "--file", site, "-c", site).err

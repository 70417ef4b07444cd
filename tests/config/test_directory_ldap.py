"""[[directory]] with kind = "ldap": what it becomes, what is refused with its reason, and what `check` finds."""

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.config.corp import SITE, mistakes, taken
from tests.support.certs import Authority

from pillarbox.config import ConfigError, check_files
from pillarbox.directory.base import Unusable
from pillarbox.directory.kinds import make_backend
from pillarbox.directory.ldap.settings import LdapGroup, LdapSettings, Names, Preset
from pillarbox.doctor.report import Finding, Severity

KEYS: dict[str, Any] = {"preset": "openldap", "servers": ["ldaps://ldap.example.org"], "base": "dc=example,dc=org"}


def text(**keys: Any) -> str:
    lines = [
        f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
        for key, value in (KEYS | keys).items()
        if value is not None
    ]
    return "\n".join(['kind = "ldap"', *lines]) + "\n"


def made(group: str = "", **keys: Any) -> LdapSettings:
    (found,) = taken(text(**keys) + group).directories
    assert isinstance(found, LdapSettings)
    return found


def refused(group: str = "", **keys: Any) -> str:
    (mistake,) = mistakes(text(**keys) + group)
    return mistake


def test_a_preset_fills_what_is_not_said() -> None:
    found = made()
    assert (found.preset, found.login_attribute, found.wrong_tries) == (Preset.OPENLDAP, "uid", 5)
    assert found.address_attributes == ("mail", "mailAlternateAddress", "mailLocalAddress")
    windows = made(preset="active-directory")
    assert (windows.preset, windows.login_attribute) == (Preset.ACTIVE_DIRECTORY, "sAMAccountName")
    assert "1.2.840.113556.1.4.1941" in windows.group_filter
    assert made(preset="domino", internet_authentication="more").names_allowed is Names.MORE


def test_what_is_said_counts_more_and_paths_are_relative_to_the_file() -> None:
    found = made(
        filter="(uid={login})",
        login_attribute="cn",
        address_attributes=["mail"],
        bind_dn="cn=a,dc=example",
        password_file="secret",
        ca="/ca.pem",
    )
    assert (found.filter, found.login_attribute, found.address_attributes) == ("(uid={login})", "cn", ("mail",))
    assert (found.password_file, found.ca) == (Path("/etc/pillarbox/secret"), Path("/ca.pem"))


def test_groups() -> None:
    found = made('[[directory.group]]\ndn = "cn=apps"\ndomains = ["Example.org"]\nmay_redirect = true\n')
    assert found.groups == (LdapGroup(dn="cn=apps", domains=frozenset({"example.org"}), may_redirect=True),)


@pytest.mark.parametrize(
    "server", ["ldap://ldap.example.org", "ldaps://10.0.0.1:1636", "ldaps://[::1]", "ldapi://%2Frun%2Fldapi"]
)
def test_servers(server: str) -> None:
    assert made(servers=[server]).servers == (server,)


@pytest.mark.parametrize(
    ("keys", "mistake"),
    [
        ({"servers": ["ldap.example.org"]}, 'servers: found "ldap.example.org"; expected "ldap://"'),
        ({"servers": ["http://ldap.example.org"]}, "servers: "),
        ({"servers": ["ldaps://"]}, "servers: "),
        ({"servers": ["ldaps://u:p@ldap.example.org"]}, "servers: "),
        ({"servers": ["ldaps://ldap.example.org/dc=example??sub"]}, "servers: "),
        ({"servers": ["ldaps://ldap.example.org:x"]}, "servers: "),
        ({"servers": ["ldapi:///run/ldapi"]}, "servers: "),
        ({"servers": ["ldap://ldap.example.org"], "starttls": False}, "servers: "),
        ({"bind_dn": "cn=a"}, "bind_dn: found without password_file"),
        ({"password_file": "a"}, "password_file: found without bind_dn"),
        ({"key": "a"}, "key: found without certificate"),
        ({"internet_authentication": "more"}, "internet_authentication: "),
        ({"filter": "(uid=anna)"}, "filter: "),
        ({"filter": "(uid={name})"}, "filter: "),
        ({"filter": "uid={login}"}, "filter: "),
        ({"filter": "(uid={login}))("}, "filter: "),
        ({"group_filter": "(member=x)"}, "group_filter: "),
        ({"bind_as": "uid=anna"}, "bind_as: "),
        ({"base": "example.org"}, "base: "),
        ({"members_of": "staff"}, "members_of: "),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(keys: dict[str, Any], mistake: str) -> None:
    assert refused(**keys).startswith(f"directory[0].{mistake}")


def test_clear_text_is_for_loopback() -> None:
    assert made(servers=["ldap://127.0.0.1:389"], starttls=False).starttls is False


def test_a_directory_that_binds_at_once_can_only_say_no_and_stands_last() -> None:
    bind_as = "uid={login},dc=example"
    assert made(bind_as=bind_as).bind_as == bind_as
    site = SITE.replace('["corp"]', '["corp", "local"]')
    with pytest.raises(ConfigError, match="directories"):
        taken(text(bind_as=bind_as) + '[[directory]]\nname = "local"\n', site)


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ldap", None)
    for name in ("backend", "client"):
        monkeypatch.delitem(sys.modules, f"pillarbox.directory.ldap.{name}", raising=False)
    with pytest.raises(Unusable, match=r"libldap2-dev libsasl2-dev.*pip install \"pillarbox\[ldap\]\""):
        make_backend(made())


# ---- what `check` finds


def findings(folder: Path, **keys: Any) -> list[Finding]:
    settings = taken(text(**keys), at=folder / "pillarbox.toml")
    return [finding for finding in check_files(settings) if finding.subject == "directory corp"]


def test_check_reads_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pillarbox.config.files.find_spec", lambda name: name)
    (tmp_path / "secret").write_text("x\n")
    (tmp_path / "secret").chmod(0o600)
    Authority(tmp_path)
    keys = {"bind_dn": "cn=a", "password_file": "secret", "ca": "ca.pem"}
    assert findings(tmp_path, **keys) == []
    (tmp_path / "secret").chmod(0o644)
    assert any("secret" in finding.message for finding in findings(tmp_path, **keys))
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "secret").write_text("\n")
    assert any("is empty" in finding.message for finding in findings(tmp_path, **keys))
    (tmp_path / "secret").unlink()
    assert any(finding.severity is Severity.ERROR for finding in findings(tmp_path, **keys))


def test_check_misses_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pillarbox.config.files.find_spec", lambda name: None)
    (found,) = findings(tmp_path)
    assert (found.severity, "libldap2-dev" in found.advice) == (Severity.ERROR, True)

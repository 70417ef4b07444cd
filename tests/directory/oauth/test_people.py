"""Whom a directory of tokens asks about its people, in a worker: the directory that has the name now."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from tests.directory.scripted import Scripted

from pillarbox.config import parse
from pillarbox.daemon import directories as module
from pillarbox.daemon.directories import Directories
from pillarbox.directory.base import Identity, Unavailable
from pillarbox.directory.oauth.directory import FindPerson, OauthDirectory
from pillarbox.directory.oauth.settings import OauthSettings
from pillarbox.directory.settings import UpstreamSettings
from pillarbox.directory.tries import Tries

FILE = """
[[site]]
name = "submit.example.org"
submissions = ["127.0.0.1:465"]
certificate = "certificate.pem"
key = "key.pem"
[[route]]
host = "mx.example.org"
"""


async def test_after_a_reload_the_new_one_is_asked_and_a_directory_of_tokens_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backends: list[Scripted] = []
    finding: list[FindPerson] = []

    def make_backend(_: UpstreamSettings) -> Scripted:
        backends.append(Scripted())
        backends[-1].add("anna", "x", addresses=(f"anna{len(backends)}@example.org",))
        return backends[-1]

    def make_oauth(settings: OauthSettings, find_person: FindPerson | None) -> OauthDirectory:
        assert find_person is not None
        finding.append(find_person)
        return OauthDirectory(settings, find_person)

    monkeypatch.setattr(module, "make_backend", make_backend)
    monkeypatch.setattr(module, "make_oauth", make_oauth)
    accounts: Any = None  # no local directory is asked for anything here
    directories = Directories(accounts, Tries())
    settings = parse(FILE, Path("/etc/pillarbox/pillarbox.toml"))
    tokens = OauthSettings(name="tokens", issuer="https://id.example.org", audiences=("us",), people="ldap")

    def reload(*wanted: UpstreamSettings | OauthSettings) -> None:
        directories.apply(directories.prepare(dataclasses.replace(settings, directories=wanted)))

    reload(tokens, UpstreamSettings(name="ldap"))
    first = await finding[0]("anna")
    assert isinstance(first, Identity) and first.addresses == {"anna1@example.org"}
    reload(tokens, UpstreamSettings(name="ldap", timeout=3.0))
    second = await finding[0]("anna")
    assert isinstance(second, Identity) and second.addresses == {"anna2@example.org"}
    assert len(finding) == 1
    reload(tokens)
    with pytest.raises(Unavailable, match='no directory "ldap"'):
        await finding[0]("anna")
    directories.close()

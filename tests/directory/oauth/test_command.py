"""`pillarbox directory test` with the tokens of a real provider."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.oidc import AUDIENCE, SECRET, Provider, running_provider

SITE = """
[[site]]
name = "submit.example.org"
submissions = ["127.0.0.1:465"]
certificate = "certificate.pem"
key = "key.pem"
directories = ["corp"]
mechanisms = ["OAUTHBEARER"]
[[route]]
host = "mx.example.org"
"""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_provider(tmp_path_factory.mktemp("provider") / "provider") as running:
        yield running


def ask(folder: Path, provider: Provider, more: str, *words: str, token: str = "") -> tuple[int, dict[str, Any]]:
    """The exit code, and what it says."""
    config = folder / "pillarbox.toml"
    config.write_text(
        f'[server]\ndata_directory = "{folder}"\nrun_directory = "{folder}"\n'
        '[[directory]]\nname = "corp"\nkind = "oauth"\n'
        f'preset = "keycloak"\nissuer = "{provider.issuer}"\naudience = ["{AUDIENCE}"]\n{more}{SITE}'
    )
    command = (
        sys.executable,
        "-m",
        "pillarbox",
        "directory",
        "test",
        "corp",
        *words,
        "--json",
        "--config",
        str(config),
    )
    done = subprocess.run(command, input=token, capture_output=True, text=True, timeout=60)
    assert token == "" or token not in done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found


def test_it_says_whether_the_provider_answers(provider: Provider, tmp_path: Path) -> None:
    code, found = ask(tmp_path, provider, "")
    assert (code, found["result"]) == (0, "reached")
    assert f"GET {provider.issuer}/jwks: 200" in found["steps"][1]
    code, found = ask(tmp_path, provider, f'keys_url = "{provider.issuer}/absent"\n')
    assert code == 3 and "status 404" in found["cause"]


def test_it_says_whose_a_token_is_and_why_it_does_not_count(provider: Provider, tmp_path: Path) -> None:
    words = ("anna", "--password-stdin")
    code, found = ask(tmp_path, provider, "", *words, token=provider.sign_in("anna"))
    assert (code, found["result"], found["login"], found["addresses"]) == (0, "ok", "anna", ["anna@example.org"])
    code, found = ask(tmp_path, provider, "", *words, token=provider.sign_in("anna", "other"))
    assert (code, found["why"], found["cause"]) == (1, "the token does not count", "audience")


def test_it_says_that_the_provider_refuses_us(provider: Provider, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    asks = f'check_by = "introspection"\nclient_id = "pillarbox"\nclient_secret = "{secret}"\n'
    secret.write_text("wrong")
    code, found = ask(tmp_path, provider, asks)
    assert code == 3 and "refuses client_id and client_secret" in found["cause"]
    secret.write_text(SECRET)
    assert ask(tmp_path, provider, asks)[0] == 0

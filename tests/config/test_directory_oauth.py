"""[[directory]] with kind = "oauth": what it becomes, and what is refused with its reason."""

from pathlib import Path

import pytest
from tests.config import corp

from pillarbox.config import Settings
from pillarbox.config.files import check_files
from pillarbox.directory.oauth.settings import CheckBy, OauthSettings

SITE = corp.SITE.replace("[[route]]", 'mechanisms = ["OAUTHBEARER", "XOAUTH2"]\n[[route]]')
KEYCLOAK = 'preset = "keycloak"\nissuer = "https://id.example.org/realms/staff"\naudience = ["pillarbox"]\n'
ASKS = 'check_by = "introspection"\nclient_id = "p"\nclient_secret = "secret"\n'


def taken(directory: str, more: str = "", site: str = SITE) -> Settings:
    return corp.taken(f'kind = "oauth"\n{directory}{more}', site)


def made(directory: str, more: str = "") -> OauthSettings:
    found = taken(directory, more).directories[0]
    assert isinstance(found, OauthSettings)
    return found


def refused(directory: str, more: str = "", site: str = SITE) -> list[str]:
    return corp.mistakes(f'kind = "oauth"\n{directory}{more}', site)


def test_a_provider_of_no_preset_is_known_by_its_issuer() -> None:
    assert made('issuer = "https://id.example.org"\naudience = ["us"]\n') == OauthSettings(
        name="corp", issuer="https://id.example.org", audiences=("us",)
    )


def test_every_key_reaches_its_room() -> None:
    text = f"""{KEYCLOAK}{ASKS}names = ["*@example.org"]
scope = ["smtp", "mail"]
tenant = "t"
keys_url = "https://id.example.org/keys"
introspection_url = "https://id.example.org/ask"
login_claim = ["upn"]
address_claim = ["mail"]
people = "local"
cache = "1s"
wrong_cache = "2s"
refresh = "3s"
leeway = "4s"
timeout = "5s"
connections = 6
ca = "ca.pem"
"""
    assert made(text, '[[directory]]\nkind = "local"\n') == OauthSettings(
        name="corp",
        names=("*@example.org",),
        issuer="https://id.example.org/realms/staff",
        audiences=("pillarbox",),
        scopes=("smtp", "mail"),
        tenant="t",
        login_claims=("upn",),
        address_claims=("mail",),
        people="local",
        check_by=CheckBy.INTROSPECTION,
        keys_url="https://id.example.org/keys",
        introspection_url="https://id.example.org/ask",
        client_id="p",
        client_secret=Path("/etc/pillarbox/secret"),
        cache=1.0,
        wrong_cache=2.0,
        refresh=3.0,
        leeway=4.0,
        timeout=5.0,
        connections=6,
        ca=Path("/etc/pillarbox/ca.pem"),
    )


GOOGLE = 'preset = "google"\nnames = ["*@example.org"]\n'


def test_presets_know_their_providers() -> None:
    entra = made('preset = "entra"\ntenant = "0f1e-2d3c"\naudience = ["api"]\n')
    assert entra.issuer == "https://login.microsoftonline.com/0f1e-2d3c/v2.0"
    assert (entra.tenant, entra.check_by) == ("0f1e-2d3c", CheckBy.KEYS)
    assert entra.login_claims == ("preferred_username", "upn") and "email" not in entra.address_claims
    google = made(GOOGLE + 'audience = ["x.apps.googleusercontent.com"]\n')
    assert (google.check_by, google.login_claims) == (CheckBy.TOKENINFO, ("email",))
    assert google.introspection_url == "https://oauth2.googleapis.com/tokeninfo"
    keycloak = made(KEYCLOAK)
    assert (keycloak.login_claims, keycloak.address_claims) == (("preferred_username",), ("email",))
    assert keycloak.configuration_url == "https://id.example.org/realms/staff/.well-known/openid-configuration"
    assert made(KEYCLOAK + 'login_claim = ["sub"]\n').login_claims == ("sub",)
    assert made(KEYCLOAK + "require_at_jwt = true\n").require_at_jwt and not keycloak.require_at_jwt


@pytest.mark.parametrize(("text", "key", "said"), [
    ('audience = ["us"]\n', "issuer", "not found"),
    ('preset = "entra"\naudience = ["us"]\n', "tenant", "others' people"),
    ('preset = "keycloak"\naudience = ["us"]\n', "issuer", "not found"),
    ('issuer = "http://id.example.org"\naudience = ["us"]\n', "issuer", "a URL of https"),
    (KEYCLOAK + 'keys_url = "file:///etc/passwd"\n', "keys_url", "a URL of https"),
    ('issuer = "https://id.example.org"\n', "audience", "any other service"),
    ('issuer = "https://id.example.org"\n' + ASKS, "audience", "neither audience nor scope"),
    (GOOGLE, "audience", "any other service"),
    ('preset = "google"\naudience = ["us"]\n', "names", "everybody with an account"),
    (KEYCLOAK + 'check_by = "tokeninfo"\n', "introspection_url", "expected the URL"),
    (KEYCLOAK + 'check_by = "introspection"\nclient_id = "p"\n', "client_secret", "who we are"),
    (KEYCLOAK + 'client_secret = "secret"\n', "client_secret", "nobody would be asked"),
    (KEYCLOAK + ASKS + 'require_at_jwt = true\n', "require_at_jwt", "the provider that is asked"),
    (GOOGLE + 'audience = ["us"]\ncheck_by = "keys"\n', "check_by", "its access tokens are not signed"),
    (KEYCLOAK + 'people = "corp"\n', "people", "its own name"),
    (KEYCLOAK + 'people = "lokal"\n', "people", "another [[dir"),
    (KEYCLOAK + 'scope = ["smtp mail"]\n', "scope", ""), (KEYCLOAK + 'tenant = "a/../b"\n', "tenant", ""),
    (KEYCLOAK + 'check_by = "trust"\n', "check_by", ""), (KEYCLOAK + 'preset2 = "x"\n', "preset2", "unknown key"),
])  # fmt: skip
def test_what_is_missing_or_wrong_is_said_at_its_key(text: str, key: str, said: str) -> None:
    (mistake,) = refused(text)
    assert mistake.startswith(f"directory[0].{key}") and said in mistake


def test_whoever_is_asked_about_people_must_be_able_to_say() -> None:
    other = f'[[directory]]\nname = "other"\nkind = "oauth"\n{KEYCLOAK}'
    (mistake,) = refused(KEYCLOAK + 'people = "other"\n', other)
    assert "directory[0].people" in mistake and "without a password" in mistake
    assert made(KEYCLOAK + 'people = "local"\n', '[[directory]]\nkind = "local"\n').people == "local"


def test_without_another_directory_nobody_has_a_password() -> None:
    plain = SITE.replace('["OAUTHBEARER", "XOAUTH2"]', '["PLAIN", "XOAUTH2"]')
    (mistake,) = refused(KEYCLOAK, site=plain)
    assert "a directory with passwords" in mistake
    (mistake,) = refused(KEYCLOAK, '[[directory]]\nkind = "local"\n', plain.replace(', "XOAUTH2"', '').replace(
        '["corp"]', '["local", "corp"]'
    ))  # fmt: skip
    assert mistake.startswith("site[0].directories[1]: ") and "whose tokens nobody can show here" in mistake
    local = '[[directory]]\nkind = "local"\nscram = true\n'
    both = plain.replace('["corp"]', '["corp", "local"]').replace('"PLAIN"', '"SCRAM-SHA-256", "PLAIN"')
    assert len(taken(KEYCLOAK, local, both).directories) == 2


def test_the_files_are_looked_at(tmp_path: Path) -> None:
    text = KEYCLOAK + ASKS.replace('"secret"', f'"{tmp_path}/secret"') + f'ca = "{tmp_path}/ca.pem"\n'
    settings = taken(text)

    def findings() -> list[str]:
        return [str(each) for each in check_files(settings, ports=False) if "directory corp" in str(each)]

    assert len([each for each in findings() if "secret" in each]) == 1
    assert len([each for each in findings() if "ca.pem" in each]) == 1
    secret = tmp_path / "secret"
    secret.write_text("")
    secret.chmod(0o644)
    assert any("is empty" in each for each in findings()) and any("everybody" in each for each in findings())
    secret.write_text("good")
    secret.chmod(0o600)
    assert not [each for each in findings() if "secret" in each]

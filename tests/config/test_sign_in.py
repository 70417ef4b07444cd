"""Keys of signing in: mechanisms by site and listener, what each needs, and what is never offered."""

from pathlib import Path

import pytest

from pillarbox.config import ConfigError, Settings, parse
from pillarbox.config.files import check_files
from pillarbox.delivery.settings import SmarthostRoute
from pillarbox.directory.settings import LocalSettings, TokenSettings
from pillarbox.submission.settings import ClientCertificates

HERE = Path("/etc/pillarbox/pillarbox.toml")
SITE = """\
[[site]]
name = "mail.example.org"
submission = ["127.0.0.1:5587"]
submissions = ["127.0.0.1:5465"]
certificate = "certificate.pem"
key = "key.pem"
"""
ROUTE = '[[route]]\nhost = "mx.example.org"\n'
ABLE = """\
[[directory]]
scram = true
token_key = "token.pem"
token_issuer = "https://id.example"
token_audience = "pillarbox"
token_claim = "email"
"""


def taken(site: str, directory: str = "", route: str = "") -> Settings:
    return parse(f"{directory}{SITE}{site}\n{ROUTE}{route}", HERE)


def refused(site: str, directory: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        taken(site, directory)
    (mistake,) = caught.value.mistakes
    return f"{mistake.key}: {mistake.message}"


def test_every_mechanism_is_taken_where_its_needs_are_met() -> None:
    every = '["SCRAM-SHA-256", "plain", "LOGIN", "OAUTHBEARER", "xoauth2", "EXTERNAL"]'
    settings = taken(f'mechanisms = {every}\nclient_certificates = "required"\nclient_ca = "ca.pem"', ABLE)
    (site,) = settings.sites
    assert site.mechanisms == ("SCRAM-SHA-256", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2", "EXTERNAL")
    assert site.tls.client_certificates is ClientCertificates.REQUIRED
    (directory,) = settings.directories
    assert isinstance(directory, LocalSettings)
    assert directory.tokens == TokenSettings(
        Path("/etc/pillarbox/token.pem"), "https://id.example", "pillarbox", "email"
    )


def test_mechanisms_may_differ_by_listener() -> None:
    (site,) = taken('submission_mechanisms = ["PLAIN"]').sites
    assert site.mechanisms_of(implicit_tls=False) == ("PLAIN",)
    assert site.mechanisms_of(implicit_tls=True) == ("PLAIN", "LOGIN")
    (site,) = taken('submissions_mechanisms = ["LOGIN"]').sites
    assert site.mechanisms_of(implicit_tls=False) == ("PLAIN", "LOGIN")
    assert site.mechanisms_of(implicit_tls=True) == ("LOGIN",)


@pytest.mark.parametrize("key", ["mechanisms", "submission_mechanisms", "submissions_mechanisms"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SCRAM-SHA-256", 'expected scram = true in the directory "local"'),
        ("OAUTHBEARER", 'expected token_key in the directory "local"'),
        ("XOAUTH2", 'expected token_key in the directory "local"'),
        ("EXTERNAL", 'expected client_certificates = "optional" or "required" beside it'),
    ],
)
def test_a_mechanism_that_could_never_be_offered_is_a_mistake(key: str, name: str, expected: str) -> None:
    found = refused(f'{key} = ["PLAIN", "{name}"]')
    assert found.startswith(f'site[0].{key}[1]: found "{name}"; {expected}')


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("CRAM-MD5", "it wants every password in clear on the server"),
        ("cram-md5", "it wants every password in clear on the server"),
        ("DIGEST-MD5", "it is historic"),
        ("SCRAM-SHA-256-PLUS", "docs/adr/0008"),
    ],
)
def test_what_is_never_offered_is_refused_with_its_reason(name: str, reason: str) -> None:
    found = refused(f'mechanisms = ["{name}"]')
    assert "is never offered" in found
    assert reason in found


def test_ciphers_that_no_library_takes_are_a_mistake_and_no_crash() -> None:
    assert "expected a cipher list that OpenSSL knows" in refused('tls_ciphers = "\\u0000"')


def test_keys_that_go_together() -> None:
    assert "found without token_issuer and token_audience" in refused("", '[[directory]]\ntoken_key = "k"\n')
    assert "nobody would show a certificate" in refused("certificate_signs_in = true")
    assert 'found "required" without client_ca' in refused('client_certificates = "required"')
    (site,) = taken('certificate_signs_in = true\nclient_certificates = "optional"\nclient_ca = "ca.pem"').sites
    assert site.certificate_signs_in
    assert "nobody would show a certificate" in refused('certificate_login = "san-email"')


def test_certificates_of_people_of_any_directory_need_one_that_finds_people() -> None:
    rule = 'client_certificates = "optional"\nclient_ca = "ca.pem"\ncertificate_login = "subject-cn"\n'
    assert "nobody would sign in by one" in refused(rule)
    assert taken(f'{rule}submissions_mechanisms = ["EXTERNAL", "PLAIN"]\n').sites
    shown = f"{rule}certificate_signs_in = true\n"
    (site,) = taken(shown).sites
    assert site.certificate_login == "subject-cn"
    box = '[[directory]]\nname = "box"\nkind = "imap"\nservers = ["imap.example"]\ndomains = ["a.example"]\n'
    assert "cannot say who somebody is without a password" in refused(f'{shown}directories = ["box"]', box)


@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "OAUTHBEARER", "LOGIN"])
def test_a_route_may_sign_in_by_it(name: str) -> None:
    auth = f'[route.auth]\nmechanism = "{name.lower()}"\nuser = "u"\nsecret_file = "s"\n'
    (route,) = taken("", route=auth).delivery.routes
    assert isinstance(route, SmarthostRoute)
    assert route.auth is not None and route.auth.mechanism == name


def test_the_key_of_tokens_is_looked_at(tmp_path: Path) -> None:
    def findings() -> list[str]:
        settings = parse(f"{ABLE}{SITE}{ROUTE}", tmp_path / "pillarbox.toml")
        found = check_files(settings, ports=False)
        return [f"{one.severity.name}: {one.message}" for one in found if one.subject == "directory local"]

    assert any("ERROR" in found and "token.pem: cannot be read" in found for found in findings())
    (tmp_path / "token.pem").write_text("a secret of at least thirty-two octets")
    (tmp_path / "token.pem").chmod(0o644)
    assert any("WARNING: everybody on this machine can read" in found for found in findings())
    (tmp_path / "token.pem").chmod(0o600)
    assert findings() == []

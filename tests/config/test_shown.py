"""`config show`: the file's own names and units, and nothing by default that is not said."""

from dataclasses import replace
from pathlib import Path

from pillarbox.config import Settings, parse
from pillarbox.config.shown import as_toml, keys_of

HERE = Path("/etc/pillarbox/pillarbox.toml")
LEAST = """\
[[site]]
name = "mail.example.org"
submission = ["192.0.2.1:587"]
certificate = "certificate.pem"
key = "/elsewhere/key.pem"
[[route]]
host = "mx.example.org"
"""
MOST = f"""\
[server]
data_directory = "data"
drain_time = "1m"
[metrics]
[spool]
min_free = "2GiB"
[[directory]]
scram = true
argon2_memory = "32MiB"
token_key = "token.pem"
token_issuer = "https://id.example.org"
token_audience = "pillarbox"
{LEAST}tls = "tls"
[route.auth]
user = "relay\\u00e9\\"\\\\"
secret_file = "secret"
[[route]]
kind = "maildir"
domains = ["example.net"]
path = "out"
[[site]]
name = "print.example.org"
submission = ["10.0.0.10:2525", "[fd00::1]:2525"]
certificate = "print.pem"
key = "print.key"
max_message_size = "5MiB"
strict_text_lines = true
proxy_from = ["10.0.0.5"]
[site.legacy]
networks = ["10.0.0.0/8"]
logins = ["printer"]
recipients = ["@example.org"]
minimum_tls = "none"
"""


def again(text: str) -> Settings:
    """What the shown file means, but for its text."""
    return replace(parse(as_toml(keys_of(parse(text, HERE))), Path("/anywhere/x.toml")), path=HERE, text="")


def test_what_is_shown_is_a_file_that_says_the_same_wherever_it_lies() -> None:
    for text in (LEAST, MOST):
        wanted = replace(parse(text, HERE), text="")
        assert again(text) == wanted
        assert again(as_toml(keys_of(parse(text, HERE)))) == wanted


def test_names_units_and_paths_are_those_of_the_file() -> None:
    data = keys_of(parse(MOST, HERE))
    people, devices = data["site"]
    (directory,) = data["directory"]
    assert (directory["token_key"], directory["argon2_memory"]) == ("/etc/pillarbox/token.pem", "32MiB")
    assert (people["certificate"], people["key"]) == ("/etc/pillarbox/certificate.pem", "/elsewhere/key.pem")
    assert (people["tls_minimum_version"], people["idle_timeout"]) == ("1.2", "5m")
    assert "legacy" not in people
    assert (devices["max_message_size"], devices["proxy_from"]) == ("5MiB", ["10.0.0.5"])
    assert devices["legacy"]["networks"] == ["10.0.0.0/8"]
    assert not {"tls_minimum_version", "max_text_line"} & devices.keys()  # other keys stand for them
    assert [route.get("port") for route in data["route"]] == [465, None]
    assert data["route"][1]["path"] == "/etc/pillarbox/out"
    assert data["delivery"]["postmaster"] == "postmaster@mail.example.org"
    assert data["server"]["drain_time"] == "1m"

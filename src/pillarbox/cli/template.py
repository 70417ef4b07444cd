"""The commented pillarbox.toml that ``pillarbox init`` writes.

Every answer is written as a TOML string, escaped; the result is parsed before it is kept.
"""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Relay:
    """Where mail goes: a next hop, or a maildir for trying things out."""

    host: str = ""
    port: int = 25
    tls: str = "starttls"
    maildir: str | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """What init asked for. ``ports``: submission, submissions."""

    name: str
    relay: Relay
    listen: tuple[str, ...]
    ports: tuple[int, int]
    data_directory: str
    run_directory: str
    service_user: str | None
    scram: bool = False


def render(answers: Answers) -> str:
    """The whole file."""
    return _TEXT.format(
        name=_string(answers.name),
        data_directory=_string(answers.data_directory),
        run_directory=_string(answers.run_directory),
        user=f"user = {_string(answers.service_user)}" if answers.service_user else '# user = "pillarbox"',
        submission=_addresses(answers.listen, answers.ports[0]),
        submissions=_addresses(answers.listen, answers.ports[1]),
        route=_route(answers.relay),
        scram="true" if answers.scram else "false",
    )


def _string(text: str) -> str:
    # a JSON string of ASCII is a TOML basic string, but for the escape of DEL, which TOML wants escaped
    return json.dumps(text).replace("\x7f", "\\u007f")


def _addresses(hosts: tuple[str, ...], port: int) -> str:
    return ", ".join(_string(f"[{host}]:{port}" if ":" in host else f"{host}:{port}") for host in hosts)


def _route(relay: Relay) -> str:
    if relay.maildir is not None:
        return _MAILDIR.format(path=_string(relay.maildir))
    return _SMARTHOST.format(host=_string(relay.host), port=relay.port, tls=_string(relay.tls))


_TEXT = """\
# Pillarbox, a mail submission server. Every key: docs/reference/config.md, or `pillarbox config schema`.
# After a change: `pillarbox check`, then `pillarbox reload`. Paths are relative to this file.

[server]
data_directory = {data_directory}    # the queue, the accounts, the guard's counts: keep it, back it up
run_directory = {run_directory}      # the sockets of the running server
{user}             # whom the server becomes when root starts it

[log]
form = "readable"   # or "json", one object a line
level = "info"

[metrics]
listen = "127.0.0.1:9587"   # Prometheus; loopback only

# Who may sign in: the accounts that `pillarbox user` keeps. Where people have a password already (LDAP, IMAP,
# Dovecot, an OpenID provider, files, SQL) they use that one: docs/howto/signing-in.md.
[[directory]]
name = "local"
scram = {scram}   # true: with each password set from then on a SCRAM-SHA-256 secret is kept too

# A site: one public name. People sign in there with a user name and a password, inside TLS only.
[[site]]
name = {name}
submission = [{submission}]     # STARTTLS (RFC 6409)
submissions = [{submissions}]    # TLS from the start (RFC 8314): prefer it in mail programs
certificate = "certificate.pem"   # self-signed by `pillarbox init`: get one from a CA before people use it
key = "key.pem"
# directories = ["local"]         # who may sign in here, in this order
# max_message_size = "50MiB"
# max_recipients = 100            # of one message
# recipients_per_hour = 500       # of one person
# hide_client_address = false     # leave the client's address out of the Received field

# A route: where accepted mail goes. Look at it with `pillarbox check --relay HOST:PORT`.
{route}
[delivery]
max_age = "5d"          # then a bounce goes to the sender
delay_warning = "4h"
"""

_SMARTHOST = """\
[[route]]
domains = ["*"]
host = {host}
port = {port}
tls = {tls}          # "none", "starttls" or "tls"; the certificate is checked
# ca = "ca.pem"             # trust this CA instead of the system's
# assume_8bitmime = true    # Domino takes 8-bit mail without saying so
# [route.auth]
# mechanism = "PLAIN"       # or LOGIN, SCRAM-SHA-256, XOAUTH2, OAUTHBEARER
# user = "relay@example.org"
# secret_file = "relay.secret"

"""

_MAILDIR = """\
[[route]]
domains = ["*"]
kind = "maildir"
path = {path}      # nothing leaves this machine: for trying things out

"""

"""Which mechanisms there are: two explicit tables, one a role. SCRAM, OAUTHBEARER and EXTERNAL get their lines here.

ERRORS
    client_mechanism raises ValueError for an unknown name and for what the mechanism cannot carry.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pillarbox.sasl.login import LoginClient, LoginServer
from pillarbox.sasl.mechanism import ClientMechanism, ServerMechanism
from pillarbox.sasl.plain import PlainClient, PlainServer
from pillarbox.sasl.xoauth2 import Xoauth2Client

SERVER_MECHANISMS: Mapping[str, Callable[[], ServerMechanism]] = MappingProxyType(
    {"PLAIN": PlainServer, "LOGIN": LoginServer}
)
"""What a site may offer, by registered name in upper case; a call makes the object of one exchange."""

CLIENT_MECHANISMS: Mapping[str, Callable[[str, str], ClientMechanism]] = MappingProxyType(
    {"PLAIN": PlainClient, "LOGIN": LoginClient, "XOAUTH2": Xoauth2Client}
)
"""What a route may use: called with user and secret (a password; for XOAUTH2 an access token)."""


def client_mechanism(name: str, user: str, secret: str) -> ClientMechanism:
    """One exchange of the client role. ``name`` as registered, upper case. Raises ValueError; no secret is in it."""
    make = CLIENT_MECHANISMS.get(name)
    if make is None:
        raise ValueError(f"unknown mechanism; known are {', '.join(CLIENT_MECHANISMS)}")
    return make(user, secret)

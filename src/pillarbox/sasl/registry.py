"""Which mechanisms there are: two explicit tables, one a role. CRAM-MD5 is in neither and never will be: it wants the
password itself on the server, and whoever overhears one exchange can guess at leisure.

ERRORS
    client_mechanism raises ValueError for an unknown name and for what the mechanism cannot carry.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pillarbox.sasl.external import ExternalServer
from pillarbox.sasl.login import LoginClient, LoginServer
from pillarbox.sasl.mechanism import ClientMechanism, ServerMechanism
from pillarbox.sasl.oauthbearer import OauthbearerClient, OauthbearerServer
from pillarbox.sasl.plain import PlainClient, PlainServer
from pillarbox.sasl.scram import ScramServer
from pillarbox.sasl.scram_client import ScramClient
from pillarbox.sasl.xoauth2 import Xoauth2Client, Xoauth2Server

SERVER_MECHANISMS: Mapping[str, Callable[[], ServerMechanism]] = MappingProxyType(
    {
        "SCRAM-SHA-256": ScramServer,
        "PLAIN": PlainServer,
        "LOGIN": LoginServer,
        "OAUTHBEARER": OauthbearerServer,
        "XOAUTH2": Xoauth2Server,
        "EXTERNAL": ExternalServer,
    }
)
"""What a site may offer, by registered name in upper case; a call makes the object of one exchange."""

CLIENT_MECHANISMS: Mapping[str, Callable[[str, str, str], ClientMechanism]] = MappingProxyType(
    {
        "PLAIN": lambda user, secret, nonce: PlainClient(user, secret),
        "LOGIN": lambda user, secret, nonce: LoginClient(user, secret),
        "SCRAM-SHA-256": ScramClient,
        "XOAUTH2": lambda user, secret, nonce: Xoauth2Client(user, secret),
        "OAUTHBEARER": lambda user, secret, nonce: OauthbearerClient(user, secret),
    }
)
"""What a route may use: called with user, secret (a password, or an access token) and nonce."""


def client_mechanism(name: str, user: str, secret: str, nonce: str = "") -> ClientMechanism:
    """One exchange of the client role. ``name`` as registered, upper case; ``nonce``: fresh, at least 16 characters
    of printable ASCII without comma; only SCRAM needs it. Raises ValueError; no secret is in it."""
    make = CLIENT_MECHANISMS.get(name)
    if make is None:
        raise ValueError(f"unknown mechanism; known are {', '.join(CLIENT_MECHANISMS)}")
    return make(user, secret, nonce)

"""SASL exchanges without I/O, both roles. Imports nothing of ours.

mechanism = SERVER_MECHANISMS["PLAIN"]()      # a fresh object per AUTH
mechanism.step(initial_response_or_None)      # Challenge | Success(credentials) | Failure(reason)

mechanism = client_mechanism("PLAIN", user, password)
mechanism.initial_response(), then mechanism.step(challenge) for each challenge
"""

from pillarbox.sasl.mechanism import (
    Challenge,
    ClientMechanism,
    Credentials,
    ExchangeError,
    Failure,
    PasswordCredentials,
    ServerMechanism,
    Success,
)
from pillarbox.sasl.registry import CLIENT_MECHANISMS, SERVER_MECHANISMS, client_mechanism

__all__ = [
    "CLIENT_MECHANISMS",
    "SERVER_MECHANISMS",
    "Challenge",
    "ClientMechanism",
    "Credentials",
    "ExchangeError",
    "Failure",
    "PasswordCredentials",
    "ServerMechanism",
    "Success",
    "client_mechanism",
]

"""SASL exchanges without I/O, both roles. Imports nothing of ours.

mechanism = SERVER_MECHANISMS["PLAIN"]()      # a fresh object per AUTH
mechanism.step(initial_response_or_None)      # what follows: see mechanism.py

mechanism = client_mechanism("PLAIN", user, password, nonce)
mechanism.initial_response(), then mechanism.step(challenge) for each challenge
"""

from pillarbox.sasl.mechanism import (
    CertificateClaim,
    Challenge,
    Claim,
    ClientMechanism,
    Credentials,
    Disproved,
    ExchangeError,
    Failure,
    PasswordCredentials,
    ProofWanted,
    ProvenCredentials,
    RelayedCredentials,
    ScramFirst,
    ScramSecret,
    SecretWanted,
    ServerMechanism,
    Step,
    Success,
    TokenCredentials,
    TokenHint,
)
from pillarbox.sasl.registry import CLIENT_MECHANISMS, SERVER_MECHANISMS, client_mechanism

__all__ = [
    "CLIENT_MECHANISMS",
    "SERVER_MECHANISMS",
    "CertificateClaim",
    "Challenge",
    "Claim",
    "ClientMechanism",
    "Credentials",
    "Disproved",
    "ExchangeError",
    "Failure",
    "PasswordCredentials",
    "ProofWanted",
    "ProvenCredentials",
    "RelayedCredentials",
    "ScramFirst",
    "ScramSecret",
    "SecretWanted",
    "ServerMechanism",
    "Step",
    "Success",
    "TokenCredentials",
    "TokenHint",
    "client_mechanism",
]

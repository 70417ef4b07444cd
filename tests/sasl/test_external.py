"""EXTERNAL (RFC 4422 A), server role."""

import pytest

from pillarbox.sasl import CertificateClaim, Challenge, Failure, Success
from pillarbox.sasl.external import ExternalServer
from pillarbox.sasl.plain import MAX_NAME


@pytest.mark.parametrize(
    ("response", "authzid"), [(b"", ""), ("jörg".encode(), "jörg"), (b"a" * MAX_NAME, "a" * MAX_NAME)]
)
def test_the_response_is_who_to_act_as(response: bytes, authzid: str) -> None:
    server = ExternalServer()
    assert server.step(None) == Challenge(b"")
    assert server.step(response) == Success(CertificateClaim(authzid))


@pytest.mark.parametrize("response", [b"a\0b", b"\xff", b"a" * (MAX_NAME + 1)])
def test_what_is_no_name_is_a_failure(response: bytes) -> None:
    assert isinstance(ExternalServer().step(response), Failure)

"""EXTERNAL: the certificate that the client showed in TLS says who it is. Server role.

STANDARDS
    RFC 4422 appendix A.

ERRORS
    Failure for an authzid that is too long, holds NUL or is not UTF-8; it names no octet received.

Imports nothing but the room's own values.
"""

from pillarbox.sasl.mechanism import CertificateClaim, Challenge, Failure, Success
from pillarbox.sasl.plain import MAX_NAME


class ExternalServer:
    """ServerMechanism EXTERNAL. An empty response means: whoever the certificate is."""

    __slots__ = ()

    def step(self, response: bytes | None) -> Challenge | Success | Failure:
        """Reads the authzid."""
        if response is None:
            return Challenge(b"")
        if len(response) > MAX_NAME or b"\0" in response:
            return Failure("EXTERNAL: the authzid is too long or holds NUL")
        try:
            return Success(CertificateClaim(response.decode()))
        except UnicodeDecodeError:
            return Failure("EXTERNAL: the authzid is not UTF-8")

"""SCRAM secrets, stored with a password so that SCRAM-SHA-256 can be offered. The only importer of scramp here.

    create_secret("pencil") -> "SCRAM-SHA-256$100000:c2FsdA==$StoredKey:ServerKey"

A password with code points that Unicode 3.2 does not know has no secret: a SCRAM client may prepare it otherwise.

STANDARDS
    RFC 7677 (SCRAM-SHA-256), RFC 5803 (the stored form; "$" and ":" are its separators).

ERRORS
    ValueError: the password cannot be used with SCRAM.
"""

import base64

import scramp  # type: ignore[import-untyped]  # it ships no types

ITERATIONS = 100_000


def create_secret(password: str, *, iterations: int = ITERATIONS, salt: bytes | None = None) -> str:
    """The stored secret of a prepared password in RFC 5803 form; blocks for the time of its iterations (about
    30 ms). Raises ValueError."""
    try:
        salt, stored_key, server_key, count = scramp.ScramMechanism("SCRAM-SHA-256").make_auth_info(
            password, iteration_count=iterations, salt=salt
        )
    except scramp.ScramException as error:
        raise ValueError(f"cannot be used with SCRAM: {error}") from error
    salt_text, stored_text, server_text = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return f"SCRAM-SHA-256${count}:{salt_text}${stored_text}:{server_text}"

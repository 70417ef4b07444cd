"""scram.py: stored secrets."""

import base64

import pytest

from pillarbox.directory.scram import ITERATIONS, create_secret


def test_the_secret_is_that_of_rfc_7677s_example_with_more_iterations() -> None:
    """Computed by its definition (RFC 5802 3), not by the library under test."""
    import hashlib
    import hmac

    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", salt, ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    secret = create_secret("pencil", salt=salt)
    assert secret == (
        f"SCRAM-SHA-256${ITERATIONS}:W22ZaJ0SNY7soEsUEjb6gQ=="
        f"${base64.b64encode(stored_key).decode()}:{base64.b64encode(server_key).decode()}"
    )


def test_salts_are_fresh_and_iterations_at_least_100_000() -> None:
    one, other = create_secret("pencil"), create_secret("pencil")
    assert one != other
    assert int(one.split("$")[1].split(":")[0]) >= 100_000


def test_a_password_that_clients_may_prepare_otherwise_has_no_secret() -> None:
    with pytest.raises(ValueError, match="SCRAM"):
        create_secret("\N{GRINNING FACE}")

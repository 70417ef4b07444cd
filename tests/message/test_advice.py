"""Plain words by status code: the detail first, then the subject, then general ones."""

import pytest

from pillarbox.message.advice import advice


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("5.1.1", "spelling"),
        ("4.2.2", "full"),
        ("5.1.10", "takes no mail at all"),
        ("5.1.99", "was not accepted"),
        ("5.7.1", "refused the message by its own rules"),
        ("5.7.509", "refused the message by its own rules"),
        ("5.4.7", "put us off"),
        ("5.6.3", "8-bit"),
        ("5.6.7", "international"),
        ("5.3.0", "administrator"),
        ("5.0.0", "administrator"),
        ("nonsense", "administrator"),
        ("", "administrator"),
    ],
)
def test_advice(status: str, word: str) -> None:
    assert word in advice(status)

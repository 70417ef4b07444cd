"""domino.py: the public test vectors of the three forms."""

import pytest

from pillarbox.directory.schemes import domino
from pillarbox.directory.schemes.errors import Unreadable

VECTORS = (
    ("(06E0A50B579AD2CD5FFDC48564627EE7)", "secret", 1),
    ("(355E98E7C7B59BD810ED845AD0FD2FC4)", "password", 1),
    ("(CD2D90E8E00D8A2A63A81F531EA8A9A3)", "lotus", 1),
    ("(69D90B46B1AC0912E5CCF858094BBBFC)", "dirtydog", 1),
    ("(GDJ0nDZI8l8RJzlRbemg)", "hashcat", 2),
    ("(GVMroLzc50YK/Yd+L8KH)", "", 2),
    ("(GqnUDNNGNUz5HRoelmLU)", "x", 2),
    ("(GNBpcGJRYpBe9orUOpmZ)", "dupaaa123", 2),
    ("(G0xjUQzdKxvHpUYqo5hU)", "koziolekmatolek", 2),
    ("(G+dfECo845XxUw+nFVYD)", "szesnascieznakow", 2),
    ("(GowT5I2hVHZpRWpvGmux)", "terazjakiesdwadziesciacos", 2),
    ("(HsjFebq0Kh9kH7aAZYc7kY30mC30mC3KmC30mCluagXrvWKj1)", "hashcat", 3),
    ("(HosOQowHtnaYQqFo/XlScup0mC30mC3KmC30mCeACAxpjQN2u)", "pleaseletmein", 3),
)


@pytest.mark.parametrize(("stored", "password", "form"), VECTORS)
def test_a_public_vector_verifies_with_its_password_alone(stored: str, password: str, form: int) -> None:
    found, verify = domino.read(stored)
    assert found == form
    assert verify(password.encode())
    assert not verify(password.encode() + b"x") and not verify(password.upper().encode() or b"y")


def test_form_1_may_be_written_in_lower_case() -> None:
    assert domino.read("(355e98e7c7b59bd810ed845ad0fd2fc4)")[1](b"password")


def with_rounds(digits: bytes) -> str:
    """A text of form 3 that asks for so many rounds."""
    raw = bytes(16) + digits + b"zz" + bytes(8)
    return f"(H{domino._encode(raw)})"


@pytest.mark.parametrize("digits", [b"9999999999", b"0000000000", b"+000000001", b"1_00000000"])
def test_form_3_with_absurd_rounds_is_refused(digits: bytes) -> None:
    with pytest.raises(Unreadable):
        domino.read(with_rounds(digits))
    domino.read(with_rounds(b"0000000001"))


@pytest.mark.parametrize(
    "text", ["()", "(G)", "(GDJ0nDZI8l8RJzlRbemg", "(X" + "0" * 19 + ")", "(355E98)", "(G" + "é" * 19 + ")"]
)
def test_what_is_none_of_the_forms_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(Unreadable) as refused:
        domino.read(text)
    assert text not in str(refused.value)

"""What is wrong with a stored password. None of these texts holds any of it.

ERRORS
    They are them.
"""


class BadStored(ValueError):
    """It cannot be verified: that says nothing about the password that was tried."""


class UnknownScheme(BadStored):
    """``scheme`` is none of ours."""

    def __init__(self, scheme: str) -> None:
        super().__init__(f"the scheme of the stored password is not known: {scheme}")
        self.scheme = scheme


class Unreadable(BadStored):
    """Broken, or it asks for more time or memory than is given."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the stored password cannot be used: {why}")

"""LOGIN: the user name and the password as two responses. Both roles. Obsolete, and still what many clients speak.

STANDARDS
    draft-murchison-sasl-login; the user name as initial response is a habit of clients (Outlook, swaks, .NET).

ERRORS
    The server's step returns Failure; its reason names no octet received. The client raises ExchangeError at a third
    challenge.

Imports nothing but the room's own values.
"""

from pillarbox.sasl.mechanism import Challenge, ExchangeError, Failure, PasswordCredentials, Success
from pillarbox.sasl.plain import MAX_NAME, MAX_PASSWORD, is_carried

USERNAME_PROMPT = Challenge(b"Username:")
PASSWORD_PROMPT = Challenge(b"Password:")


class LoginServer:
    """ServerMechanism LOGIN. The prompts are exactly ``Username:`` and ``Password:``: clients compare them."""

    __slots__ = ("_authcid", "_prompted")

    def __init__(self) -> None:
        self._authcid: str | None = None
        self._prompted = False

    def step(self, response: bytes | None) -> Challenge | Success | Failure:
        """The first response is the user name, the second the password."""
        if self._authcid is None:
            return self._take_user(response)
        return self._take_password(self._authcid, response)

    def _take_user(self, response: bytes | None) -> Challenge | Failure:
        # `AUTH LOGIN =`: LOGIN is server-first, so an empty initial response says nothing and the name is asked for
        if not response and not self._prompted:
            self._prompted = True
            return USERNAME_PROMPT
        authcid = _text(response, MAX_NAME)
        if authcid is None:
            return Failure("LOGIN: the user name is empty, too long, or not UTF-8 without NUL")
        self._authcid = authcid
        return PASSWORD_PROMPT

    @staticmethod
    def _take_password(authcid: str, response: bytes | None) -> Success | Failure:
        password = _text(response, MAX_PASSWORD)
        if password is None:
            return Failure("LOGIN: the password is empty, too long, or not UTF-8 without NUL")
        return Success(PasswordCredentials(authcid, password))


class LoginClient:
    """ClientMechanism LOGIN. Goes by the order of the challenges, not by their words: servers spell them freely."""

    __slots__ = ("_responses",)

    name = "LOGIN"
    complete = True

    def __init__(self, user: str, password: str) -> None:
        """Raises ValueError for what LOGIN cannot carry: an empty user or password, a NUL."""
        if not is_carried(user) or not is_carried(password):
            raise ValueError("LOGIN needs a user and a password, both UTF-8 without NUL")
        self._responses = [password.encode(), user.encode()]

    def initial_response(self) -> None:
        """None: the server speaks first."""

    def step(self, challenge: bytes) -> bytes:
        """The user name, then the password."""
        if not self._responses:
            raise ExchangeError("LOGIN: the server asks for more than a user and a password")
        return self._responses.pop()


def _text(response: bytes | None, limit: int) -> str | None:
    if not response or len(response) > limit or b"\0" in response:
        return None
    try:
        return response.decode()
    except UnicodeDecodeError:
        return None

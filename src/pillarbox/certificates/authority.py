"""Speaks ACME with an authority: an account, an order, a challenge, a certificate. The only importer of acme, josepy
and requests.

    authority = AcmeAuthority(settings, account_key)
    chain = authority.issue("mail.example.org", key, proof)

Blocks: for a thread. The account is found by its key, or made; its terms were agreed to in the configuration, or
there are no settings. One http-01 or dns-01 challenge per order, since an order has one name.

STANDARDS
    RFC 8555 (ACME), RFC 9773 (ARI), RFC 7518 3.4 (ES256).

ERRORS
    AuthorityError, its text and advice for an operator. ImportError when this module is imported without the extra
    (settings.missing_library says so first).
"""

import datetime
import re
from collections.abc import Callable
from typing import Any, TypeVar

import requests
from acme import challenges, client, crypto_util, errors, messages
from josepy import errors as josepy_errors
from josepy.jwa import ES256
from josepy.jwk import JWK

from pillarbox import __version__
from pillarbox.certificates.keeper import AuthorityError, Proof
from pillarbox.certificates.settings import AcmeSettings

T = TypeVar("T")

NETWORK_TIME = 30
"""Seconds for one request, and for its answer to begin."""

ANSWER_CEILING = 1024 * 1024
"""Octets of one answer: a directory, an order, a chain."""

NONCE_TRIES = 4
"""How often a request is made anew, twice each time, when its nonce is refused (RFC 8555 6.5)."""

_MOST_SAID = 500
_SECONDS = re.compile(r"[0-9]{1,9}")

ORDER_TIME = 180
"""Seconds for the authority to look and to issue."""

_ADVICE = {
    "connection": "port 80 of the name must reach the responder: look at DNS (A and AAAA) and the firewall",
    "dns": "look at the name in DNS: A, AAAA and CAA",
    "caa": "a CAA record in DNS forbids this authority",
    "unauthorized": "what answers on port 80 of the name, or its TXT record, is not this server's",
    "rejectedIdentifier": "the authority issues nothing for that name",
    "rateLimited": "wait: too much was asked of the authority for this name or from this account",
    "externalAccountRequired": "get an account from the authority, and name it: external_account in [acme]",
    "userActionRequired": "read what the authority says, and agree again",
    "invalidContact": "correct email in [acme]",
    "unsupportedContact": "correct email in [acme]",
    "accountDoesNotExist": "move account/key.pem away: a new account is made",
}
_OTHERWISE = "read what the authority says"
_UNDERSTOOD = "look whether directory in [acme] is the URL of an ACME directory (RFC 8555)"
_UNREACHABLE = "look whether this machine reaches the authority's directory, and whether its certificate is trusted"


class _Network(client.ClientNetwork):
    """The library's, which tries a nonce that is refused once more; authorities may refuse several in a row."""

    def post(self, *arguments: Any, **keywords: Any) -> requests.Response:
        for _ in range(NONCE_TRIES):
            try:
                return super().post(*arguments, **keywords)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return super().post(*arguments, **keywords)


class AcmeAuthority:
    """See the module's text."""

    def __init__(self, settings: AcmeSettings, account_key: bytes) -> None:
        self._settings = settings
        self._key = account_key
        self._retry_after: float | None = None

    def issue(self, name: str, key: bytes, proof: Proof) -> bytes:
        """A chain for ``name``. Raises AuthorityError."""
        return self._in_words(lambda: self._issue(name, key, proof))

    def suggestion(self, chain: bytes) -> tuple[float | None, float | None]:
        """When to renew, and when to ask again (RFC 9773). Raises AuthorityError."""
        return self._in_words(lambda: self._suggestion(chain))

    def _issue(self, name: str, key: bytes, proof: Proof) -> bytes:
        acme = self._client()
        self._sign_in(acme)
        deadline = datetime.datetime.now() + datetime.timedelta(seconds=ORDER_TIME)
        order = acme.new_order(crypto_util.make_csr(key, [name]))
        shown: list[tuple[str, str]] = []
        try:
            for authorization in order.authorizations:
                if authorization.body.status != messages.STATUS_VALID:
                    shown.append(_show(acme, name, authorization, proof))
            order = acme.poll_authorizations(order, deadline)
        finally:
            for place, value in shown:
                proof.hide(place, value)
        return acme.finalize_order(order, deadline).fullchain_pem.encode("ascii")

    def _suggestion(self, chain: bytes) -> tuple[float | None, float | None]:
        wanted, again = self._client().renewal_time(chain)
        return (wanted.timestamp() if wanted is not None else None), again.timestamp()

    def _client(self) -> client.ClientV2:
        key = JWK.load(self._key)
        net = _Network(key, alg=ES256, user_agent=f"Pillarbox/{__version__}", timeout=NETWORK_TIME)
        if self._settings.authority is not None:
            # requests takes the path of a file as well, the library's hint knows only of bool
            net.verify_ssl = str(self._settings.authority)  # type: ignore[assignment]  # as said above
        net.session.headers["Accept-Encoding"] = "identity"
        net.session.hooks["response"] += [_read, self._note]
        directory = messages.Directory.from_json(net.get(self._settings.directory).json())
        return client.ClientV2(directory, net)

    def _sign_in(self, acme: client.ClientV2) -> None:
        """The account of our key, which is made when there is none."""
        new = messages.NewRegistration.from_data(
            email=self._settings.email,
            external_account_binding=self._binding(acme),
            terms_of_service_agreed=True,
        )
        try:
            acme.new_account(new)
        except errors.ConflictError as known:
            acme.net.account = messages.RegistrationResource(uri=known.location, body=messages.Registration())

    def _binding(self, acme: client.ClientV2) -> dict[str, Any] | None:
        """What shows that an account that the authority gave out is ours (RFC 8555 7.3.4). Raises AuthorityError."""
        name, path = self._settings.external_account, self._settings.external_key_file
        if name is None or path is None or acme.net.key is None:
            return None
        try:
            secret = path.read_text("ascii").strip()
            return messages.ExternalAccountBinding.from_data(acme.net.key.public_key(), name, secret, acme.directory)
        except (OSError, ValueError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it holds no key in base64url"
            raise AuthorityError(f"external_key_file {path}: {reason}", "correct it in [acme]") from None

    def _note(self, response: requests.Response, *_arguments: object, **_keywords: object) -> None:
        """How long an answer that refuses says to wait; the library does not tell (RFC 8555 6.6)."""
        if response.status_code in (429, 503):
            found = _SECONDS.fullmatch(response.headers.get("Retry-After", ""))
            self._retry_after = float(found.group()) if found is not None else None

    def _in_words(self, call: Callable[[], T]) -> T:
        """``call``'s value; what it raises becomes an AuthorityError."""
        try:
            return call()
        except errors.ValidationError as error:
            problems = [
                challenge.error
                for authorization in error.failed_authzrs
                for challenge in authorization.body.challenges
                if challenge.error is not None
            ]
            raise self._said(problems[0], "it could not see that the name is ours: ") from None
        except errors.IssuanceError as error:
            raise self._said(error.error) from None
        except messages.Error as error:
            raise self._said(error) from None
        except (requests.exceptions.RequestException, errors.ARIError) as error:
            cause = error.__cause__ if isinstance(error, errors.ARIError) else error
            raise AuthorityError(f"the authority cannot be reached: {_short(cause)}", _UNREACHABLE) from None
        except errors.TimeoutError:
            reason = f"the authority did not decide within {ORDER_TIME} s"
            raise AuthorityError(reason, "nothing is to be done: it is asked again") from None
        except AuthorityError:
            raise
        except (errors.Error, josepy_errors.Error, ValueError, LookupError, AttributeError, TypeError) as error:
            # the last two are how the library says that a value in an answer has another type than it looks for
            raise AuthorityError(f"the authority was not understood: {_short(error)}", _UNDERSTOOD) from None

    def _said(self, problem: messages.Error, before: str = "") -> AuthorityError:
        """What the authority said, with what to do about it."""
        code = problem.code or problem.typ
        parts = [problem, *(problem.subproblems or ())]
        detail = "; ".join(part.detail for part in parts if part.detail) or problem.title or "no reason given"
        text = f"the authority said: {before}{_clean(detail)} ({code})"
        limited = (self._retry_after or 0.0) if code == "rateLimited" else None
        return AuthorityError(text, _ADVICE.get(code, _OTHERWISE), limited=limited)


def _read(response: requests.Response, *_arguments: object, **_keywords: object) -> None:
    """Reads the content, which is not yet read where hooks are called, up to its ceiling. Raises ValueError."""
    octets = bytearray()
    for chunk in response.iter_content(16_384):
        octets += chunk
        if len(octets) > ANSWER_CEILING:
            response.close()
            raise ValueError(f"an answer of more than {ANSWER_CEILING} octets")
    response._content = bytes(octets)  # where ``content`` keeps what was read


def _show(
    acme: client.ClientV2, name: str, authorization: messages.AuthorizationResource, proof: Proof
) -> tuple[str, str]:
    """Shows the proof of one authorization, for the name that we asked for, and tells the authority to look. Raises
    AuthorityError."""
    asked = authorization.body.identifier.value
    if asked.lower() != name.lower():
        raise AuthorityError(f"the authority wants a proof for {asked!r} instead of {name}", "take another authority")
    for challenge in authorization.body.challenges:
        chall = challenge.chall
        if chall.typ != proof.kind:
            continue
        key = acme.net.key
        if isinstance(chall, challenges.HTTP01):
            place, value = chall.path, chall.validation(key)
        elif isinstance(chall, challenges.DNS01):
            place, value = chall.validation_domain_name(name), chall.validation(key)
        else:
            continue
        proof.show(place, value)
        try:
            acme.answer_challenge(challenge, challenge.response(key))
        except BaseException:
            proof.hide(place, value)
            raise
        return place, value
    offered = ", ".join(challenge.chall.typ for challenge in authorization.body.challenges)
    raise AuthorityError(f"the authority offers no {proof.kind}, only {offered}", "take another authority")


def _short(error: BaseException | None) -> str:
    """The innermost reason, in one line."""
    while error is not None:
        inner = error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    return _clean(f"{type(error).__name__}: {error}")


def _clean(text: str) -> str:
    """One line of what a peer wrote, of a length that a log can bear."""
    return " ".join(text.split())[:_MOST_SAID]

"""AUTH: sasl mechanism x guard x directory -> Identity.

    identity = await authenticate(stream, event, asker)

The guard is asked before anything is hashed. Every failure, whatever its cause, is answered with one text at a
fixed time after the client's last word, plus the guard's delay; how many may wait so is bounded. A directory that
takes longer makes it two of these times, or three: whole ones, whatever it knew. A mechanism of
tokens tells its client of the refusal in a challenge first, at that same time, with what the directory says of tokens
that would count (RFC 7628 3.2.2).

In SCRAM the guard is asked as soon as there is a name, and the challenge with the salt leaves at a fixed time after
the name came, whether somebody has that name or not. A wrong password cannot be recognised there when it comes
again, so each failure counts as a distinct one. Where a server behind has the secrets and plays the exchange
(RelaysScram), the client gets its signature only once it is known that the person may sign in here; and whoever takes
a challenge of that server at an unknown place, and shows no proof, has failed: each costs it a question.

Devices sign in at their legacy site and nowhere else, and nobody else there. Right credentials at the wrong site are
a failure like any other: checked in full, counted, and answered as a wrong password is.

STANDARDS
    RFC 4954 (AUTH), RFC 4422 (SASL), RFC 7628 3.2.3.

ERRORS
    Refused: 535 for a failure, 454 for a directory that cannot say, 421 for a blocked address or a full waiting
    room, 501 for a cancelled exchange. Stream errors pass through.

MUST NOT IMPORT a directory's or guard's implementation; passwords leave this module only to them.
"""

import asyncio
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pillarbox.directory.app_passwords import is_one as is_app_password
from pillarbox.directory.base import (
    RELAY_TIME,
    CertificateDirectory,
    Denied,
    HintsAtTokens,
    Identity,
    PeopleDirectory,
    Reason,
    RelaysScram,
    ScramDirectory,
    ScramRelay,
    TokenDirectory,
    Unavailable,
)
from pillarbox.directory.preparation import false_name
from pillarbox.guard.base import Attempt, Verdict
from pillarbox.net.stream import Stream
from pillarbox.sasl.mechanism import (
    CertificateClaim,
    Claim,
    Disproved,
    Failure,
    PasswordCredentials,
    ProofWanted,
    ProvenCredentials,
    Refusal,
    RelayedCredentials,
    SecretWanted,
    Success,
    TokenCredentials,
    TokenHint,
)
from pillarbox.sasl.mechanism import Challenge as SaslChallenge
from pillarbox.sasl.registry import SERVER_MECHANISMS
from pillarbox.smtp.events import Auth, AuthCancelled, AuthResponse, Challenge, ConnectionClosed
from pillarbox.submission import replies
from pillarbox.submission.admission import Admission
from pillarbox.submission.replies import Refused
from pillarbox.submission.site import Services, Site
from pillarbox.telemetry.counters import counter
from pillarbox.telemetry.events import Logger

SIGN_INS = counter("sign_ins_total", "Sign-in attempts", labels=("mechanism", "result"))

SECRET_TIME = 0.02
"""Seconds from a name in SCRAM to the challenge with its salt: longer than any look-up takes."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Where the attempt comes from, and what judges it. ``certificate``: the client's in DER, verified by TLS, where
    there is one and the mechanism is EXTERNAL."""

    address: str
    site: Site
    services: Services
    admission: Admission[Any]
    log: Logger
    certificate: bytes | None = None


async def authenticate(stream: Stream, event: Auth, asker: Asker) -> Identity:
    """Runs the exchange and returns who it is. The reply, 235 or the Refused one, is the caller's to send."""
    return await _Exchange(stream, event.mechanism, asker).run(event.initial_response)


async def recognise(certificate: bytes, asker: Asker) -> Identity | None:
    """Who the client is by its certificate (DER, verified by TLS), without a word of AUTH; None: nobody, or the
    directory cannot say. It is no attempt that could fail: the client may sign in with AUTH after it."""
    directory = asker.site.directory
    if not isinstance(directory, CertificateDirectory):
        return None
    try:
        answer = await directory.verify_certificate(certificate, "")
    except Unavailable as error:
        asker.log.info("signin.certificate_unknown", reason=f"directory unavailable: {error}")
        return None
    digest = hashlib.sha256(certificate).hexdigest()
    if isinstance(answer, Identity) and not asker.site.admits(answer):
        answer = Denied(Reason.ELSEWHERE, answer.login)
    if isinstance(answer, Denied):
        details = {"fingerprint": digest, "login": answer.login, **answer.details}
        asker.log.info("signin.certificate_unknown", reason=answer.reason.name.lower(), **details)
        return None
    services = asker.services
    fingerprint = services.guard.fingerprint(answer.login, digest)
    services.guard.succeeded(Attempt(asker.address, answer.login, fingerprint, services.now()))
    SIGN_INS.add(1, "certificate", "ok")
    return answer


class _Exchange:
    """One AUTH."""

    __slots__ = ("_asker", "_mechanism", "_relay", "_relayed", "_said_at", "_stream", "_unproven", "_verdict")

    def __init__(self, stream: Stream, mechanism: str, asker: Asker) -> None:
        self._stream = stream
        self._mechanism = mechanism
        self._asker = asker
        self._verdict: Verdict | None = None
        self._relay: ScramRelay | None = None
        self._relayed: Identity | Denied | None = None
        self._unproven: str | None = None
        self._said_at = asyncio.get_running_loop().time()

    async def run(self, initial_response: bytes | None) -> Identity:
        """See authenticate."""
        try:
            step = await self._converse(initial_response)
        finally:
            if self._relay is not None:
                self._relay.close()
            if self._unproven is not None:
                self._count(self._unproven, self._asker.services.random(16).hex())
        refusal: Refusal | None = None
        match step:
            case Failure():
                await self._fail("", f"malformed: {step.reason}")
                refusal = step.refusal
            case Disproved():
                # nothing of the password is known here, so the fingerprint is of nothing that comes again
                self._count(step.authcid, self._asker.services.random(16).hex())
                relayed = self._relayed
                denied = relayed if isinstance(relayed, Denied) else Denied(Reason.WRONG)
                await self._fail(step.authcid, denied.reason.name.lower(), denied.details)
            case Success():
                answer = await self._verify(step.credentials)
                if isinstance(answer, Identity):
                    return answer
                login = _login(step.credentials) or answer.login or ""
                await self._fail(login, answer.reason.name.lower(), answer.details)
                refusal = step.refusal
        if refusal is not None:
            await self._ask(SaslChallenge(refusal(self._hint())))  # whatever the client says to it
        raise Refused(replies.SIGN_IN_FAILED, "sign-in failed")

    async def _converse(self, initial_response: bytes | None) -> Success | Disproved | Failure:
        """The SASL dialogue up to its end. Raises Refused when the client cancels."""
        mechanism = SERVER_MECHANISMS[self._mechanism]()
        step = mechanism.step(initial_response)
        while not isinstance(step, Success | Disproved | Failure):
            if isinstance(step, SecretWanted):
                step = await self._begin_scram(step)
            elif isinstance(step, ProofWanted):
                step = await self._prove(step)
                if isinstance(step, Disproved):
                    return step
            response = await self._ask(step)
            self._said_at = asyncio.get_running_loop().time()
            step = mechanism.step(response)
        return step

    async def _ask(self, challenge: SaslChallenge) -> bytes:
        self._stream.send(Challenge(challenge.octets))
        answer = await self._stream.next_event()
        match answer:
            case AuthResponse(response):
                return response
            case AuthCancelled():
                raise Refused(replies.SIGN_IN_CANCELLED, "the client cancelled the exchange")
            case ConnectionClosed():
                raise Refused(replies.SIGN_IN_CANCELLED, "the client left during the exchange", closes=True)
            case _:
                raise AssertionError(f"{type(answer).__name__} inside a SASL exchange")

    async def _begin_scram(self, wanted: SecretWanted) -> SaslChallenge:
        """The challenge, by a secret or by the server that plays the exchange; when it leaves tells nothing."""
        loop = asyncio.get_running_loop()
        site, directory = self._asker.site, self._asker.site.directory
        relays = isinstance(directory, RelaysScram) and directory.relays_scram
        leaves_at = loop.time() + SECRET_TIME + (RELAY_TIME if relays else 0.0)
        verdict = await self._ask_guard(wanted.authcid)
        try:
            name = await _secret_name(wanted.authcid, site)
            if relays and isinstance(directory, RelaysScram):
                first = replace(wanted.first, authcid=name)
                self._relay = await directory.open_scram(first, known_place=verdict.known_place)
            if self._relay is not None:
                challenge = wanted.relay(self._relay.challenge)
                self._unproven = None if verdict.known_place else wanted.authcid
            elif isinstance(directory, ScramDirectory):
                nonce = self._asker.services.random(18).hex()
                challenge = wanted.proceed(await directory.scram_secret(name), nonce)
            else:
                raise AssertionError("SCRAM at a directory without secrets")
        except Unavailable as error:
            raise self._unavailable(error) from error
        await asyncio.sleep(leaves_at - loop.time())
        return challenge

    async def _prove(self, wanted: ProofWanted) -> SaslChallenge | Disproved:
        """The signature of the server that plays the exchange; none for whom it, or the site, does not let in."""
        assert self._relay is not None  # noqa: S101 -- a relayed exchange alone asks for this
        self._unproven = None
        try:
            answer = await self._relay.prove(wanted.message)
        except Unavailable as error:
            raise self._unavailable(error) from error
        if isinstance(answer, Denied):
            self._relayed = answer
            return Disproved(wanted.authcid)
        if not self._asker.site.admits(answer.identity):
            self._relayed = Denied(Reason.ELSEWHERE, answer.identity.login)
            return Disproved(wanted.authcid)
        self._relayed = answer.identity
        return wanted.conclude(answer.signature)

    async def _ask_guard(self, login: str) -> Verdict:
        if self._verdict is not None:
            return self._verdict
        asker = self._asker
        verdict = self._verdict = await asker.services.guard.ask(asker.address, login, asker.services.now())
        if verdict.blocked is not None:
            SIGN_INS.add(1, self._mechanism, "blocked")
            asker.log.warning(
                "signin.blocked", login=login, until=verdict.blocked.until, failures=verdict.blocked.failures
            )
            raise Refused(replies.BLOCKED, "address blocked after failures", closes=True)
        return verdict

    async def _verify(self, credentials: Claim) -> Identity | Denied:
        verdict = await self._ask_guard(_login(credentials))
        try:
            answer = await self._ask_directory(credentials, verdict)
        except Unavailable as error:
            raise self._unavailable(error) from error
        if isinstance(answer, Identity) and not self._asker.site.admits(answer):
            answer = Denied(Reason.ELSEWHERE, answer.login)
        if isinstance(answer, Identity):
            services = self._asker.services
            fingerprint = services.guard.fingerprint(_login(credentials), self._secret(credentials))
            services.guard.succeeded(Attempt(self._asker.address, answer.login, fingerprint, services.now()))
            SIGN_INS.add(1, self._mechanism, "ok")
        else:
            self._count(_login(credentials), self._secret(credentials))
        return answer

    async def _ask_directory(self, credentials: Claim, verdict: Verdict) -> Identity | Denied:
        directory, certificate = self._asker.site.directory, self._asker.certificate
        match credentials:
            case PasswordCredentials():
                return await self._ask_by_password(credentials, verdict)
            case ProvenCredentials() if isinstance(directory, ScramDirectory):
                return await directory.verify_proof(credentials)
            case RelayedCredentials() if self._relayed is not None:
                return self._relayed
            case TokenCredentials() if isinstance(directory, TokenDirectory):
                return await directory.verify_token(credentials, known_place=verdict.known_place)
            case CertificateClaim(authzid) if isinstance(directory, CertificateDirectory) and certificate is not None:
                return await directory.verify_certificate(certificate, authzid)
        return Denied(Reason.WRONG)

    def _hint(self) -> TokenHint:
        """What the client is told of tokens that would count."""
        directory = self._asker.site.directory
        return directory.token_hint if isinstance(directory, HintsAtTokens) else TokenHint()

    async def _ask_by_password(self, credentials: PasswordCredentials, verdict: Verdict) -> Identity | Denied:
        """What has the form of an app password is one, and goes nowhere else."""
        site, ours = self._asker.site, self._asker.services.app_passwords
        policy = site.settings.app_passwords
        if policy != "off" and ours is not None and is_app_password(credentials.password):
            return await ours.verify(credentials, self._asker.address, site.settings.name, site.directory)
        if policy == "required":
            return Denied(Reason.WRONG, details={"cause": "only app passwords count at this site"})
        return await site.directory.verify(credentials, known_place=verdict.known_place)

    def _secret(self, credentials: Claim) -> str:
        """What the guard tells one attempt from another by."""
        match credentials:
            case PasswordCredentials():
                return credentials.password
            case TokenCredentials():
                return credentials.token
            case ProvenCredentials():
                return credentials.secret.stored_key.hex()
            case RelayedCredentials():  # as above: nothing of the password is known here
                return self._asker.services.random(16).hex()
            case CertificateClaim():
                return hashlib.sha256(self._asker.certificate or b"").hexdigest()

    def _count(self, login: str, secret: str) -> None:
        services = self._asker.services
        fingerprint = services.guard.fingerprint(login, secret)
        services.guard.failed(Attempt(self._asker.address, login, fingerprint, services.now()))

    def _unavailable(self, error: Unavailable) -> Refused:
        SIGN_INS.add(1, self._mechanism, "unavailable")
        return Refused(replies.SIGN_IN_UNAVAILABLE, f"directory unavailable: {error}")

    async def _fail(self, login: str, reason: str, details: Mapping[str, str] | None = None) -> None:
        """Logs in the fixed form (contrib/fail2ban reads it) and waits for the fixed time."""
        asker, mechanism = self._asker, self._mechanism
        SIGN_INS.add(1, mechanism, "failed")
        site = asker.site.settings
        fields = {"login": login, "reason": reason, "mechanism": mechanism, "site": site.name, **(details or {})}
        asker.log.warning("signin.failed", **fields)
        if not asker.admission.begin_delay(asker.address, site):
            raise Refused(replies.TOO_MANY_FAILURES, "too many failed sign-ins wait for their answer", closes=True)
        try:
            delay = 0.0 if self._verdict is None else self._verdict.delay
            now = asyncio.get_running_loop().time()
            waits = failure_time(now - self._said_at, site.failed_sign_in_time) + delay
            await asyncio.sleep(self._said_at + waits - now)
        finally:
            asker.admission.end_delay(asker.address)


def failure_time(passed: float, fixed: float) -> float:
    """Seconds from the client's last word to the answer, when so many have ``passed``: a whole number of fixed times.
    A directory that takes longer than one would tell by its own time what it knows of a login."""
    return fixed * max(1, math.ceil(passed / fixed)) if fixed > 0 else 0.0


async def _secret_name(authcid: str, site: Site) -> str:
    """Whose secret an exchange in SCRAM gets. At the wrong site that of a name that nobody can have: our signature
    would tell before the 535 that the password was right. ``authcid`` may be an alias: whom it means counts. Raises
    Unavailable."""
    settings, at_home = site.settings, site.is_home_of(authcid)
    limited = settings.domains or settings.foreign_logins or settings.legacy is not None
    if limited and isinstance(site.directory, PeopleDirectory):
        person = await site.directory.find_person(authcid)
        at_home = at_home if isinstance(person, Denied) else site.admits(person)
    return authcid if at_home else false_name(authcid)


def _login(credentials: Claim) -> str:
    """Who the attempt is about; "" when only a token or a certificate says it."""
    match credentials:
        case TokenCredentials():
            return credentials.login
        case CertificateClaim():
            return credentials.authzid
        case PasswordCredentials() | ProvenCredentials() | RelayedCredentials():
            return credentials.authcid

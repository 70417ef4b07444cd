"""AUTH: sasl mechanism x guard x directory -> Identity.

    identity = await authenticate(stream, event, asker)

The guard is asked before anything is hashed. Every failure, whatever its cause, is answered with one text at a
fixed time after the client's last word, plus the guard's delay; how many may wait so is bounded.

STANDARDS
    RFC 4954 (AUTH), RFC 4422 (SASL).

ERRORS
    Refused: 535 for a failure, 454 for a directory that cannot say, 421 for a blocked address or a full waiting
    room, 501 for a cancelled exchange. Stream errors pass through.

MUST NOT IMPORT a directory's or guard's implementation; passwords leave this module only to them.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from pillarbox.directory.base import Denied, Identity, Unavailable
from pillarbox.guard.base import Attempt, Verdict
from pillarbox.net.stream import Stream
from pillarbox.sasl.mechanism import Challenge as SaslChallenge
from pillarbox.sasl.mechanism import Credentials, Failure
from pillarbox.sasl.registry import SERVER_MECHANISMS
from pillarbox.smtp.events import Auth, AuthCancelled, AuthResponse, Challenge, ConnectionClosed
from pillarbox.submission import replies
from pillarbox.submission.admission import Admission
from pillarbox.submission.replies import Refused
from pillarbox.submission.site import Services, Site
from pillarbox.telemetry.counters import counter
from pillarbox.telemetry.events import Logger

SIGN_INS = counter("sign_ins_total", "Sign-in attempts", labels=("mechanism", "result"))


@dataclass(frozen=True, slots=True)
class Asker:
    """Where the attempt comes from, and what judges it."""

    address: str
    site: Site
    services: Services
    admission: Admission[Any]
    log: Logger


async def authenticate(stream: Stream, event: Auth, asker: Asker) -> Identity:
    """Runs the exchange and returns who it is. The reply, 235 or the Refused one, is the caller's to send."""
    loop = asyncio.get_running_loop()
    credentials = await _exchange(stream, event)
    said_at = loop.time()
    if isinstance(credentials, Failure):
        await _fail(asker, event.mechanism, "", f"malformed: {credentials.reason}", said_at, 0.0)
    else:
        verdict = await _ask_guard(asker, event.mechanism, credentials)
        identity = await _verify(asker, event.mechanism, credentials, verdict)
        if isinstance(identity, Identity):
            return identity
        reason = identity.reason.name.lower()
        await _fail(asker, event.mechanism, credentials.authcid, reason, said_at, verdict.delay)
    raise Refused(replies.SIGN_IN_FAILED, "sign-in failed")


async def _exchange(stream: Stream, event: Auth) -> Credentials | Failure:
    """The SASL dialogue up to its credentials. Raises Refused when the client cancels."""
    mechanism = SERVER_MECHANISMS[event.mechanism]()
    step = mechanism.step(event.initial_response)
    while isinstance(step, SaslChallenge):
        stream.send(Challenge(step.octets))
        answer = await stream.next_event()
        match answer:
            case AuthResponse(response):
                step = mechanism.step(response)
            case AuthCancelled():
                raise Refused(replies.SIGN_IN_CANCELLED, "the client cancelled the exchange")
            case ConnectionClosed():
                raise Refused(replies.SIGN_IN_CANCELLED, "the client left during the exchange", closes=True)
            case _:
                raise AssertionError(f"{type(answer).__name__} inside a SASL exchange")
    return step if isinstance(step, Failure) else step.credentials


async def _ask_guard(asker: Asker, mechanism: str, credentials: Credentials) -> Verdict:
    services = asker.services
    verdict = await services.guard.ask(asker.address, credentials.authcid, services.now())
    if verdict.blocked is not None:
        SIGN_INS.add(1, mechanism, "blocked")
        asker.log.warning(
            "signin.blocked",
            login=credentials.authcid,
            until=verdict.blocked.until,
            failures=verdict.blocked.failures,
        )
        raise Refused(replies.BLOCKED, "address blocked after failures", closes=True)
    return verdict


async def _verify(asker: Asker, mechanism: str, credentials: Credentials, verdict: Verdict) -> Identity | Denied:
    services = asker.services
    try:
        answer = await asker.site.directory.verify(credentials, known_place=verdict.known_place)
    except Unavailable as error:
        SIGN_INS.add(1, mechanism, "unavailable")
        raise Refused(replies.SIGN_IN_UNAVAILABLE, f"directory unavailable: {error}") from error
    login = answer.login if isinstance(answer, Identity) else credentials.authcid
    fingerprint = services.guard.fingerprint(credentials.authcid, credentials.password)
    attempt = Attempt(asker.address, login, fingerprint, services.now())
    if isinstance(answer, Identity):
        services.guard.succeeded(attempt)
        SIGN_INS.add(1, mechanism, "ok")
    else:
        services.guard.failed(attempt)
    return answer


async def _fail(asker: Asker, mechanism: str, login: str, reason: str, said_at: float, delay: float) -> None:
    """Logs in the fixed form (contrib/fail2ban reads it) and waits for the fixed time."""
    SIGN_INS.add(1, mechanism, "failed")
    site = asker.site.settings
    asker.log.warning("signin.failed", login=login, reason=reason, mechanism=mechanism, site=site.name)
    if not asker.admission.begin_delay(asker.address, site):
        raise Refused(replies.TOO_MANY_FAILURES, "too many failed sign-ins wait for their answer", closes=True)
    try:
        answer_at = said_at + site.failed_sign_in_time + delay
        await asyncio.sleep(answer_at - asyncio.get_running_loop().time())
    finally:
        asker.admission.end_delay(asker.address)

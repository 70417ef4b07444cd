"""A site's directories as one: the first that knows the person decides.

    directory = make_chain((Member("people", local, ()), Member("corp", corp, ("*@example.org",))))

A member with patterns is asked only for logins that match one of them. A directory that can only say no (OPAQUE)
decides for whom it is asked; config sees to it that it has patterns or stands last. One that cannot say (Unavailable)
is passed over when a later one knows the person for sure, and is the answer otherwise: no refusal of an OPAQUE one is
sure.

Before a password is checked, a member that can is asked whether it knows the person: nothing is hashed there for
people of another. When none knows the person, the first one verifies all the same, so that unknown people cost what
known ones do.

A site may say which name in a certificate is its holder's login (certificate.py has the rules). One that no account
names by a mark is then of whom the chain finds under that name, by the order of passwords; a directory that can only
say no finds nobody.

STANDARDS
    RFC 4954 6 (454 when it cannot be said).

ERRORS
    Unavailable, with the names and causes of the members that could not say.
"""

import contextlib
import fnmatch
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable

from pillarbox.directory.base import (
    CertificateDirectory,
    Denied,
    Directory,
    HintsAtTokens,
    Identity,
    KnowsLogins,
    PeopleDirectory,
    Reason,
    RelaysScram,
    ScramDirectory,
    ScramRelay,
    TokenDirectory,
    Unavailable,
    WithoutPasswords,
)
from pillarbox.directory.certificate import read_certificate
from pillarbox.directory.preparation import false_name, login_key
from pillarbox.sasl.mechanism import (
    Credentials,
    ProvenCredentials,
    ScramFirst,
    ScramSecret,
    TokenCredentials,
    TokenHint,
)

DECIDES = (Reason.DISABLED, Reason.LOCKED, Reason.EXPIRED)
"""Of a token or certificate: it is one that the directory knows."""


@runtime_checkable
class _MayBeOpaque(Protocol):
    @property
    def opaque(self) -> bool: ...


class Member(NamedTuple):
    """One directory in a chain. ``names``: patterns of logins, none: all."""

    name: str
    directory: Directory
    names: tuple[str, ...] = ()


def make_chain(members: Sequence[Member], certificate_login: str = "") -> Directory:
    """One directory for these: itself, where it is alone and is asked for every login. ``certificate_login``: the
    rule of ClientCertificate.login_by, "": none."""
    if len(members) == 1 and not members[0].names and not certificate_login:
        return members[0].directory
    return Chain(members, certificate_login)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a login is one of those that the patterns mean; none mean all. Without case."""
    if not patterns:
        return True
    try:
        key = login_key(name)
    except ValueError:
        return False
    return any(fnmatch.fnmatchcase(key, pattern.casefold()) for pattern in patterns)


class Chain:
    """See the module's text; satisfies Directory, and every ability as far as its members do."""

    def __init__(self, members: Sequence[Member], certificate_login: str = "") -> None:
        self._members = tuple(members)
        self._certificate_login = certificate_login
        self._with_passwords = tuple(each for each in members if not isinstance(each.directory, WithoutPasswords))

    # -- passwords

    async def verify(self, credentials: Credentials, *, known_place: bool) -> Identity | Denied:
        asked = _Asked()
        for member in self._asked_for(credentials.authcid):
            with asked.of(member):
                if await _is_unknown(member.directory, credentials.authcid):
                    continue
                answer = await member.directory.verify(credentials, known_place=known_place)
                if isinstance(answer, Denied) and asked.in_vain and _is_opaque(member.directory):
                    continue  # whoever could not say may know that it is right
                if not _unknown(answer):
                    return answer
        asked.raise_for_unavailable()
        first = next((member for member in self._with_passwords if _knows_without_asking(member.directory)), None)
        if first is not None:  # the hash that a person of its own would have cost
            await first.directory.verify(credentials, known_place=known_place)
        return Denied(Reason.UNKNOWN)

    async def find_person(self, login: str) -> Identity | Denied:
        """Of the members that can say it."""
        asked = _Asked()
        for member in self._asked_for(login):
            if isinstance(member.directory, PeopleDirectory):
                with asked.of(member):
                    answer = await member.directory.find_person(login)
                    if not _unknown(answer):
                        return answer
        asked.raise_for_unavailable()
        return Denied(Reason.UNKNOWN)

    def _asked_for(self, login: str) -> list[Member]:
        return [member for member in self._with_passwords if matches(login, member.names)]

    # -- SCRAM: announced before anybody is named, so all with passwords must have it

    def offers_scram(self, counts: Callable[[str], bool]) -> bool:
        return bool(self._with_passwords) and all(
            isinstance(each.directory, ScramDirectory | RelaysScram) and each.directory.offers_scram(counts)
            for each in self._with_passwords
        )

    @property
    def relays_scram(self) -> bool:
        """Any member does."""
        directories = (each.directory for each in self._with_passwords)
        return any(isinstance(each, RelaysScram) and each.relays_scram for each in directories)

    async def open_scram(self, first: ScramFirst, *, known_place: bool) -> ScramRelay | None:
        directory = await self._scram_member(first.authcid)
        if not isinstance(directory, RelaysScram):
            return None
        if not self._asked_for(first.authcid):  # nobody's here, and not asked for there
            first = replace(first, authcid=false_name(first.authcid))
        return await directory.open_scram(first, known_place=known_place)

    async def scram_secret(self, authcid: str) -> ScramSecret:
        return await _with_secrets(await self._scram_member(authcid)).scram_secret(authcid)

    async def verify_proof(self, credentials: ProvenCredentials) -> Identity | Denied:
        return await _with_secrets(await self._scram_member(credentials.authcid)).verify_proof(credentials)

    async def _scram_member(self, authcid: str) -> ScramDirectory | RelaysScram:
        """The one that knows the person, or the first: its secrets for names that nobody has are as good as any."""
        able = [member.directory for member in self._asked_for(authcid) or self._with_passwords[:1]]
        for directory in able:
            if isinstance(directory, ScramDirectory | RelaysScram) and not await _is_unknown(directory, authcid):
                return directory
        if not able or not isinstance(able[0], ScramDirectory | RelaysScram):
            raise Unavailable("SCRAM at a directory without secrets")
        return able[0]

    # -- tokens and certificates: whoever knows it decides

    @property
    def offers_tokens(self) -> bool:
        """Any member does."""
        return any(
            isinstance(each.directory, TokenDirectory) and each.directory.offers_tokens for each in self._members
        )

    @property
    def token_hint(self) -> TokenHint:
        """That of the first member that has one."""
        hints = (each.directory.token_hint for each in self._members if isinstance(each.directory, HintsAtTokens))
        return next(hints, TokenHint())

    async def verify_token(self, credentials: TokenCredentials, *, known_place: bool) -> Identity | Denied:
        """A directory that can only say no counts a token as a wrong try of the name beside it: it is asked for the
        names that it is asked for, and its LOCKED is none of a later one's."""
        asked = [each for each in self._members if _takes(each, credentials)]

        def ask(member: Member) -> Awaitable[Identity | Denied] | None:
            if not isinstance(member.directory, TokenDirectory) or all(member is not each for each in asked):
                return None
            return member.directory.verify_token(credentials, known_place=known_place)

        def decides(member: Member, answer: Denied) -> bool:
            spent = answer.reason is Reason.LOCKED and _is_opaque(member.directory)
            return not spent or member is asked[-1]

        return await self._first_to_know(ask, decides)

    @property
    def offers_certificates(self) -> bool:
        """Any member does, or there is a rule."""
        return bool(self._certificate_login) or any(
            isinstance(each.directory, CertificateDirectory) and each.directory.offers_certificates
            for each in self._members
        )

    async def verify_certificate(self, certificate: bytes, authzid: str) -> Identity | Denied:
        answer = await self._first_to_know(
            lambda member: (
                member.directory.verify_certificate(certificate, authzid)
                if isinstance(member.directory, CertificateDirectory) and member.directory.offers_certificates
                else None
            )
        )
        if self._certificate_login and _unknown(answer):  # no mark of anybody's
            return await self._named_in(certificate, authzid)
        return answer

    async def _named_in(self, certificate: bytes, authzid: str) -> Identity | Denied:
        """Who has the login that the rule finds in it, as of now. Raises Unavailable."""
        try:
            read = read_certificate(certificate)
        except ValueError:
            return Denied(Reason.WRONG, details={"fingerprint": hashlib.sha256(certificate).hexdigest()})
        details = {"subject": read.subject, "fingerprint": read.fingerprint}
        login = read.login_by(self._certificate_login)
        if login is None:
            cause = f"not one login in it by {self._certificate_login}"
            return Denied(Reason.UNKNOWN, details={**details, "cause": cause})
        answer = await self._found_for_sure(login)
        if isinstance(answer, Identity) and authzid and not _same(authzid, login, answer.login):
            answer = Denied(Reason.WRONG, answer.login)
        if isinstance(answer, Denied):
            return replace(answer, details={**details, **answer.details})
        return answer

    async def _found_for_sure(self, login: str) -> Identity | Denied:
        """As find_person; whoever would be asked and can only say no ends the search, and so does one that cannot
        say: a later one's person could be another."""
        for member in self._asked_for(login):
            if _is_opaque(member.directory) or not isinstance(member.directory, PeopleDirectory):
                cause = f"{member.name} finds nobody without a password"
                return Denied(Reason.OPAQUE, details={"cause": cause})
            try:
                answer = await member.directory.find_person(login)
            except Unavailable as error:
                raise Unavailable(f"{member.name}: {error}") from error
            if not _unknown(answer):
                return answer
        return Denied(Reason.UNKNOWN)

    async def _first_to_know(
        self,
        ask: Callable[[Member], Awaitable[Identity | Denied] | None],
        decides: Callable[[Member, Denied], bool] = lambda _member, _answer: True,
    ) -> Identity | Denied:
        """The first that lets in, and whose login matches its patterns, or that knows the person and does not; else
        the last refusal that says most. ``decides``: whether it does by such a refusal."""
        asked, refused = _Asked(), Denied(Reason.UNKNOWN)
        for member in self._members:
            asking = ask(member)
            if asking is None:
                continue
            with asked.of(member):
                answer = await asking
                if isinstance(answer, Denied):
                    knows = answer.reason in DECIDES and matches(answer.login or "", member.names)
                    if knows and decides(member, answer):
                        return answer
                    refused = refused if _unknown(answer) and refused.details else answer
                elif matches(answer.login, member.names):
                    return answer
                else:
                    refused = Denied(Reason.ELSEWHERE, answer.login, {"cause": f"not a name of {member.name}"})
        asked.raise_for_unavailable()
        return refused


def _takes(member: Member, credentials: TokenCredentials) -> bool:
    """Whether it is shown this token."""
    directory = member.directory
    if not isinstance(directory, TokenDirectory) or not directory.offers_tokens:
        return False
    return not _is_opaque(directory) or matches(credentials.login, member.names)


def _with_secrets(directory: ScramDirectory | RelaysScram) -> ScramDirectory:
    if not isinstance(directory, ScramDirectory):
        raise Unavailable("SCRAM at a directory without secrets")
    return directory


def _same(authzid: str, *logins: str) -> bool:
    try:
        return login_key(authzid) in {login_key(login) for login in logins}
    except ValueError:
        return False


def _unknown(answer: Identity | Denied) -> bool:
    return isinstance(answer, Denied) and answer.reason is Reason.UNKNOWN


def _is_opaque(directory: Directory) -> bool:
    return isinstance(directory, _MayBeOpaque) and directory.opaque


def _knows_without_asking(directory: Directory) -> bool:
    return isinstance(directory, KnowsLogins)


async def _is_unknown(directory: Directory, login: str) -> bool:
    """Whether it surely does not have this person, where that costs nothing to ask."""
    return isinstance(directory, KnowsLogins) and not await directory.knows(login)


class _Asked:
    """Who could not say."""

    def __init__(self) -> None:
        self._causes: list[str] = []

    @property
    def in_vain(self) -> bool:
        """Whether anybody could not."""
        return bool(self._causes)

    @contextlib.contextmanager
    def of(self, member: Member) -> Iterator[None]:
        """Around a question: Unavailable is kept for the end."""
        try:
            yield
        except Unavailable as error:
            self._causes.append(f"{member.name}: {error}")

    def raise_for_unavailable(self) -> None:
        """Raises Unavailable when a member could not say, and so might know the person."""
        if self._causes:
            raise Unavailable("; ".join(self._causes))

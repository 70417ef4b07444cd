"""The operator's verbs, typed: one implementation for the command line and the web.

    verbs = Operations(channel)         # anything with ``async request(verb, body)``
    await verbs.add_user(NewUser("alice", ("alice@example.org",)), password)
    for message in await verbs.list_messages(Filter(domain="example.net"), limit=100): ...

It asks and translates; who may ask is decided by the socket that the channel came in by.

ERRORS
    OperationFailed: in words for the operator. Nothing else that the other side says is raised.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from pillarbox.control.channel import ChannelClosed, RemoteError
from pillarbox.control.frames import from_body
from pillarbox.message.dsn import FailedRecipient, Letterhead, bounce
from pillarbox.message.envelope import Envelope, queue_id, tag_of
from pillarbox.spool.base import (
    Depth,
    Filter,
    LeaseLost,
    NewMessage,
    Partial,
    QueuedMessage,
    Recipient,
    SpoolError,
    State,
    UnknownCell,
    UnknownQueueId,
    is_future,
)
from pillarbox.spool.remote import RemoteLedger

__all__ = [
    "Deletion",
    "Filter",
    "NewUser",
    "OperationFailed",
    "Operations",
    "QueuedMessage",
    "Recipient",
    "State",
    "User",
    "is_future",
]

_PAGE = 100
"""Messages asked for at a time: with many recipients each they must still fit into a frame."""

_DELETED = "The mail system's operator removed the message before it could be delivered."


class OperationFailed(Exception):
    """The verb was not carried out; ``str()`` says why and what to do. ``kind`` is the error's name."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class Asker(Protocol):
    """What a channel is here."""

    async def request(self, verb: str, body: Any = None) -> Any:
        """Raises RemoteError, ChannelClosed."""
        ...


@dataclass(frozen=True, slots=True)
class NewUser:
    """An account to be made."""

    login: str
    addresses: tuple[str, ...]
    domains: tuple[str, ...] = ()
    may_redirect: bool = False
    recipients_per_hour: int | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class User:
    """An account as the operator sees it.

    ``scram``: has a SCRAM secret. ``current_hash``: its password is hashed as now configured; ``imported_hash``: as
    another system hashes, since the person has not signed in. ``certificates``: marks of client certificates that
    sign in as it. ``alone``: the cluster does not have it, only this machine.
    ``elsewhere``: no account, but the app passwords of another directory's person; ``app_passwords``: how many.
    ``aliases``: further login names; ``void_aliases``: those of them that let nobody in, as another account has them.
    """

    login: str
    addresses: tuple[str, ...]
    domains: tuple[str, ...]
    may_redirect: bool
    recipients_per_hour: int | None
    disabled: bool
    created_at: float
    password_changed_at: float
    scram: bool = False
    current_hash: bool = True
    imported_hash: bool = False
    certificates: tuple[str, ...] = ()
    alone: bool = False
    elsewhere: bool = False
    app_passwords: int = 0
    aliases: tuple[str, ...] = ()
    void_aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deletion:
    """What became of messages to be deleted."""

    deleted: list[str] = field(default_factory=list)
    being_delivered: list[str] = field(default_factory=list)


class Operations:
    """See the module's text. ``host`` and ``postmaster`` are those of bounces."""

    def __init__(
        self, channel: Asker, *, host: str = "localhost", postmaster: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self._channel = channel
        self._ledger = RemoteLedger(_OneChannel(channel))
        self._host = host
        self._postmaster = postmaster
        self._clock = clock
        self.missing: dict[str, str] = {}
        """Cells that a search had to leave out, by name, with the reason: what it returned is of the others."""

    # -- the daemon

    async def status(self) -> dict[str, Any]:
        """The daemon's own status with the queue's depth under ``queue`` (None: the spool does not answer)."""
        status: dict[str, Any] = await self._ask("status")
        try:
            depth = await self._ledger.depth(self._clock())
        except (SpoolError, RemoteError, ChannelClosed):
            return {**status, "queue": None}
        return {**status, "queue": self._depth(depth)}

    def _depth(self, depth: Depth) -> dict[str, Any]:
        age = None if depth.oldest_at is None else max(self._clock() - depth.oldest_at, 0.0)
        cells = [asdict(cell) for cell in depth.cells]
        return {
            "messages": depth.messages,
            "recipients": depth.recipients,
            "age": age,
            "free": depth.free,
            "cells": cells,
        }

    async def reload(self) -> dict[str, Any]:
        """Configuration and certificates are read anew, by all processes or none."""
        answer: dict[str, Any] = await self._ask("reload")
        return answer

    async def pending(self) -> list[str]:
        """What in the file needs a restart by now, one line each."""
        answer: list[str] = await self._ask("pending")
        return answer

    async def sessions(self) -> list[dict[str, Any]]:
        """The submission workers' sessions."""
        answer: list[dict[str, Any]] = await self._ask("sessions")
        return answer

    # -- accounts

    async def list_users(self) -> list[User]:
        """All accounts."""
        return from_body(list[User], await self._ask("user.list"))

    async def show_user(self, login: str) -> User:
        """One account."""
        return from_body(User, await self._ask("user.show", {"login": login}))

    async def add_user(self, new: NewUser, password: str) -> User:
        """Adds an account."""
        body = {
            "login": new.login,
            "password": password,
            "addresses": new.addresses,
            "domains": new.domains,
            "may_redirect": new.may_redirect,
            "recipients_per_hour": new.recipients_per_hour,
            "aliases": new.aliases,
        }
        return from_body(User, await self._ask("user.add", body))

    async def modify_user(self, login: str, changes: dict[str, Any]) -> User:
        """Changes addresses, domains, may_redirect or recipients_per_hour; what is left out stays."""
        return from_body(User, await self._ask("user.modify", {"login": login, **changes}))

    async def alias_user(self, login: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> User:
        """Gives an account further login names, and takes others away."""
        return from_body(User, await self._ask("user.alias", {"login": login, "add": add, "remove": remove}))

    async def set_password(self, login: str, password: str) -> User:
        """A new password; sessions of this login end at their next command."""
        return from_body(User, await self._ask("user.password", {"login": login, "password": password}))

    async def disable_user(self, login: str) -> User:
        """Nobody signs in with it; its sessions end at their next command."""
        return from_body(User, await self._ask("user.disable", {"login": login}))

    async def enable_user(self, login: str) -> User:
        """The other way round."""
        return from_body(User, await self._ask("user.enable", {"login": login}))

    async def certify_user(self, login: str, mark: str) -> User:
        """A client certificate with this mark (sha256:, email: or cn:) signs in as this account."""
        return from_body(User, await self._ask("user.certify", {"login": login, "mark": mark}))

    async def decertify_user(self, login: str, mark: str) -> User:
        """It does so no longer."""
        return from_body(User, await self._ask("user.decertify", {"login": login, "mark": mark}))

    async def remove_user(self, login: str) -> None:
        """The account is gone; its mail in the queue stays."""
        await self._ask("user.remove", {"login": login})

    async def add_app_password(
        self,
        login: str,
        label: str,
        *,
        expires_at: float | None,
        networks: tuple[str, ...],
        addresses: tuple[str, ...],
        directory: str,
    ) -> dict[str, Any]:
        """A new one: {id, password}. ``directory``: whose person a login without an account is; "": nobody's."""
        body = {
            "login": login,
            "label": label,
            "expires_at": expires_at,
            "networks": networks,
            "addresses": addresses,
            "directory": directory,
        }
        made: dict[str, Any] = await self._ask("user.app_password_add", body)
        return made

    async def list_app_passwords(self, login: str) -> list[dict[str, Any]]:
        """Those of a login, without the passwords."""
        found: list[dict[str, Any]] = await self._ask("user.app_password_list", {"login": login})
        return found

    async def revoke_app_password(self, login: str, id_: str) -> str:
        """It lets nobody in any more; its label."""
        label: str = await self._ask("user.app_password_revoke", {"login": login, "id": id_})
        return label

    async def import_user(
        self, login: str, addresses: Sequence[str], password_hash: str, *, names: Sequence[str] = (), dry_run: bool
    ) -> tuple[str, str, list[str]]:
        """Brings in somebody with another system's hash; what was done ("added", "updated", "unchanged", "skipped"),
        why, and which of the ``names``, further logins, let nobody in: another account has them, too."""
        body = {
            "login": login,
            "addresses": addresses,
            "password_hash": password_hash,
            "dry_run": dry_run,
            "names": names,
        }
        answer = await self._ask("user.import", body)
        return answer["done"], answer["why"], answer["ambiguous"]

    async def publish_users(self) -> dict[str, Any]:
        """What this machine has alone goes into the cluster: {published: [login], refused: [[login, why]],
        superseded: [login]}."""
        answer: dict[str, Any] = await self._ask("user.publish")
        return answer

    # -- the queue

    async def list_messages(self, which: Filter, limit: int, after: str = "") -> Sequence[QueuedMessage]:
        """By queue id, which is by age; ``after`` the last one seen."""
        found: list[QueuedMessage] = []
        while len(found) < limit:
            some = min(limit - len(found), _PAGE)
            page = await self._search(self._ledger.list(which, self._clock(), some, after))
            found.extend(page)
            if len(page) < some:
                break
            after = page[-1].envelope.queue_id
        return found

    async def find_messages(self, which: Filter) -> list[str]:
        """The queue ids of all messages meant."""
        found: list[str] = []
        after = ""
        while True:
            page = await self._search(self._ledger.list(which, self._clock(), _PAGE, after))
            found += [message.envelope.queue_id for message in page]
            if len(page) < _PAGE:
                return found
            after = found[-1]

    async def show_message(self, queue_id: str) -> QueuedMessage:
        """One message with its recipients."""
        shown: QueuedMessage = await self._spool(self._ledger.show(queue_id), queue_id)
        return shown

    async def retry_messages(self, which: Filter, *, early: bool = False) -> Sequence[str]:
        """Due now, whatever the schedule said, and with ``early`` whatever the sender asked for; the ids changed."""
        changed: Sequence[str] = await self._search(self._ledger.retry(which, self._clock(), early))
        return changed

    async def hold_messages(self, which: Filter) -> Sequence[str]:
        """Held until released; the ids changed."""
        changed: Sequence[str] = await self._search(self._ledger.hold(which, self._clock()))
        return changed

    async def release_messages(self, which: Filter, *, early: bool = False) -> Sequence[str]:
        """Held and dead ones become due now, or (without ``early``) when the sender asked for; the ids changed."""
        changed: Sequence[str] = await self._search(self._ledger.release(which, self._clock(), early))
        return changed

    async def delete_messages(self, queue_ids: Sequence[str], *, with_bounce: bool) -> Deletion:
        """Removes messages, each with its bounce in one transaction. One that left meanwhile is in neither list."""
        result = Deletion()
        for name in queue_ids:
            try:
                message = await self._ledger.show(name)
                bounces = self._bounces(message) if with_bounce else ()
                await self._ledger.expunge(name, bounces)
            except UnknownCell as error:
                raise _failed(error) from None
            except UnknownQueueId:
                continue
            except LeaseLost:
                result.being_delivered.append(name)
            except (SpoolError, RemoteError, ChannelClosed) as error:
                raise _failed(error) from None
            else:
                result.deleted.append(name)
        return result

    def _bounces(self, message: QueuedMessage) -> tuple[NewMessage, ...]:
        """The bounce for all that are left, unless a failure is not to be told (RFC 3461 4.1 NOTIFY); none for a null
        reverse-path (RFC 5321 4.5.5)."""
        original = message.envelope
        if original.is_bounce or not original.reverse_path:
            return ()
        now = self._clock()
        name = queue_id(now, secrets.token_bytes(10), tag_of(original.queue_id))
        failed = [
            FailedRecipient(recipient.forward_path, "5.7.0", _why_deleted(recipient.last_reply))
            for recipient in message.recipients
            if not recipient.notify or "FAILURE" in recipient.notify
        ]
        if not failed:
            return ()
        report = bounce(
            original,
            b"",  # an operator's channel reads no content
            failed,
            Letterhead(self._host, self._postmaster, now, f"<{name}@{self._host}>", secrets.token_hex(16)),
            advised=False,
        )
        envelope = Envelope(
            queue_id=name,
            reverse_path="",
            forward_paths=(original.reverse_path,),
            received_at=now,
            size=len(report.content),
            eight_bit=report.eight_bit,
            smtputf8=report.smtputf8,
            site=original.site,
            is_bounce=True,
            priority=original.priority,
            require_tls=original.require_tls,
        )
        return (NewMessage(envelope, report.content),)

    # -- the guard

    async def list_guard(self, limit: int) -> dict[str, Any]:
        """{blocks, prefixes, logins}, each a list of dicts, the latest first."""
        answer: dict[str, Any] = await self._ask("guard.list", {"limit": limit})
        return answer

    async def unblock(self, *, address: str | None = None, login: str | None = None) -> tuple[bool, int]:
        """(was blocked, failures forgotten), of an address or prefix, or of a login."""
        body = {"prefix": address} if address is not None else {"login": login}
        answer = await self._ask("guard.unblock", body)
        return bool(answer["blocked"]), int(answer["forgotten"])

    # -- how it asks

    async def _ask(self, verb: str, body: Any = None) -> Any:
        try:
            return await self._channel.request(verb, body)
        except (RemoteError, ChannelClosed) as error:
            raise _failed(error) from None

    async def _search(self, work: Any) -> Any:
        try:
            return await self._spool(work)
        except Partial as partial:
            self.missing |= partial.missing
            return partial.found

    async def _spool(self, work: Any, queue_id: str = "") -> Any:
        try:
            return await work
        except Partial:
            raise
        except (SpoolError, RemoteError, ChannelClosed) as error:
            raise _failed(error, queue_id) from None


def _why_deleted(last_reply: str) -> str:
    """Our own words first: what a next hop said of an attempt is not why the message is gone."""
    return f"{_DELETED} The last attempt to deliver it ended with: {last_reply}" if last_reply else _DELETED


class _OneChannel:
    """One channel in the shape of a link: a person waits at the other end, so nothing is repeated or waited for."""

    connected = True

    def __init__(self, channel: Asker) -> None:
        self._channel = channel

    async def request(self, verb: str, body: Any = None, *, patience: float = 0.0, repeat: bool = False) -> Any:
        return await self._channel.request(verb, body)

    def note(self, verb: str, body: Any = None) -> None:
        """No operator's verb is one."""

    def on_connect(self, call: Callable[[], Any]) -> None:
        """It is connected, or it is at its end."""

    async def close(self) -> None:
        """Whoever opened the channel closes it."""


def _failed(error: Exception, queue_id: str = "") -> OperationFailed:
    if isinstance(error, ChannelClosed):
        return OperationFailed(
            "the server ended the connection; whether this was done is unknown: look, and try again"
        )
    kind = error.kind if isinstance(error, RemoteError) else type(error).__name__
    text = str(error)
    words = _WORDS.get(kind)
    if words is not None:
        return OperationFailed(words.format(text=queue_id or text), kind)
    if kind == "internal":
        return OperationFailed("the server failed at this; its log says why", kind)
    return OperationFailed(text or kind, kind)


_WORDS = {
    "AccountExists": "there is a user {text} already; see `pillarbox user show {text}`",
    "CertificateTaken": "the certificate is that of {text} already",
    "UnknownAccount": "there is no user {text}; see `pillarbox user list`",
    "UnknownQueueId": "there is no message {text} in the queue: it was delivered, bounced or deleted, or never was; "
    "see `pillarbox queue list`",
    "unknown_verb": "the running server does not know this command ({text}): it is of another version; restart it",
    "NotRunning": "{text}; start it with `pillarbox serve`",
}

"""Who changed what: one event for each of the operator's verbs that changes something, with the operator's uid.

The uid is the kernel's word (SO_PEERCRED), not the asker's. Verbs that only look are not told; a refused or failed
verb changed nothing and is not told either.
"""

from typing import Any

from pillarbox.control.channel import Peer
from pillarbox.telemetry.events import get_logger

log = get_logger("daemon")

NAMED = 20
"""Queue ids named in one event; the rest is counted."""

_ACCOUNT_VERBS = (
    *("add", "modify", "password", "disable", "enable", "remove", "certify", "decertify", "alias"),
    *("app_password_add", "app_password_revoke"),
)
_ON_ACCOUNTS = frozenset(f"user.{verb}" for verb in _ACCOUNT_VERBS)
_ON_MESSAGES = frozenset({"ledger.hold", "ledger.release", "ledger.retry"})


def audit(verb: str, peer: Peer, body: Any, answer: Any) -> None:
    """Tells of a verb that was carried out. ``body`` and ``answer`` as they crossed the channel."""
    if verb in _ON_MESSAGES:
        queue_ids = list(answer[0])
        if queue_ids:
            log.info(
                "queue.changed", verb=_word(verb), uid=peer.uid, count=len(queue_ids), queue_ids=queue_ids[:NAMED]
            )
    elif verb == "ledger.expunge":
        queue_id, bounces = body
        told = "bounce" if bounces else "silent"
        log.info("queue.deleted", queue_id=queue_id, uid=peer.uid, sender_told=told)
    elif verb in _ON_ACCOUNTS or (
        verb == "user.import" and not body["dry_run"] and answer["done"] in ("added", "updated")
    ):
        log.info("account.administered", verb=_word(verb), uid=peer.uid, login=body["login"])
    elif verb == "user.publish":
        for login in answer["published"]:
            log.info("account.administered", verb=_word(verb), uid=peer.uid, login=login)
    elif verb == "guard.unblock":
        log.info("guard.administered", verb=_word(verb), uid=peer.uid, what=body.get("prefix") or body.get("login"))


def _changed(body: Any, answer: Any) -> bool:
    """Whether an import did something."""
    return not body["dry_run"] and answer["done"] in ("added", "updated")


def _word(verb: str) -> str:
    return verb.partition(".")[2]

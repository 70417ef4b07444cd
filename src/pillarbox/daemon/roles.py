"""The roles by name: one explicit dict, ``ROLES``, is all there is to find.

A role's module is imported by the process that is that role, and by no other.
"""

from pillarbox.config import Settings
from pillarbox.daemon.process import Make, Role


def _spool(settings: Settings, worker: int) -> Role:
    from pillarbox.daemon.spool_role import SpoolRole

    return SpoolRole(settings, worker)


def _submission(settings: Settings, worker: int) -> Role:
    from pillarbox.daemon.submission_role import SubmissionRole

    return SubmissionRole(settings, worker)


def _delivery(settings: Settings, worker: int) -> Role:
    from pillarbox.daemon.delivery_role import DeliveryRole

    return DeliveryRole(settings, worker)


def _certificates(settings: Settings, worker: int) -> Role:
    from pillarbox.daemon.certificates_role import CertificatesRole

    return CertificatesRole(settings, worker)


ROLES: dict[str, Make] = {
    "spool": _spool,
    "submission": _submission,
    "delivery": _delivery,
    "certificates": _certificates,
}
"""What each role is made by."""

OPERATOR_VERBS = (
    *(f"ledger.{verb}" for verb in ("list", "show", "hold", "release", "retry", "expunge", "depth", "health")),
    *(f"user.{verb}" for verb in ("add", "list", "show", "password", "disable", "enable", "modify", "remove")),
    *(f"user.{verb}" for verb in ("alias", "certify", "decertify", "publish", "import")),
    *(f"user.app_password_{verb}" for verb in ("add", "list", "revoke")),
    *(f"guard.{verb}" for verb in ("list", "unblock", "quota")),
)
"""What the hub forwards to the spool process; a test compares it with Storehouse.for_operator."""

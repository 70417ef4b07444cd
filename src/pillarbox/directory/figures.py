"""What is counted of directories: who signed in at which, and what was passed on to the servers behind.

ERRORS
    None.
"""

from pillarbox.directory.base import Denied, Identity
from pillarbox.telemetry.counters import counter

SIGN_INS = counter(
    "directory_sign_ins_total",
    "Passwords and tokens that a directory was asked about, by its answer",
    ("directory", "result"),
)
PASSED = counter(
    "directory_passwords_passed_total", "Passwords passed on to the servers behind a directory", ("directory",)
)
SPENT = counter(
    "directory_tries_refused_total", "Passwords not passed on, since too many wrong ones had been", ("directory",)
)


def count(directory: str, answer: Identity | Denied) -> None:
    """One answer of a directory."""
    SIGN_INS.add(1, directory, answer.reason.name.lower() if isinstance(answer, Denied) else "ok")


def count_unavailable(directory: str) -> None:
    """It could not say."""
    SIGN_INS.add(1, directory, "unavailable")

"""Findings: what a look at the set-up brought to light, in words and as data.

A finding names its subject, says what is so, and, when something is to be done, what. The operator reads the words;
a program reads ``as_data``.

ERRORS
    None.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much it matters: an ERROR makes `pillarbox check` fail."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


_ORDER = tuple(Severity)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes:
        subject: what was looked at, such as ``site mail.example.org`` or ``RCPT``.
        message: what is so, one sentence without a full stop.
        advice: what to do about it, "" when nothing.
        blocks: the server cannot start while it is so (an expired certificate is an ERROR and does not block).
    """

    severity: Severity
    subject: str
    message: str
    advice: str = ""
    blocks: bool = False

    def __str__(self) -> str:
        text = f"{self.severity}: {self.subject}: {self.message}"
        return f"{text}; {self.advice}" if self.advice else text


def worst(findings: Iterable[Finding]) -> Severity:
    """The gravest severity among them; OK when there are none."""
    return max((finding.severity for finding in findings), key=_ORDER.index, default=Severity.OK)


def as_data(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Plain data for --json."""
    return [
        {
            "severity": finding.severity.value,
            "subject": finding.subject,
            "message": finding.message,
            "advice": finding.advice,
        }
        for finding in findings
    ]

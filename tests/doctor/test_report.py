"""Findings as words and as data."""

from pillarbox.doctor.report import Finding, Severity, as_data, worst

WARNING = Finding(Severity.WARNING, "port", "in use", "stop it")


def test_words() -> None:
    assert str(WARNING) == "warning: port: in use; stop it"
    assert str(Finding(Severity.OK, "port", "free")) == "ok: port: free"


def test_the_worst_is_by_gravity_and_not_by_the_alphabet() -> None:
    assert worst([]) is Severity.OK
    assert worst([WARNING, Finding(Severity.NOTE, "a", "b")]) is Severity.WARNING
    assert worst([WARNING, Finding(Severity.ERROR, "a", "b"), WARNING]) is Severity.ERROR


def test_data() -> None:
    assert as_data([WARNING]) == [
        {"severity": "warning", "subject": "port", "message": "in use", "advice": "stop it"},
    ]

"""The search for secrets finds them, in every form that it names."""

import base64

import pytest
from tests.support.secrets import forms_of, leaks

SECRET = "correct hörse"


@pytest.mark.parametrize("form", list(forms_of(SECRET, "ada")))
def test_each_form_is_found(form: str) -> None:
    log = b"time=1 event=x value=" + forms_of(SECRET, "ada")[form] + b" more\n"
    assert form in leaks(log, SECRET, "ada")


@pytest.mark.parametrize("authzid", ["", "a", "ab", "abc"])
def test_a_response_is_found_wherever_the_password_stands_in_it(authzid: str) -> None:
    message = base64.b64encode(f"{authzid}\0somebody\0{SECRET}".encode())
    assert any("base64" in form for form in leaks(b"AUTH PLAIN " + message, SECRET))


def test_what_is_not_there_is_not_found() -> None:
    assert leaks(b"session=1 event=sign_in.failed login=ada peer=192.0.2.1\n", SECRET, "ada") == []


def test_a_secret_that_chance_would_find_is_refused() -> None:
    with pytest.raises(ValueError, match="by chance"):
        leaks(b"", "abc")

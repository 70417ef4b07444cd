"""The tables of mechanisms."""

import pytest

from pillarbox.sasl import CLIENT_MECHANISMS, SERVER_MECHANISMS, client_mechanism
from pillarbox.sasl.login import LoginServer
from pillarbox.sasl.plain import PlainServer


def test_the_server_tables_make_a_fresh_object_for_each_exchange() -> None:
    assert {name: type(make()) for name, make in SERVER_MECHANISMS.items()} == {
        "PLAIN": PlainServer,
        "LOGIN": LoginServer,
    }
    assert SERVER_MECHANISMS["LOGIN"]() is not SERVER_MECHANISMS["LOGIN"]()


def test_each_client_mechanism_bears_the_name_it_is_found_by() -> None:
    assert set(CLIENT_MECHANISMS) == {"PLAIN", "LOGIN", "XOAUTH2"}
    for name in CLIENT_MECHANISMS:
        assert client_mechanism(name, "user", "secret").name == name


@pytest.mark.parametrize("name", ["plain", "CRAM-MD5", ""])
def test_an_unknown_mechanism_is_an_error_without_the_secret(name: str) -> None:
    with pytest.raises(ValueError, match=r"^unknown mechanism; known are PLAIN, LOGIN, XOAUTH2$"):
        client_mechanism(name, "user", "secret")

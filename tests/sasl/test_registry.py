"""The tables of mechanisms."""

import pytest

from pillarbox.sasl import CLIENT_MECHANISMS, SERVER_MECHANISMS, client_mechanism
from pillarbox.sasl.external import ExternalServer
from pillarbox.sasl.login import LoginServer
from pillarbox.sasl.oauthbearer import OauthbearerServer
from pillarbox.sasl.plain import PlainServer
from pillarbox.sasl.scram import ScramServer
from pillarbox.sasl.xoauth2 import Xoauth2Server


def test_the_server_tables_make_a_fresh_object_for_each_exchange() -> None:
    assert {name: type(make()) for name, make in SERVER_MECHANISMS.items()} == {
        "SCRAM-SHA-256": ScramServer,
        "PLAIN": PlainServer,
        "LOGIN": LoginServer,
        "OAUTHBEARER": OauthbearerServer,
        "XOAUTH2": Xoauth2Server,
        "EXTERNAL": ExternalServer,
    }
    assert SERVER_MECHANISMS["LOGIN"]() is not SERVER_MECHANISMS["LOGIN"]()


def test_each_client_mechanism_bears_the_name_it_is_found_by() -> None:
    assert set(CLIENT_MECHANISMS) == {"PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2", "OAUTHBEARER"}
    for name in CLIENT_MECHANISMS:
        assert client_mechanism(name, "user", "secret", "n" * 16).name == name


@pytest.mark.parametrize("name", ["plain", "CRAM-MD5", ""])
def test_an_unknown_mechanism_is_an_error_without_the_secret(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"^unknown mechanism; known are PLAIN, LOGIN, SCRAM-SHA-256, XOAUTH2, OAUTHBEARER$"
    ):
        client_mechanism(name, "user", "secret")

"""What an entry says of somebody: addresses, and whether a password lets in."""

import pytest

from pillarbox.directory.base import Reason
from pillarbox.directory.ldap.entry import Entry, denied
from pillarbox.directory.ldap.settings import Preset

NOW = 1_800_000_000.0


def entry(**attributes: str) -> Entry:
    return Entry("cn=a", {name.replace("_", "-"): [value.encode()] for name, value in attributes.items()})


def test_names_of_attributes_have_no_case() -> None:
    assert entry(MAIL="a@example.org").values("mail") == ("a@example.org",)


def test_addresses_are_smtp_ones_in_lower_case() -> None:
    values = [b"SMTP:Anna@Example.ORG", b"smtp:a@example.org", b"X400:c=us;a= ;p=Corp", b"SIP:anna@example.org"]
    found = Entry("cn=a", {"proxyAddresses": values, "mail": [b"x@example.org"]})
    assert found.addresses(("mail", "proxyaddresses")) == {"anna@example.org", "a@example.org", "x@example.org"}


@pytest.mark.parametrize(
    "value", [b"anna", b"a@b@c", b"a b@example.org", b"<a@example.org>", b"a@", b"\xff@example.org", b"a\r\n@b", b""]
)
def test_what_is_no_address_is_left_out(value: bytes) -> None:
    assert Entry("cn=a", {"mail": [value]}).addresses(("mail",)) == frozenset()


def test_only_ascii_has_a_case_in_an_address() -> None:
    assert entry(mail="JÖRG@example.org").addresses(("mail",)) == {"jÖrg@example.org"}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, None),
        ({"userAccountControl": "512"}, None),
        ({"userAccountControl": "514"}, Reason.DISABLED),
        ({"userAccountControl": "66050"}, Reason.DISABLED),
        ({"accountExpires": "0"}, None),
        ({"accountExpires": "9223372036854775807"}, None),
        ({"accountExpires": "129000000000000000"}, Reason.EXPIRED),
        ({"accountExpires": "199000000000000000"}, None),
        ({"lockoutTime": "133000000000000000"}, None),
        ({"lockoutTime": "133000000000000000", "msDS_User_Account_Control_Computed": "16"}, Reason.LOCKED),
        ({"lockoutTime": "0", "msDS_User_Account_Control_Computed": "16"}, None),
        ({"msDS_User_Account_Control_Computed": "8388608"}, Reason.EXPIRED),
        ({"userAccountControl": "x", "accountExpires": "y"}, None),
    ],
)
def test_active_directory_says_who_is_let_in(attributes: dict[str, str], reason: Reason | None) -> None:
    assert denied(entry(**attributes), Preset.ACTIVE_DIRECTORY, NOW) is reason


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, None),
        ({"nsAccountLock": "TRUE"}, Reason.DISABLED),
        ({"nsAccountLock": "false"}, None),
        ({"pwdAccountLockedTime": "000001010000Z"}, Reason.LOCKED),
        ({"pwdAccountLockedTime": "20260101000000Z"}, None),
        ({"shadowExpire": "1"}, Reason.EXPIRED),
        ({"shadowExpire": "-1"}, None),
        ({"shadowExpire": "99999"}, None),
    ],
)
def test_openldap_says_who_is_let_in(attributes: dict[str, str], reason: Reason | None) -> None:
    assert denied(entry(**attributes), Preset.OPENLDAP, NOW) is reason

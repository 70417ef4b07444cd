"""stored.py: what other programs have stored is verified, and hostile costs are not paid."""

import sys
from collections.abc import Iterator

import pytest

from pillarbox.directory.schemes.stored import BadStored, UnknownScheme, Unreadable, read_stored

PASSWORD = "right: ünïcödé and spaces"

STORED = {
    # doveadm pw -s SCHEME
    "{BLF-CRYPT}$2y$05$UWHrO0t3wTjl8epfX954OuBwQeZoFHKXubWLjr.mQpg7XQ68SDe6q": ("BCRYPT", False),
    "{SHA512-CRYPT}$6$rounds=1000$36m93Zb36cuCxgdS$Myujvo7o/DvTJuNVgQ/Lu3090ggUrMTrcMuMiFylxA.N7M.Vgt453LzfYi/P6fjYhN"
    "wV8kpnZ7uceEJO96sZK.": ("SHA512-CRYPT", False),
    "{SHA256-CRYPT}$5$rounds=1000$aEDY2m9Zx8AI.Mm0$YC/xr4nAUwOxJJ3N1slI./WwViK/FtwfNaNhsn/ibKD": (
        "SHA256-CRYPT",
        False,
    ),
    "{MD5-CRYPT}$1$lDzpRnx/$i/MBLgRuzjsg3FxvfBb2x0": ("MD5-CRYPT", True),
    "{SSHA}BQLTC/1AUAfvu9k1n778NqKP7jOddxEA": ("SSHA", True),
    "{SSHA256}jtIi3wik7mGM+1P1zxW22IpVhbPS0XCVUIw4jAoqnJuLxR8q": ("SSHA256", True),
    "{SSHA512}VOZA+LzPxriGlW03KiYSNxYnYegYTwgk1MYQzRkbnqmikqA5xfybSpsy+tv8BocrJaYlvjRRTZgc52W2wdXvC8KcPJA=": (
        "SSHA512",
        True,
    ),
    "{SHA}dUiT/hqAZgAaXs7e5SSivRDx5BU=": ("SHA", True),
    "{SHA256}LJuMjm32aCPxPfhX8Mwrdn2nT6A8n6u/PUIVWFb0CKo=": ("SHA256", True),
    "{SHA512}gsEYXITXK89zXb2f3zXFzisfrE3BsxuLSStKtI5dT1JhsYfM4nNfTSGwKbFGhb3QDE5vunxeMycEyl5zS86LCw==": (
        "SHA512",
        True,
    ),
    "{SMD5}uw18kBSf+2AEZJ9q19VI5jcyIAc=": ("SMD5", True),
    "{PLAIN-MD5}304366666d5dc45a9618420d0dad7ceb": ("PLAIN-MD5", True),
    "{LDAP-MD5}MENmZm1dxFqWGEINDa186w==": ("LDAP-MD5", True),
    "{PBKDF2}$1$/55BqQZPOSj787DM$1000$d9b9bbd65803b3034cf29bf765f28b1d713175bd": ("PBKDF2", False),
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$dL++rbwWfjMdihDeb3HogA$cB3R9Bb17Z2UnhwpjnKOxculn/71VX8B2fqvklcfs0E": (
        "ARGON2",
        False,
    ),
    "{SCRAM-SHA-256}4096,qwfHJfHyHewmaHWzhf9a8w==,g/F/ObCQC9rzOYA8rnhKkXeukAga540w4/p+Yq6AqUI=,u0i/RMWLyiR+VveQuez+v"
    "87Y9OvIJxZmVdI+lK7pFUs=": ("SCRAM-SHA-256", False),
    "{SSHA256.HEX}81c2bcc525983046c654e72950cc0537627eecef4f923e41a2aa7de1bb65ae366c7d89c3": ("SSHA256", True),
    "{SHA256.b64}LJuMjm32aCPxPfhX8Mwrdn2nT6A8n6u/PUIVWFb0CKo=": ("SHA256", True),
    "{CRYPT}$2y$05$3ujVj9pWQ29clgkyrV/fauRecY90ICEStZ9oI.AOcC8xZuwsNpYLG": ("BCRYPT", False),
    "{SHA.HEX}754893fe1a8066001a5ecedee524a2bd10f1e415": ("SHA", True),
    # slappasswd
    "{SSHA}+bsTyhwEsLWFUVompj4lyXMWiWIbFNwE": ("SSHA", True),
    "{ARGON2}$argon2i$v=19$m=4096,t=3,p=1$JKyCCBvweB7jHcvfklcwJQ$XH7OumlBFFGiBI6PdLVgy8w/DwbBMZpCCyMps1IRcbI": (
        "ARGON2",
        False,
    ),
    "{SSHA256}iM9VihX5NytrpYBiP+I9ZYJm3SGmwv6YqLR8ydvu3Va3NzdzjZyY/g==": ("SSHA256", True),
    # openssl passwd
    "$apr1$2PVaIGHF$F5TA82iyVCfbMlJ/opG1y1": ("APR1", True),
    "$6$rZOC5Gw3c89lpxpX$KYcZ3g8z81tBHJhNAcWQYkF96fQdeErd0hjeNkhi0I19o.G1lo/nX99.e8DNw3yYeUnDOphxYfouIf9JOkcgN.": (
        "SHA512-CRYPT",
        False,
    ),
    "$1$UqEYqnkK$Hm8XxOxlcJW.pjlFjGGrx.": ("MD5-CRYPT", True),
    # bcrypt
    "$2b$04$Zao0hKXfkKeHH7ZhlJSMq.fI2.u4ce/jyzh4XC4Fwpeh96isLD.3W": ("BCRYPT", False),
    "$2a$04$Zao0hKXfkKeHH7ZhlJSMq.fI2.u4ce/jyzh4XC4Fwpeh96isLD.3W": ("BCRYPT", False),
    # passlib
    "$pbkdf2-sha256$1000$VKo15nwvhfBe610rRehdyw$AG0SPVOPRWRVggDOvHmcpbZP7xbJgwS1OE/RJTNOOzI": ("PBKDF2", False),
    "$pbkdf2$1000$BcDYG4PwvreWkrI2hpASwg$a7Mh.4AFnsCwl9pb5bbl2BlN3KU": ("PBKDF2", False),
    "$pbkdf2-sha512$1000$3XsvJQRgjNHa23vPeS.lFA$61WQJH1IqNCzxe2uhtTLP877l8N4HgcnoOxBMDV7i5.MMglc..YuaPQrm0x37xEdyp89F"
    "Ktpf82t9SkzY.Subw": ("PBKDF2", False),
    "{PBKDF2-SHA256}1000$YOx9r/V.L8V4b21trdXauw$Cm6I7eA92Gs3h3R2fGgqO06E/HKo8q9l8H9wOW5MaNw": ("PBKDF2", False),
    "{PBKDF2}1000$khLCuFdqLaV0LiVkLKUU4g$dvorJXLXhzJONAbDl70R0bBRqLc": ("PBKDF2", False),
    # RFC 5803
    "SCRAM-SHA-256$4096:VH89xhKqpH0QQZW58n28ieQskcf/0Xvk+B9EUkjh6KQ=$5mtheXkZZsPUhQL2TiiPnIRT+xBJmrRFFDt6ijmIrwQ=:xPE"
    "hXk36N6iKnh/bhOoSnl7+eBV1zExlByev91/O/s8=": ("SCRAM-SHA-256", False),
}


@pytest.mark.parametrize("text", STORED)
def test_what_another_program_stored_is_verified(text: str) -> None:
    stored = read_stored(text)
    assert (stored.scheme, stored.weak) == STORED[text]
    assert stored.verify(PASSWORD)
    assert not stored.verify(PASSWORD + "x") and not stored.verify("x") and not stored.verify("")
    assert not stored.verify(PASSWORD + "\0")


def test_a_password_is_tried_as_typed_and_then_prepared() -> None:
    stored = read_stored("{SHA}dUiT/hqAZgAaXs7e5SSivRDx5BU=")
    decomposed = "right: u\u0308ni\u0308co\u0308de\u0301 and\u00a0spaces"
    assert decomposed != PASSWORD and stored.verify(decomposed)


def test_bcrypt_looks_at_72_octets_as_its_makers_did() -> None:
    import bcrypt

    long = "p" * 72
    text = bcrypt.hashpw(long.encode(), bcrypt.gensalt(4)).decode()
    assert read_stored(text).verify(long + "more") and not read_stored(text).verify(long[:71])


def test_a_password_in_clear_is_refused_unless_it_was_allowed() -> None:
    with pytest.raises(UnknownScheme, match="not allowed"):
        read_stored("{PLAIN}secret")
    stored = read_stored("{plain}secret", plain=True)
    assert stored.weak and stored.verify("secret") and not stored.verify("Secret")
    with pytest.raises(Unreadable):
        read_stored("{PLAIN}", plain=True)


UNKNOWN = {
    "{NTLM}8846F7EAEE8FB117AD06BDD830B7586C": "{NTLM}",
    "{CRYPT}ab01FAX.bQRSU": "{CRYPT}",
    "{PBKDF2-MD5}1000$YWJj$YWJjYWJj": "{PBKDF2-MD5}",
    "$pbkdf2-md5$1000$YWJj$YWJjYWJjYWJj": "$pbkdf2-md5$",
    "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7": "$y$",
    "$2x$04$Zao0hKXfkKeHH7ZhlJSMq.fI2.u4ce/jyzh4XC4Fwpeh96isLD.3W": "$2x$",
    "ab01FAX.bQRSU": "none is named",
    "": "none is named",
}


@pytest.mark.parametrize("text", UNKNOWN)
def test_an_unknown_scheme_is_named_and_what_is_stored_is_not_shown(text: str) -> None:
    with pytest.raises(UnknownScheme) as refused:
        read_stored(text)
    if UNKNOWN[text] != "{CRYPT}":
        assert refused.value.scheme == UNKNOWN[text]
    if text:
        assert text not in str(refused.value) and text[-8:] not in str(refused.value)


HOSTILE = (
    "$argon2id$v=19$m=4194304,t=3,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    "$argon2id$v=19$m=65536,t=1000000,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    "$argon2id$v=19$m=65536,t=3,p=4000$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG",
    "$pbkdf2-sha256$999999999$VKo15nwvhfBe610rRehdyw$AG0SPVOPRWRVggDOvHmcpbZP7xbJgwS1OE/RJTNOOzI",
    "{PBKDF2}$1$salt$999999999$d9b9bbd65803b3034cf29bf765f28b1d713175bd",
    "{SCRAM-SHA-256}999999999,c2FsdA==,g/F/ObCQC9rzOYA8rnhKkXeukAga540w4/p+Yq6AqUI=,"
    "u0i/RMWLyiR+VveQuez+v87Y9OvIJxZmVdI+lK7pFUs=",
    "$2b$31$Zao0hKXfkKeHH7ZhlJSMq.fI2.u4ce/jyzh4XC4Fwpeh96isLD.3W",
    "$6$rounds=999999999$rZOC5Gw3c89lpxpX$" + "K" * 86,
    "$5$rounds=999999999$rZOC5Gw3c89lpxpX$" + "K" * 43,
    "{SHA}" + "A" * 5_000,
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_cost_that_would_hold_a_processor_is_refused_before_it_is_paid(text: str) -> None:
    with pytest.raises(Unreadable):
        read_stored(text)


BROKEN = (
    "{SSHA}dUiT/hqAZgAaXs7e5SSivRDx5BU=",  # no salt
    "{SHA}BQLTC/1AUAfvu9k1n778NqKP7jOddxEA",  # one too many
    "{SHA}****",
    "{SHA.ROT13}dUiT/hqAZgAaXs7e5SSivRDx5BU=",
    "{SHA.HEX}zz",
    "{BLF-CRYPT}$2y$05$short",
    "$2b$00$Zao0hKXfkKeHH7ZhlJSMq.fI2.u4ce/jyzh4XC4Fwpeh96isLD.3W",
    "$2b$03$Zao0hKXfkKeHH7ZhlJSMq.fI2.u4ce/jyzh4XC4Fwpeh96isLD.3W",
    "{SHA512-CRYPT}$5$rZOC5Gw3c89lpxpX$" + "K" * 43,
    "$6$rZOC5Gw3c89lpxpX$" + "K" * 43,
    "$1$toolongasalt$Hm8XxOxlcJW.pjlFjGGrx.",
    "{PBKDF2}",
    "{PBKDF2-SHA256}x",
    "{SCRAM-SHA-256}4096,a,b,c",
    "{SCRAM-SHA-256}4096,c2FsdA==,c2FsdA==,c2FsdA==",
    "$argon2id$rubbish",
    "(G)",
)


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_one_is_unusable_never_a_wrong_password(text: str) -> None:
    with pytest.raises(BadStored):
        read_stored(text).verify("x")


@pytest.fixture
def without_libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("bcrypt", "passlib"):
        monkeypatch.setitem(sys.modules, name, None)
    yield


@pytest.mark.usefixtures("without_libraries")
@pytest.mark.parametrize("text", [text for text in STORED if "$2" in text[:14] or "$6" in text[:18]])
def test_a_missing_library_is_named_with_what_installs_it(text: str) -> None:
    with pytest.raises(Unreadable, match=r"pip install \"pillarbox\[hashes\]\""):
        read_stored(text)

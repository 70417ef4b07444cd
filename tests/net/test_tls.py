"""Server contexts: what is refused, in which words, and what is offered."""

import ssl
from pathlib import Path

import pytest
from tests.support.certs import Authority

from pillarbox.net.tls import CertificateError, ListenerTls, server_context, switching_context, waiting_context


def test_key_of_another_certificate_is_refused_by_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, two = authority.issue("a.example"), authority.issue("b.example")
    with pytest.raises(CertificateError, match="does not belong to the certificate") as caught:
        server_context(one.certificate, two.key, ListenerTls())
    assert str(two.key) in str(caught.value)


def test_files_that_are_missing_or_no_pem_are_named(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("a.example")
    missing = tmp_path / "missing.pem"
    with pytest.raises(CertificateError, match=r"^certificate .*missing\.pem: No such file or directory$"):
        server_context(missing, issued.key, ListenerTls())
    with pytest.raises(CertificateError, match=r"^key .*missing\.pem: No such file or directory$"):
        server_context(issued.certificate, missing, ListenerTls())
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate here")
    with pytest.raises(CertificateError, match="not a PEM certificate chain"):
        server_context(junk, issued.key, ListenerTls())
    with pytest.raises(CertificateError, match=r"^client_ca .* CA certificates"):
        server_context(issued.certificate, issued.key, ListenerTls(client_ca=junk))
    with pytest.raises(CertificateError, match="no cipher"):
        server_context(issued.certificate, issued.key, ListenerTls(ciphers="NONSENSE"))


def test_context_offers_no_old_version_and_no_tickets(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("a.example")
    context = server_context(issued.certificate, issued.key, ListenerTls())
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.num_tickets == 0
    assert context.verify_mode is ssl.CERT_NONE
    strict = ListenerTls(ssl.TLSVersion.TLSv1_3, client_ca=issued.ca)
    context = server_context(issued.certificate, issued.key, strict)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_OPTIONAL


@pytest.mark.parametrize("minimum", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_where_asked_for_come_with_no_unauthenticated_cipher(
    tmp_path: Path, minimum: ssl.TLSVersion
) -> None:
    issued = Authority(tmp_path).issue("a.example")
    context = server_context(issued.certificate, issued.key, ListenerTls(minimum))
    assert context.minimum_version is minimum
    names = {cipher["name"] for cipher in context.get_ciphers()}
    assert "ECDHE-RSA-AES128-SHA" in names, "what TLS 1.0 has"
    assert "ECDHE-RSA-AES128-GCM-SHA256" in names
    assert not [name for name in names if any(word in name for word in ("NULL", "ADH", "AECDH", "PSK", "SRP", "RC4"))]
    assert context.num_tickets == 0
    own = server_context(issued.certificate, issued.key, ListenerTls(minimum, "ECDHE-ECDSA-AES128-SHA"))
    assert [one["name"] for one in own.get_ciphers() if one["protocol"] != "TLSv1.3"] == ["ECDHE-ECDSA-AES128-SHA"]


def shaken(context: ssl.SSLContext, ca: Path, name: str | None) -> bool:
    """Whether a client that asks for ``name`` (and trusts ``ca``) gets through a handshake."""
    client_context = ssl.create_default_context(cafile=str(ca))
    client_context.check_hostname = name is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    sides = [client, server]
    for _ in range(20):
        for side in tuple(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
            sides.remove(side)
    return not sides


def test_without_a_certificate_a_handshake_fails_but_where_sni_leads_to_another(tmp_path: Path) -> None:
    issued = Authority(tmp_path).issue("a.example", "b.example")
    there = server_context(issued.certificate, issued.key, ListenerTls())
    assert shaken(there, issued.ca, "a.example")
    assert not shaken(waiting_context(ListenerTls()), issued.ca, None)
    default_waits = switching_context(waiting_context(ListenerTls()), {"a.example": there})
    assert shaken(default_waits, issued.ca, "a.example")
    assert not shaken(default_waits, issued.ca, "b.example")
    assert not shaken(default_waits, issued.ca, None)
    other_waits = switching_context(there, {"b.example": waiting_context(ListenerTls())})
    assert shaken(other_waits, issued.ca, "a.example")
    assert shaken(other_waits, issued.ca, None)
    assert not shaken(other_waits, issued.ca, "b.example"), "never another site's certificate in its place"

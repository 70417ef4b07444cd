"""SCRAM whose challenges a server behind makes: what is handed on, and what never gets there."""

import pytest

from pillarbox.sasl import Challenge, Failure, ProofWanted, RelayedCredentials, SecretWanted, Success
from pillarbox.sasl.scram import ScramServer, is_signature, read_server_first

CHALLENGE = b"r=clientserver,s=c2FsdA==,i=4096"
PROOF = b"A" * 43 + b"="


def begun(first: bytes = b"n,,n=anna,r=client") -> ScramServer:
    server = ScramServer()
    wanted = server.step(first)
    assert isinstance(wanted, SecretWanted)
    assert wanted.first.message == first
    assert wanted.relay(CHALLENGE) == Challenge(CHALLENGE)
    return server


def test_messages_pass_unchanged_and_the_nod_ends_it() -> None:
    server, final = begun(b"y,a=anna,n=anna,r=client"), b"c=eSxhPWFubmEs,r=clientserver,p=" + PROOF
    step = server.step(final)
    assert isinstance(step, ProofWanted)
    assert (step.authcid, step.message) == ("anna", final)
    signature = b"v=" + PROOF
    assert step.conclude(signature) == Challenge(signature)
    end = server.step(b"")
    assert isinstance(end, Success)
    assert end.credentials == RelayedCredentials("anna", "anna")


@pytest.mark.parametrize(
    "final",
    [
        b"c=eSws,r=clientserver,p=" + PROOF,  # another flag than in the first message: y for n
        b"c=cD10bHMtdW5pcXVlLCw=,r=clientserver,p=" + PROOF,  # p=tls-unique
        b"c=biws,r=clientother,p=" + PROOF,
        b"c=biws,r=client,p=" + PROOF,
        b"c=biws,r=clientserver,p=short",
        b"c=biws,r=clientserver",
        b"",
        b"x" * 9_000,
    ],
)
def test_what_belongs_to_another_exchange_is_not_handed_on(final: bytes) -> None:
    assert isinstance(begun().step(final), Failure)


def test_nothing_goes_twice() -> None:
    server, final = begun(), b"c=biws,r=clientserver,p=" + PROOF
    assert isinstance(server.step(final), ProofWanted)
    assert isinstance(server.step(final), Failure)  # before the verdict
    server = begun()
    step = server.step(final)
    assert isinstance(step, ProofWanted)
    step.conclude(b"v=" + PROOF)
    assert isinstance(server.step(b"more"), Failure)
    assert isinstance(server.step(b""), Failure)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"r=client,s=c2FsdA==,i=4096",
        b"r=other,s=c2FsdA==,i=4096",
        b"r=clientserver,s=c2Fsd,i=4096",
        b"r=clientserver,s=,i=4096",
        b"r=clientserver,s=c2FsdA==,i=0",
        b"r=clientserver,s=c2FsdA==,i=4096,x=y",
        b"m=x,r=clientserver,s=c2FsdA==,i=4096",
        b"r=clientserver,s=c2FsdA==,i=4096\r\n",
        b"r=client" + b"s" * 600 + b",s=c2FsdA==,i=4096",
    ],
)
def test_what_is_no_challenge(message: bytes) -> None:
    assert read_server_first(message, b"client") is None


def test_what_is_a_signature() -> None:
    assert is_signature(b"v=" + PROOF)
    assert not any(
        map(is_signature, (b"", b"e=invalid-proof", b"v=", b"v=" + PROOF + b",x=y", b"v=" + PROOF + b"\n"))
    )

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
        b"r=client" + b"s" * 769 + b",s=c2FsdA==,i=4096",
    ],
)
def test_what_is_no_challenge(message: bytes) -> None:
    assert read_server_first(message, b"client") is None


@pytest.mark.parametrize("length", [1, 256])
@pytest.mark.parametrize("added", [1, 64, 768])
def test_a_nonce_that_was_taken_has_room_for_any_servers(length: int, added: int) -> None:
    nonce, server = b"c" * length, ScramServer()
    wanted = server.step(b"n,,n=anna,r=" + nonce)
    assert isinstance(wanted, SecretWanted)
    challenge = b"r=%b%b,s=c2FsdA==,i=4096" % (nonce, b"s" * added)
    assert read_server_first(challenge, nonce) is not None
    assert wanted.relay(challenge) == Challenge(challenge)
    final = b"c=biws,r=%b%b,p=%b" % (nonce, b"s" * added, PROOF)
    assert isinstance(server.step(final), ProofWanted)


@pytest.mark.parametrize("length", [0, 257, 449, 512])
def test_a_nonce_without_that_room_is_refused_before_anybody_is_looked_for(length: int) -> None:
    assert isinstance(ScramServer().step(b"n,,n=anna,r=" + b"c" * length), Failure)


def test_what_is_a_signature() -> None:
    assert is_signature(b"v=" + PROOF)
    assert not any(
        map(is_signature, (b"", b"e=invalid-proof", b"v=", b"v=" + PROOF + b",x=y", b"v=" + PROOF + b"\n"))
    )

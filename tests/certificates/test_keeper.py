"""The keeper: what comes of a try, for whom it is tried again and when; an old certificate is never taken away."""

import asyncio
import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pillarbox.certificates.challenge import Responder
from pillarbox.certificates.keeper import AuthorityError, Keeper, Proof
from pillarbox.certificates.settings import AcmeSettings
from pillarbox.certificates.shelf import Shelf

NAME, OTHER = "mail.example.org", "post.example.net"
DAY = 86_400.0
START = 1_800_000_000.0


class Clock:
    """Seconds since the epoch, as the test has them."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Issuer:
    """An authority of the test's own: ``trouble`` is raised instead of issuing."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.trouble: Exception | None = None
        self.asked: list[str] = []
        self.suggested: float | None = None
        self.kinds: list[str] = []

    def issue(self, name: str, key: bytes, proof: Proof) -> bytes:
        self.asked.append(name)
        self.kinds.append(proof.kind)
        if self.trouble is not None:
            raise self.trouble
        private = serialization.load_pem_private_key(key, password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        assert private.curve.name == "secp256r1"
        start = datetime.datetime.fromtimestamp(self.clock.now, datetime.UTC)
        subject = x509.Name([])
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
        builder = builder.public_key(private.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=90))
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        return builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def suggestion(self, chain: bytes) -> tuple[float | None, float | None]:
        return self.suggested, None


class Kept:
    """A keeper over a folder of the test, with its clock and its authority."""

    def __init__(self, folder: Path, *names: str, hook: tuple[str, ...] = ()) -> None:
        self.clock = Clock()
        self.issuer = Issuer(self.clock)
        self.settings = AcmeSettings(folder, names, hook=hook)
        self.start()

    def start(self) -> None:
        """A new process over the same files."""
        self.keeper = Keeper(self.settings, lambda settings, key: self.issuer, Responder(), self.clock)

    def state(self, name: str = NAME) -> dict[str, object]:
        """What is shown of a name."""
        return self.keeper.status()[name]

    async def run(self, until: Callable[[], object]) -> None:
        """Runs until ``until`` holds."""
        running = asyncio.create_task(self.keeper.run())
        try:
            async with asyncio.timeout(20):
                while not until():
                    await asyncio.sleep(0.005)
                    if running.done():
                        running.result()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def look_once(self) -> None:
        """One round over all names: what is due has been tried when it ends."""
        before, rounds = self.keeper._stirred.wait, asyncio.Event()

        async def wait() -> bool:
            rounds.set()
            return await before()

        self.keeper._stirred.wait = wait  # type: ignore[assignment,method-assign]  # where a round ends
        await self.run(rounds.is_set)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """One name, nothing there yet."""
    return Kept(tmp_path / "certificates", NAME)


async def test_a_name_without_a_certificate_gets_one(kept: Kept) -> None:
    await kept.look_once()
    assert kept.issuer.asked == [NAME]
    assert kept.issuer.kinds == ["http-01"]
    assert kept.state() == {"until": START + 90 * DAY, "reason": None, "advice": None, "next_try": None}


async def test_with_a_hook_it_is_dns_01(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "certificates", NAME, hook=("/etc/pillarbox/hook",))
    await kept.look_once()
    assert kept.issuer.kinds == ["dns-01"]


async def test_one_that_is_there_is_left_alone_until_a_third_is_left(kept: Kept) -> None:
    await kept.look_once()
    first = kept.settings.pair(NAME).read_bytes()
    for days in (1, 30, 59.9):
        kept.clock.now = START + days * DAY
        kept.start()
        await kept.look_once()
    assert kept.issuer.asked == [NAME]
    kept.clock.now = START + 60 * DAY
    await kept.look_once()
    assert kept.issuer.asked == [NAME, NAME]
    assert kept.settings.pair(NAME).read_bytes() != first
    assert kept.state()["until"] == START + 150 * DAY


async def test_the_authority_s_suggestion_is_followed(kept: Kept) -> None:
    await kept.look_once()
    kept.clock.now += DAY
    kept.issuer.suggested = kept.clock.now - 1
    kept.start()
    await kept.look_once()
    assert kept.issuer.asked == [NAME, NAME]


async def test_a_failure_is_shown_and_tried_again_with_growing_pauses(kept: Kept) -> None:
    kept.issuer.trouble = AuthorityError("the authority said: no", "say please")
    pauses = []
    for _ in range(5):
        await kept.look_once()
        state = kept.state()
        assert (state["until"], state["reason"], state["advice"]) == (None, "the authority said: no", "say please")
        assert isinstance(state["next_try"], float)
        pauses.append(state["next_try"] - kept.clock.now)
        kept.clock.now = state["next_try"]
    assert pauses == [60.0, 300.0, 900.0, 3600.0, 7200.0]


async def test_nothing_is_tried_before_its_time_not_even_by_a_new_process(kept: Kept) -> None:
    kept.issuer.trouble = AuthorityError("no", "")
    await kept.look_once()
    for _ in range(3):
        kept.start()
        await kept.look_once()
    assert kept.issuer.asked == [NAME]
    kept.clock.now += 60
    kept.start()
    await kept.look_once()
    assert kept.issuer.asked == [NAME, NAME]


async def test_a_reload_tries_at_once_and_the_pauses_go_on_growing(kept: Kept) -> None:
    kept.issuer.trouble = AuthorityError("no", "")
    await kept.look_once()
    kept.keeper.apply(kept.settings)
    await kept.look_once()
    assert kept.issuer.asked == [NAME, NAME]
    assert kept.state()["next_try"] == START + 300


async def test_who_asks_too_often_waits(kept: Kept) -> None:
    kept.issuer.trouble = AuthorityError("too many", "", limited=7200.0)
    await kept.look_once()
    assert kept.state()["next_try"] == START + 7200


async def test_the_old_certificate_stays_while_a_renewal_fails(kept: Kept) -> None:
    await kept.look_once()
    first = kept.settings.pair(NAME).read_bytes()
    kept.clock.now = START + 61 * DAY
    kept.issuer.trouble = AuthorityError("no", "")
    await kept.look_once()
    assert kept.issuer.asked == [NAME, NAME]
    assert kept.settings.pair(NAME).read_bytes() == first
    assert (kept.state()["until"], kept.state()["reason"]) == (START + 90 * DAY, "no")
    kept.issuer.trouble, kept.clock.now = None, kept.clock.now + 60
    await kept.look_once()
    assert kept.state()["reason"] is None


async def test_a_chain_that_does_not_fit_is_not_used(kept: Kept) -> None:
    kept.issuer.issue = lambda name, key, proof: b"-----BEGIN"  # type: ignore[method-assign]  # a liar
    await kept.look_once()
    assert "cannot be read" in str(kept.state()["reason"])
    assert not kept.settings.pair(NAME).exists()


async def test_a_bug_ends_nothing(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "certificates", NAME, OTHER)
    kept.issuer.trouble = ZeroDivisionError("oops")
    await kept.look_once()
    assert kept.issuer.asked == [NAME, OTHER]
    assert "bug" in str(kept.state(OTHER)["reason"])


async def test_a_damaged_account_key_is_said(kept: Kept) -> None:
    Shelf(kept.settings.folder).prepare()
    (kept.settings.folder / "account" / "key.pem").write_bytes(b"nonsense")
    await kept.look_once()
    assert "move it away" in str(kept.state()["reason"])
    assert kept.issuer.asked == []


async def test_a_reload_that_adds_a_site_gets_its_certificate(kept: Kept) -> None:
    await kept.look_once()
    kept.settings = AcmeSettings(kept.settings.folder, (OTHER,))
    kept.keeper.apply(kept.settings)
    await kept.look_once()
    assert kept.issuer.asked == [NAME, OTHER]
    assert list(kept.keeper.status()) == [OTHER]


async def test_the_end_waits_for_no_authority(kept: Kept) -> None:
    """A request may take minutes; a server that is to stop does not."""
    never = asyncio.Event()
    loop = asyncio.get_running_loop()

    def issue(name: str, key: bytes, proof: Proof) -> bytes:
        kept.issuer.asked.append(name)
        asyncio.run_coroutine_threadsafe(never.wait(), loop).result()
        raise AuthorityError("too late", "")

    kept.issuer.issue = issue  # type: ignore[method-assign]  # one that does not answer
    await kept.run(lambda: kept.issuer.asked)
    never.set()
    assert kept.state()["until"] is None

"""An operator's verbs in a cell: page by page, and by the index where a filter names something whole."""

import pytest
from tests.spool.messages import NOW, envelope

from pillarbox.spool.base import Filter
from pillarbox.spool.cluster import ledger
from pillarbox.spool.cluster.spool import ClusterSpool


async def test_a_verb_goes_on_until_the_last_page_of_the_last_search(
    spool: ClusterSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "PAGE", 2)
    monkeypatch.setattr(ledger, "FOUND", 4)
    for many in (4, 5, 7):
        sent = [envelope(f"{many}@{many}.example", queue_id=f"01TEST{many}{number}") for number in range(many)]
        for each in sent:
            await spool.commit(each, b"")
        assert await spool.hold(Filter(domain=f"{many}.example"), NOW) == [each.queue_id for each in sent]


async def test_a_whole_recipient_or_domain_is_found_in_any_case_and_no_other(spool: ClusterSpool) -> None:
    sent = envelope("Bob_x@Sub.Example", "Postmaster")
    await spool.commit(sent, b"")
    await spool.commit(envelope("bobyx@sub.example"), b"")
    await spool.commit(envelope("bob_x@subxexample"), b"")

    async def found(**conditions: str) -> list[str]:
        return [each.envelope.queue_id for each in await spool.list(Filter(**conditions), NOW, 10)]  # type: ignore[arg-type]  # texts all

    for recipient in ("bOB_X@suB.eXAMPLE", "postmasteR", "*ob_x@SUB.*", "b*_x@sub.example"):
        assert await found(recipient=recipient) == [sent.queue_id], recipient
    assert await found(recipient="Bob_x") == []
    assert len(await found(domain="SUB.EXAMPLE")) == 2
    assert len(await found(domain="SUB.*")) == 2
    assert await found(domain="") == [sent.queue_id]

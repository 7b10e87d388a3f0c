from __future__ import annotations

from datetime import date

from tests.ledger.conftest import found
from tidepool_ingest.ledger import DELETIONS, BatchRow, Ledger, origin_digest

ONE, TWO, THREE = (origin_digest(name) for name in ("one", "two", "three"))


def batch(ledger: Ledger, name: str, day: int = 1) -> BatchRow:
    return ledger.batches.register(
        found(content_key=name, batch_id=name, folder=name, day=date(2026, 1, day))
    )


def feed(ledger: Ledger) -> int:
    return ledger.feeds.register("api.example.org", "0123456789", "org.example.app", "continuous").id


def test_what_comes_later_in_staging_counts_part_by_part(ledger: Ledger) -> None:
    writes, here = ledger.feed_writes, feed(ledger)
    first, second, third = (batch(ledger, name, day) for name, day in (("b", 1), ("c", 1), ("a", 2)))
    writes.replace_for_chunk(here, second.id, 0, [ONE])
    writes.replace_for_chunk(here, third.id, DELETIONS, [TWO, THREE])

    assert writes.later_than(here, first) == {ONE, TWO, THREE}
    assert writes.later_than(here, second) == {TWO, THREE}
    assert writes.later_than(here, third) == frozenset()
    assert writes.later_than(here + 1, first) == frozenset()


def test_a_part_is_noted_anew_or_forgotten(ledger: Ledger) -> None:
    writes, here = ledger.feed_writes, feed(ledger)
    first, second = batch(ledger, "b"), batch(ledger, "c")
    for part, digest in ((0, ONE), (1, TWO), (0, THREE)):
        writes.replace_for_chunk(here, second.id, part, [digest])
    assert writes.later_than(here, first) == {TWO, THREE}

    writes.forget(here, second.id, [1, 7])
    assert writes.later_than(here, first) == {THREE}
    assert writes.chunks_of(here, second.id) == [0]

from __future__ import annotations

from datetime import date

import pytest

from tests.factories import begin_data_set, found
from tidepool_ingest.ledger import DELETIONS, BatchRow, BatchState, DataSetState, Ledger, origin_digest
from tidepool_ingest.ledger.database import LeaseLostError

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


@pytest.mark.parametrize("state", [DataSetState.OPEN, DataSetState.VERIFIED])
def test_a_batch_that_is_retracted_is_withdrawn_and_gives_up_its_share(
    ledger: Ledger, state: DataSetState
) -> None:
    row, other = batch(ledger, "b"), batch(ledger, "c")
    shares = [begin_data_set(ledger, number, "continuous") for number in (row.id, other.id)]
    for share, number in zip(shares, (row.id, other.id), strict=True):
        ledger.batches.begin_upload(number)
        if state is DataSetState.VERIFIED:
            ledger.data_sets.mark_verified(share, expected_rows=5, visible_rows=5)
            ledger.batches.mark_verified(number)

    for _ in range(2):
        ledger.data_sets.retract(row.id)

    assert ledger.batches.get(row.id).state is BatchState.WITHDRAWN
    assert ledger.data_sets.get(shares[0]).state is DataSetState.ABANDONED
    assert ledger.data_sets.get(shares[1]).state is state


def test_only_the_holder_of_the_lease_retracts(ledger: Ledger) -> None:
    row = batch(ledger, "b")
    begin_data_set(ledger, row.id, "continuous")
    ledger.batches.begin_upload(row.id)
    with ledger.leases.held("feed:0123456789", seconds=60) as lease:
        pass
    with pytest.raises(LeaseLostError):
        ledger.data_sets.retract(row.id, lease=lease)

    assert ledger.batches.get(row.id).state is BatchState.UPLOADING

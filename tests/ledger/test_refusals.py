from __future__ import annotations

import pytest

from tests.factories import found
from tidepool_ingest.ledger import Ledger, Rejection
from tidepool_ingest.ledger.database import LeaseLostError


def refusal(ordinal: int, code: str = "value-out-of-range") -> Rejection:
    return Rejection(ordinal=ordinal, type="cbg", rows=1, problems=((code, "/value"),))


def test_refusals_are_kept_by_batch(ledger: Ledger) -> None:
    one = ledger.batches.register(found())
    other = ledger.batches.register(found(content_key="d" * 64, folder="/other"))

    ledger.rejections.add(one.id, [refusal(7), refusal(3)])
    ledger.rejections.add(other.id, [refusal(3)])

    assert list(ledger.rejections.of_batch(one.id)) == [3, 7]
    assert ledger.rejections.of_batch(one.id)[7] == refusal(7)


def test_what_is_refused_again_stays_as_it_was_noted(ledger: Ledger) -> None:
    batch = ledger.batches.register(found())
    ledger.rejections.add(batch.id, [refusal(3)])

    ledger.rejections.add(batch.id, [refusal(3, "value-not-valid"), refusal(4)])

    assert ledger.rejections.of_batch(batch.id) == {3: refusal(3), 4: refusal(4)}


def test_a_task_that_was_overtaken_cannot_note_anything(ledger: Ledger) -> None:
    batch = ledger.batches.register(found())
    with (
        ledger.leases.held("batch:1", seconds=0.0) as lost,
        ledger.leases.held("batch:1", seconds=9),
        pytest.raises(LeaseLostError),
    ):
        ledger.rejections.add(batch.id, [refusal(3)], lease=lost)

    assert ledger.rejections.of_batch(batch.id) == {}

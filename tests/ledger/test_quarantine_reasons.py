from __future__ import annotations

from tests.factories import found
from tidepool_ingest.ledger import Ledger


def test_the_last_note_counts(ledger: Ledger) -> None:
    batch = ledger.batches.register(found()).id
    ledger.quarantine_reasons.replace_for_batch(
        batch, {"cbg": {"value-out-of-range": 2}, "bolus": {"type-unknown": 1}}
    )
    reasons = {"cbg": {"value-out-of-range": 3, "type-not-float64": 1}}
    ledger.quarantine_reasons.replace_for_batch(batch, reasons)

    assert ledger.quarantine_reasons.of_batch(batch) == reasons
    assert list(ledger.quarantine_reasons.of_batch(batch)["cbg"]) == [
        "value-out-of-range",
        "type-not-float64",
    ]
    ledger.quarantine_reasons.replace_for_batch(batch, {})
    assert ledger.quarantine_reasons.of_batch(batch) == {}

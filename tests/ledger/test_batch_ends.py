from __future__ import annotations

from datetime import date

from tests.factories import found
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.ledger.record_counts import batch_ends

FIRST, SECOND, THIRD = date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3)


def test_batches_end_with_their_last_record_device_by_device(ledger: Ledger) -> None:
    for name, device, days in (
        ("a", "device-2", (SECOND, THIRD)),
        ("b", "device-1", (THIRD,)),
        ("c", "device-1", (FIRST, SECOND)),
        ("d", "device-1", (FIRST,)),
        ("e", None, (THIRD,)),
        ("f", "device-3", ()),
    ):
        row = ledger.batches.register(
            found(content_key=name * 64, folder=f"/{name}", device_id=device, label=name)
        )
        ledger.batch_days.replace_for_batch(row.id, {day: {"cbg": 1, "bolus": 2} for day in days})

    ends = [(end.device_id, end.label, end.last_day) for end in batch_ends(ledger.database, SECOND)]

    assert ends == [("device-1", "c", SECOND), ("device-1", "b", THIRD), ("device-2", "a", THIRD)]

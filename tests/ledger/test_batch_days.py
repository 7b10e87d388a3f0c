from __future__ import annotations

from datetime import date

from tests.factories import found
from tidepool_ingest.coverage import text_of_hours
from tidepool_ingest.ledger import Ledger

NEW_YEAR = date(2026, 1, 1)


def test_days_are_noted_by_type_and_the_last_note_counts(ledger: Ledger) -> None:
    batch = ledger.batches.register(found()).id
    other = ledger.batches.register(found(content_key="d" * 64, batch_id="batch-2")).id
    days = {date.min: {"food": 1}, NEW_YEAR: {"cbg": 288, "basal": 24}, date.max: {"cbg": 2}}

    ledger.batch_days.replace_for_batch(batch, {NEW_YEAR: {"cbg": 7}})
    ledger.batch_days.replace_for_batch(other, {NEW_YEAR: {"smbg": 3}})
    ledger.batch_days.replace_for_batch(batch, days)

    assert ledger.batch_days.of_batch(batch) == days
    assert list(ledger.batch_days.of_batch(batch)) == sorted(days)
    assert ledger.batch_days.of_batch(other) == {NEW_YEAR: {"smbg": 3}}
    ledger.batch_days.replace_for_batch(batch, {})
    assert ledger.batch_days.of_batch(batch) == {}


def test_hours_are_kept_where_they_are_known(ledger: Ledger) -> None:
    batch = ledger.batches.register(found()).id
    days = {NEW_YEAR: {"cbg": 3, "food": 1}}
    ledger.batch_days.replace_for_batch(batch, days)
    assert ledger.batch_days.hours_of_batch(batch) == {}

    hours = {NEW_YEAR: {"cbg": text_of_hours([1, *[0] * 21, 2, 0]), "food": text_of_hours([0] * 23 + [1])}}
    ledger.batch_days.replace_for_batch(batch, days, hours)

    assert ledger.batch_days.of_batch(batch) == days
    assert ledger.batch_days.hours_of_batch(batch) == hours
    # An area that was prepared before hours were counted says nothing of them.
    ledger.batch_days.replace_for_batch(batch, days, {})
    assert ledger.batch_days.hours_of_batch(batch) == {}

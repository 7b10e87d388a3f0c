"""Which batches a run has yet to work on, and which of a device go first, on both databases."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from tests.factories import found
from tidepool_ingest.ledger import BatchRow, Ledger, Turn
from tidepool_ingest.ledger.schema import turns

DAY, NEXT = date(2026, 1, 2), date(2026, 1, 3)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def batch(ledger: Ledger, name: str, day: date = DAY, **more: Any) -> BatchRow:
    given = {"content_key": (name * 64)[:64], "batch_id": name, "folder": f"/{name}", "day": day}
    row = ledger.batches.register(found(**given, **more))
    ledger.batch_days.replace_for_batch(row.id, {DAY: {"cbg": 1}})
    ledger.batches.set_counts(row.id, accepted=1)
    return ledger.batches.get(row.id)


def test_a_turn_is_planned_moved_and_ended(ledger: Ledger) -> None:
    a, b = batch(ledger, "a").id, batch(ledger, "b").id
    ledger.turns.plan("dag", "one", {a: 0, b: None})
    ledger.turns.plan("dag", "two", {a: 3})
    assert ledger.turns.runs() == [("dag", "one"), ("dag", "two")]
    assert ledger.turns.of_batches([a]) == [
        Turn(batch=a, dag_id="dag", run_id="one", map_index=0),
        Turn(batch=a, dag_id="dag", run_id="two", map_index=3),
    ]

    ledger.turns.plan("dag", "one", {b: 7})
    ledger.turns.end(a, "dag", "one")
    ledger.turns.end(a, None, None)
    assert [(turn.run_id, turn.map_index) for turn in ledger.turns.of_batches([a, b])] == [
        ("two", 3),
        ("one", 7),
    ]

    ledger.turns.end_run("dag", "one")
    with ledger.database.writing() as connection:
        connection.execute(update(turns).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert ledger.turns.of_batches([a, b]) == []
    assert ledger.turns.runs() == []


def test_a_turn_lasts_as_long_as_it_is_prolonged(ledger: Ledger) -> None:
    number = batch(ledger, "a").id
    ledger.turns.plan("dag", "one", {number: 0}, seconds=-1)
    assert ledger.turns.of_batches([number]) == []
    ledger.turns.prolong("dag", "other", seconds=60)
    assert ledger.turns.of_batches([number]) == []
    ledger.turns.prolong("dag", "one", seconds=60)
    assert [turn.run_id for turn in ledger.turns.of_batches([number])] == ["one"]


@pytest.mark.parametrize("sharing_days", [True, False])
def test_older_batches_with_a_turn_come_oldest_first(ledger: Ledger, sharing_days: bool) -> None:
    last = batch(ledger, "a", NEXT)
    second = batch(ledger, "b", staged_at=NOON + timedelta(microseconds=1))
    first = batch(ledger, "c", staged_at=NOON)
    earliest = batch(ledger, "d")
    unlike = batch(ledger, "e", device_id="device-2")
    done = batch(ledger, "f")
    rows = (last, second, first, earliest, unlike)
    ledger.turns.plan("dag", "run", {row.id: None for row in rows})

    def older_than(row: BatchRow) -> list[int]:
        return ledger.devices.older_planned(row, sharing_days=sharing_days)

    assert older_than(last) == [earliest.id, first.id, second.id]
    assert older_than(second) == [earliest.id, first.id]
    assert older_than(earliest) == []
    assert older_than(done) == [earliest.id]


def test_one_of_other_days_is_not_older_unless_its_days_are_unknown(ledger: Ledger) -> None:
    apart, newer = batch(ledger, "a"), batch(ledger, "c", NEXT)
    ledger.batch_days.replace_for_batch(apart.id, {NEXT: {"cbg": 1}})
    unread = ledger.batches.register(found(content_key="b" * 64, batch_id="b", folder="/b", day=DAY))
    ledger.turns.plan("dag", "run", {apart.id: 0, unread.id: 1})

    assert ledger.devices.older_planned(newer, sharing_days=True) == [unread.id]
    ledger.batches.set_counts(unread.id, accepted=0)
    assert ledger.devices.older_planned(newer, sharing_days=True) == []


def test_a_batch_that_is_staged_anew_gets_the_age_of_its_manifest(ledger: Ledger) -> None:
    row = batch(ledger, "a")
    assert row.staged_at is None

    again = batch(ledger, "a", staged_at=NOON)

    assert (again.id, again.staged_at) == (row.id, NOON)

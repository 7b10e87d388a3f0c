"""Batches of one device, what was left unfinished, and what is due for another look, on both databases."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.factories import found, set_batch_state, set_data_set_state
from tidepool_ingest.ledger import BatchRow, BatchState, DataSetState, FoundPart, Ledger, TaskOrigin

FIRST, SECOND = date(2026, 1, 2), date(2026, 1, 3)
EARLIER, LATER = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)

VERIFIED = [DataSetState.VERIFIED]


def batch(ledger: Ledger, name: str, day: date, days: tuple[date, ...] = (), **more: Any) -> BatchRow:
    given = {"content_key": (name * 64)[:64], "batch_id": name, "folder": f"/{name}", "day": day}
    row = ledger.batches.register(found(**given, **more))
    ledger.batch_days.replace_for_batch(row.id, {day: {"cbg": 1} for day in days})
    return row


def data_set(ledger: Ledger, row: BatchRow, *states: DataSetState, deduplicator: str = "hash") -> None:
    started = ledger.data_sets.begin_opening(
        row.id, data_set_type="normal", deduplicator=deduplicator, expected_rows=1, origin=TaskOrigin()
    )
    for state in states:
        set_data_set_state(ledger, started.id, state, data_set_id=f"set-of-{row.batch_id}")


def verified(ledger: Ledger, row: BatchRow, deduplicator: str = "hash") -> None:
    data_set(ledger, row, DataSetState.CLOSED, DataSetState.VERIFIED, deduplicator=deduplicator)
    set_batch_state(ledger, row.id, BatchState.VERIFIED)


def test_newer_verified_batches_of_a_device(ledger: Ledger) -> None:
    older = batch(ledger, "a", FIRST, (FIRST, SECOND))
    sharing, apart = batch(ledger, "b", SECOND, (SECOND,)), batch(ledger, "c", SECOND)
    unlike = batch(ledger, "d", SECOND, (SECOND,), device_id="device-2")
    for row in (sharing, apart, unlike):
        verified(ledger, row)
    batch(ledger, "e", SECOND, (SECOND,))

    assert ledger.devices.newer(older, VERIFIED, sharing_days=True) == {sharing.id: SECOND}
    assert ledger.devices.newer(older, VERIFIED, sharing_days=False) == {sharing.id: SECOND, apart.id: SECOND}
    assert ledger.devices.newer(older, VERIFIED, sharing_days=True, deduplicators=("none",)) == {}
    assert ledger.devices.newer(sharing, VERIFIED, sharing_days=False) == {apart.id: SECOND}
    assert ledger.devices.newer(apart, VERIFIED, sharing_days=False) == {}
    ledger.batches.set_replaces(older.id, sharing.id)
    assert ledger.devices.newer(ledger.batches.get(older.id), VERIFIED, sharing_days=True) == {}
    assert ledger.devices.newest_verified_days("api.example.org", ["0123456789"], after=date(2025, 1, 1)) == {
        ("0123456789", "device-1"): SECOND,
        ("0123456789", "device-2"): SECOND,
    }


def test_older_batches_at_work(ledger: Ledger) -> None:
    older, newer = batch(ledger, "a", FIRST, (FIRST,)), batch(ledger, "b", SECOND, (FIRST,))
    assert ledger.devices.older_in_progress(newer, sharing_days=True) == {}

    with ledger.leases.held(f"batch:{older.id}", seconds=60):
        claims = ledger.devices.older_in_progress(newer, sharing_days=True)
        assert list(claims) == [f"batch:{older.id}"]
        assert 0 < claims[f"batch:{older.id}"] <= 60
        assert ledger.devices.older_in_progress(older, sharing_days=False) == {}


def test_data_sets_that_were_closed_since(ledger: Ledger) -> None:
    older, newer = batch(ledger, "a", FIRST), batch(ledger, "b", SECOND)
    verified(ledger, older)
    verified(ledger, newer, "truncate")

    assert ledger.devices.verified_since(older, EARLIER) == {"set-of-b": "truncate"}
    assert ledger.devices.verified_since(older, LATER) == {}


def test_what_was_left_unfinished(ledger: Ledger) -> None:
    open_one, done, stuck = (batch(ledger, name, FIRST) for name in "abc")
    data_set(ledger, open_one, DataSetState.OPEN)
    verified(ledger, done)
    set_batch_state(ledger, stuck.id, BatchState.UPLOADING)

    assert ledger.unfinished.batches(LATER) == [open_one.id, stuck.id]
    assert ledger.unfinished.batches(EARLIER) == []


def test_what_is_due_for_another_look(ledger: Ledger) -> None:
    first, second = batch(ledger, "a", FIRST), batch(ledger, "b", SECOND)
    verified(ledger, first)
    verified(ledger, second)
    assert ledger.data_sets.due_for_reverification(LATER, 10) == [first.id, second.id]
    assert ledger.data_sets.due_for_reverification(EARLIER, 10) == []

    (looked_at,) = ledger.data_sets.of_batch(first.id)
    ledger.data_sets.record_reverified(looked_at.id, 2, 3)

    assert ledger.data_sets.due_for_reverification(LATER, 10) == [second.id, first.id]
    assert ledger.data_sets.due_for_reverification(LATER, 1) == [second.id]
    assert ledger.data_sets.of_batch(first.id)[0].superseded_rows == 3


def test_what_a_deleted_upload_had_superseded_is_due_at_once(ledger: Ledger) -> None:
    beside, apart, deleted = (
        batch(ledger, name, FIRST, (day,)) for name, day in (("a", FIRST), ("b", SECOND), ("c", FIRST))
    )
    elsewhere = batch(ledger, "d", FIRST, (FIRST,), device_id="device-2")
    for row in (beside, apart, elsewhere):
        verified(ledger, row)
    data_set(ledger, deleted, DataSetState.CLOSED, DataSetState.DELETING, DataSetState.DELETED)
    set_batch_state(ledger, deleted.id, BatchState.HELD)

    assert ledger.data_sets.due_for_reverification(EARLIER, 10) == [beside.id]
    assert ledger.data_sets.due_for_reverification(LATER, 10) == [beside.id, apart.id, elsewhere.id]

    (looked_at,) = ledger.data_sets.of_batch(beside.id)
    ledger.data_sets.record_reverified(looked_at.id, 1, 0)
    assert ledger.data_sets.due_for_reverification(EARLIER, 10) == []

    data_set(ledger, deleted, DataSetState.CLOSED, DataSetState.DELETING, DataSetState.DELETED)
    verified(ledger, deleted)
    assert ledger.data_sets.due_for_reverification(EARLIER, 10) == []


def test_claims_that_have_run_out_are_swept(ledger: Ledger) -> None:
    ledger.leases._acquire("batch:1", seconds=-1, wait=0)
    with ledger.leases.held("batch:2", seconds=60):
        assert ledger.leases.sweep(datetime.now(UTC)) == 1
        assert ledger.leases.sweep(datetime.now(UTC)) == 0


def test_days_of_other_verified_batches_of_the_device(ledger: Ledger) -> None:
    own = batch(ledger, "a", FIRST, (FIRST, SECOND))
    for name, days, more in (
        ("b", (SECOND, SECOND + timedelta(days=1)), {}),
        ("c", (SECOND,), {}),
        ("d", (SECOND,), {"device_id": "device-2"}),
    ):
        verified(ledger, batch(ledger, name, SECOND, days, **more))
    batch(ledger, "e", SECOND, (FIRST,))

    assert ledger.devices.days_of_others(own) == {SECOND: {"cbg": 2}}


KEY, OTHER_KEY = "d" * 64, "e" * 64
NEW_YORK = '[[["America/New_York",""]]]'


def remembered(ledger: Ledger, name: str, **more: Any) -> BatchRow:
    """Register a batch of which is known which device it is of."""
    known = {"device_key": more.pop("device_key", KEY), "zones": more.pop("zones", NEW_YORK)}
    row = batch(ledger, name, more.pop("day", FIRST), (FIRST, SECOND), **more)
    ledger.batches.set_counts(row.id, **known)
    return ledger.batches.get(row.id)


def test_others_of_a_device_are_known_by_its_name_or_by_what_stays(ledger: Ledger) -> None:
    own = remembered(ledger, "a")
    renamed = remembered(ledger, "b", device_id="device-2", day=SECOND)
    unlike = remembered(ledger, "c", device_key=OTHER_KEY)
    for name, more in (
        ("d", {"device_id": "device-2", "device_key": OTHER_KEY}),
        ("e", {"device_key": None, "zones": None}),
        ("f", {"user_id": "9876543210"}),
        ("1", {"data_set_type": "continuous"}),
        ("2", {"api_host": "other.example.org"}),
    ):
        remembered(ledger, name, **more)
    states = (BatchState.REPLACED, BatchState.OVERWRITTEN, BatchState.GONE, BatchState.WITHDRAWN)
    for name, state in zip("3456", states, strict=True):
        set_batch_state(ledger, remembered(ledger, name).id, state)
    replaced = remembered(ledger, "7")
    ledger.batches.set_replaces(own.id, replaced.id)

    assert (own.device_key, own.zones) == (KEY, NEW_YORK)
    assert [row.id for row in ledger.devices.others_of(ledger.batches.get(own.id))] == [renamed.id, unlike.id]
    assert [row.id for row in ledger.devices.others_of(replaced)] == [renamed.id, unlike.id, own.id]
    nameless = remembered(ledger, "8", device_id=None, device_key=None)
    assert ledger.devices.others_of(nameless) == []


def test_days_that_show_are_those_of_whole_batches_and_of_parts(ledger: Ledger) -> None:
    verified(ledger, remembered(ledger, "a"))
    closing, prepared, withdrawn = (remembered(ledger, name) for name in "bcd")
    data_set(ledger, closing, DataSetState.CLOSING)
    data_set(ledger, withdrawn, DataSetState.CLOSED, DataSetState.DELETING)
    parts = ledger.parts.register(
        prepared,
        [FoundPart(content_key=name * 64, records=2, expected_rows=2, chunks=1) for name in ("e", "f")],
    )
    for part in parts:
        ledger.batch_days.replace_for_batch(part.id, {SECOND: {"cbg": 2}})
    verified(ledger, parts[1])

    numbers = [row.id for row in (closing, prepared, withdrawn)]
    assert ledger.devices.shown_days([1, *numbers], FIRST, SECOND) == {
        1: {FIRST: {"cbg": 1}, SECOND: {"cbg": 1}},
        closing.id: {FIRST: {"cbg": 1}, SECOND: {"cbg": 1}},
        prepared.id: {SECOND: {"cbg": 2}},
    }
    assert ledger.devices.shown_days([1], SECOND, SECOND) == {1: {SECOND: {"cbg": 1}}}
    assert ledger.devices.shown_days([], FIRST, SECOND) == {}


def test_uploads_of_devices_on_some_days(ledger: Ledger) -> None:
    older = batch(ledger, "a", FIRST, (FIRST, SECOND), label="older")
    split = batch(ledger, "b", SECOND, (SECOND,), label="split")
    theirs = batch(ledger, "c", SECOND, (SECOND,), label="theirs", user_id="aaaaaaaaaa")
    batch(ledger, "d", SECOND, (SECOND,), device_id="device-2")
    overwritten = batch(ledger, "e", SECOND, (SECOND,))
    set_batch_state(ledger, overwritten.id, BatchState.OVERWRITTEN)
    unknown_days = batch(ledger, "f", SECOND, label="known by its parts")
    for whole, names in ((split, "gh"), (unknown_days, "ij")):
        parts = [FoundPart(content_key=name * 64, records=2, expected_rows=2, chunks=1) for name in names]
        for part in ledger.parts.register(whole, parts):
            ledger.batch_days.replace_for_batch(part.id, {SECOND: {"cbg": 2, "food": 1}})

    def on(*days: date, user_id: str | None = None) -> list[tuple[str, dict[date, int]]]:
        return [(shared.label, shared.days) for shared in ledger.devices.on_days({"device-1"}, days, user_id)]

    assert on(SECOND) == [
        ("known by its parts", {SECOND: 6}),
        ("theirs", {SECOND: 1}),
        ("split", {SECOND: 1}),
        ("older", {SECOND: 1}),
    ]
    assert on(FIRST, SECOND, user_id=older.user_id)[-1] == ("older", {FIRST: 1, SECOND: 1})
    assert on(SECOND, user_id=theirs.user_id) == [("theirs", {SECOND: 1})]
    assert on(date(2026, 2, 1)) == on() == ledger.devices.on_days(set(), [SECOND]) == []

"""Batches that are cut into parts, on both databases."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tests.factories import found, set_batch_state, set_data_set_state
from tidepool_ingest.ledger import (
    BatchRow,
    BatchState,
    DataSetState,
    FoundPart,
    Ledger,
    Rejection,
    TaskOrigin,
    UploadFilter,
    lease_of_batch,
)
from tidepool_ingest.ledger.record_counts import batch_ends

FIRST, SECOND, THIRD = date(2026, 1, 2), date(2026, 1, 3), date(2026, 1, 4)


def part(name: str, records: int = 10) -> FoundPart:
    return FoundPart(content_key=(name * 64)[:64], records=records, expected_rows=records + 1, chunks=1)


def whole(ledger: Ledger, name: str = "f", **more: Any) -> BatchRow:
    given = {"content_key": (name * 64)[:64], "batch_id": name, "folder": f"/{name}", "day": SECOND}
    return ledger.batches.register(found(**{**given, **more}))


def cut(ledger: Ledger, *names: str) -> tuple[BatchRow, list[BatchRow]]:
    row = whole(ledger)
    return row, ledger.parts.register(row, [part(name) for name in names])


def verify(ledger: Ledger, row: BatchRow) -> None:
    started = ledger.data_sets.begin_opening(
        row.id, data_set_type="normal", deduplicator="hash", expected_rows=1, origin=TaskOrigin(dag_id="dag")
    )
    for state in (DataSetState.CLOSED, DataSetState.VERIFIED):
        set_data_set_state(ledger, started.id, state, data_set_id=f"set-of-{row.part}", visible_rows=11)
    set_batch_state(ledger, row.id, BatchState.VERIFIED)


def test_parts_are_batches_of_their_own_where_the_whole_one_is(ledger: Ledger) -> None:
    row, parts = cut(ledger, "1", "2")

    assert [(one.part, one.part_of, one.state) for one in parts] == [
        (1, row.id, BatchState.PREPARED),
        (2, row.id, BatchState.PREPARED),
    ]
    assert [one.label for one in parts] == [f"{row.label} part 1 of 2", f"{row.label} part 2 of 2"]
    assert (parts[0].staged, parts[0].accepted, parts[0].quarantined, parts[0].expected_rows) == (
        10,
        10,
        0,
        11,
    )
    assert {(one.day, one.folder, one.user_id, one.device_id) for one in parts} == {
        (row.day, row.folder, row.user_id, row.device_id)
    }
    assert ledger.parts.of_batch(row.id) == parts
    assert ledger.parts.of_batch(parts[0].id) == []


def test_what_is_known_of_a_part_stays(ledger: Ledger) -> None:
    row, (first, _) = cut(ledger, "1", "2")
    verify(ledger, first)
    ledger.batches.set_counts(first.id, accepted=8, quarantined=2)

    again = ledger.parts.register(row, [part("1"), part("2")])

    assert (again[0].id, again[0].state, again[0].accepted) == (first.id, BatchState.VERIFIED, 8)


def test_another_cut_takes_the_place_of_the_first_and_can_be_taken_back(ledger: Ledger) -> None:
    row, first = cut(ledger, "1", "2")

    second = ledger.parts.register(row, [part("3", 20)])
    assert [one.label for one in second] == [f"{row.label} part 1 of 1"]
    assert {ledger.batches.get(one.id).state for one in first} == {BatchState.OVERWRITTEN}
    assert ledger.parts.register(row, []) == []

    assert [one.id for one in ledger.parts.register(row, [part("1"), part("2")])] == [one.id for one in first]
    assert {one.state for one in ledger.parts.of_batch(row.id)} == {BatchState.PREPARED}


def test_the_plan_does_not_take_parts_for_what_lay_in_the_folder_before(ledger: Ledger) -> None:
    row, parts = cut(ledger, "1", "2")

    whole(ledger)
    assert [one.state for one in ledger.parts.of_batch(row.id)] == [BatchState.PREPARED] * 2
    assert ledger.batches.namesakes(row.api_host, row.user_id, row.batch_id) == [ledger.batches.get(row.id)]

    whole(ledger, "e", folder=row.folder, batch_id=row.batch_id)
    assert ledger.batches.get(row.id).state is BatchState.OVERWRITTEN
    assert ledger.parts.of_batch(row.id) == []
    assert {ledger.batches.get(one.id).state for one in parts} == {BatchState.OVERWRITTEN}


def test_a_batch_of_which_a_part_holds_data_is_not_replaced(ledger: Ledger) -> None:
    row, (first, _) = cut(ledger, "1", "2")
    verify(ledger, first)
    set_batch_state(ledger, row.id, BatchState.HELD, reason="older-than-uploaded")

    whole(ledger, "e", folder=row.folder, batch_id=row.batch_id)

    assert ledger.batches.get(row.id).state is BatchState.HELD


def test_parts_lie_where_the_whole_one_is_moved(ledger: Ledger) -> None:
    row, _ = cut(ledger, "1", "2")

    moved = whole(ledger, folder="/elsewhere", batch_id="elsewhere", day=THIRD, label="other")

    assert moved.id == row.id
    assert [(one.folder, one.batch_id, one.day, one.label) for one in ledger.parts.of_batch(row.id)] == [
        ("/elsewhere", "elsewhere", THIRD, f"other part {place} of 2") for place in (1, 2)
    ]


@pytest.mark.parametrize(
    ("before", "ended", "after"),
    [
        (BatchState.UPLOADING, 2, BatchState.VERIFIED),
        (BatchState.UPLOADING, 1, BatchState.UPLOADING),
        (BatchState.VERIFIED, 1, BatchState.UPLOADING),
        (BatchState.VERIFIED, 2, BatchState.VERIFIED),
        (BatchState.WITHDRAWN, 2, BatchState.WITHDRAWN),
        (BatchState.HELD, 2, BatchState.HELD),
    ],
)
def test_the_whole_is_the_sum_of_its_parts(
    ledger: Ledger, before: BatchState, ended: int, after: BatchState
) -> None:
    row, parts = cut(ledger, "1", "2")
    set_batch_state(ledger, row.id, before)
    for one, state in zip(parts[:ended], (BatchState.VERIFIED, BatchState.NOTHING_ACCEPTED), strict=False):
        set_batch_state(ledger, one.id, state)

    assert ledger.parts.sum_up(row.id) is after
    assert ledger.batches.get(row.id).state is after


def test_the_whole_tells_why_a_part_needs_a_person(ledger: Ledger) -> None:
    row, parts = cut(ledger, "1", "2")
    for one in parts:
        verify(ledger, one)
    set_batch_state(ledger, row.id, BatchState.VERIFIED)
    set_batch_state(ledger, parts[1].id, BatchState.VERIFIED, reason="changed-since-verified")

    ledger.parts.sum_up(row.id)

    assert ledger.batches.get(row.id).reason == "changed-since-verified"
    assert [one.batch for one in ledger.uploads.page(UploadFilter(waiting=True))] == [row.id]
    assert ledger.uploads.waiting() == 1


def test_a_batch_and_its_parts_are_taken_back_at_once(ledger: Ledger) -> None:
    row, parts = cut(ledger, "1", "2")
    other = whole(ledger, "e")
    ledger.batches.begin_upload(row.id)

    ledger.parts.set_all(row.id, BatchState.WITHDRAWN)

    assert {ledger.batches.get(one.id).state for one in (row, *parts)} == {BatchState.WITHDRAWN}
    assert ledger.batches.get(other.id).state is BatchState.PLANNED


def test_what_tidepool_refused_of_the_other_parts_counts(ledger: Ledger) -> None:
    _, (first, second) = cut(ledger, "1", "2")
    refused = [Rejection(ordinal=at, type="cbg", rows=2, problems=(("code", "/value"),)) for at in range(3)]
    ledger.rejections.add(first.id, refused)

    assert ledger.parts.rejected_in_others(second) == (3, 6)
    assert ledger.parts.rejected_in_others(first) == (0, 0)


def test_the_list_shows_one_row_with_the_sums(ledger: Ledger) -> None:
    row, parts = cut(ledger, "1", "2", "3")
    for one in parts[:2]:
        verify(ledger, one)
    set_batch_state(ledger, row.id, BatchState.UPLOADING)

    (shown,) = ledger.uploads.page(UploadFilter(dag_id="dag"))

    assert (shown.batch, shown.parts, shown.parts_ended, shown.visible_rows) == (row.id, 3, 2, 22)
    assert (shown.started, shown.dag_id) == (True, "dag")
    assert ledger.uploads.page(UploadFilter(dag_id="another")) == []
    assert ledger.uploads.page(UploadFilter(state=BatchState.VERIFIED)) == []
    assert ledger.uploads.by_state() == {BatchState.UPLOADING: 1}
    assert [one.batch for one in ledger.uploads.of_parts(row.id)] == [one.id for one in parts]
    listed = {one.label: one.data_set_id for one in ledger.uploads.last_changed()}
    assert listed[f"{row.label} part 2 of 3"] == "set-of-2"


def test_what_is_unfinished_of_a_part_is_the_whole_batch(ledger: Ledger) -> None:
    row, (first, second) = cut(ledger, "1", "2")
    verify(ledger, first)
    ledger.data_sets.begin_opening(
        second.id, data_set_type="normal", deduplicator="hash", expected_rows=1, origin=TaskOrigin()
    )
    set_batch_state(ledger, second.id, BatchState.UPLOADING)

    assert ledger.unfinished.batches(datetime.now(UTC) + timedelta(hours=1)) == [row.id]


def test_parts_keep_newer_batches_of_their_days_waiting_as_long_as_they_are_to_come(ledger: Ledger) -> None:
    row, (first, second) = cut(ledger, "1", "2")
    ledger.batch_days.replace_for_batch(row.id, {FIRST: {"cbg": 1}, SECOND: {"cbg": 1}})
    ledger.batch_days.replace_for_batch(first.id, {FIRST: {"cbg": 1}})
    ledger.batch_days.replace_for_batch(second.id, {SECOND: {"cbg": 1}})
    verify(ledger, first)
    newer = [whole(ledger, name, day=THIRD) for name in ("a", "b")]
    for one, day in zip(newer, (FIRST, SECOND), strict=True):
        ledger.batch_days.replace_for_batch(one.id, {day: {"cbg": 1}})

    with ledger.leases.held(lease_of_batch(row.id), seconds=60):
        waits = [list(ledger.devices.older_in_progress(one, sharing_days=True)) for one in newer]
        beside = ledger.devices.older_in_progress(second, sharing_days=True)

    assert waits == [[], [lease_of_batch(row.id)]]
    assert beside == {}
    assert list(ledger.devices.newer(second, [DataSetState.VERIFIED], sharing_days=False)) == []
    assert ledger.devices.verified_since(second, datetime.now(UTC) - timedelta(hours=1)) == {}
    assert ledger.devices.verified_since(newer[0], datetime.now(UTC) - timedelta(hours=1)) == {
        "set-of-1": "hash"
    }


def test_silence_is_told_from_whole_batches(ledger: Ledger) -> None:
    row, parts = cut(ledger, "1", "2")
    for one in (row, *parts):
        ledger.batch_days.replace_for_batch(one.id, {SECOND: {"cbg": 1}})

    assert [end.label for end in batch_ends(ledger.database, FIRST)] == [row.label]

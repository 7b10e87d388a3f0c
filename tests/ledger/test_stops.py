"""The task that a batch stopped in: recorded with its reason, and taken back with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.factories import found, set_batch_state
from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger import BatchState, FoundPart, Ledger, StoppedIn
from tidepool_ingest.ledger.database import LeaseHeldError, LeaseLostError
from tidepool_ingest.staging.errors import BatchError

TASK = StoppedIn(
    dag_id="tidepool_normal_upload",
    run_id="manual__1",
    task_id="batch.prepare",
    map_index=3,
    try_number=2,
    code="file-truncated",
    detail="file 1: in its last line",
)


def stopped_in(ledger: Ledger, batch: int) -> StoppedIn | None:
    upload = ledger.uploads.get(batch)
    assert upload is not None
    return upload.stopped_in


def test_what_is_recorded_is_read_again(ledger: Ledger) -> None:
    row = ledger.batches.register(found())
    ledger.batches.mark_failed(row.id, "file-truncated", "file 1: in its last line")
    before = ledger.batches.get(row.id)

    ledger.stops.record(row.id, TASK)

    assert stopped_in(ledger, row.id) == TASK
    assert TASK.is_task
    # A batch has not changed because somebody has written where it stopped.
    assert ledger.batches.get(row.id).updated_at == before.updated_at
    assert ledger.uploads.last_changed()[0].stopped_in == TASK


def test_a_command_line_has_no_task(ledger: Ledger) -> None:
    row = ledger.batches.register(found())
    ledger.batches.mark_failed(row.id, "file-truncated")
    assert stopped_in(ledger, row.id) is None

    ledger.stops.record(row.id, StoppedIn(code="file-truncated"))

    recorded = stopped_in(ledger, row.id)
    assert recorded == StoppedIn(code="file-truncated")
    assert not recorded.is_task


WRITES: dict[str, Callable[[Ledger, int], object]] = {
    "prepared": lambda ledger, batch: ledger.batches.mark_prepared(batch),
    "upload begun": lambda ledger, batch: ledger.batches.begin_upload(batch),
    "declined": lambda ledger, batch: ledger.batches.decline(batch),
    "held of another cause": lambda ledger, batch: ledger.batches.hold(batch, "would-double"),
    "nothing left to do": lambda ledger, batch: ledger.batches.set_reason(batch, None),
    "undone": lambda ledger, batch: ledger.parts.set_all(batch, BatchState.WITHDRAWN),
    "overwritten": lambda ledger, batch: ledger.absences.mark_overwritten(ledger.absences.waiting("/")),
}


@pytest.mark.parametrize("what", WRITES)
def test_whatever_writes_its_reason_takes_it_back(ledger: Ledger, what: str) -> None:
    row = ledger.batches.register(found())
    ledger.batches.hold(row.id, "too-many-refused", "10 of 25 records")
    ledger.stops.record(row.id, TASK)

    WRITES[what](ledger, row.id)

    assert stopped_in(ledger, row.id) is None


@pytest.mark.parametrize(
    "state",
    [
        state
        for state in BatchState
        if state not in (BatchState.PLANNED, BatchState.PREPARED, BatchState.UPLOADING)
    ],
)
def test_what_has_no_reason_and_is_no_longer_waiting_has_not_stopped(
    ledger: Ledger, state: BatchState
) -> None:
    row = ledger.batches.register(found())
    set_batch_state(ledger, row.id, state)

    ledger.stops.record(row.id, TASK)

    assert stopped_in(ledger, row.id) is None


def test_a_try_that_another_may_follow_is_known_without_a_reason(ledger: Ledger) -> None:
    row = ledger.batches.register(found())
    ledger.batches.mark_prepared(row.id)
    ledger.batches.begin_upload(row.id)

    ledger.stops.record(row.id, TASK)

    assert stopped_in(ledger, row.id) == TASK
    ledger.batches.mark_verified(row.id)
    assert stopped_in(ledger, row.id) is None


def test_content_that_is_staged_once_more_begins_anew(ledger: Ledger) -> None:
    row = ledger.batches.register(found(content_key="b" * 64))
    ledger.batches.mark_failed(row.id, "file-sha256", "file 1")
    ledger.stops.record(row.id, TASK)
    ledger.batches.register(found(content_key="a" * 64))
    assert ledger.batches.get(row.id).state is BatchState.OVERWRITTEN

    again = ledger.batches.register(found(content_key="b" * 64))

    assert (again.id, again.state) == (row.id, BatchState.PLANNED)
    assert (again.reason, again.reason_detail, again.stopped_in) == (None, None, None)


def test_a_part_that_comes_back_has_not_stopped(ledger: Ledger) -> None:
    whole = ledger.batches.register(found())
    part = FoundPart(content_key="d" * 64, records=1, expected_rows=1, chunks=1)
    (registered,) = ledger.parts.register(whole, [part])
    ledger.batches.mark_failed(registered.id, "file-sha256")
    ledger.stops.record(registered.id, TASK)
    ledger.parts.register(whole, [FoundPart(content_key="e" * 64, records=1, expected_rows=1, chunks=1)])

    ledger.parts.register(whole, [part])

    assert stopped_in(ledger, registered.id) is None


def test_a_member_that_a_newer_version_adds_is_ignored() -> None:
    text = TASK.text().replace("{", '{"colour": "green", ', 1)

    assert StoppedIn.of_text(text) == TASK
    assert StoppedIn.of_text(None) is None


def test_an_error_brings_its_code_and_its_place(ledger: Ledger) -> None:
    row = ledger.batches.register(found())
    error = BatchError("file-truncated", file_number=1, detail="in its last line")

    ledger.stops.record(row.id, StoppedIn(), error)

    assert stopped_in(ledger, row.id) == StoppedIn(code="file-truncated", detail="file 1: in its last line")


@pytest.mark.parametrize("error", [LeaseHeldError("batch-1", 3.0), LeaseLostError("batch-1")])
def test_what_waits_or_is_worked_on_by_another_task_has_not_stopped(
    ledger: Ledger, error: IngestError
) -> None:
    row = ledger.batches.register(found())

    ledger.stops.record(row.id, TASK, error)

    assert stopped_in(ledger, row.id) is None

"""Which waiting batches are looked for, and which of them may end."""

from __future__ import annotations

from tests.factories import found, set_batch_state, set_data_set_state
from tidepool_ingest.ledger import BatchState, DataSetState, FoundPart, Ledger, TaskOrigin, WaitingBatch

ROOT = "/staging"
WAITING = {BatchState.PLANNED, BatchState.PREPARED, BatchState.HELD, BatchState.FAILED}


def the_one(ledger: Ledger) -> WaitingBatch:
    (row,) = ledger.absences.waiting(ROOT)
    return row


def test_those_that_wait_below_the_root_are_looked_for(ledger: Ledger) -> None:
    number = ledger.batches.register(found()).id
    ledger.batches.register(found(content_key="d" * 64, folder="/staging-2/2026-01-02/0123456789/batch-1"))

    seen = set()
    for state in BatchState:
        set_batch_state(ledger, number, state)
        if [row.id for row in ledger.absences.waiting(ROOT)] == [number]:
            seen.add(state)

    assert seen == WAITING
    assert "0123456789" not in repr(ledger.batches.get(number))


def test_it_is_missed_until_it_is_found_again(ledger: Ledger) -> None:
    ledger.batches.register(found())
    before = ledger.batches.get(the_one(ledger).id)
    assert the_one(ledger).missed_at is None

    ledger.absences.mark_missed([the_one(ledger)])
    assert the_one(ledger).missed_at is not None

    ledger.absences.mark_there([the_one(ledger)])
    assert ledger.batches.get(before.id) == before  # not even the time of its last change


def test_it_is_gone_with_its_parts_and_comes_back_as_planned(ledger: Ledger) -> None:
    whole = ledger.batches.register(found())
    part = FoundPart(content_key="d" * 64, records=1, expected_rows=1, chunks=1)
    for state in sorted(WAITING):
        (registered,) = ledger.parts.register(whole, [part])
        set_batch_state(ledger, whole.id, state, reason="some-code")
        ledger.absences.mark_missed([the_one(ledger)])

        assert ledger.absences.mark_gone([the_one(ledger)]) == 1

        row = ledger.batches.get(whole.id)
        assert (row.state, row.reason, row.missed_at) == (BatchState.GONE, None, None)
        assert ledger.batches.get(registered.id).state is BatchState.OVERWRITTEN
        assert ledger.absences.waiting(ROOT) == []
        assert ledger.batches.register(found()).state is BatchState.PLANNED


def test_one_of_which_tidepool_may_hold_data_stays(ledger: Ledger) -> None:
    number = ledger.batches.register(found()).id
    opened = ledger.data_sets.begin_opening(
        number, data_set_type="normal", deduplicator="org.example.d", expected_rows=5, origin=TaskOrigin()
    )
    for state in DataSetState:
        set_batch_state(ledger, number, BatchState.FAILED)
        set_data_set_state(ledger, opened.id, state)

        ended = ledger.absences.mark_overwritten([the_one(ledger)])

        assert ended == (not state.may_hold_data)
        stays = BatchState.FAILED if state.may_hold_data else BatchState.OVERWRITTEN
        assert ledger.batches.get(number).state is stays


def test_one_that_has_changed_meanwhile_stays(ledger: Ledger) -> None:
    number = ledger.batches.register(found()).id
    seen = the_one(ledger)
    ledger.batches.register(found(folder="/staging/2026-01-03/0123456789/batch-1"))
    assert ledger.absences.mark_gone([seen]) == 0

    seen = the_one(ledger)
    ledger.batches.begin_upload(number)
    assert ledger.absences.mark_gone([seen]) == 0
    assert ledger.batches.get(number).state is BatchState.UPLOADING

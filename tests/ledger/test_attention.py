"""What people decide about batches that need attention, and what ends such a decision."""

from __future__ import annotations

from datetime import date

import pytest

from tests.factories import found, set_batch_state
from tidepool_ingest.guards import reopen
from tidepool_ingest.ledger import (
    DECLINED,
    ActionKind,
    ActionStatus,
    BatchState,
    Dismissal,
    FoundPart,
    Ledger,
    UploadFilter,
)
from tidepool_ingest.ledger.attention import CAN_WAIT

ROOT = "/staging"


def stopped(ledger: Ledger, state: BatchState = BatchState.FAILED, reason: str = "file-missing") -> int:
    number = ledger.batches.register(found()).id
    set_batch_state(ledger, number, state, reason=reason)
    return number


def listed(ledger: Ledger, **wanted: bool) -> list[int]:
    return [upload.batch for upload in ledger.uploads.page(UploadFilter(**wanted))]


@pytest.mark.parametrize("state", CAN_WAIT)
def test_what_is_dismissed_leaves_the_list_as_it_is_and_can_be_reopened(
    ledger: Ledger, state: BatchState
) -> None:
    number = stopped(ledger, state)
    before = ledger.batches.get(number)

    assert ledger.attention.dismiss([number, number + 1], Dismissal.TEST, actor="ada") == [number]

    row = ledger.batches.get(number)
    assert (row.dismissed, row.is_decided) == (Dismissal.TEST, True)
    assert (row.state, row.reason, row.updated_at) == (before.state, before.reason, before.updated_at)
    assert (ledger.uploads.waiting(), ledger.uploads.waiting_by_reason()) == (0, {})
    assert (listed(ledger, waiting=True), listed(ledger, decided=True)) == ([], [number])
    assert ledger.attention.dismiss([number], Dismissal.NOT_WANTED, actor="bob") == []

    assert reopen(ledger, [number], actor="bob") == [number]

    assert ledger.batches.get(number) == before
    assert (listed(ledger, waiting=True), listed(ledger, decided=True)) == ([number], [])
    assert reopen(ledger, [number], actor="bob") == []
    reopened, dismissed = ledger.actions.of_batch(number)
    assert (dismissed.actor, dismissed.kind, dismissed.detail) == ("ada", ActionKind.DISMISS, "test")
    assert (reopened.actor, reopened.kind, reopened.detail) == ("bob", ActionKind.REOPEN, None)
    assert {reopened.status, dismissed.status} == {ActionStatus.DONE}


def test_only_what_needs_attention_is_dismissed_and_a_part_never(ledger: Ledger) -> None:
    whole = ledger.batches.register(found())
    part = FoundPart(content_key="d" * 64, records=1, expected_rows=1, chunks=1)
    (registered,) = ledger.parts.register(whole, [part])
    set_batch_state(ledger, registered.id, BatchState.HELD, reason="some-code")
    for state in BatchState:
        set_batch_state(ledger, whole.id, state, reason=None)
        assert ledger.attention.dismiss([whole.id, registered.id], Dismissal.TEST, actor="ada") == []
    set_batch_state(ledger, whole.id, BatchState.HELD, reason=DECLINED)
    assert ledger.attention.dismiss([whole.id], Dismissal.TEST, actor="ada") == []
    assert ledger.actions.newest() == []


def test_what_was_declined_waits_for_a_decision_again_once_it_is_reopened(ledger: Ledger) -> None:
    number = stopped(ledger, BatchState.HELD, DECLINED)
    assert listed(ledger, decided=True) == [number]

    reopen(ledger, [number], actor="ada", dag_id="a_dag", run_id="run-1")

    row = ledger.batches.get(number)
    assert (row.state, row.reason) == (BatchState.HELD, "too-many-refused")
    (action,) = ledger.actions.of_batch(number)
    assert (action.dag_id, action.run_id) == ("a_dag", "run-1")


def test_it_ends_once_the_batch_is_done_after_all(ledger: Ledger) -> None:
    number = stopped(ledger, BatchState.UPLOADING)
    ledger.attention.dismiss([number], Dismissal.TEST, actor="ada")
    ledger.batches.mark_failed(number, "another-code")
    assert ledger.batches.get(number).is_decided
    ledger.batches.mark_verified(number)
    assert not ledger.batches.get(number).is_decided

    number = stopped(ledger, BatchState.VERIFIED, "changed-since-verified")
    ledger.attention.dismiss([number], Dismissal.TEST, actor="ada")
    ledger.batches.set_reason(number, "changed-since-verified")
    assert ledger.batches.get(number).is_decided
    ledger.batches.set_reason(number, None)
    assert not ledger.batches.get(number).is_decided


@pytest.mark.parametrize("declined", [True, False])
def test_it_outlasts_that_the_same_content_is_away_for_a_while(ledger: Ledger, declined: bool) -> None:
    number = stopped(ledger, BatchState.HELD, DECLINED if declined else "some-code")
    if not declined:
        ledger.attention.dismiss([number], Dismissal.TEST, actor="ada")
    for end in (ledger.absences.mark_gone, ledger.absences.mark_overwritten):
        assert end(ledger.absences.waiting(ROOT)) == 1
        assert (listed(ledger, waiting=True), listed(ledger, decided=True)) == ([], [])
        again = ledger.batches.register(found(day=date(2026, 1, 9)))
        assert (again.id, again.state, again.is_decided) == (number, BatchState.PLANNED, True)
        assert listed(ledger, decided=True) == [number]
    ledger.batches.register(found(content_key="d" * 64))
    assert ledger.batches.get(number).state is BatchState.OVERWRITTEN
    assert ledger.batches.register(found()).is_decided
    assert ledger.batches.days_waiting() == set()


def test_what_other_content_stands_in_the_place_of_needs_no_attention(ledger: Ledger) -> None:
    number = stopped(ledger)

    ledger.batches.register(found(content_key="d" * 64))

    assert ledger.batches.get(number).state is BatchState.OVERWRITTEN
    assert ledger.batches.get(number).reason  # its page still says what was wrong
    assert ledger.uploads.waiting() == 0

from __future__ import annotations

import pytest

from tests.factories import found
from tidepool_ingest.ledger import ActionKind, ActionStatus, Ledger
from tidepool_ingest.ledger.database import UnknownActionError


def test_what_somebody_asked_for_is_told_with_what_became_of_it(ledger: Ledger) -> None:
    batch = ledger.batches.register(found())
    asked = ledger.actions.record("ada", ActionKind.WITHDRAW, batch=batch.id)
    (note,) = ledger.actions.of_batch(batch.id)
    assert (note.actor, note.kind, note.status, note.ended_at) == (
        "ada",
        ActionKind.WITHDRAW,
        ActionStatus.ASKED,
        None,
    )
    assert note.label == batch.label

    ledger.actions.started_by(asked, "a_dag", "run-1")
    ledger.actions.finish(asked, ActionStatus.FAILED, reason="lease-held")
    assert ledger.actions.get(asked).reason == "lease-held"
    ledger.actions.finish(asked, ActionStatus.DONE, detail="1 data set deleted")

    done = ledger.actions.get(asked)
    assert (done.status, done.reason, done.detail) == (ActionStatus.DONE, None, "1 data set deleted")
    assert done.ended_at is not None
    assert ledger.actions.of_run("a_dag", "run-1") == [done]


def test_what_is_over_with_the_asking_concerns_no_batch_and_comes_page_by_page(ledger: Ledger) -> None:
    numbers = [
        ledger.actions.record("ada", ActionKind.CONFIRM, detail="force", status=ActionStatus.DONE)
        for _ in range(5)
    ]

    first = ledger.actions.newest(limit=3)
    rest = ledger.actions.newest(before=first[-1].id, limit=3)

    assert [one.id for one in (*first, *rest)] == numbers[::-1]
    assert all(one.ended_at is not None and one.label is None for one in first)


def test_an_unknown_one_is_an_error(ledger: Ledger) -> None:
    with pytest.raises(UnknownActionError):
        ledger.actions.get(7)

from __future__ import annotations

import pytest

from tests.ledger.conftest import found
from tidepool_ingest.ledger import Ledger, Result, What
from tidepool_ingest.ledger.database import UnknownActionError


def test_what_somebody_asked_for_is_told_with_what_became_of_it(ledger: Ledger) -> None:
    batch = ledger.batches.note(found())
    asked = ledger.actions.note("ada", What.WITHDRAW, batch=batch.id)
    (note,) = ledger.actions.of_batch(batch.id)
    assert (note.who, note.what, note.result, note.ended_at) == ("ada", What.WITHDRAW, Result.ASKED, None)
    assert note.label == batch.label

    ledger.actions.begun_by(asked, "a_dag", "run-1")
    ledger.actions.ended(asked, Result.FAILED, reason="lease-held")
    assert ledger.actions.get(asked).reason == "lease-held"
    ledger.actions.ended(asked, Result.DONE, detail="1 data set deleted")

    done = ledger.actions.get(asked)
    assert (done.result, done.reason, done.detail) == (Result.DONE, None, "1 data set deleted")
    assert done.ended_at is not None
    assert ledger.actions.of_run("a_dag", "run-1") == [done]


def test_what_is_over_with_the_asking_concerns_no_batch_and_comes_page_by_page(ledger: Ledger) -> None:
    numbers = [ledger.actions.note("ada", What.CONFIRM, detail="force", result=Result.DONE) for _ in range(5)]

    first = ledger.actions.newest(limit=3)
    rest = ledger.actions.newest(before=first[-1].id, limit=3)

    assert [one.id for one in (*first, *rest)] == numbers[::-1]
    assert all(one.ended_at is not None and one.label is None for one in first)


def test_an_unknown_one_is_an_error(ledger: Ledger) -> None:
    with pytest.raises(UnknownActionError):
        ledger.actions.get(7)

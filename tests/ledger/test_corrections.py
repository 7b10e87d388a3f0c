"""A corrected batch and its forerunner know of each other."""

from __future__ import annotations

from datetime import date

import pytest

from tests.factories import found, set_batch_state
from tidepool_ingest.ledger import BatchRow, BatchState, Ledger, Tie

CORRECTED_BY, CORRECTS = Tie.CORRECTED_BY, Tie.CORRECTS


def ties(ledger: Ledger, row: BatchRow) -> list[tuple[Tie, int]]:
    return [(related.tie, related.batch) for related in ledger.corrections.of(ledger.batches.get(row.id))]


def ended(ledger: Ledger, row: BatchRow, state: BatchState = BatchState.OVERWRITTEN) -> BatchRow:
    set_batch_state(ledger, row.id, state)
    return row


def test_other_content_in_its_folder(ledger: Ledger) -> None:
    bad = ledger.batches.register(found(content_key="a" * 64))
    ledger.batches.mark_failed(bad.id, "file-sha256")
    assert ties(ledger, bad) == []
    good = ledger.batches.register(found(content_key="b" * 64))

    assert ties(ledger, bad) == [(CORRECTED_BY, good.id)]
    assert ties(ledger, good) == [(CORRECTS, bad.id)]
    (related,) = ledger.corrections.of(bad)
    assert (related.label, related.state) == (good.label, BatchState.PLANNED)


def test_corrected_twice_and_the_first_content_in_the_end(ledger: Ledger) -> None:
    first = ledger.batches.register(found(content_key="a" * 64))
    second = ledger.batches.register(found(content_key="b" * 64))
    third = ledger.batches.register(found(content_key="c" * 64))
    assert ties(ledger, third) == [(CORRECTS, second.id), (CORRECTS, first.id)]
    assert ties(ledger, second) == [(CORRECTED_BY, third.id)]

    ledger.batches.register(found(content_key="a" * 64))

    assert ties(ledger, first) == [(CORRECTS, third.id), (CORRECTS, second.id)]
    assert ties(ledger, third) == [(CORRECTED_BY, first.id)]


def test_staged_anew_in_another_day_folder(ledger: Ledger) -> None:
    bad = ended(ledger, ledger.batches.register(found(content_key="a" * 64)))
    elsewhere = {"folder": "/staging/2026-01-03/0123456789/batch-1", "day": date(2026, 1, 3)}
    good = ledger.batches.register(found(content_key="b" * 64, **elsewhere))

    assert ties(ledger, bad) == [(CORRECTED_BY, good.id)]
    assert ties(ledger, good) == [(CORRECTS, bad.id)]


def test_one_that_could_not_be_read_was_planned_for_another_host(ledger: Ledger) -> None:
    unreadable = ended(ledger, ledger.batches.register(found(content_key="a" * 64)))
    good = ledger.batches.register(found(content_key="b" * 64, api_host="int-api.example.org"))

    assert ties(ledger, unreadable) == [(CORRECTED_BY, good.id)]
    assert ties(ledger, good) == [(CORRECTS, unreadable.id)]


def test_one_that_was_uploaded_before_its_folder_got_other_content(ledger: Ledger) -> None:
    uploaded = ledger.batches.register(found(content_key="a" * 64))
    set_batch_state(ledger, uploaded.id, BatchState.VERIFIED)
    later = ledger.batches.register(found(content_key="b" * 64))

    assert ties(ledger, uploaded) == [(CORRECTED_BY, later.id)]
    assert ties(ledger, later) == [(CORRECTS, uploaded.id)]


def test_one_that_names_it(ledger: Ledger) -> None:
    wrong = ledger.batches.register(found(content_key="a" * 64))
    elsewhere = {"batch_id": "batch-2", "folder": "/staging/2026-01-03/0123456789/batch-2"}
    right = ledger.batches.register(found(content_key="b" * 64, **elsewhere))
    ledger.batches.set_replaces(right.id, wrong.id)

    assert ties(ledger, wrong) == [(Tie.REPLACED_BY, right.id)]
    assert ties(ledger, right) == [(Tie.REPLACES, wrong.id)]


@pytest.mark.parametrize(
    "other",
    [
        {"user_id": "9876543210"},
        {"batch_id": "batch-2", "folder": "/staging/2026-01-02/0123456789/batch-2"},
        # Two that wait under one name: the guard says so, and neither stands for the other.
        {"folder": "/staging/2026-01-09/0123456789/batch-1"},
    ],
)
def test_others_do_not_stand_for_it(ledger: Ledger, other: dict[str, str]) -> None:
    one = ledger.batches.register(found(content_key="a" * 64))
    two = ledger.batches.register(found(content_key="b" * 64, **other))

    assert ties(ledger, one) == ties(ledger, two) == []


def test_the_same_content_at_two_hosts_is_no_correction(ledger: Ledger) -> None:
    rows = [ledger.batches.register(found(api_host=host)) for host in ("int-api", "api")]
    set_batch_state(ledger, rows[0].id, BatchState.VERIFIED)

    assert [ties(ledger, row) for row in rows] == [[], []]


def test_the_last_of_those_that_ended_stands_for_the_others(ledger: Ledger) -> None:
    first = ended(ledger, ledger.batches.register(found(content_key="a" * 64)))
    second = ended(ledger, ledger.batches.register(found(content_key="b" * 64)), BatchState.GONE)

    assert ties(ledger, first) == [(CORRECTED_BY, second.id)]
    assert ties(ledger, second) == [(CORRECTS, first.id)]

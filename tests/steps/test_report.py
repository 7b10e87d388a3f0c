"""What a run's report says, however many batches it had."""

from __future__ import annotations

from tests.steps.rows import row
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.reports.run import MAX_BATCHES_LISTED, Report


def test_few_batches_have_a_line_each() -> None:
    lines = list(Report(tuple(row(n, state=BatchState.VERIFIED) for n in range(1, 4)), {}).lines())

    assert len(lines) == 4
    assert lines[0].startswith("batch 1: verified")
    assert lines[-1] == "Batches: 3 verified."


def test_of_many_only_those_have_one_that_need_a_person() -> None:
    fine = [row(n, state=BatchState.VERIFIED) for n in range(MAX_BATCHES_LISTED)]
    failed = row(9_999, state=BatchState.FAILED, reason="file-missing")
    first, last = Report((*fine, failed), {}).lines()

    assert first.startswith("batch 9999: failed (file-missing)")
    assert last == f"Batches: 1 failed, {MAX_BATCHES_LISTED} verified."


def test_a_batch_that_was_not_prepared_has_no_counts() -> None:
    first, _last = Report((row(1, state=BatchState.PLANNED),), {}).lines()

    assert first == "batch 1: planned, not prepared"


def test_rows_that_are_no_reading_are_counted() -> None:
    rows = (row(1, state=BatchState.VERIFIED, staged=5), row(2, state=BatchState.VERIFIED, staged=5))
    report = Report(rows, {}, {1: {"note": 2, "metadata": 6}, 2: {"note": 1}})

    first, second, _last = report.lines()
    assert first.endswith(", 8 rows that are no reading (6 metadata, 2 note)")
    assert second.endswith(", 1 row that is no reading (1 note)")
    assert report.summary()["skipped"] == {"metadata": 6, "note": 3}

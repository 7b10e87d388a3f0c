"""What a run's report says, however many batches it had."""

from __future__ import annotations

from tests.factories import row
from tidepool_ingest.ledger import DECLINED, BatchState
from tidepool_ingest.reports.run import MAX_BATCHES_LISTED, Report


def test_failures_come_first_and_what_is_done_last() -> None:
    states = {
        1: BatchState.VERIFIED,
        2: BatchState.HELD,
        3: BatchState.UPLOADING,
        4: BatchState.FAILED,
        5: BatchState.GONE,
        6: BatchState.FAILED,
    }
    headings, rows = Report(tuple(row(n, state=state) for n, state in states.items()), {}).table()

    assert headings == ["batch", "result"]
    assert [label for label, _state in rows] == [f"batch {number}" for number in (4, 6, 2, 3, 1, 5)]


def test_of_many_only_those_are_listed_that_need_a_person() -> None:
    fine = [row(n, state=BatchState.VERIFIED) for n in range(MAX_BATCHES_LISTED)]
    failed = row(9_999, state=BatchState.FAILED, reason="file-missing")
    report = Report((*fine, failed), {})

    assert report.table()[1] == [("batch 9999", "failed", "file-missing")]
    assert report.outcome() == f"Batches: 1 failed, {MAX_BATCHES_LISTED} verified."


def test_a_batch_that_was_not_prepared_has_no_counts() -> None:
    counts = {"staged": 5, "accepted": 4, "quarantined": 1, "identical": 0}
    rows = (row(1, state=BatchState.FAILED, reason="file-missing"), row(2, state=BatchState.HELD, **counts))
    headings, cells = Report(rows, {}).table()

    assert headings == ["batch", "result", "cause", "records", "accepted", "rejected", "duplicates"]
    assert cells == [
        ("batch 1", "failed", "file-missing", None, None, None, None),
        ("batch 2", "held", None, 5, 4, 1, 0),
    ]


def test_rows_that_are_no_reading_are_counted() -> None:
    rows = (row(1, state=BatchState.VERIFIED, staged=5), row(2, state=BatchState.VERIFIED, staged=5))
    report = Report(rows, {}, {1: {"note": 2, "metadata": 6}, 2: {"note": 1}})

    headings, cells = report.table()
    assert headings[-1] == "rows that are no reading"
    assert [of[-1] for of in cells] == ["8 (6 metadata, 2 note)", "1 (1 note)"]
    assert report.summary()["skipped"] == {"metadata": 6, "note": 3}


def test_each_cause_comes_once_with_what_to_do_the_most_frequent_first() -> None:
    report = Report(
        (
            row(1, state=BatchState.HELD, reason="too-many-refused"),
            row(2, state=BatchState.FAILED, reason="file-missing"),
            row(3, state=BatchState.FAILED, reason="file-missing"),
            row(4, state=BatchState.HELD, reason=DECLINED),
            row(5, state=BatchState.VERIFIED, reason="found-changed"),
        ),
        {},
    )
    often, seldom = report.causes()

    assert often.startswith("2 batches, file-missing: ")
    assert seldom.startswith(
        "1 batch, too-many-refused: more of its records were rejected than the run allows. Look"
    )
    assert [batch.id for batch in report.not_done] == [1, 2, 3]

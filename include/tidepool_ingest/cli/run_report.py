"""What a run came to, in lines: for the log of Airflow's last task, and for a terminal."""

from __future__ import annotations

from tidepool_ingest.cli.arguments import table
from tidepool_ingest.cli.summaries import BatchOutcome
from tidepool_ingest.reports.dry_run import COLUMNS, DryRunTotals
from tidepool_ingest.reports.run import COLUMNS as COLUMNS_OF_RECORDS
from tidepool_ingest.reports.run import RecordCounts, Report


def report_lines(report: Report) -> list[str]:
    """Return a table of the batches, those that failed first; nothing if there are none."""
    headings, rows = report.table()
    return table(headings, rows).splitlines() if rows else []


def dry_run_lines(counts: RecordCounts, compared: DryRunTotals) -> list[str]:
    """Return what a dry run found, as tables and sentences.

    :param counts: the records of its batches.
    :param compared: its batches beside what Tidepool shows.
    """
    lines = table(COLUMNS_OF_RECORDS, counts.rows()).splitlines()
    if compared.batches:
        lines += table(COLUMNS, compared.rows()).splitlines()
    # The totals come last: Airflow's page of a log opens at its end.
    return [*lines, f"Dry run, nothing was opened: {counts.sentence()}", *compared.sentences()]


def outcomes(report: Report) -> tuple[BatchOutcome, ...]:
    """Return what became of each batch, in the order of the report."""
    return tuple(
        BatchOutcome(
            label=row.label,
            day=row.day,
            data_set_type=row.data_set_type,
            state=row.state,
            reason=row.reason or None,
            staged=row.staged,
            accepted=row.accepted,
            quarantined=row.quarantined,
            identical=row.identical,
            data_set_ids=tuple(found.data_set_id for found in of_batch if found.data_set_id),
            visible_rows=sum(found.visible_rows or 0 for found in of_batch),
        )
        for row in report.batches
        for of_batch in (report.data_sets.get(row.id, ()),)
    )

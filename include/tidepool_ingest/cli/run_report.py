"""What a run came to, in lines: for the log of Airflow's last task, and for a terminal."""

from __future__ import annotations

from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict

from tidepool_ingest.cli.arguments import table
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


# ---------------------------------------------------------------- for programs


class BatchOutcome(BaseModel):
    """One batch of a run. It names no person and no folder, but the batch's label holds a short hash of both.

    :param label: day, device model and short hash, as logs and the uploads page name it.
    :param day: the day folder it lies in.
    :param data_set_type: `normal` or `continuous`.
    :param state: as the ledger has it, such as `verified`, `held` or `failed`.
    :param reason: the code of what it waits for or stopped of; docs/errors.md explains each.
    :param staged: records found in its files.
    :param accepted: records that Tidepool stores.
    :param quarantined: rejected records.
    :param identical: duplicates of accepted records.
    :param data_set_ids: Tidepool's ids of its data sets: several if it was split into parts.
    :param visible_rows: rows that Tidepool shows.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    day: date
    data_set_type: str
    state: str
    reason: str | None
    staged: int | None
    accepted: int | None
    quarantined: int | None
    identical: int | None
    data_set_ids: list[str]
    visible_rows: int


class RunOutcome(BaseModel):
    """What a run came to.

    :param window: the days that it looked into.
    :param done: ready batches in them that were done before.
    :param declined: those that somebody has declined.
    :param left: those that it left to another run: too many for one, or with the content of another one.
    :param days_outside: days outside the window in which ready batches wait.
    :param batches: the batches that it took, oldest first.
    :param not_done: how many of them are not where they should be.
    :param causes: what these stopped of, how many they are and what to do, in words.
    :param dry_run: of a dry run, what would be sent and rejected, and how that compares with Tidepool.
    :param stopped_by: the code of an error that ended the run early; `interrupted` for a signal.
    """

    model_config = ConfigDict(frozen=True)

    window: str
    done: int
    declined: int
    left: int
    days_outside: list[date]
    batches: list[BatchOutcome]
    not_done: int
    causes: list[str]
    dry_run: dict[str, Any] | None = None
    stopped_by: str | None = None


def outcomes(report: Report) -> list[BatchOutcome]:
    """Return what became of each batch, in the order of the report."""
    return [
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
            data_set_ids=[found.data_set_id for found in of_batch if found.data_set_id],
            visible_rows=sum(found.visible_rows or 0 for found in of_batch),
        )
        for row in report.batches
        for of_batch in (report.data_sets.get(row.id, ()),)
    ]

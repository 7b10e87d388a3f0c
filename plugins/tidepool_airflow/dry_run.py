"""What a dry run reports: what would be sent and rejected, and what that would change at Tidepool."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk.types import Logger
    from upath import UPath

    from tidepool_airflow.hook import TidepoolConnections
    from tidepool_ingest.ledger import BatchRow, Ledger
    from tidepool_ingest.reports.dry_run import DryRunTotals

COMPARED_KEY = "compared"
"""XCom key of the result of comparing a task's batches with Tidepool."""

DRY_RUN_KEY = "dry_run"
"""XCom key of the dry run's result."""


def compare_into(
    found: DryRunTotals,
    connections: TidepoolConnections,
    root: UPath,
    row: BatchRow,
    *,
    ledger: Ledger,
    log: Logger,
) -> None:
    """Compare a prepared batch with what Tidepool shows, and count it.

    A dry run is useful without Tidepool, too: an error of Tidepool's is logged and counted.

    :param found: the totals to add to.
    :param connections: the connections that may be used.
    :param root: the staging root.
    :param row: the batch.
    :param ledger: knows which of its records Tidepool has rejected before.
    :param log: the task's log.
    """
    from tidepool_ingest.client import TidepoolError
    from tidepool_ingest.reports.dry_run import DryRunTotals, compare_batch

    try:
        hook = connections.hook(row.connection)
        rejected = {
            unit.content_key: ledger.rejections.of_batch(unit.id).keys()
            for unit in (row, *ledger.parts.of_batch(row.id))
        }
        context = hook.upload_context(ledger, root)
        compared = context.with_work_area(
            row, lambda: compare_batch(hook.client, hook.settings, root, row, rejected=rejected)
        )
    except TidepoolError as error:
        log.warning("%s is not compared with what Tidepool shows: %s", row.label, error)
        found.left_out[error.code] += 1
        return
    found.add(compared)
    single = DryRunTotals()
    single.add(compared)
    log.info("%s: %s", row.label, " ".join(single.sentences()))


def report_dry_run(
    summaries: Iterable[dict[str, Any] | None], root: UPath, batches: Sequence[BatchRow], log: Logger
) -> dict[str, Any]:
    """Log what a dry run found as tables, and return the numbers for XCom.

    :param summaries: the totals of each task's comparisons, as :meth:`DryRunTotals.summary` gives them.
    :param root: the staging root.
    :param batches: the run's batches.
    :param log: the task's log.
    """
    from tidepool_ingest.cli.arguments import table
    from tidepool_ingest.reports.dry_run import COLUMNS, DryRunTotals
    from tidepool_ingest.reports.run import COLUMNS as COUNTS_COLUMNS
    from tidepool_ingest.reports.run import counts_of

    found = counts_of(root, batches)
    totals = DryRunTotals()
    for summary in filter(None, summaries):
        totals.add_summary(summary)
    lines = table(COUNTS_COLUMNS, found.rows()).splitlines()
    if totals.batches:
        lines += table(COLUMNS, totals.rows()).splitlines()
    # The totals come last: Airflow's page of a log opens at its end.
    for line in (*lines, f"Dry run, nothing was opened: {found.sentence()}", *totals.sentences()):
        log.info("%s", line)
    return {**found.summary(), "compared": totals.summary()}

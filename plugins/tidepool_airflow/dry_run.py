"""What a dry run reports: what would be sent and rejected, and what that would change at Tidepool."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk.types import Logger
    from upath import UPath

    from tidepool_ingest.ledger import BatchRow

COMPARED_KEY = "compared"
"""XCom key of the result of comparing a task's batches with Tidepool."""

DRY_RUN_KEY = "dry_run"
"""XCom key of the dry run's result."""


def report_dry_run(
    summaries: Iterable[dict[str, Any] | None], root: UPath, batches: Sequence[BatchRow], log: Logger
) -> dict[str, Any]:
    """Log what a dry run found as tables, and return the numbers for XCom.

    :param summaries: the totals of each task's comparisons, as :meth:`DryRunTotals.summary` gives them.
    :param root: the staging root.
    :param batches: the run's batches.
    :param log: the task's log.
    """
    from tidepool_ingest.cli.run_report import dry_run_lines
    from tidepool_ingest.reports.dry_run import DryRunTotals
    from tidepool_ingest.reports.run import counts_of

    found = counts_of(root, batches)
    totals = DryRunTotals()
    for summary in filter(None, summaries):
        totals.add_summary(summary)
    for line in dry_run_lines(found, totals):
        log.info("%s", line)
    return {**found.summary(), "compared": totals.summary()}

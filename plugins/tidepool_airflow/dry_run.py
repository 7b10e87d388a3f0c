"""What a dry run tells: what would be sent and refused, and what that would change at Tidepool."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk.types import Logger
    from upath import UPath

    from tidepool_airflow.hook import TidepoolConnections
    from tidepool_ingest.ledger import BatchRow, Ledger
    from tidepool_ingest.reports.dry_run import Comparisons

COMPARED_KEY = "compared"
"""XCom key of what comparing a task's batches with Tidepool came to."""

DRY_RUN_KEY = "dry_run"
"""XCom key of what a dry run found."""


def compare_into(
    found: Comparisons,
    connections: TidepoolConnections,
    root: UPath,
    row: BatchRow,
    *,
    ledger: Ledger,
    log: Logger,
) -> None:
    """Compare a prepared batch with what Tidepool shows, and count it.

    A dry run is of use without Tidepool too: whatever keeps it from answering is told and counted.

    :param found: takes the numbers.
    :param connections: the connections that may be used.
    :param root: the staging root.
    :param row: the batch.
    :param ledger: knows what Tidepool has refused of it before.
    :param log: the task's log.
    """
    from tidepool_ingest.client import TidepoolError
    from tidepool_ingest.reports.dry_run import Comparisons, compare_batch

    try:
        hook = connections.hook(row.connection)
        refused = {
            one.content_key: ledger.refusals.of_batch(one.id).keys()
            for one in (row, *ledger.parts.of_batch(row.id))
        }
        compared = compare_batch(hook.client, hook.settings, root, row, refused=refused)
    except TidepoolError as error:
        log.warning("%s is not compared with what Tidepool shows: %s", row.label, error)
        found.left_out[error.code] += 1
        return
    found.add(compared)
    one = Comparisons()
    one.add(compared)
    log.info("%s: %s", row.label, " ".join(one.sentences()))


def tell(
    told: Iterable[dict[str, Any] | None], root: UPath, batches: Sequence[BatchRow], log: Logger
) -> dict[str, Any]:
    """Put what a dry run found into the log as tables, and return the numbers, fit for XCom.

    :param told: what each task's comparisons came to, as :meth:`Comparisons.summary` gives it.
    :param root: the staging root.
    :param batches: the run's batches.
    :param log: the task's log.
    """
    from tidepool_ingest.cli.arguments import table
    from tidepool_ingest.reports.dry_run import COLUMNS, Comparisons
    from tidepool_ingest.reports.run import COLUMNS as COUNTS_COLUMNS
    from tidepool_ingest.reports.run import counts_of

    found = counts_of(root, batches)
    beside = Comparisons()
    for one in filter(None, told):
        beside.add_summary(one)
    lines = table(COUNTS_COLUMNS, found.rows()).splitlines()
    if beside.batches:
        lines += table(COLUMNS, beside.rows()).splitlines()
    # The sums come last: Airflow's page of a log opens at its end.
    for line in (*lines, f"Dry run, nothing was opened: {found.sentence()}", *beside.sentences()):
        log.info("%s", line)
    return {**found.summary(), "compared": beside.summary()}

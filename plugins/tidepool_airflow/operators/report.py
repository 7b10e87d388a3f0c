"""Operator of the last step: sum up the run, and fail it if a batch failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from tidepool_airflow.assets import announce_uploads
from tidepool_airflow.dry_run import COMPARED_KEY, DRY_RUN_KEY, report_dry_run
from tidepool_airflow.errors import TidepoolBatchesRemainingError, TidepoolRunFailedError
from tidepool_airflow.mapping import is_for_past_days, other_runs
from tidepool_airflow.operators.base import TidepoolOperator

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_airflow.mapping import Packs
    from tidepool_ingest.ledger import BatchRow, Ledger
    from tidepool_ingest.reports.run import Report

ARRIVING_FOR = timedelta(days=1)
"""As long as runs are waiting, a device with a batch that was uploaded in this time has more to come."""

FAILED_STATES = ("failed", "upstream_failed")


class TidepoolReportOperator(TidepoolOperator):
    """Sum up a run, and fail it if any of its batches failed or was not processed.

    It runs whatever became of the steps before it, so it has to fail by itself: a last task that succeeds
    would make the whole run green.

    :param packs: the plan step's return value.
    :param names_inactive: also name the devices that have stopped sending.
    """

    about: ClassVar[str] = (
        "Says what became of each batch, and fails if a task has failed or a batch was left out, so that "
        "the run is green only if all of it is in Tidepool. Its log is the place to begin."
    )
    template_fields: Sequence[str] = (*TidepoolOperator.template_fields, "packs")

    def __init__(
        self,
        *,
        packs: Packs | None,
        names_inactive: bool = True,
        trigger_rule: str = "all_done",
        **kwargs: Any,
    ) -> None:
        super().__init__(trigger_rule=trigger_rule, **kwargs)
        self.packs = packs
        self.names_inactive = names_inactive

    def perform(self, context: Context) -> dict[str, Any]:
        """Report the run."""
        from tidepool_ingest.reports.run import BATCHES_NAMED, HELD_UP, report_on, skipped_rows

        task_instance = context["ti"]
        states = task_instance.get_task_states(dag_id=task_instance.dag_id, run_ids=[task_instance.run_id])
        failed = sorted(
            task
            for task, state in states.get(task_instance.run_id, {}).items()
            if state in FAILED_STATES and task != self.task_id
        )
        with self.ledger() as ledger:
            report = report_on(ledger, [int(batch) for pack in self.packs or () for batch in pack])
            inactive = self._inactive(context, ledger)
        if len(report.batches) <= BATCHES_NAMED:  # of more, each one's `prepare` has said it
            skipped = {row.id: skipped_rows(self.root_of(row), row) for row in report.batches if row.staged}
            report = replace(report, skipped=skipped)
        self._log(report)
        options = self.options(context)
        if options.dry_run:
            self._report_dry_run(context, report.batches)
        summary = {**report.summary(), **inactive}
        task_instance.xcom_push(key="summary", value=summary)
        # In a dry run, those that are prepared have got as far as they should.
        stopped = [row for row in report.not_done if not options.dry_run or row.state in HELD_UP]
        if failed:
            raise TidepoolRunFailedError(failed, report, len(stopped), dry_run=options.dry_run)
        if stopped and not options.dry_run:
            raise TidepoolBatchesRemainingError(len(stopped), report)
        self.log.info("%s", report.outcome())
        announce_uploads(context, summary, dry_run=options.dry_run)
        return summary

    def _log(self, report: Report) -> None:
        """Log a table of the batches, those that failed first; then each cause with its remedy."""
        from tidepool_ingest.cli.run_report import report_lines

        for line in report_lines(report):
            self.log.info("%s", line)
        for cause in report.causes():
            self.log.error("%s", cause)

    def _inactive(self, context: Context, ledger: Ledger) -> dict[str, Any]:
        """Log the devices that have stopped sending, and return what the summary says about them.

        A run that was made for days of the past names none, and others none that a backfill is about to bring
        up to date.
        """
        import pendulum

        from tidepool_ingest.reports.inactive_devices import inactive_devices, inactive_summary

        if not self.names_inactive or is_for_past_days(context, self.options(context)):
            return {}
        found = inactive_devices(ledger, pendulum.now("UTC").date())
        if found and other_runs(context):
            since = pendulum.now("UTC") - ARRIVING_FOR
            found = [device for device in found if device.uploaded_at < since]
        summary = inactive_summary(found)
        for line in summary["named"]:
            self.log.warning("%s", line)
        return {"silent": summary}

    def _report_dry_run(self, context: Context, batches: Sequence[BatchRow]) -> None:
        """Report what would be sent and rejected, and what that would change at Tidepool."""
        compared = context["ti"].xcom_pull(task_ids=sorted(self.upstream_task_ids), key=COMPARED_KEY)
        found = report_dry_run(compared or (), self.root(self.options(context)), batches, self.log)
        context["ti"].xcom_push(key=DRY_RUN_KEY, value=found)

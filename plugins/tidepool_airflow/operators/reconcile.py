"""Operator of the maintenance job: complete unfinished uploads, verify some again, clean up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from tidepool_airflow.errors import TidepoolReconcileFailedError
from tidepool_airflow.operators.base import TidepoolOperator, origin_of, record_stop
from tidepool_airflow.turns import end_turns_of_dead_runs
from tidepool_ingest.options import QUARANTINE_DAYS, WORK_DAYS, ReconcileOptions

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.maintenance.reconcile import Reconciliation
    from tidepool_ingest.upload import UploadContext


class TidepoolReconcileOperator(TidepoolOperator):
    """Complete unfinished uploads, verify some batches again, and clean up after those that are done.

    It takes the same leases as an upload, so it can run at any time. Returns the results in numbers.

    :param keep_work_days: how many days to keep the accepted records of batches that are done; 0 for ever.
    :param keep_quarantine_days: the same for rejected records.

    .. seealso:: ``docs/airflow.md``, "Maintenance", and
        :class:`~tidepool_ingest.maintenance.cleanup.RetentionPolicy`.
    """

    serves_other_dags: ClassVar[bool] = True
    about: ClassVar[str] = (
        "Completes or removes what was interrupted, reverifies some uploads, and cleans up. It fails if a "
        "batch needs attention, and names each in its log; where Tidepool did not respond, the next run "
        "tries again."
    )

    def __init__(
        self,
        *,
        keep_work_days: int = WORK_DAYS,
        keep_quarantine_days: int = QUARANTINE_DAYS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.keep_work_days = keep_work_days
        self.keep_quarantine_days = keep_quarantine_days
        self._reconciliation: Reconciliation | None = None

    def perform(self, context: Context) -> dict[str, Any]:
        """Reconcile the ledger with Tidepool."""
        from tidepool_ingest.maintenance.cleanup import RetentionPolicy
        from tidepool_ingest.maintenance.reconcile import Reconciliation

        options = ReconcileOptions.of_params(dict(context["params"]))

        root, origin = self.root(options), origin_of(context)
        with self.ledger() as ledger:

            def context_of(named: str | None) -> UploadContext:
                of_connection: UploadContext = self.connections.hook(named).upload_context(ledger, root)
                return replace(of_connection, origin=origin)

            self._reconciliation = Reconciliation(
                root,
                ledger,
                options=options,
                context_of=context_of,
                api_host_of=self.connections.api_host_of,
                keeping=RetentionPolicy(self.keep_work_days, self.keep_quarantine_days),
                # Where a run was given another root, or an upload DAG has its own, its batches lie there.
                root_of=None if options.staging_root else self.root_of,
                on_stop=lambda row, error: record_stop(ledger, row.id, context, error),
            )
            end_turns_of_dead_runs(context, ledger)
            counts = self._reconciliation.run()
        summary = counts.summary()
        context["ti"].xcom_push(key="summary", value=summary)
        for sentence in counts.sentences():
            self.log.info("%s", sentence)
        if counts.failed:
            raise TidepoolReconcileFailedError(counts.failed)
        return summary

    def on_kill(self) -> None:
        """Stop between two requests, as an upload does."""
        if self._reconciliation is not None:
            self._reconciliation.stop()

"""Operators of the third step: a prepared batch becomes visible in Tidepool, and is verified there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from tidepool_airflow.links import LINKS
from tidepool_airflow.operators.base import BATCH_LABEL, TidepoolOperator, origin_of

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.ledger import BatchRow, Ledger
    from tidepool_ingest.options import RunOptions
    from tidepool_ingest.upload import BatchUpload

DATA_SET_ID_KEY = "data_set_id"
"""XCom key under which the session id stands from the moment it is known."""


class TidepoolUploadOperator(TidepoolOperator):
    """Open a normal data set, upload a prepared batch to it in chunks, close it, and read it back.

    A later try, a cleared task or another run goes on from the ledger. The session id is pushed to XCom as
    ``data_set_id`` at once; the return value holds the counts.

    :param batch: the batch's number in the ledger, as the plan step returned it.
    :param parallel_chunks: chunks of the batch on their way at the same time; give the task as many slots of
        its pool (``pool_slots``), so that the pool bounds the requests of all tasks. A run's parameter of
        that name can only lower it.
    """

    data_set_type = "normal"
    template_fields: Sequence[str] = (*TidepoolOperator.template_fields, "batch")
    operator_extra_links = tuple(link() for link in LINKS)

    def __init__(
        self,
        *,
        batch: int,
        parallel_chunks: int = 4,
        map_index_template: str | None = BATCH_LABEL,
        **kwargs: Any,
    ) -> None:
        super().__init__(map_index_template=map_index_template, **kwargs)
        self.batch = batch
        self.parallel_chunks = parallel_chunks
        self.data_set_url: str | None = None
        self._upload: BatchUpload | None = None
        self._visible: tuple[str, int] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Upload the batch."""
        from tidepool_airflow import metrics
        from tidepool_airflow.dry_run import COMPARED_KEY, compared
        from tidepool_airflow.mapping import skip_in_its_place, skip_without_batch
        from tidepool_ingest.counts import counts_of
        from tidepool_ingest.upload import UploadWishes, check_data_set_type

        metrics.begun(context)
        options = self.options(context)
        skip_without_batch(int(self.batch), context)
        with self.ledger() as ledger:
            row = ledger.batches.get(int(self.batch))
            context["label"] = row.label  # type: ignore[typeddict-unknown-key]
            skip_in_its_place(row)
            if options.dry_run:
                found = compared(self.connections, self.root(options), row, ledger=ledger, log=self.log)
                context["ti"].xcom_push(key=COMPARED_KEY, value=found)
                raise AirflowSkipException("Dry run: the batch was validated, and nothing was opened.")
            if row.state == "nothing-accepted":
                raise AirflowSkipException("No record of the batch was accepted, so nothing was opened.")
            check_data_set_type(row.data_set_type, self.data_set_type)
            hook = self.connections.hook(row.connection)
            options = self._as_decided(options, ledger, row, context)

            def opened(data_set_id: str) -> None:
                self.data_set_url = hook.data_set_url(data_set_id)
                context["ti"].xcom_push(key=DATA_SET_ID_KEY, value=data_set_id)

            self._upload = hook.batch_upload(
                self.root(options),
                row,
                ledger=ledger,
                origin=origin_of(context),
                on_open=opened,
                wishes=UploadWishes.of(
                    options, at_once=self.parallel_chunks, asked_at=context["dag_run"].start_date
                ),
            )
            started = time.monotonic()
            summary = self._upload.run()
            seconds = time.monotonic() - started
            size = counts_of(self.root(options), [row]).size
        self._visible = (row.label, summary.visible_rows)
        metrics.uploaded(context, summary, size=size, seconds=seconds)
        return {**vars(summary), "state": str(summary.state)}

    def _as_decided(self, options: RunOptions, ledger: Ledger, row: BatchRow, context: Context) -> RunOptions:
        """Return the run's parameters as a person has changed them for this batch, if one was asked."""
        from tidepool_ingest.guards import decision_of, percent_allowed

        if not options.asks:
            return options
        since = context["dag_run"].start_date
        decision = decision_of(ledger, row, run=origin_of(context), since=since)
        allowed = percent_allowed(row, decision, options.max_quarantined_percent)
        return options.model_copy(update={"max_quarantined_percent": allowed})

    def get_openlineage_facets_on_complete(self, _task_instance: object) -> OperatorLineage[Any, Any] | None:
        """Return which batch became which data set; called by OpenLineage's provider, where there is one."""
        from tidepool_airflow.lineage import of_upload

        if self._visible is None or self.data_set_url is None:
            return None
        label, rows = self._visible
        return of_upload(label, self.data_set_url, rows)

    def on_kill(self) -> None:
        """Stop between two requests, so that the ledger knows of each what became of it.

        Airflow kills the process five seconds later; what was under way then is in doubt, and waited out by
        whoever comes next.
        """
        if self._upload is not None:
            self._upload.stop()


class TidepoolContinuousUploadOperator(TidepoolUploadOperator):
    """Upload a prepared batch to the one continuous data set of its feed, and read back what became visible.

    The data set is found by its client name or opened, and stays open. Several tasks may work for one feed:
    they take turns, and what a batch that comes later in staging has written is left alone. The session id is
    pushed to XCom as ``data_set_id`` at once; the return value holds the counts.

    :param batch: the batch's number in the ledger, as the plan step returned it.
    :param parallel_chunks: see :class:`TidepoolUploadOperator`.
    """

    data_set_type = "continuous"

"""Operators of the third step: prepared batches become visible in Tidepool, and are verified there."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from tidepool_airflow.links import LINKS
from tidepool_airflow.operators.base import origin_of
from tidepool_airflow.operators.pack import BATCH_LABEL, DONE_KEY, READY_KEY, TidepoolPackOperator

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.ledger import BatchRow, Ledger
    from tidepool_ingest.options import RunOptions
    from tidepool_ingest.reports.dry_run import Comparisons
    from tidepool_ingest.upload import UploadSummary

DATA_SET_ID_KEY = "data_set_id"
"""XCom key under which the session id stands from the moment it is known."""

DATA_SET_IDS_KEY = "data_set_ids"
"""XCom key of the session ids of a pack, by the ledger's numbers of its batches, at its end."""


class TidepoolUploadOperator(TidepoolPackOperator):
    """Open a normal data set for each prepared batch, upload it in chunks, close it, and read it back.

    A giant batch, which was cut into parts, goes to one data set for each, one after the other.

    A later try, a cleared task or another run goes on from the ledger. The session id of the only batch is
    pushed to XCom as ``data_set_id`` at once, of several parts that of the last one begun, those of a larger
    pack as ``data_set_ids`` at its end; the return value holds the counts.

    :param batches: the ledger's numbers of the batches, as the plan step returned them.
    :param parallel_chunks: chunks on their way at the same time, of one data set or of several; give the task
        as many slots of its pool (``pool_slots``), so that the pool bounds the requests of all tasks. A run's
        parameter of that name can only lower it.
    """

    data_set_type = "normal"
    operator_extra_links = tuple(link() for link in LINKS)

    def __init__(
        self,
        *,
        batches: Sequence[int],
        parallel_chunks: int = 4,
        map_index_template: str | None = BATCH_LABEL,
        **kwargs: Any,
    ) -> None:
        super().__init__(batches=batches, map_index_template=map_index_template, **kwargs)
        self.parallel_chunks = parallel_chunks
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._opened: dict[int, str] = {}
        self._visible: list[tuple[str, str, int]] = []

    @property
    def data_set_url(self) -> str | None:
        """Where the API shows the data set of the only batch, once it is open."""
        return self._opened.get(self.batch) if self.batch is not None else None

    def of_one(self, context: Context) -> dict[str, Any]:
        """Upload the only batch."""
        from tidepool_airflow.dry_run import compare_into
        from tidepool_airflow.mapping import skip_in_its_place
        from tidepool_ingest.reports.dry_run import Comparisons

        options = self.options(context)
        with self.ledger() as ledger:
            row = ledger.batches.get(int(self.batches[0]))
            context["label"] = row.label  # type: ignore[typeddict-unknown-key]
            skip_in_its_place(row)
            if options.dry_run:
                found = Comparisons()
                compare_into(found, self.connections, self.root(options), row, ledger=ledger, log=self.log)
                self._end_dry_run(context, found)
            if row.state == "nothing-accepted":
                raise AirflowSkipException("No record of the batch was accepted, so nothing was opened.")
            options = self._as_decided(options, ledger, row, context)
            share = options.chunks_at_once(self.parallel_chunks)
            summary = self._uploaded(context, ledger, row, options, share)
        return {**vars(summary), "state": str(summary.state)}

    def of_many(self, context: Context, ledger: Ledger, rows: Sequence[BatchRow]) -> dict[str, Any]:
        """Upload a pack, several data sets at the same time."""
        from tidepool_ingest.errors import IngestError
        from tidepool_ingest.ledger import IN_ITS_PLACE

        options = self.options(context)
        prepared = context["ti"].xcom_pull(
            task_ids=sorted(self.upstream_task_ids), map_indexes=context["ti"].map_index, key=READY_KEY
        )
        ready = {int(batch) for one in prepared or () for batch in one or ()}
        rows = [row for row in rows if row.id in ready]
        if options.dry_run:
            self._compare(context, ledger, rows, options)
        counts: Counter[str] = Counter()

        def upload(row: BatchRow, share: int) -> None:
            if row.state in IN_ITS_PLACE or row.state == "nothing-accepted":
                return
            summary = self._uploaded(context, ledger, row, options, share)
            with self._lock:
                counts.update(batches=1, **summary.counts())

        for named in {row.connection for row in rows}:
            # Signed in before the threads begin; a connection that fails does so for each of its batches.
            with suppress(IngestError):
                _ = self.connections.hook(named).client
        try:
            self.work_off(
                context, rows, upload, key=DONE_KEY, at_once=options.chunks_at_once(self.parallel_chunks)
            )
        finally:
            ids = {str(batch): url.rpartition("/")[2] for batch, url in self._opened.items()}
            context["ti"].xcom_push(key=DATA_SET_IDS_KEY, value=ids)
        return dict(counts)

    def _uploaded(
        self, context: Context, ledger: Ledger, row: BatchRow, options: RunOptions, share: int
    ) -> UploadSummary:
        """Upload one batch, with so many chunks at the same time."""
        from tidepool_airflow import observability as metrics
        from tidepool_ingest.upload import UploadWishes, check_data_set_type, upload_batch

        check_data_set_type(row.data_set_type, self.data_set_type)
        hook = self.connections.hook(row.connection)

        def opened(data_set_id: str) -> None:
            self._opened[row.id] = hook.data_set_url(data_set_id)
            if row.id == self.batch:
                context["ti"].xcom_push(key=DATA_SET_ID_KEY, value=data_set_id)

        upload_context = replace(
            hook.upload_context(ledger, self.root(options)),
            wishes=UploadWishes.of(options, at_once=share, asked_at=context["dag_run"].start_date),
            origin=origin_of(context),
            on_open=opened,
            stopping=self._stopping,
        )
        started = time.monotonic()
        summary = upload_batch(upload_context, row)
        seconds = time.monotonic() - started
        if row.id in self._opened:  # of a batch in parts, Tidepool may have refused every record
            self._visible.append((row.label, self._opened[row.id], summary.visible_rows))
        metrics.uploaded(context, summary, seconds=seconds)
        return summary

    def _compare(
        self, context: Context, ledger: Ledger, rows: Sequence[BatchRow], options: RunOptions
    ) -> None:
        """Compare a pack with what Tidepool shows, instead of uploading it.

        :raises AirflowSkipException: always, at its end.
        """
        from tidepool_airflow.dry_run import compare_into
        from tidepool_ingest.ledger import IN_ITS_PLACE
        from tidepool_ingest.reports.dry_run import Comparisons

        found, root = Comparisons(), self.root(options)

        def compare(row: BatchRow, _share: int) -> None:
            if row.state not in IN_ITS_PLACE:
                compare_into(found, self.connections, root, row, ledger=ledger, log=self.log)

        self.work_off(context, rows, compare, key=DONE_KEY)
        self._end_dry_run(context, found)

    def _end_dry_run(self, context: Context, found: Comparisons) -> None:
        from tidepool_airflow.dry_run import COMPARED_KEY

        context["ti"].xcom_push(key=COMPARED_KEY, value=found.summary())
        raise AirflowSkipException("Dry run: what was prepared is validated, and nothing was opened.")

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
        """Return which batches became which data sets; called by OpenLineage's provider, if there is one."""
        from tidepool_airflow.observability import of_uploads

        return of_uploads(self._visible) if self._visible else None

    def on_kill(self) -> None:
        """Stop between two requests, so that the ledger knows of each what became of it.

        Airflow kills the process five seconds later; what was under way then is in doubt, and waited out by
        whoever comes next.
        """
        super().on_kill()
        self._stopping.set()


class TidepoolContinuousUploadOperator(TidepoolUploadOperator):
    """Upload prepared batches to the one continuous data set of their feed, and read back what shows.

    The data set is found by its client name or opened, and stays open. Several tasks may work for one feed:
    they take turns, and what a batch that comes later in staging has written is left alone. What is pushed to
    XCom, and the return value, are as for :class:`TidepoolUploadOperator`.

    :param batches: the ledger's numbers of the batches, as the plan step returned them.
    :param parallel_chunks: see :class:`TidepoolUploadOperator`.
    """

    data_set_type = "continuous"

"""Operators of the third step: upload prepared batches to Tidepool, and verify what is visible there."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk.exceptions import AirflowSkipException

from tidepool_airflow import observability
from tidepool_airflow.dry_run import COMPARED_KEY
from tidepool_airflow.links import LINKS
from tidepool_airflow.operators.pack import BATCH_LABEL, DONE_KEY, PREPARED_KEY, TidepoolPackOperator

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.ledger import BatchRow, Ledger
    from tidepool_ingest.options import RunOptions
    from tidepool_ingest.upload import UploadSummary

DATA_SET_ID_KEY = "data_set_id"
"""XCom key of the only batch's data set id (Tidepool's ``uploadId``), from the moment that it is known."""

DATA_SET_IDS_KEY = "data_set_ids"
"""XCom key of the data set ids of a larger pack, by the ledger's numbers of its batches, at its end."""


class TidepoolUploadOperator(TidepoolPackOperator):
    """Open a normal data set for each prepared batch, upload it in chunks, close it, and read it back.

    A giant batch, which was split into parts, goes to one data set per part, one after the other.

    A later try, a cleared task or another run resumes from the ledger. The only batch's data set id is pushed
    to XCom as ``data_set_id`` at once (that of the latest part, if there are several), those of a larger pack
    as ``data_set_ids`` at its end; the return value holds the counts.

    :param batches: the ledger's numbers of the batches, as the plan step returned them.
    :param parallel_chunks: how many chunks are sent at the same time, of one data set or of several; give the
        task as many slots of its pool (``pool_slots``), so that the pool limits the requests of all tasks.
        The run's parameter of the same name can only lower it.
    """

    about: ClassVar[str] = (
        "Opens a data set, sends the accepted records, closes it, and reads back what Tidepool shows, "
        "record by record. If it fails, clearing it goes on where it stopped. If somebody "
        "marks it as failed, `tidepool_reconcile` completes or removes what it has left."
    )
    data_set_type = "normal"
    ends_turns = True
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
        self._stopping = threading.Event()
        self._opened: dict[int, str] = {}
        self._visible: list[tuple[str, str, int]] = []

    @property
    def data_set_url(self) -> str | None:
        """The API's URL of the only batch's data set, once it is open."""
        return self._opened.get(self.batch) if self.batch is not None else None

    def execute_batches(self, context: Context, ledger: Ledger, rows: Sequence[BatchRow]) -> dict[str, Any]:
        """Upload the batches, several data sets at the same time."""
        options = self.options(context)
        if self.batch is None:
            rows = self._prepared(context, rows)
        if options.dry_run:
            self._compare(context, ledger, rows, options)
        summaries: list[UploadSummary] = []

        def upload(row: BatchRow, share: int) -> None:
            if row.state == "nothing-accepted":
                self.skip_only_batch("No record of the batch was accepted, so nothing was opened.")
                return
            summaries.append(self._upload(context, ledger, row, options, share))

        at_once = options.chunks_at_once(self.parallel_chunks)
        if self.batch is None:
            self._sign_in(rows)
        try:
            self.for_each_batch(context, ledger, rows, upload, key=DONE_KEY, at_once=at_once)
        finally:
            if self.batch is None:
                ids = {str(batch): url.rpartition("/")[2] for batch, url in self._opened.items()}
                context["ti"].xcom_push(key=DATA_SET_IDS_KEY, value=ids)
        if self.batch is not None:
            return {**vars(summaries[0]), "state": str(summaries[0].state)}
        counts: Counter[str] = Counter()
        for summary in summaries:
            counts.update(batches=1, **summary.counts())
        return dict(counts)

    def _prepared(self, context: Context, rows: Sequence[BatchRow]) -> list[BatchRow]:
        """Return the batches of a larger pack that its first task has prepared."""
        pulled = context["ti"].xcom_pull(
            task_ids=sorted(self.upstream_task_ids), map_indexes=context["ti"].map_index, key=PREPARED_KEY
        )
        ready = {int(batch) for batches in pulled or () for batch in batches or ()}
        return [row for row in rows if row.id in ready]

    def _sign_in(self, rows: Sequence[BatchRow]) -> None:
        """Sign in before there are threads; a connection that fails does so again for each of its batches."""
        from tidepool_ingest.errors import IngestError

        for named in {row.connection for row in rows}:
            with suppress(IngestError):
                _ = self.connections.hook(named).client

    def _upload(
        self, context: Context, ledger: Ledger, row: BatchRow, options: RunOptions, share: int
    ) -> UploadSummary:
        """Upload one batch, with its share of the requests at the same time."""
        from tidepool_ingest.upload import check_data_set_type

        check_data_set_type(row.data_set_type, self.data_set_type)
        hook = self.connections.hook(row.connection)

        def opened(data_set_id: str) -> None:
            self._opened[row.id] = hook.data_set_url(data_set_id)
            if row.id == self.batch:
                context["ti"].xcom_push(key=DATA_SET_ID_KEY, value=data_set_id)

        run = self.this_run(context, ledger, options)
        started = time.monotonic()
        summary = run.upload(
            replace(hook.upload_context(ledger, self.root(options)), on_open=opened),
            row,
            share,
            stopping=self._stopping,
        )
        seconds = time.monotonic() - started
        if row.id in self._opened:  # Tidepool may have rejected every record of a batch in parts
            self._visible.append((row.label, self._opened[row.id], summary.visible_rows))
        observability.uploaded(context, summary, seconds=seconds)
        return summary

    def _compare(
        self, context: Context, ledger: Ledger, rows: Sequence[BatchRow], options: RunOptions
    ) -> NoReturn:
        """Compare batches with what Tidepool shows, instead of uploading them.

        :raises AirflowSkipException: always, at its end.
        """
        from tidepool_ingest.reports.dry_run import DryRunTotals

        found, root = DryRunTotals(), self.root(options)

        def compare(row: BatchRow, _share: int) -> None:
            hooks = self.connections
            found.compare(row, lambda: hooks.hook(row.connection).upload_context(ledger, root))

        self.for_each_batch(context, ledger, rows, compare, key=DONE_KEY)
        context["ti"].xcom_push(key=COMPARED_KEY, value=found.summary())
        raise AirflowSkipException("Dry run: the batches are prepared and validated, and nothing was opened.")

    def get_openlineage_facets_on_complete(self, _task_instance: object) -> OperatorLineage[Any, Any] | None:
        """Return which batches became which data sets; called by OpenLineage's provider, if there is one."""
        return observability.of_uploads(self._visible) if self._visible else None

    def on_kill(self) -> None:
        """Stop between two requests, so that the ledger knows what became of each.

        Airflow kills the process five seconds later; a request in progress then is in doubt, and whoever
        comes next waits it out.
        """
        super().on_kill()
        self._stopping.set()


class TidepoolContinuousUploadOperator(TidepoolUploadOperator):
    """Upload prepared batches to the one continuous data set of their feed, and read back what is visible.

    The data set is found by its client name or opened, and stays open. Several tasks may upload to one feed:
    they take turns, and never overwrite what a batch that comes later in staging has written. XCom and the
    return value are those of :class:`TidepoolUploadOperator`.

    :param batches: the ledger's numbers of the batches, as the plan step returned them.
    :param parallel_chunks: see :class:`TidepoolUploadOperator`.
    """

    about: ClassVar[str] = (
        "Sends the accepted records to the one data set of the feed, which stays open, and reads back "
        "what Tidepool shows of them. If it fails, clearing it goes on where it stopped; a data set that "
        "was closed or deleted (`feed-…`) needs a person."
    )
    data_set_type = "continuous"

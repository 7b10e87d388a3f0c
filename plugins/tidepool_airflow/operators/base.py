"""What the operators share: the run's parameters, the ledger, the staging root."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from tidepool_airflow import settings
from tidepool_airflow.errors import causes_told
from tidepool_airflow.links import BATCH_GROUP
from tidepool_airflow.retry import RETRY_POLICY
from tidepool_airflow.settings import DEFAULT_CONN_ID
from tidepool_ingest.options import RunOptions

if TYPE_CHECKING:
    from airflow.sdk import RetryPolicy
    from airflow.sdk.definitions.context import Context
    from upath import UPath

    from tidepool_ingest.ledger import BatchRow, Ledger, TaskOrigin
    from tidepool_ingest.options import ReconcileOptions
    from tidepool_ingest.run import Run


class TidepoolOperator(BaseOperator):
    """Base of all operators; the log of a task that fails says why, and what to do.

    :param staging_root: folder or fsspec URL that holds the day folders, for example
        ``s3://my_aws_connection@bucket/tidepool``; the run's parameter ``staging_root`` overrides it.
    :param tidepool_conn_id: the Airflow connection to Tidepool.
    :param ledger_conn_id: the Airflow connection to the ledger's database.
    :param allowed_conn_ids: further connections to Tidepool that a batch's manifest may name.
    :param retry_policy: which errors are retried, and when.
    :cvar about: what the task does and what to do if it fails, which Airflow shows unless it is given another
        ``doc_md``.
    :cvar serves_other_dags: whether it works on batches that other DAGs have planned.
    """

    about: ClassVar[str] = ""
    serves_other_dags: ClassVar[bool] = False
    template_fields: Sequence[str] = ("staging_root",)

    def __init__(
        self,
        *,
        staging_root: str | None = None,
        tidepool_conn_id: str = DEFAULT_CONN_ID,
        ledger_conn_id: str = "tidepool_ledger",
        allowed_conn_ids: Sequence[str] = (),
        retry_policy: RetryPolicy | None = RETRY_POLICY,
        **kwargs: Any,
    ) -> None:
        # Defaults of BaseOperator's own arguments stand in the signature: `partial` reads them there.
        super().__init__(retry_policy=retry_policy, **kwargs)
        self.doc_md = self.doc_md or self.about
        self.staging_root = staging_root
        self.tidepool_conn_id = tidepool_conn_id
        self.ledger_conn_id = ledger_conn_id
        self.allowed_conn_ids = tuple(allowed_conn_ids)

    def execute(self, context: Context) -> Any:
        """Run the task."""
        with causes_told(self.log, context):
            return self.perform(context)

    @abstractmethod
    def perform(self, context: Context) -> Any:
        """Do what the task is for, and return what it came to."""

    @cached_property
    def connections(self) -> Any:
        """The connections to Tidepool that this task may use."""
        from tidepool_airflow.hook import TidepoolConnections

        own, others = self.tidepool_conn_id, self.allowed_conn_ids
        if self.serves_other_dags and DEFAULT_CONN_ID in others:
            # The ledger names none for what DAGs with the usual connection have planned.
            own, others = DEFAULT_CONN_ID, (own, *others)
        return TidepoolConnections(own, others, self.ledger_conn_id)

    def options(self, context: Context) -> RunOptions:
        """Return the run's parameters, checked.

        :raises OptionsError: for one that does not exist or cannot be used.
        """
        return RunOptions.of_params(dict(context["params"]))

    def this_run(self, context: Context, ledger: Ledger, options: RunOptions) -> Run:
        """Return the run that this task belongs to.

        :param ledger: the ledger.
        :param options: the run's parameters.
        """
        from tidepool_airflow.turns import run_of
        from tidepool_ingest.run import Run

        return Run(
            ledger=ledger,
            options=options,
            origin=origin_of(context),
            turns_of=run_of(context),
            asked_at=context["dag_run"].start_date,
        )

    def root(self, options: RunOptions | ReconcileOptions) -> UPath:
        """Return the staging root, which holds the day folders."""
        return self.staging(options.staging_root)

    def staging(self, address: str | None = None) -> UPath:
        """Return the staging root; the encryption keys of its work areas are masked in the task's log.

        :param address: the root that the run's parameters name.
        """
        _mask_work_keys()
        return settings.staging_root(address or self.staging_root)

    def root_of(self, batch: BatchRow) -> UPath:
        """Return the staging root that a batch was prepared in, as :meth:`staging` does."""
        _mask_work_keys()
        return settings.root_of_batch(batch.folder, self.staging_root)

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """Open the ledger for the length of a ``with`` block."""
        ledger = settings.open_ledger(self.ledger_conn_id)
        try:
            yield ledger
        finally:
            ledger.close()


def origin_of(context: Mapping[str, Any]) -> TaskOrigin:
    """Return which task instance this is, as the ledger records it."""
    from tidepool_ingest.ledger import TaskOrigin

    task_instance = context["ti"]
    # The uploads page links to tasks of the group `batch` by it; other groups have map indexes of their own.
    in_group = task_instance.task_id.startswith(f"{BATCH_GROUP}.")
    return TaskOrigin(
        dag_id=task_instance.dag_id,
        run_id=task_instance.run_id,
        map_index=task_instance.map_index if in_group else None,
        try_number=task_instance.try_number,
    )


def record_stop(
    ledger: Ledger, batch: int, context: Mapping[str, Any], error: BaseException | None = None
) -> None:
    """Record that a batch has stopped in this task, so that the uploads page leads to its log.

    Nothing is recorded where the ledger does not answer: the task fails with the first error, not the second.

    :param ledger: the ledger, which knows the reason already.
    :param batch: the batch's number.
    :param context: the context of the task.
    :param error: as for :meth:`~tidepool_ingest.ledger.Stops.record`.
    """
    from tidepool_ingest.errors import IngestError
    from tidepool_ingest.ledger import StoppedIn

    task_instance = context["ti"]
    stopped_in = StoppedIn(
        dag_id=task_instance.dag_id,
        run_id=task_instance.run_id,
        task_id=task_instance.task_id,
        map_index=task_instance.map_index,
        try_number=task_instance.try_number,
    )
    with suppress(IngestError):
        ledger.stops.record(batch, stopped_in, error)


def _mask_work_keys() -> None:
    from airflow.sdk.log import mask_secret

    from tidepool_ingest.staging.encryption import configured_keys

    for key in configured_keys():
        mask_secret(key)

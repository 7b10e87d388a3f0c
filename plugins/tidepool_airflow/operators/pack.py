"""What the operators share that process batches: one, or a pack of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput

from tidepool_airflow import observability
from tidepool_airflow.mapping import skip_without_batch
from tidepool_airflow.operators.base import TidepoolOperator, record_stop
from tidepool_airflow.turns import reschedule
from tidepool_ingest.texts import counted

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.ledger import BatchRow, Ledger
    from tidepool_ingest.packs import PackWork

BATCH_LABEL = "{{ label }}"
"""How Airflow's UI names a mapped task: by its batch or pack, whose label the task puts into its context."""

PREPARED_KEY = "ready"
"""XCom key of the batches of a larger pack that its first task has prepared."""

DONE_KEY = "done"
"""XCom key of the batches of a larger pack that need nothing more in this run."""

STOPPED_KEY = "stopped"
"""XCom key of the batches of a larger pack that are not done when it fails of a cause that is not theirs."""


class TidepoolPackOperator(TidepoolOperator):
    """Base of the steps that are mapped over packs.

    All packs are processed the same way. If a pack has only one batch, that batch's fate is the task's: its
    error fails the task, so that Airflow's retries are its own, and a batch that needs nothing skips it. In a
    larger pack, a batch that fails is set aside for a task of its own later, and the others go on. Where a
    batch has to wait for another task, this one gives its slot back and is started again later.

    :cvar ends_turns: whether this is the last step, after which newer batches of the device need not wait.
    :param batches: the ledger's numbers of the batches, as the plan step returned them.
    """

    template_fields: Sequence[str] = (*TidepoolOperator.template_fields, "batches")
    ends_turns: ClassVar[bool] = False

    def __init__(self, *, batches: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batches = batches
        self._work: PackWork | None = None

    @property
    def batch(self) -> int | None:
        """The number of the batch, if there is only one."""
        return int(self.batches[0]) if isinstance(self.batches, Sequence) and len(self.batches) == 1 else None

    def perform(self, context: Context) -> dict[str, Any]:
        """Process the pack."""
        observability.started(context)
        skip_without_batch(self.batches, context)
        return self.execute_pack(context)

    def execute_pack(self, context: Context) -> dict[str, Any]:
        """Process the pack, which is not empty, and return what it came to."""
        from tidepool_ingest.packs import label_of_pack

        with self.ledger() as ledger:
            numbers = [int(number) for number in self.batches]
            rows = sorted(ledger.batches.get_all(numbers), key=lambda row: numbers.index(row.id))
            rows = rows or [ledger.batches.get(numbers[0])]  # raises the error for an unknown batch
            context["label"] = label_of_pack(rows)  # type: ignore[typeddict-unknown-key]
            return self.execute_batches(context, ledger, rows)

    @abstractmethod
    def execute_batches(self, context: Context, ledger: Ledger, rows: Sequence[BatchRow]) -> dict[str, Any]:
        """Process some batches, by :meth:`for_each_batch`, and return what they came to."""

    def for_each_batch(
        self,
        context: Context,
        ledger: Ledger,
        rows: Sequence[BatchRow],
        work: Callable[[BatchRow, int], None],
        *,
        key: str,
        at_once: int = 1,
    ) -> None:
        """Do something for each batch, and report in XCom which batches of a larger pack came through.

        A batch that another one has superseded in staging, maybe since the run was planned, needs nothing.

        :param ledger: knows where each batch stands when its turn comes.
        :param rows: the batches.
        :param work: see :meth:`tidepool_ingest.packs.PackWork.run`.
        :param key: the XCom key.
        :param at_once: how many requests the batches share.
        :raises IngestError: what made batch after batch fail, or the only one.
        """
        from tidepool_ingest.errors import IngestError
        from tidepool_ingest.packs import PackWork

        work = self._in_turn(context, ledger, work)
        self._work = PackWork(rows, at_once=at_once, failing=self.batch is not None)
        if self.batch is not None:
            self._run_alone(context, ledger, self._work, work)
            return
        outcome = self._work.outcome
        try:
            self._work.run(work)
        except IngestError:
            stopped = sorted({row.id for row in rows} - set(outcome.done))
            context["ti"].xcom_push(key=STOPPED_KEY, value=stopped)
            raise
        finally:
            context["ti"].xcom_push(key=key, value=outcome.done)
        self.log.info(
            "%d of %s done%s%s.",
            len(outcome.done),
            counted(len(rows), "batch"),
            f", {counted(len(outcome.waiting), 'device')} waiting for others" if outcome.waiting else "",
            "".join(f", {number} set aside ({code})" for code, number in sorted(outcome.failed.items())),
        )
        if outcome.waiting:
            reschedule(context, ledger, outcome.waiting)

    def _in_turn(
        self, context: Context, ledger: Ledger, work: Callable[[BatchRow, int], None]
    ) -> Callable[[BatchRow, int], None]:
        """Return the same work, which ends the turns of batches that this run has nothing more to do with.

        Of a batch that stops, the ledger learns in which task that was.
        """
        run = self.this_run(context, ledger, self.options(context))

        def work_in_turn(row: BatchRow, share: int) -> None:
            row = ledger.batches.get(row.id)
            try:
                with run.turn(row.id, is_last=self.ends_turns):
                    if why := run.why_left(row):
                        self.skip_only_batch(why)
                    else:
                        work(row, share)
            except AirflowSkipException:
                run.end_turn(row.id)
                raise
            except TaskAwaitingInput:
                run.end_turn(row.id)
                record_stop(ledger, row.id, context)
                raise
            except Exception as error:
                record_stop(ledger, row.id, context, error)
                raise

        return work_in_turn

    def _run_alone(
        self, context: Context, ledger: Ledger, pack: PackWork, work: Callable[[BatchRow, int], None]
    ) -> None:
        from tidepool_ingest.errors import IngestError

        try:
            pack.run(work)
        except IngestError as error:
            if error.waits:
                self.log.info("%s", error.what)
                reschedule(context, ledger, [error])
            raise

    def skip_only_batch(self, why: str) -> None:
        """Skip the task if its only batch needs nothing more; in a larger pack, the next one follows.

        :raises AirflowSkipException: if there is only one batch.
        """
        if self.batch is not None:
            raise AirflowSkipException(why)

    def on_kill(self) -> None:
        """Start no further batch."""
        if self._work is not None:
            self._work.stop()

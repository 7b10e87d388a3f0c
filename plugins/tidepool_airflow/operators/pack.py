"""What the operators share that work off batches: one, or a pack of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tidepool_airflow.operators.base import TidepoolOperator

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.ledger import BatchRow, Ledger
    from tidepool_ingest.packs import PackOutcome, PackWork

BATCH_LABEL = "{{ label }}"
"""How Airflow's UI names a mapped task: the batch's label, which the task puts into its context."""

READY_KEY = "ready"
"""XCom key of the batches of a pack that its first task has prepared."""

DONE_KEY = "done"
"""XCom key of the batches of a pack that need nothing more in this run."""

STOPPED_KEY = "stopped"
"""XCom key of the batches of a pack that ended before them, of a cause that is not theirs."""


class TidepoolPackOperator(TidepoolOperator):
    """Base of the steps that are mapped over packs.

    A pack of one batch has the task for itself: what fails it fails the task, and Airflow's retries are its
    own. In a larger pack, a batch that fails is left for a task of its own later, and the others go on.

    :param batches: the ledger's numbers of the batches, as the plan step returned them.
    """

    template_fields: Sequence[str] = (*TidepoolOperator.template_fields, "batches")

    def __init__(self, *, batches: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batches = batches
        self._pack: PackWork | None = None

    @property
    def batch(self) -> int | None:
        """The number of the batch, where there is just one."""
        return int(self.batches[0]) if isinstance(self.batches, Sequence) and len(self.batches) == 1 else None

    def execute(self, context: Context) -> dict[str, Any]:
        """Work off the pack."""
        from tidepool_airflow import observability as metrics
        from tidepool_airflow.mapping import skip_without_batch
        from tidepool_ingest.packs import label_of_pack

        metrics.begun(context)
        skip_without_batch(self.batches, context)
        if self.batch is not None:
            return self.of_one(context)
        with self.ledger() as ledger:
            numbers = [int(number) for number in self.batches]
            rows = sorted(ledger.batches.get_all(numbers), key=lambda row: numbers.index(row.id))
            context["label"] = label_of_pack(rows)  # type: ignore[typeddict-unknown-key]
            return self.of_many(context, ledger, rows)

    @abstractmethod
    def of_one(self, context: Context) -> dict[str, Any]:
        """Do what is to be done for the only batch."""

    @abstractmethod
    def of_many(self, context: Context, ledger: Ledger, rows: Sequence[BatchRow]) -> dict[str, Any]:
        """Do it for each of several batches."""

    def work_off(
        self,
        context: Context,
        rows: Sequence[BatchRow],
        work: Callable[[BatchRow, int], None],
        *,
        key: str,
        at_once: int = 1,
    ) -> PackOutcome:
        """Work off a pack, and tell in XCom which batches came through.

        :param rows: the batches.
        :param work: see :meth:`tidepool_ingest.packs.PackWork.run`.
        :param key: XCom key of those.
        :param at_once: what the batches share out.
        :raises IngestError: what made batch after batch fail.
        """
        from tidepool_ingest.errors import IngestError
        from tidepool_ingest.packs import PackWork

        self._pack = PackWork(rows, at_once=at_once)
        outcome = self._pack.outcome
        try:
            self._pack.run(work)
        except IngestError:
            left = sorted({row.id for row in rows} - set(outcome.done))
            context["ti"].xcom_push(key=STOPPED_KEY, value=left)
            raise
        finally:
            context["ti"].xcom_push(key=key, value=outcome.done)
        self.log.info(
            "%d of %d batches are done%s.",
            len(outcome.done),
            len(rows),
            "".join(f", {number} left ({code})" for code, number in sorted(outcome.failed.items())),
        )
        return outcome

    def on_kill(self) -> None:
        """Begin no further batch."""
        if self._pack is not None:
            self._pack.stop()

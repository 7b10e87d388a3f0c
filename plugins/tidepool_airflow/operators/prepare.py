"""Operator of the second step: validate a batch, chunk it, quarantine what Tidepool would refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tidepool_airflow.operators.base import BATCH_LABEL, TidepoolOperator

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


class TidepoolPrepareOperator(TidepoolOperator):
    """Prepare one batch in the work area of staging; nothing remote is touched.

    Returns the counts of what became of its records.

    :param batch: the batch's number in the ledger, as the plan step returned it.
    """

    template_fields: Sequence[str] = (*TidepoolOperator.template_fields, "batch")

    def __init__(self, *, batch: int, map_index_template: str | None = BATCH_LABEL, **kwargs: Any) -> None:
        super().__init__(map_index_template=map_index_template, **kwargs)
        self.batch = batch

    def execute(self, context: Context) -> dict[str, Any]:
        """Prepare the batch."""
        from tidepool_airflow import metrics
        from tidepool_airflow.mapping import skip_in_its_place, skip_without_batch
        from tidepool_ingest.prepare import prepare_batch

        metrics.begun(context)
        options = self.options(context)
        skip_without_batch(int(self.batch), context)
        with self.ledger() as ledger:
            row = ledger.batches.get(int(self.batch))
            context["label"] = row.label  # type: ignore[typeddict-unknown-key]
            skip_in_its_place(row)
            summary = prepare_batch(
                self.root(options),
                row,
                ledger=ledger,
                options=options,
                api_host_of=self.connections.api_host_of,
                run_id=context["ti"].run_id,
                asked_at=context["dag_run"].start_date,
            )
        metrics.prepared(context, summary)
        return summary.model_dump(mode="json")

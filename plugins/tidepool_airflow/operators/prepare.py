"""Operator of the second step: validate batches, chunk them, quarantine what Tidepool would reject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput
from airflow.sdk.execution_time.hitl import upsert_hitl_detail

from tidepool_airflow import observability
from tidepool_airflow.errors import TidepoolNobodyAnsweredError, causes_told
from tidepool_airflow.links import TidepoolQuarantineLink, TidepoolUploadLink
from tidepool_airflow.operators.base import record_stop
from tidepool_airflow.operators.pack import BATCH_LABEL, PREPARED_KEY, TidepoolPackOperator

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.ledger import BatchRow, Ledger
    from tidepool_ingest.options import RunOptions
    from tidepool_ingest.prepare.summary import PrepareSummary

ANSWER_WITHIN = timedelta(days=1)
"""How long a batch waits for a decision unless the DAG says otherwise."""


class TidepoolPrepareOperator(TidepoolPackOperator):
    """Prepare batches in the work area of staging; nothing remote is touched.

    Returns how many of their records were accepted, quarantined or duplicates. If the run's parameter
    ``when_refused`` says ``ask``, a batch with too many rejected records waits for a person's decision the
    way Airflow's own human-in-the-loop operators do: among the required actions of the UI, without a worker.
    A batch in a larger pack does so in a task of its own.

    :param batches: the ledger's numbers of the batches, as the plan step returned them.
    :param answer_within: how long a batch waits for a decision.
    """

    about: ClassVar[str] = (
        "Validates every record of a batch in staging, and writes what is accepted and what is rejected; "
        "Tidepool is not asked. If it fails, the batch is held, and nothing of it is uploaded: its link "
        "*Quarantine* has what was rejected and why. Correct it and stage it again, or answer the "
        "question under *Required Actions* if one waits there."
    )
    operator_extra_links = (TidepoolUploadLink(), TidepoolQuarantineLink())

    def __init__(
        self,
        *,
        batches: Sequence[int],
        answer_within: timedelta = ANSWER_WITHIN,
        map_index_template: str | None = BATCH_LABEL,
        **kwargs: Any,
    ) -> None:
        super().__init__(batches=batches, map_index_template=map_index_template, **kwargs)
        self.answer_within = answer_within

    def execute_batches(self, context: Context, ledger: Ledger, rows: Sequence[BatchRow]) -> dict[str, Any]:
        """Prepare the batches, one after the other."""
        from tidepool_ingest.guards import AskingError

        options = self.options(context)
        summaries: list[PrepareSummary] = []

        def prepare(row: BatchRow, _share: int) -> None:
            summary = self._prepared(context, ledger, row, options)
            if summary.asks and self.batch is None:
                raise AskingError(row.label)
            if summary.asks:
                self._ask_or_apply(context, ledger, ledger.batches.get(row.id), summary, options)
            observability.prepared(context, summary)
            summaries.append(summary)

        self.for_each_batch(context, ledger, rows, prepare, key=PREPARED_KEY)
        if self.batch is not None:
            return summaries[0].model_dump(mode="json")
        counts: Counter[str] = Counter()
        for summary in summaries:
            counts.update(summary.counts())
        return dict(counts)

    def decided(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after a person's decision; Airflow calls this with the choice, or with an error without one.

        :raises TidepoolNobodyAnsweredError: if nobody has decided in time.
        """
        with causes_told(self.log, context):
            self._record_answer(context, event)
            return self.execute_pack(context)

    def _record_answer(self, context: Context, event: dict[str, Any]) -> None:
        from tidepool_ingest.guards import Decision

        with self.ledger() as ledger:
            row = ledger.batches.get(int(self.batches[0]))
            context["label"] = row.label  # type: ignore[typeddict-unknown-key]
            if "error" in event:
                raise TidepoolNobodyAnsweredError(row.label)
            decision = Decision.of_answer(event["chosen_options"][0])
            actor = (event.get("responded_by_user") or {}).get("name") or "unknown"
            run = self.this_run(context, ledger, self.options(context))
            run.record_decision(row, decision, actor=actor)
        self.log.info("%s: the answer is '%s'.", row.label, decision.answer)

    def _prepared(
        self, context: Context, ledger: Ledger, row: BatchRow, options: RunOptions
    ) -> PrepareSummary:
        run = self.this_run(context, ledger, options)
        return run.prepare(self.root(options), row, self.connections.api_host_of)

    def _ask_or_apply(
        self,
        context: Context,
        ledger: Ledger,
        row: BatchRow,
        summary: PrepareSummary,
        options: RunOptions,
    ) -> None:
        """Apply what a person has decided in this run, or ask.

        :raises TaskAwaitingInput: to wait for a person.
        :raises AirflowSkipException: if the batch is declined.
        """
        from tidepool_ingest.guards import Decision, apply_decision
        from tidepool_ingest.prepare.summary import question_of

        decision = self.this_run(context, ledger, options).decision(row)
        if decision is None:
            subject, body = question_of(summary, options.max_quarantined_percent)
            choices = [choice.answer for choice in Decision]
            upsert_hitl_detail(context["ti"].id, choices, subject, body, params={})
            self.log.info("%s A person is asked, under Required Actions of the run.", subject)
            raise TaskAwaitingInput(method_name="decided", timeout=self.answer_within)
        apply_decision(ledger, row, decision)
        if decision is Decision.DECLINE:
            record_stop(ledger, row.id, context)
            raise AirflowSkipException("Somebody has decided that nothing of the batch is uploaded.")

"""Operator of the second step: validate batches, chunk them, quarantine what Tidepool would refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput
from airflow.sdk.execution_time.hitl import upsert_hitl_detail

from tidepool_airflow.links import TidepoolQuarantineLink, TidepoolUploadLink
from tidepool_airflow.operators.base import origin_of
from tidepool_airflow.operators.pack import BATCH_LABEL, READY_KEY, TidepoolPackOperator

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.ledger import BatchRow, Ledger
    from tidepool_ingest.options import RunOptions
    from tidepool_ingest.prepare import PrepareSummary


ANSWER_WITHIN = timedelta(days=1)


class TidepoolPrepareOperator(TidepoolPackOperator):
    """Prepare batches in the work area of staging; nothing remote is touched.

    Returns the counts of what became of their records. Where ``when_refused`` of the run says ``ask``, a
    batch of which too many records are refused waits for a person's decision, as Airflow's own operators for
    that do: among the required actions of the UI, without a worker. One in a larger pack does so in a task of
    its own.

    :param batches: the ledger's numbers of the batches, as the plan step returned them.
    :param answer_within: how long one waits for a decision.
    """

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

    def of_one(self, context: Context) -> dict[str, Any]:
        """Prepare the only batch."""
        from tidepool_airflow import observability as metrics
        from tidepool_airflow.mapping import skip_in_its_place

        options = self.options(context)
        with self.ledger() as ledger:
            row = ledger.batches.get(int(self.batches[0]))
            context["label"] = row.label  # type: ignore[typeddict-unknown-key]
            skip_in_its_place(row)
            summary = self._prepared(context, ledger, row, options)
            if summary.asks:
                self._ask_or_follow(context, ledger, ledger.batches.get(row.id), summary, options)
        metrics.prepared(context, summary)
        return summary.model_dump(mode="json")

    def of_many(self, context: Context, ledger: Ledger, rows: Sequence[BatchRow]) -> dict[str, Any]:
        """Prepare a pack, one batch after the other."""
        from tidepool_airflow import observability as metrics
        from tidepool_ingest.guards import AskingError
        from tidepool_ingest.ledger import IN_ITS_PLACE

        options = self.options(context)
        counts: Counter[str] = Counter()

        def prepare(row: BatchRow, _share: int) -> None:
            if row.state in IN_ITS_PLACE:
                return
            summary = self._prepared(context, ledger, row, options)
            if summary.asks:
                raise AskingError(row.label)
            metrics.prepared(context, summary)
            counts.update(summary.counts())

        self.work_off(context, rows, prepare, key=READY_KEY)
        return dict(counts)

    def decided(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after a person's decision; Airflow calls this with what was chosen, or that nobody has.

        :raises TidepoolNobodyAnsweredError: if nobody has decided in time.
        """
        from tidepool_airflow.errors import TidepoolNobodyAnsweredError
        from tidepool_ingest.guards import Decision, note_decision

        with self.ledger() as ledger:
            row = ledger.batches.get(int(self.batches[0]))
            context["label"] = row.label  # type: ignore[typeddict-unknown-key]
            if "error" in event:
                raise TidepoolNobodyAnsweredError(row.label)
            decision = Decision(event["chosen_options"][0])
            who = (event.get("responded_by_user") or {}).get("name") or "unknown"
            note_decision(ledger, row, decision, who=who, run=origin_of(context))
        self.log.info("%s: %s.", row.label, decision)
        return self.of_one(context)

    def _prepared(
        self, context: Context, ledger: Ledger, row: BatchRow, options: RunOptions
    ) -> PrepareSummary:
        from tidepool_ingest.prepare import prepare_batch

        return prepare_batch(
            self.root(options),
            row,
            ledger=ledger,
            options=options,
            api_host_of=self.connections.api_host_of,
            run_id=context["ti"].run_id,
            asked_at=context["dag_run"].start_date,
        )

    def _ask_or_follow(
        self,
        context: Context,
        ledger: Ledger,
        row: BatchRow,
        summary: PrepareSummary,
        options: RunOptions,
    ) -> None:
        """Follow what a person has decided in this run, or ask.

        :raises TaskAwaitingInput: to wait for a person.
        :raises AirflowSkipException: if the batch is rejected.
        """
        from tidepool_ingest.guards import Decision, decision_of, follow
        from tidepool_ingest.prepare.summary import question_of

        since = context["dag_run"].start_date
        decision = decision_of(ledger, row, run=origin_of(context), since=since)
        if decision is None:
            subject, body = question_of(summary, options.max_quarantined_percent)
            options_shown = [str(one) for one in Decision]
            upsert_hitl_detail(context["ti"].id, options_shown, subject, body, params={})
            self.log.info("%s Waiting for a decision.", subject)
            raise TaskAwaitingInput(method_name="decided", timeout=self.answer_within)
        follow(ledger, row, decision, nothing=summary.is_empty)
        if decision is Decision.REJECT:
            raise AirflowSkipException("A person has rejected the batch: nothing of it is uploaded.")

"""One run over staged batches: what its steps share, in Airflow's tasks and at the command line.

The steps themselves are in :mod:`~tidepool_ingest.plan`, :mod:`~tidepool_ingest.prepare` and
:mod:`~tidepool_ingest.upload`. Here is what a run adds to them: its parameters, the turns of its batches, and
what a person has confirmed or decided in it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from upath import UPath

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import (
    Decision,
    decision_of,
    is_left_alone,
    limit_as_decided,
    record_decision,
    reopen,
)
from tidepool_ingest.ledger import (
    SUPERSEDED_STATES,
    ActionKind,
    ActionStatus,
    BatchRow,
    BatchState,
    Ledger,
    TaskOrigin,
)
from tidepool_ingest.options import RunOptions
from tidepool_ingest.prepare.step import prepare_batch
from tidepool_ingest.prepare.summary import PrepareSummary
from tidepool_ingest.staged_batch import ApiHostOf
from tidepool_ingest.upload import UploadContext, UploadOptions, UploadSummary, upload_batch


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run, as each of its steps sees it.

    :param ledger: records what becomes of its batches.
    :param options: its parameters.
    :param origin: who works on it, as the ledger records it of data sets, confirmations and decisions.
    :param turns_of: DAG and run under which the ledger has the turns of its batches.
    :param asked_at: when it was started or cleared: a forced run does not repeat what it has done since, and
        what was decided before does not count.
    """

    ledger: Ledger
    options: RunOptions
    origin: TaskOrigin
    turns_of: tuple[str, str]
    asked_at: datetime | None

    # ---------------------------------------------------------------- turns

    def plan_turns(self, batches: Mapping[int, int | None], *, seconds: float | None = None) -> None:
        """Let newer batches wait for those of this run, in place of what was recorded for it before.

        :param batches: index of the mapped task of each batch, if it has one, by the batch's number.
        :param seconds: how long they are waited for at most, unless the turns are prolonged.
        """
        if not self.options.dry_run:
            self.ledger.turns.end_run(*self.turns_of)
            self.ledger.turns.plan(*self.turns_of, batches, seconds=seconds)

    def end_turn(self, batch: int) -> None:
        """Let newer batches go on: this run has nothing more to do with a batch."""
        self.ledger.turns.end(batch, *self.turns_of)

    @contextmanager
    def turn(self, batch: int, *, is_last: bool) -> Iterator[None]:
        """Do a step of a batch, and end its turn if this run has nothing more to do with it afterwards.

        :param batch: the batch's number.
        :param is_last: whether this is the last step.
        """
        try:
            yield
        except IngestError as error:
            if error.disposition is not Disposition.RETRIABLE:
                self.end_turn(batch)
            raise
        if is_last:
            self.end_turn(batch)

    # ---------------------------------------------------------------- people

    def record_confirmation(self, actor: str) -> None:
        """Record who started the run with parameters that confirm something; once, however often planned.

        :param actor: who started it.
        """
        confirmed = ", ".join(self.options.confirmed())
        if not confirmed or self.options.dry_run:
            return
        dag_id, run_id = self.origin.dag_id, self.origin.run_id
        if dag_id and run_id:
            recorded = self.ledger.actions.of_run(dag_id, run_id)
            if any(action.detail == confirmed for action in recorded):
                return
        self.ledger.actions.record(
            actor,
            ActionKind.CONFIRM,
            detail=confirmed,
            dag_id=dag_id,
            run_id=run_id,
            status=ActionStatus.DONE,
        )

    def reopen(self, batches: Sequence[int], actor: str) -> None:
        """Take back what people have decided about batches that the run names.

        :param batches: their numbers.
        :param actor: who started the run.
        """
        if not self.options.dry_run:
            dag_id, run_id = self.origin.dag_id, self.origin.run_id
            reopen(self.ledger, batches, actor=actor, dag_id=dag_id, run_id=run_id)

    def decision(self, batch: BatchRow) -> Decision | None:
        """Return what a person has decided about a batch in this run, if anybody has."""
        return decision_of(self.ledger, batch, run=self.origin, since=self.asked_at)

    def is_left_alone(self, batch: BatchRow) -> bool:
        """Return whether a person has decided about a batch since this run was planned.

        :param batch: as the ledger has it now.
        """
        return not self.options.dry_run and is_left_alone(
            self.ledger, batch, run=self.origin, since=self.asked_at
        )

    def record_decision(self, batch: BatchRow, decision: Decision, *, actor: str) -> None:
        """Record what a person has decided about a batch in this run.

        :param actor: the person.
        """
        record_decision(self.ledger, batch, decision, actor=actor, run=self.origin)

    # ---------------------------------------------------------------- the steps of a batch

    def why_left(self, batch: BatchRow) -> str | None:
        """Return why this run has nothing to do with a batch any more; ``None`` if it has.

        :param batch: as the ledger has it now, maybe long after the run was planned.
        """
        if batch.state is BatchState.GONE:
            return "Its folder was removed from staging before anything of it was uploaded."
        if batch.state in SUPERSEDED_STATES:
            return "Another batch has been staged in the place of this one."
        if self.is_left_alone(batch):
            return "Somebody has dismissed or declined it since this run was planned."
        return None

    def prepare(self, root: UPath, batch: BatchRow, api_host_of: ApiHostOf) -> PrepareSummary:
        """Prepare a batch; see :func:`~tidepool_ingest.prepare.step.prepare_batch`.

        :param root: the staging root.
        """
        return prepare_batch(
            root,
            batch,
            ledger=self.ledger,
            options=self.options,
            api_host_of=api_host_of,
            run_id=self.origin.run_id,
            asked_at=self.asked_at,
        )

    def upload(
        self,
        context: UploadContext,
        batch: BatchRow,
        share: int,
        *,
        stopping: threading.Event,
    ) -> UploadSummary:
        """Upload a prepared batch, as a person has decided about it, if anybody was asked.

        :param context: of the connection; with what is to be called meanwhile.
        :param share: how many chunks of it may be sent at the same time.
        :param stopping: set when it has to end before its next request.
        """
        options = UploadOptions.from_run(self.options, at_once=share, asked_at=self.asked_at)
        if self.options.asks:
            decided = limit_as_decided(batch, self.decision(batch), self.options.rejection_limit)
            options = replace(options, rejection_limit=decided)
        return upload_batch(replace(context, options=options, origin=self.origin, stopping=stopping), batch)

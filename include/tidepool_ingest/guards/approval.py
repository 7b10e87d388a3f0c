"""What a person decides about a batch with too many rejected records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

from tidepool_ingest.errors import Fault, HeldError, Mend, MendPlace
from tidepool_ingest.ledger import (
    DECLINED,
    ActionKind,
    ActionStatus,
    BatchRow,
    BatchState,
    Ledger,
    TaskOrigin,
)
from tidepool_ingest.rejection_limit import RejectionLimit

TOO_MANY_REJECTED = "too-many-refused"
"""Why a batch waits for a person."""

REJECTED_BY_PERSON: Final = Fault(
    "somebody decided that it is not uploaded",
    "Correct the batch and stage it again, or take it out of staging. Retry or Reopen on its page takes the "
    "decision back.",
)
"""The cause that is shown for a batch that a person has declined; there is no error."""


class Decision(StrEnum):
    """What a person can answer; the ledger keeps these values, and people read :attr:`answer`."""

    APPROVE = "Approve"
    """Upload it, however many more of its records Tidepool itself rejects."""
    GOOD_ONES = "Upload only the good ones"
    """Upload the records that are accepted now; stop if Tidepool itself rejects any of them."""
    DECLINE = "Decline"
    """Upload nothing of it."""

    @property
    def answer(self) -> str:
        """The answer by what it does."""
        return _ANSWERS[self]

    @classmethod
    def of_answer(cls, answer: str) -> Decision:
        """Return what an answer means.

        :param answer: what was chosen; of a question that was asked before an upgrade, a value.
        """
        return next((decision for decision in cls if decision.answer == answer), None) or cls(answer)


_ANSWERS: Final = {
    Decision.APPROVE: "Upload the accepted records",
    Decision.GOOD_ONES: "Upload them, but stop if Tidepool rejects more",
    Decision.DECLINE: "Upload nothing of this batch",
}


def answer_of(detail: str) -> str:
    """Return what the audit log says of a decision: the answer, where the ledger keeps its value.

    :param detail: what the ledger keeps.
    """
    return Decision(detail).answer if detail in list(Decision) else detail


class QuarantineLimitError(HeldError):
    """Base of the errors about a batch of which more records are rejected than the run allows."""

    code = TOO_MANY_REJECTED
    sentence = "more of its records were rejected than the run allows"
    remedy = (
        "Look at the quarantine file in the batch's work area, whose codes docs/codes.md explains; correct "
        "the batch or let its manifest edit the records, and stage it again; or allow a larger share for one "
        "run."
    )
    mends = (Mend(MendPlace.RUN, '{"max_quarantined_percent": 100}', is_example=True),)


class AskingError(QuarantineLimitError):
    """A person has to be asked about a batch that is one of a pack, where nobody can be asked.

    :param batch: the batch's label.
    """

    def __init__(self, batch: str) -> None:
        super().__init__(
            f"Batch {batch} waits: {self.sentence}.",
            remedy="A person is asked about it in a task of its own.",
        )


def waits_for_person(batch: BatchRow) -> bool:
    """Return whether a batch is held because too many of its records were rejected."""
    return batch.state is BatchState.HELD and batch.reason == TOO_MANY_REJECTED


def is_declined(batch: BatchRow) -> bool:
    """Return whether a person has declined a batch."""
    return batch.state is BatchState.HELD and batch.reason == DECLINED


def is_left_alone(ledger: Ledger, batch: BatchRow, *, run: TaskOrigin, since: datetime | None) -> bool:
    """Return whether a person has dismissed a batch, or has declined it other than in answer to a run.

    :param ledger: contains the audit log.
    :param batch: the batch as it is now, maybe long after the run was planned.
    :param run: the run, which has taken it.
    :param since: when the run was started or cleared: what was declined before stays so.
    """
    if batch.dismissed is not None or batch.reason != DECLINED:
        return batch.is_decided
    decisions = (a for a in ledger.actions.of_batch(batch.id) if a.kind is ActionKind.APPROVE)
    newest = next(decisions, None)
    return (
        newest is None
        or (newest.dag_id, newest.run_id) != (run.dag_id, run.run_id)
        or (since is not None and newest.created_at < since)
    )


def reopen(
    ledger: Ledger,
    batches: Sequence[int],
    *,
    actor: str,
    dag_id: str | None = None,
    run_id: str | None = None,
) -> list[int]:
    """Take back that batches are declined or dismissed; one that was declined waits for a decision again.

    :param ledger: records it.
    :param batches: their numbers.
    :param actor: the person's name in Airflow.
    :param dag_id: the DAG of the run that takes it back, if one does.
    :param run_id: that run.
    :return: the numbers of those that were declined or dismissed.
    """
    return ledger.attention.reopen(
        batches, actor=actor, held_for=TOO_MANY_REJECTED, dag_id=dag_id, run_id=run_id
    )


def record_decision(
    ledger: Ledger, batch: BatchRow, decision: Decision, *, actor: str, run: TaskOrigin
) -> None:
    """Record in the ledger what a person has decided in a run.

    :param ledger: contains the audit log.
    :param batch: the batch.
    :param decision: what was decided.
    :param actor: the person's name in Airflow.
    :param run: the run that asked.
    """
    ledger.actions.record(
        actor,
        ActionKind.APPROVE,
        batch=batch.id,
        detail=decision,
        dag_id=run.dag_id,
        run_id=run.run_id,
        status=ActionStatus.DONE,
    )


def decision_of(
    ledger: Ledger, batch: BatchRow, *, run: TaskOrigin, since: datetime | None
) -> Decision | None:
    """Return what a person has decided about a batch in a run, if anybody has.

    :param ledger: contains the audit log.
    :param batch: the batch.
    :param run: the run that asked.
    :param since: when the run was started or cleared: what was decided before does not count.
    """
    for action in ledger.actions.of_batch(batch.id):
        of_run = action.kind is ActionKind.APPROVE and (action.dag_id, action.run_id) == (
            run.dag_id,
            run.run_id,
        )
        if of_run and action.detail and (since is None or action.created_at >= since):
            return Decision(action.detail)
    return None


def apply_decision(ledger: Ledger, batch: BatchRow, decision: Decision) -> None:
    """Let a batch that waits for a person continue, or hold it as declined; a started one continues anyway.

    :param ledger: records its new state.
    :param batch: the batch, prepared.
    :param decision: what was decided.
    """
    if decision is Decision.DECLINE:
        ledger.batches.decline(batch.id)
    elif waits_for_person(batch) or is_declined(batch):
        ledger.batches.approve(batch.id)


def limit_as_decided(batch: BatchRow, decision: Decision | None, otherwise: RejectionLimit) -> RejectionLimit:
    """Return how many records of a batch may be rejected before its upload stops.

    :param batch: the batch, prepared.
    :param decision: what a person has decided about it.
    :param otherwise: what the run allows.
    """
    if decision is Decision.APPROVE:
        return RejectionLimit(percent=100)
    if decision is Decision.GOOD_ONES and batch.staged and batch.quarantined is not None:
        # Half a record of tolerance: a share that is computed twice may differ in its last digits.
        share = 100.0 * (batch.quarantined + 0.5) / batch.staged
        return RejectionLimit(max(otherwise.percent, share), counts_from=0)
    return otherwise

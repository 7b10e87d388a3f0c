"""What a run fails with when there is something for a person to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tidepool_ingest.errors import IngestError

if TYPE_CHECKING:
    from tidepool_ingest.reports.run import Report

TASKS_NAMED = 10
"""How many failed tasks the message names."""


class TidepoolRunFailedError(IngestError):
    """Some of a run's batches are not in Tidepool.

    :param tasks: the tasks that failed.
    :param report: what became of the batches.
    """

    code = "run-failed"
    sentence = "some tasks of the run failed"
    remedy = (
        "Read the log of a failed task for its cause and what to do; then clear it, or let the next run take "
        "the batch up again."
    )

    def __init__(self, tasks: Sequence[str], report: Report) -> None:
        named = ", ".join(tasks[:TASKS_NAMED]) + (", …" if len(tasks) > TASKS_NAMED else "")
        super().__init__(f"{len(tasks)} tasks of this run failed ({named}). {report.outcome()}")
        self.tasks = tuple(tasks)


class TidepoolBatchesRemainingError(IngestError):
    """No task failed, and yet some of a run's batches are not in Tidepool: their tasks did not run.

    :param number: how many batches.
    :param report: what became of the batches.
    """

    code = "batches-left"
    sentence = "batches that the run took up were left out, though no task failed"
    remedy = (
        "Somebody may have marked their tasks as success or skipped. Clear this run, or let the next one "
        "take them up."
    )

    def __init__(self, number: int, report: Report) -> None:
        super().__init__(
            f"{number} batches that this run took up were left out: no task failed. {report.outcome()}"
        )


class TidepoolNobodyAnsweredError(IngestError):
    """Nobody has decided in time about a batch of which too many records are rejected.

    :param batch: the batch's label.
    """

    code = "nobody-answered"
    sentence = "nobody has decided in time about it"
    remedy = "Clear this task to be asked again, or correct the batch."

    def __init__(self, batch: str) -> None:
        super().__init__(
            f"Nobody has decided in time about batch {batch}. Nothing was opened; it stays held."
        )
        self.batch = batch


class TidepoolReconcileFailedError(IngestError):
    """The maintenance job found batches that it cannot reconcile without a person.

    :param failed: how many, by the code of the cause.
    """

    code = "reconcile-failed"
    sentence = "some batches could not be reconciled"
    remedy = "The log above names each of them, its cause and what to do."

    def __init__(self, failed: Mapping[str, int]) -> None:
        named = ", ".join(f"{count} {code}" for code, count in sorted(failed.items()))
        super().__init__(f"{sum(failed.values())} batches could not be reconciled: {named}.")
        self.failed = dict(failed)

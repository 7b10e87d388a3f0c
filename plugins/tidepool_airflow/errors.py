"""What a run fails with when a person has to do something, and how a task's log tells of an error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog
from airflow.sdk.exceptions import AirflowException

from tidepool_ingest.errors import IngestError
from tidepool_ingest.texts import counted

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from tidepool_ingest.reports.run import Report

TASKS_NAMED = 10
"""How many failed tasks the message names."""


class TidepoolRunFailedError(IngestError):
    """Some of a run's batches are not in Tidepool.

    :param tasks: the tasks that failed.
    :param report: what became of the batches.
    :param number: how many of them are not done; in a dry run, how many would not be uploaded.
    :param dry_run: whether it was one.
    """

    code = "run-failed"
    sentence = "some batches of the run are not done"
    remedy = (
        "Follow what its report, or the log of a failed task, says of each cause; then clear the failed "
        "tasks, or let the next run take the batches up again."
    )

    def __init__(self, tasks: Sequence[str], report: Report, number: int, *, dry_run: bool = False) -> None:
        batches = len(report.batches)
        named = ", ".join(tasks[:TASKS_NAMED]) + (", …" if len(tasks) > TASKS_NAMED else "")
        failed = f"{counted(len(tasks), 'task')} failed ({named})"
        if number:
            is_not_done = "would not be uploaded" if dry_run else f"{'is' if number == 1 else 'are'} not done"
            what = f"{number} of {counted(batches, 'batch')} of this run {is_not_done}. {report.outcome()}"
        elif batches:
            what = f"All batches of this run are done, though {failed}. {report.outcome()}"
        else:
            what = f"This run has processed no batch: {failed}."
        super().__init__(what)
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
            f"{number} of {counted(len(report.batches), 'batch')} that this run took up "
            f"{'is' if number == 1 else 'are'} not done, though no task failed. {report.outcome()}"
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
    remedy = "Do what the log above says of each of them."

    def __init__(self, failed: Mapping[str, int]) -> None:
        named = ", ".join(f"{count} {code}" for code, count in sorted(failed.items()))
        super().__init__(f"{counted(sum(failed.values()), 'batch')} could not be reconciled: {named}.")
        self.failed = dict(failed)


# ---------------------------------------------------------------- in the log of a task

_TOLD = "_tidepool_told"
"""Attribute of an error of which a log has told all that its traceback could add."""


@contextmanager
def causes_told(log: Logger, context: Mapping[str, Any]) -> Iterator[None]:
    """Tell in a task's log why it fails and what to do about it, as two lines, before Airflow fails it.

    Airflow logs what a task raises with its traceback. An error of ours has its cause and its remedy, so that
    a traceback would only hide them: it is left out, unless the level of the log is ``DEBUG``, or the error
    may be a fault of this project.

    :param log: the task's log.
    :param context: the task's context; its ``label`` names the batch.
    """
    try:
        yield
    except IngestError as error:
        from tidepool_ingest.ledger.states import IllegalTransitionError

        label = str(context.get("label") or "")
        is_named = not label or label.rpartition(" ")[2] in error.what
        log.error("%s", error.what if is_named else f"{label}: {error.what}")
        log.error("What to do: %s", error.remedy)
        if not isinstance(error, IllegalTransitionError):
            _leave_out_traceback(error)
        raise
    except AirflowException:
        raise  # how a task is skipped, or started again later
    except Exception as error:
        log.error("This task has met an error that it does not know: %s.", type(error).__name__)
        log.error(
            "What to do: clear it to try again; it goes on from the ledger. If it fails again, report the "
            "traceback below, without names or values in it."
        )
        raise


def _leave_out_traceback(error: IngestError) -> None:
    setattr(error, _TOLD, True)
    # Airflow's loggers keep the list of processors that they were made with, so it is changed in place.
    processors = structlog.get_config()["processors"]
    if isinstance(processors, list) and _without_told_tracebacks not in processors:
        processors.insert(0, _without_told_tracebacks)


def _without_told_tracebacks(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Take the traceback out of what is logged of an error of which all is told; a processor of structlog."""
    given = event.get("exc_info")
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if getattr(error, _TOLD, False) and not logging.getLogger("airflow").isEnabledFor(logging.DEBUG):
        del event["exc_info"]
    return event

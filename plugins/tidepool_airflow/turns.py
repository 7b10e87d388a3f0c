"""How tasks wait for each other: a task that has to wait gives its slot back and is started again later.

Airflow reschedules it, as it does with a sensor: it occupies neither worker nor pool meanwhile, and loses no
retry. Which batches are waited for, the ledger knows; whether their tasks will ever run, only Airflow does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRescheduleException

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.errors import IngestError
    from tidepool_ingest.ledger import Ledger, Turn

ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""States of a task instance that will not run any more, unless somebody clears it."""

SHORTEST_WAIT = 20.0
"""Seconds until a task is started again, at the earliest.

If Airflow's scheduler has scheduled a task again before its executor reports that the last process of it has
ended, it assumes that the task was killed from outside, and fails it ("state mismatch"). The report takes
seconds at most.
"""

LONGEST_WAIT = timedelta(hours=24)
"""After this, waiting counts as a failed try: what it waits for is not about to end."""


def run_of(context: Mapping[str, Any]) -> tuple[str, str]:
    """Return the DAG and the run of a task, by which the ledger knows whose turn it is."""
    return context["ti"].dag_id, context["ti"].run_id


def reschedule(context: Context, ledger: Ledger, waits: Sequence[IngestError]) -> None:
    """Have a task started again when what it waits for may have ended; return if it has waited too long.

    :param context: the task's context.
    :param ledger: knows which batches go first; those whose tasks will not run any more no longer do.
    :param waits: what the task's batches wait for, at least one.
    :raises AirflowRescheduleException: to give the slot back.
    """
    now = datetime.now(UTC)
    since = context["ti"].get_first_reschedule_date(context)
    if since is not None and now - since > LONGEST_WAIT:
        return
    first = {int(batch) for error in waits for batch in getattr(error, "batches", ())}
    seconds = min(float(error.retry_after or 0.0) for error in waits)
    if first and end_dead_turns(context, ledger, ledger.turns.of_batches(sorted(first))):
        seconds = SHORTEST_WAIT
    again = now + timedelta(seconds=max(seconds, SHORTEST_WAIT))
    raise AirflowRescheduleException(again)  # type: ignore[no-untyped-call]


def end_dead_turns(context: Context, ledger: Ledger, turns: Sequence[Turn]) -> int:
    """End the turns of batches whose tasks will not run any more; return how many there were.

    Those of a command last only as long as it prolongs them: they end by themselves.

    :param context: the context of any task.
    :param ledger: has the turns.
    :param turns: those in question.
    """
    from tidepool_ingest.ledger import COMMAND_LINE

    of_runs: dict[tuple[str, str], list[Turn]] = defaultdict(list)
    for turn in turns:
        of_runs[turn.dag_id, turn.run_id].append(turn)
    ended = 0
    of_airflow = {run: found for run, found in of_runs.items() if run[0] != COMMAND_LINE}
    for (dag_id, run_id), found in of_airflow.items():
        states = _states(context, dag_id, run_id)
        for turn in found:
            if is_over(states, turn.map_index):
                ledger.turns.end(turn.batch, dag_id, run_id)
                ended += 1
    return ended


def end_turns_of_dead_runs(context: Context, ledger: Ledger) -> int:
    """End all turns of runs that have ended or were deleted; return how many runs there were.

    :param context: the context of any task.
    :param ledger: has the turns.
    """
    from tidepool_ingest.ledger import COMMAND_LINE

    runs = [run for run in ledger.turns.runs() if run[0] != COMMAND_LINE]
    dead = [run for run in runs if is_over(_states(context, *run), None)]
    for run in dead:
        ledger.turns.end_run(*run)
    return len(dead)


def is_over(states: Mapping[str, Any], map_index: int | None) -> bool:
    """Return whether the tasks of a batch will not run any more.

    :param states: the states of a run's task instances, by task id and map index; none if it was deleted.
    :param map_index: index of the batch's mapped tasks; ``None`` if it may still be given any.
    """
    own = [state for name, state in states.items() if name.endswith(f"_{map_index}")]
    # Before they are mapped, the run's other tasks tell.
    return all(str(state) in ENDED for state in own or states.values())


def _states(context: Context, dag_id: str, run_id: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = context["ti"].get_task_states(dag_id=dag_id, run_ids=[run_id]).get(run_id, {})
    return found

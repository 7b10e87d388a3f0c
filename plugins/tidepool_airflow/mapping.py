"""Mapped tasks of a run that is run again.

When a run is cleared, by hand or by a reprocessing backfill, and its plan is shorter than before, Airflow
removes the mapped tasks at the end of the list. If a later plan of the same run is longer again, it does not
bring them back: their batches would be left out of a run that is green. So a plan never gets shorter within
one run: empty packs stand at its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.execution_time.context import NEVER_EXPIRE

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.ledger import BatchRow

LONGEST_KEY = "longest_plan"
"""Key in the plan task's own store, which outlives clearing."""


Packs = Sequence[Sequence[int]]
"""What the tasks of a run are mapped over: the ledger's numbers of each one's batches."""


def never_shorter(packs: Packs, context: Mapping[str, Any]) -> list[list[int]]:
    """Return a plan that is at least as long as the earlier ones of its run.

    :param packs: the batches of each mapped task.
    :param context: the context of the task that made it.
    """
    store = context["task_state_store"]
    before = int(store.get(LONGEST_KEY) or 0)
    if len(packs) > before:
        store.set(LONGEST_KEY, len(packs), retention=NEVER_EXPIRE)
    return [*map(list, packs), *([] for _ in range(before - len(packs)))]


def skip_in_its_place(row: BatchRow) -> None:
    """Skip a task whose batch another one has been staged in the place of: it is cleared by mistake, or late.

    :param row: the batch as the ledger has it now.
    """
    from tidepool_ingest.ledger import IN_ITS_PLACE

    if row.state in IN_ITS_PLACE:
        raise AirflowSkipException("Another batch has been staged in the place of this one.")


def skip_without_batch(batches: Sequence[int], context: Context) -> None:
    """End the task of a place in the plan that no batch has any more.

    :param batches: the task's pack.
    :raises AirflowSkipException: if it is empty.
    """
    if not batches:
        context["label"] = "nothing left to do"  # type: ignore[typeddict-unknown-key]
        raise AirflowSkipException("What an earlier plan of this run had here is done.")

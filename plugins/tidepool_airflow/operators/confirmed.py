"""Who confirmed for a run that repeating, doubling or deleting is meant, for the uploads page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidepool_ingest.ledger import Ledger
    from tidepool_ingest.options import RunOptions

NOBODY = "(nobody: a schedule or a backfill)"
"""Stands for the person where Airflow knows none."""


def note_confirmed(ledger: Ledger, options: RunOptions, context: Mapping[str, Any]) -> None:
    """Note who started a run with parameters that confirm something; once, however often its plan is made.

    :param ledger: takes the note.
    :param options: the run's parameters.
    :param context: of the task that plans.
    """
    from tidepool_ingest.ledger import Result, What

    confirmed = ", ".join(options.confirmed())
    run = context["dag_run"]
    if not confirmed or options.dry_run:
        return
    if any(note.detail == confirmed for note in ledger.actions.of_run(run.dag_id, run.run_id)):
        return
    who = getattr(run, "triggering_user_name", None) or NOBODY
    ledger.actions.note(
        who, What.CONFIRM, detail=confirmed, dag_id=run.dag_id, run_id=run.run_id, result=Result.DONE
    )

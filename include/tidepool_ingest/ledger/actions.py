"""The audit log: what people triggered, confirmed or opened, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import insert, select, update

from tidepool_ingest.ledger.database import Database, UnknownActionError
from tidepool_ingest.ledger.schema import NOW, actions, batches


class ActionKind(StrEnum):
    """What a person can ask for."""

    CHECK = "check"
    """Reverify a verified batch."""
    RETRY = "retry"
    """Run a batch that stopped again."""
    WITHDRAW = "withdraw"
    """Delete what was uploaded of a batch."""
    QUARANTINE = "quarantine"
    """Open the file with the rejected records."""
    CONFIRM = "confirm"
    """Start a run with parameters that say that duplicates, deletions or a repeated upload are intended."""
    APPROVE = "approve"
    """Decide on a run that waited for a person."""
    ERASE = "erase"
    """Remove a person from ledger, staging and work areas."""
    FOLDER = "folder"
    """See where a batch lies and what its files are called."""
    DISMISS = "dismiss"
    """Say that nothing more is to be done about a batch."""
    REOPEN = "reopen"
    """Take back that a batch was dismissed."""
    LIFT = "lift"
    """Let tasks send requests again although Tidepool asked them to wait."""


class ActionStatus(StrEnum):
    """Where an action stands."""

    ASKED = "asked"
    """No run has finished it yet."""
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class ActionRow:
    """One row of the table ``actions``, with the label of its batch."""

    id: int
    actor: str
    kind: ActionKind
    batch: int | None
    label: str | None
    detail: str | None
    dag_id: str | None
    run_id: str | None
    status: ActionStatus
    reason: str | None
    created_at: datetime
    ended_at: datetime | None


class Actions:
    """The table of actions, which people requested.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        actor: str,
        kind: ActionKind,
        *,
        batch: int | None = None,
        detail: str | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        status: ActionStatus = ActionStatus.ASKED,
    ) -> int:
        """Record that a person requested something, and return the number of the action.

        :param actor: the person's name in Airflow.
        :param kind: what was requested.
        :param batch: the batch's number, if it concerns one.
        :param detail: details, in fixed words.
        :param dag_id: the DAG of the run that carries it out, or that it is about.
        :param run_id: that run.
        :param status: ``DONE`` for what is finished as soon as it is requested.
        """
        values = {
            "actor": actor,
            "kind": kind,
            "batch": batch,
            "detail": detail,
            "dag_id": dag_id,
            "run_id": run_id,
            "status": status,
            "created_at": NOW,
            "ended_at": None if status is ActionStatus.ASKED else NOW,
        }
        with self._database.writing() as connection:
            number: int = connection.execute(
                insert(actions).values(values).returning(actions.c.id)
            ).scalar_one()
        return number

    def started_by(self, action: int, dag_id: str, run_id: str) -> None:
        """Record which run carries out an action."""
        self._set(action, dag_id=dag_id, run_id=run_id)

    def finish(
        self, action: int, status: ActionStatus, *, reason: str | None = None, detail: str | None = None
    ) -> None:
        """Record the outcome of an action.

        :param action: the number of the action.
        :param status: how it ended.
        :param reason: the code of the error, if it failed.
        :param detail: the outcome in numbers.
        """
        self._set(action, status=status, reason=reason, detail=detail, ended_at=NOW)

    def get(self, action: int) -> ActionRow:
        """Return one action.

        :raises UnknownActionError: if there is none of that number.
        """
        found = self._rows(actions.c.id == action, limit=1)
        if not found:
            raise UnknownActionError(action)
        return found[0]

    def of_batch(self, batch: int, *, limit: int = 50) -> list[ActionRow]:
        """Return the actions on a batch, newest first."""
        return self._rows(actions.c.batch == batch, limit=limit)

    def of_run(self, dag_id: str, run_id: str) -> list[ActionRow]:
        """Return the actions that concern a run, newest first."""
        return self._rows((actions.c.dag_id == dag_id) & (actions.c.run_id == run_id), limit=50)

    def unfinished(self, kind: ActionKind) -> list[ActionRow]:
        """Return the actions of one kind that are not finished, newest first."""
        return self._rows((actions.c.kind == kind) & (actions.c.status == ActionStatus.ASKED), limit=50)

    def newest(self, *, before: int | None = None, limit: int = 100) -> list[ActionRow]:
        """Return actions, newest first.

        :param before: only actions with a smaller number, for the next page.
        :param limit: how many at most.
        """
        return self._rows(True if before is None else actions.c.id < before, limit=limit)

    def _rows(self, condition: Any, *, limit: int) -> list[ActionRow]:
        query = (
            select(actions, batches.c.label)
            .select_from(actions.outerjoin(batches, batches.c.id == actions.c.batch))
            .where(condition)
            .order_by(actions.c.id.desc())
            .limit(limit)
        )
        with self._database.reading() as connection:
            return [_row(row) for row in connection.execute(query)]

    def _set(self, action: int, **values: Any) -> None:
        with self._database.writing() as connection:
            connection.execute(update(actions).where(actions.c.id == action).values(**values))


def _row(row: Any) -> ActionRow:
    values = dict(row._mapping)
    return ActionRow(
        **{**values, "kind": ActionKind(values["kind"]), "status": ActionStatus(values["status"])}
    )

"""Which batches need attention, and that a person decides that nothing more is to be done about one."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, case, insert, select, update

from tidepool_ingest.ledger.actions import ActionKind, ActionStatus
from tidepool_ingest.ledger.database import Database, batched
from tidepool_ingest.ledger.schema import NOW, actions, batches
from tidepool_ingest.ledger.states import DECLINED, BatchState, Dismissal
from tidepool_ingest.ledger.transitions import is_decided
from tidepool_ingest.ledger.whole_batches import IS_WHOLE, RESTAGEABLE

CAN_WAIT = (BatchState.HELD, BatchState.FAILED, BatchState.UPLOADING, BatchState.VERIFIED)
"""States in which a batch with a reason waits for a person."""


def needs_attention() -> ColumnElement[bool]:
    """Return the condition on batches that need attention."""
    # Every reason is greater than "", which SQLite finds by the index; IS NOT NULL it does not. It would
    # rather go by the states, through nearly all batches: an expression hides them from their index.
    state = batches.c.state + ""
    # A batch that a person has declined or dismissed does not ask again.
    return and_(
        batches.c.reason > "",
        batches.c.reason != DECLINED,
        batches.c.dismissed.is_(None),
        state.in_(CAN_WAIT),
    )


def left_alone() -> ColumnElement[bool]:
    """Return the condition on batches that a person has declined or dismissed, and that are in staging."""
    # By the reason, which each of them keeps, as above.
    state = batches.c.state + ""
    return and_(batches.c.reason > "", is_decided(), state.not_in(RESTAGEABLE))


class Attention:
    """What people decide about batches that need attention, recorded with who decided it.

    State and reason of a batch stay as they are. A dismissal ends when the batch is done after all, and a
    batch of other content is another row.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def dismiss(self, numbers: Sequence[int], why: Dismissal, *, actor: str) -> list[int]:
        """Record that nothing more is to be done about batches that need attention; leave others alone.

        :param numbers: the batches' numbers.
        :param why: the reason.
        :param actor: the person's name in Airflow.
        :return: the numbers of those that needed attention, and are dismissed now.
        """
        done: list[int] = []
        for part in batched(numbers):
            with self._database.writing() as connection:
                found = _locked(connection, part, needs_attention())
                changed = update(batches).where(batches.c.id.in_(found))
                connection.execute(changed.values(dismissed=why))
                _record(connection, found, ActionKind.DISMISS, actor, detail=str(why))
                done += found
        return done

    def reopen(
        self,
        numbers: Sequence[int],
        *,
        actor: str,
        held_for: str,
        dag_id: str | None = None,
        run_id: str | None = None,
    ) -> list[int]:
        """Take back that batches are declined or dismissed; leave others alone.

        :param numbers: the batches' numbers.
        :param actor: the person's name in Airflow.
        :param held_for: the reason for which one that was declined is held again.
        :param dag_id: the DAG of the run that takes it back, if one does.
        :param run_id: that run.
        :return: the numbers of those that were declined or dismissed.
        """
        # One that was declined waits for a decision again, as it did before.
        asked = case((batches.c.state == BatchState.HELD, held_for), else_=None)
        reason = case((batches.c.reason == DECLINED, asked), else_=batches.c.reason)
        done: list[int] = []
        for part in batched(numbers):
            with self._database.writing() as connection:
                found = _locked(connection, part, is_decided())
                changed = update(batches).where(batches.c.id.in_(found))
                connection.execute(changed.values(dismissed=None, reason=reason))
                _record(connection, found, ActionKind.REOPEN, actor, dag_id=dag_id, run_id=run_id)
                done += found
        return done


def _locked(connection: Connection, numbers: Sequence[int], condition: ColumnElement[bool]) -> list[int]:
    """Return the numbers of those whole batches that a condition is true of, and lock them."""
    query = select(batches.c.id).where(batches.c.id.in_(numbers), IS_WHOLE, condition)
    return list(connection.scalars(query.order_by(batches.c.id).with_for_update()))


def _record(
    connection: Connection, numbers: Sequence[int], kind: ActionKind, actor: str, **values: str | None
) -> None:
    if numbers:
        common = {"actor": actor, "kind": kind, "status": ActionStatus.DONE, **values}
        rows = [{"batch": number, **common} for number in numbers]
        connection.execute(insert(actions).values(created_at=NOW, ended_at=NOW), rows)

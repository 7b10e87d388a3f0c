"""Which batches a run has yet to work on, so that newer ones of their devices wait for them.

A turn is recorded when a run is planned, and ends when the batch's own task has nothing more to do with it,
whatever the outcome. A task that was killed, or whose run was given up, does not end its turn: whoever waits
for it asks Airflow what became of the task, and a turn that nobody ends expires.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, delete, insert, select, update

from tidepool_ingest.ledger.database import Database, batched
from tidepool_ingest.ledger.schema import NOW, turns

TURN_HOURS = 24
"""Hours that a turn lasts at most: as long as a batch may wait for a person, or a large run may take."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One batch that a run has yet to work on.

    :param batch: its number.
    :param dag_id: the run's DAG.
    :param run_id: the run.
    :param map_index: index of the batch's mapped task; ``None`` if several batches share one.
    """

    batch: int
    dag_id: str
    run_id: str
    map_index: int | None = None


class Turns:
    """The table of turns.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def plan(
        self,
        dag_id: str,
        run_id: str,
        batches: Mapping[int, int | None],
        *,
        seconds: float | None = None,
    ) -> None:
        """Record what a run has yet to work on, in place of what was recorded of these batches before.

        :param dag_id: the run's DAG.
        :param run_id: the run.
        :param batches: index of the mapped task of each batch, by its number; see :class:`Turn`.
        :param seconds: how long they last unless they are prolonged; :data:`TURN_HOURS` if not given.
        """
        lasting = timedelta(hours=TURN_HOURS) if seconds is None else timedelta(seconds=seconds)
        expires_at = self._database.now() + lasting
        of_run = {"dag_id": dag_id, "run_id": run_id, "expires_at": expires_at}
        for numbers in batched(list(batches)):
            rows = [{**of_run, "batch": number, "map_index": batches[number]} for number in numbers]
            with self._database.writing() as connection:
                connection.execute(delete(turns).where(_of_run(dag_id, run_id), turns.c.batch.in_(numbers)))
                connection.execute(insert(turns), rows)

    def prolong(self, dag_id: str, run_id: str, *, seconds: float) -> None:
        """Let the turns of a run that is still at work last for so long from now on."""
        expires_at = self._database.now() + timedelta(seconds=seconds)
        with self._database.writing() as connection:
            connection.execute(update(turns).where(_of_run(dag_id, run_id)).values(expires_at=expires_at))

    def end(self, batch: int, dag_id: str | None, run_id: str | None) -> None:
        """Record that a run has nothing more to do with a batch."""
        with self._database.writing() as connection:
            connection.execute(delete(turns).where(turns.c.batch == batch, _of_run(dag_id, run_id)))

    def end_run(self, dag_id: str, run_id: str) -> None:
        """Record that a run has nothing more to do, or that it is planned anew."""
        with self._database.writing() as connection:
            connection.execute(delete(turns).where(_of_run(dag_id, run_id)))

    def runs(self) -> list[tuple[str, str]]:
        """Return the DAG and run of all turns, after those that have expired are deleted."""
        with self._database.writing() as connection:
            connection.execute(delete(turns).where(turns.c.expires_at <= NOW))
            query = select(turns.c.dag_id, turns.c.run_id).distinct()
            return [(row.dag_id, row.run_id) for row in connection.execute(query)]

    def of_batches(self, numbers: Sequence[int]) -> list[Turn]:
        """Return the unexpired turns of some batches."""
        found: list[Turn] = []
        with self._database.reading() as connection:
            for batch_of_ids in batched(numbers):
                query = select(turns).where(turns.c.batch.in_(batch_of_ids), turns.c.expires_at > NOW)
                found += [
                    Turn(batch=row.batch, dag_id=row.dag_id, run_id=row.run_id, map_index=row.map_index)
                    for row in connection.execute(query.order_by(turns.c.batch, turns.c.run_id))
                ]
        return found


def _of_run(dag_id: str | None, run_id: str | None) -> ColumnElement[bool]:
    return and_(turns.c.dag_id == dag_id, turns.c.run_id == run_id)

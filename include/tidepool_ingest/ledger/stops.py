"""Where a batch has stopped: the task of Airflow, or a command, whose log says more than its reason does."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Final, Self

from sqlalchemy import and_, or_, update

from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger.database import Database, LeaseLostError
from tidepool_ingest.ledger.schema import batches
from tidepool_ingest.ledger.states import BatchState

NOT_DONE: Final = (BatchState.PLANNED, BatchState.PREPARED, BatchState.UPLOADING)
"""States in which a batch can have stopped without a reason: the next try may come through."""


@dataclass(frozen=True, kw_only=True)
class StoppedIn:
    """The task instance in which a batch stopped; all empty where a command line had it.

    :param try_number: which try of the task.
    :param code: the error's code; ``None`` for a question to a person, or an error that nothing declares.
    :param detail: the error's :attr:`~tidepool_ingest.errors.IngestError.particulars`. The batch's own reason
        says both too, unless another try may help.
    """

    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    try_number: int | None = None
    code: str | None = None
    detail: str | None = None

    @property
    def is_task(self) -> bool:
        """Whether it is a task of Airflow, so that there is a log of it."""
        return None not in (self.dag_id, self.run_id, self.task_id)

    def text(self) -> str:
        """Return it as the ledger keeps it: JSON without what is empty, of ASCII alone."""
        return json.dumps({name: value for name, value in asdict(self).items() if value not in (None, "")})

    @classmethod
    def of_text(cls, text: str | None) -> Self | None:
        """Return what the ledger keeps; ``None`` if it keeps nothing.

        Members that a newer version has added are ignored.
        """
        if not text:
            return None
        known = json.loads(text)
        return cls(**{name: known.get(name) for name in cls.__dataclass_fields__})


class Stops:
    """Records in which task batches have stopped. Whatever writes another reason of one takes it back.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, batch: int, stopped_in: StoppedIn, error: BaseException | None = None) -> None:
        """Record where a batch has stopped, once its reason is recorded.

        Nothing is written of a batch that has not stopped: it waits for another one, another task works on
        it, it is done or undone, or another one stands in its place. When it last changed stays as it is.

        :param batch: its number.
        :param stopped_in: the task that had it; an empty one for a command line.
        :param error: what stopped it; left out for a question to a person, and for what one has decided.
        """
        if isinstance(error, IngestError):
            if error.waits or isinstance(error, LeaseLostError):
                return
            stopped_in = replace(stopped_in, code=error.code, detail=error.particulars)
        stopped = or_(batches.c.reason.is_not(None), batches.c.state.in_(NOT_DONE))
        of_it = update(batches).where(and_(batches.c.id == batch, stopped))
        with self._database.writing() as connection:
            connection.execute(of_it.values(stopped_in=stopped_in.text()))

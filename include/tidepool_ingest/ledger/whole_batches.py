"""Whole batches as opposed to their parts, what becomes of both together, and which of them can end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import NullType

from tidepool_ingest.ledger.database import batched
from tidepool_ingest.ledger.schema import DialectSpecific, batches, data_sets
from tidepool_ingest.ledger.states import DEAD_STATES, BatchState, DataSetState
from tidepool_ingest.ledger.transitions import write_state


class _Likely(DialectSpecific[Any]):
    """A condition that most rows meet."""

    type = NullType()  # it stands as it is, and is compared with nothing
    inherit_cache = True


@compiles(_Likely, "sqlite")
def _said_so(element: _Likely, compiler: Any, **more: Any) -> str:
    # It has no statistics, and would take the index of parts for a short way, which leads to nearly all rows.
    return f"likely({compiler.process(element.clauses, **more)})"


IS_WHOLE: ColumnElement[bool] = _Likely(batches.c.part_of.is_(None))
"""The condition that a row is a whole batch, as it was staged."""

WHOLE: ColumnElement[int] = func.coalesce(batches.c.part_of, batches.c.id)
"""The number of the whole batch, for it and for each of its parts."""


def part_label(whole: str, part: int, parts: int) -> str:
    """Return what logs and pages call a part.

    :param whole: the label of the whole batch.
    :param part: its ordinal among the parts, from 1.
    :param parts: how many there are.
    """
    return f"{whole} part {part} of {parts}"


def move_parts(connection: Connection, whole: int, moved: Mapping[str, Any], now: datetime) -> None:
    """Move the parts of a batch to the folder that it is in now.

    :param connection: the transaction in which the batch itself is moved.
    :param whole: the batch's number.
    :param moved: its new ``folder``, ``batch_id``, ``day``, ``staged_at`` and ``label``.
    :param now: when.
    """
    query = select(batches.c.id, batches.c.part).where(
        batches.c.part_of == whole, batches.c.state != BatchState.OVERWRITTEN
    )
    found = connection.execute(query.order_by(batches.c.part)).all()
    place = {name: moved[name] for name in ("folder", "batch_id", "day", "staged_at")}
    for row in found:
        label = part_label(moved["label"], row.part, len(found))
        connection.execute(
            update(batches).where(batches.c.id == row.id).values(**place, label=label, updated_at=now)
        )


def overwrite_parts(connection: Connection, wholes: Sequence[int], now: datetime) -> None:
    """Mark the parts of batches as overwritten whose folder holds other content now.

    :param connection: the transaction in which the batches themselves are marked.
    :param wholes: their numbers.
    :param now: when.
    """
    others = and_(batches.c.part_of.in_(wholes), batches.c.state != BatchState.OVERWRITTEN)
    write_state(connection, others, BatchState.OVERWRITTEN, now=now)


NEVER_OPENED = (BatchState.PLANNED, BatchState.PREPARED, BatchState.HELD, BatchState.FAILED)
"""States in which other content in the same folder overwrites a batch."""

RESTAGEABLE = (BatchState.OVERWRITTEN, BatchState.GONE)
"""States of a batch that is planned again when its content is in staging once more."""


def holding_data(connection: Connection, numbers: Sequence[int]) -> set[int]:
    """Return which of some whole batches Tidepool may hold data of, their parts included.

    :param connection: a transaction.
    :param numbers: their numbers.
    """
    found: set[int] = set()
    empty = (DataSetState.OPENING, *DEAD_STATES)
    for batch_of_ids in batched(numbers):
        for column in (batches.c.id, batches.c.part_of):
            query = select(WHOLE).join(data_sets, data_sets.c.batch == batches.c.id)
            held = query.where(column.in_(batch_of_ids), data_sets.c.state.not_in(empty))
            found.update(connection.scalars(held))
    return found

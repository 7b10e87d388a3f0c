"""The rows of a batch's parts, as conditions and changes that follow the whole batch's row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from tidepool_ingest.ledger.schema import batches
from tidepool_ingest.ledger.states import BatchState

IS_WHOLE = batches.c.part_of.is_(None)
"""The condition that a row is a batch as it was staged, and no part of one."""

WHOLE: ColumnElement[int] = func.coalesce(batches.c.part_of, batches.c.id)
"""The number of the batch as it was staged, for it and for each of its parts."""


def part_label(whole: str, part: int, parts: int) -> str:
    """Return what logs and pages call a part.

    :param whole: the label of the whole batch.
    :param part: its place among the parts, from 1.
    :param parts: how many there are.
    """
    return f"{whole} part {part} of {parts}"


def move_parts(connection: Connection, whole: int, moved: Mapping[str, Any], now: datetime) -> None:
    """Let the parts of a batch lie where it lies now.

    :param connection: the transaction in which the batch itself is moved.
    :param whole: the batch's number.
    :param moved: its new ``folder``, ``batch_id``, ``day`` and ``label``.
    :param now: when.
    """
    asked = select(batches.c.id, batches.c.part).where(
        batches.c.part_of == whole, batches.c.state != BatchState.REPLACED
    )
    found = connection.execute(asked.order_by(batches.c.part)).all()
    place = {name: moved[name] for name in ("folder", "batch_id", "day")}
    for row in found:
        label = part_label(moved["label"], row.part, len(found))
        connection.execute(
            update(batches).where(batches.c.id == row.id).values(**place, label=label, updated_at=now)
        )


def replace_parts(connection: Connection, wholes: Sequence[int], now: datetime) -> None:
    """Let the parts of batches follow those whose folder holds another content now.

    :param connection: the transaction in which the batches themselves are noted as replaced.
    :param wholes: their numbers.
    :param now: when.
    """
    connection.execute(
        update(batches)
        .where(batches.c.part_of.in_(wholes), batches.c.state != BatchState.REPLACED)
        .values(state=BatchState.REPLACED, updated_at=now)
    )

"""The rows of a batch's parts, as conditions and changes that follow the whole batch's row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, func, or_, select, update

from tidepool_ingest.ledger.schema import batches, data_sets
from tidepool_ingest.ledger.states import GIVEN_UP, BatchState, DataSetState

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


def may_hold_data() -> ColumnElement[bool]:
    """Return the condition that Tidepool may hold data of a batch or of a part of it."""
    own = batches.alias()
    empty = (DataSetState.OPENING, *GIVEN_UP)
    return exists().where(
        data_sets.c.batch == own.c.id,
        or_(own.c.id == batches.c.id, own.c.part_of == batches.c.id),
        data_sets.c.state.not_in(empty),
    )


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


def replace_parts(connection: Connection, api_host: str, folder: str, now: datetime) -> None:
    """Let the parts of batches follow those whose folder holds another content now.

    :param connection: the transaction in which the batches themselves were noted as replaced.
    :param api_host: the host of the Tidepool API.
    :param folder: the folder.
    :param now: when.
    """
    wholes = batches.alias()
    replaced = select(wholes.c.id).where(
        wholes.c.api_host == api_host,
        wholes.c.folder == folder,
        wholes.c.state == BatchState.REPLACED,
        wholes.c.part_of.is_(None),
    )
    connection.execute(
        update(batches)
        .where(batches.c.part_of.in_(replaced), batches.c.state != BatchState.REPLACED)
        .values(state=BatchState.REPLACED, updated_at=now)
    )

"""Which values a column has, found by its index: one look a value, where DISTINCT would read every row."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, func, select


def distinct(connection: Connection, column: Column[Any]) -> list[Any]:
    """Return the values of a column in their order, the empty one left out.

    :param connection: a transaction.
    :param column: the first one of an index.
    """
    walk = select(func.min(column).label("value")).cte("walk", recursive=True)
    following = select(func.min(column)).where(column > walk.c.value).scalar_subquery()
    walk = walk.union_all(select(following).where(walk.c.value.is_not(None)))
    return list(connection.scalars(select(walk.c.value).where(walk.c.value.is_not(None))))

"""Each migration forward and back, on both databases, with rows in every table."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    insert,
    select,
)

from tidepool_ingest.ledger import Ledger
from tidepool_ingest.ledger.database import READING, alembic_config, current_revision, migrate

REVISIONS = [
    script.revision
    for script in reversed(list(ScriptDirectory.from_config(alembic_config()).walk_revisions()))
]
"""All of them, oldest first."""

Rows = dict[str, list[dict[str, Any]]]


def value_for(column: Column[Any], number: int) -> Any:
    """Return something that a column takes; rows of one number belong together."""
    if column.foreign_keys or column.name == "id":
        return number
    if column.name == "state":
        return "verified"
    kinds: list[tuple[type, Any]] = [
        (Boolean, True),
        (DateTime, datetime(2026, 1, number, tzinfo=UTC)),
        (Date, date(2026, 1, number)),
        (Integer, number),
        (LargeBinary, bytes([number]) * 8),
    ]
    return next((value for kind, value in kinds if isinstance(column.type, kind)), f"{column.name}-{number}")


def tables_of(engine: Engine) -> list[Table]:
    metadata = MetaData()
    metadata.reflect(engine)
    return [table for table in metadata.sorted_tables if table.name != "alembic_version"]


def fill(engine: Engine) -> None:
    """Write two rows into each table that has none."""
    tables = tables_of(engine)
    with engine.begin() as connection:
        for table in tables:
            if connection.execute(select(table)).first() is None:
                rows = [
                    {column.name: value_for(column, number) for column in table.columns} for number in (1, 2)
                ]
                connection.execute(insert(table), rows)


def rows_of(engine: Engine) -> Rows:
    tables = tables_of(engine)
    asked = {table.name: select(table).order_by(*table.primary_key) for table in tables}
    with engine.connect().execution_options(**{READING: True}) as connection:
        return {
            name: [dict(row) for row in connection.execute(one).mappings()] for name, one in asked.items()
        }


def shared(before: Rows, after: Rows) -> tuple[Rows, Rows]:
    """Return both without the tables and columns that only one of them has."""

    def cut(rows: Rows, others: Rows) -> Rows:
        return {
            name: [{key: value for key, value in row.items() if key in others[name][0]} for row in found]
            for name, found in rows.items()
            if others.get(name)
        }

    return cut(before, after), cut(after, before)


@pytest.fixture
def engine(address: str) -> Any:
    ledger = Ledger(address)
    yield ledger.database.engine
    ledger.close()


def test_each_step_forward_and_back_keeps_all_rows(engine: Engine) -> None:
    for revision in REVISIONS:
        before = rows_of(engine)
        migrate(engine, revision)
        assert current_revision(engine) == revision
        kept, now = shared(before, rows_of(engine))
        assert now == kept
        assert now.keys() == before.keys()
        fill(engine)
    for revision in reversed(REVISIONS[:-1]):
        before = rows_of(engine)
        migrate(engine, revision)
        assert current_revision(engine) == revision
        kept, now = shared(before, rows_of(engine))
        assert now == kept
        assert {name: len(rows) for name, rows in now.items()} == dict.fromkeys(now, 2)
        assert set(now) == set(rows_of(engine))
    migrate(engine, "base")
    assert tables_of(engine) == []


def test_back_and_forth_again_from_every_step(engine: Engine) -> None:
    """A step back is no dead end: the step forward after it keeps what is there."""
    for earlier, revision in pairwise(REVISIONS):
        migrate(engine, revision)
        fill(engine)
        migrate(engine, earlier)
        before = rows_of(engine)
        migrate(engine, revision)
        kept, now = shared(before, rows_of(engine))
        assert now == kept
        fill(engine)

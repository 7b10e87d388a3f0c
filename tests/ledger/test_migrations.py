"""Each migration on both databases, with rows in every table.

A new migration is tried by being there. What it does to rows beyond keeping them (a column that it renames,
fills or drops) needs a test of its own beside these.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from alembic import command
from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    insert,
    select,
    text,
)

from tidepool_ingest.ledger import Ledger
from tidepool_ingest.ledger.database import (
    HEAD_REVISION,
    READING,
    LedgerConfigurationError,
    alembic_config,
    current_revision,
    migrate,
    revisions,
)
from tidepool_ingest.ledger.schema import metadata

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
        (Float, number + 0.5),
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
    query = {table.name: select(table).order_by(*table.primary_key) for table in tables}
    with engine.connect().execution_options(**{READING: True}) as connection:
        return {
            name: [dict(row) for row in connection.execute(one).mappings()] for name, one in query.items()
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


def bring_to(engine: Engine, revision: str) -> None:
    """Make the ledger one of that revision."""
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


@pytest.mark.parametrize("revision", revisions())
def test_a_ledger_of_each_revision_keeps_all_rows(engine: Engine, revision: str) -> None:
    bring_to(engine, revision)
    assert current_revision(engine) == revision
    fill(engine)
    before = rows_of(engine)
    assert {name: len(rows) for name, rows in before.items()} == dict.fromkeys(before, 2)

    migrate(engine)

    assert current_revision(engine) == HEAD_REVISION
    kept, now = shared(before, rows_of(engine))
    assert now == kept
    assert now.keys() == before.keys()


def test_rows_of_every_age_are_kept_step_by_step(engine: Engine) -> None:
    for revision in revisions():
        before = rows_of(engine)
        bring_to(engine, revision)
        kept, now = shared(before, rows_of(engine))
        assert now == kept
        assert now.keys() == before.keys()
        fill(engine)

    assert {name: len(rows) for name, rows in rows_of(engine).items()} == dict.fromkeys(metadata.tables, 2)


# 0011 was the newest before the first release; all of those are in 0001 now.
@pytest.mark.parametrize("revision", ["0011", "ffffffffffff"])
def test_a_database_of_an_unknown_revision_is_named_and_left_as_it_is(engine: Engine, revision: str) -> None:
    migrate(engine)
    fill(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})
    before = rows_of(engine)

    with pytest.raises(LedgerConfigurationError) as caught:
        migrate(engine)

    assert "of another version of this project, or of another program" in str(caught.value)
    assert f"(revision {revision})" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert current_revision(engine) == revision
    assert rows_of(engine) == before

"""A ledger that the first version made goes on: its rows are what they were, and page and runs work on them.

``tests/data/ledger-0001.ndjson`` was written by the code of that time; ``tests/data/README.md`` says how.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime
from typing import Any

import pytest
from alembic import command
from fastapi.testclient import TestClient
from sqlalchemy import Date, DateTime, Engine, LargeBinary, MetaData, func, insert, make_url, select

from tests import PROJECT
from tests.airflow.world import AirflowWorld
from tests.factories import meter_readings, stage
from tests.servers import postgresql_database
from tidepool_ingest.client import host_of
from tidepool_ingest.ledger import BatchState, Ledger
from tidepool_ingest.ledger.database import HEAD_REVISION, READING, alembic_config, current_revision
from tidepool_ingest.ledger.schema import batches

DAY = date(2026, 3, 5)
PAGE = "/tidepool/uploads"

Rows = dict[str, dict[tuple[Any, ...], dict[str, Any]]]
"""By table and primary key."""

PARSED = ((DateTime, datetime.fromisoformat), (Date, date.fromisoformat), (LargeBinary, bytes.fromhex))


@pytest.fixture(params=["sqlite", "postgresql"])
def address(
    request: pytest.FixtureRequest, world: AirflowWorld, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of an empty database, once of each kind, which Airflow finds in place of the world's."""
    if request.param == "sqlite":
        made = f"sqlite:///{world.folder / 'old.db'}"
        monkeypatch.setenv("AIRFLOW_CONN_TIDEPOOL_LEDGER", made)
        yield made
        return
    with postgresql_database(request.getfixturevalue("postgresql")) as made:
        uri = make_url(made).set(drivername="postgresql").render_as_string(hide_password=False)
        monkeypatch.setenv("AIRFLOW_CONN_TIDEPOOL_LEDGER", uri)
        yield made


@pytest.fixture
def ledger(address: str, world: AirflowWorld) -> Iterator[Ledger]:
    """A ledger of the first migration with the data of its time, staged in this world."""
    with closing(Ledger(address)) as ledger:
        config = alembic_config()
        with ledger.database.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
        fill(ledger.database.engine, world)
        yield ledger


def fill(engine: Engine, world: AirflowWorld) -> None:
    """Write the recorded rows, as of this world's Tidepool and staging root."""
    text = (PROJECT / "tests" / "data" / "ledger-0001.ndjson").read_text()
    text = text.replace("{folder}/staging", str(world.staging))
    text = text.replace("{api}", host_of(world.simulator.base_url))
    metadata = MetaData()
    metadata.reflect(engine)
    with engine.begin() as connection:
        for row in map(json.loads, text.splitlines()):
            table = metadata.tables[row.pop("table")]
            for name, value in row.items():
                for kind, parse in PARSED:
                    if isinstance(table.columns[name].type, kind) and isinstance(value, str):
                        row[name] = parse(value)
            connection.execute(insert(table).values(row))
        if engine.dialect.name == "postgresql":
            for table in (table for table in metadata.sorted_tables if "id" in table.columns):
                newest = select(func.max(table.c.id)).scalar_subquery()
                sequence = func.pg_get_serial_sequence(table.name, "id")
                connection.execute(select(func.setval(sequence, func.coalesce(newest, 1))))


def rows_of(engine: Engine) -> Rows:
    metadata = MetaData()
    metadata.reflect(engine)
    tables = [table for table in metadata.sorted_tables if table.name != "alembic_version"]
    with engine.connect().execution_options(**{READING: True}) as connection:
        return {
            table.name: {
                tuple(row[column.name] for column in table.primary_key): dict(row)
                for row in connection.execute(select(table)).mappings()
            }
            for table in tables
        }


def changes(before: Rows, after: Rows) -> list[str]:
    """Return which rows and values are no longer what they were; what was added is none."""
    return [
        f"{table} {key}: {name}"
        for table, rows in before.items()
        for key, row in rows.items()
        for name, value in row.items()
        if after[table].get(key, {}).get(name, "gone") != value
    ]


def states(ledger: Ledger) -> dict[str, BatchState]:
    """Return the state of each whole batch by its name."""
    with ledger.database.reading() as connection:
        found = connection.execute(
            select(batches.c.batch_id, batches.c.state).where(batches.c.part_of.is_(None))
        )
        return {name: BatchState(state) for name, state in found}


AT_THE_TIME = {
    "feed": BatchState.VERIFIED,
    "nothing": BatchState.NOTHING_ACCEPTED,
    "parts": BatchState.VERIFIED,
    "planned": BatchState.PLANNED,
    "prepared": BatchState.PREPARED,
    "rejected": BatchState.HELD,
    "replaced": BatchState.REPLACED,
    "replacing": BatchState.VERIFIED,
    "verified": BatchState.VERIFIED,
}


def test_the_data_are_what_they_were(ledger: Ledger) -> None:
    before = rows_of(ledger.database.engine)
    assert Counter({table: len(rows) for table, rows in before.items()}) >= Counter(
        batches=11, batch_days=9, chunks=8, data_sets=6, feeds=2, feed_writes=1, quarantine_reasons=2
    )

    ledger.migrate()

    assert current_revision(ledger.database.engine) == HEAD_REVISION
    assert changes(before, rows_of(ledger.database.engine)) == []
    assert states(ledger) == AT_THE_TIME


def test_a_value_that_changed_would_be_found(ledger: Ledger) -> None:
    before = rows_of(ledger.database.engine)
    after = rows_of(ledger.database.engine)
    after["batches"][(1,)]["accepted"] = 59
    del after["chunks"][next(iter(after["chunks"]))]

    assert changes(before, after)[0] == "batches (1,): accepted"
    assert any(line.startswith("chunks") for line in changes(before, after))


@pytest.mark.slow
def test_the_page_shows_what_was_there(ledger: Ledger, world: AirflowWorld, api_server: Any) -> None:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    client = TestClient(api_server)
    user = SimpleAuthManagerUser(username="somebody", role="ADMIN")
    client.cookies.set("_token", get_auth_manager().generate_jwt(user))

    # Nobody has opened this ledger before the page does.
    assert client.get(f"{PAGE}/").status_code == 200

    assert current_revision(ledger.database.engine) == HEAD_REVISION
    listed = client.get(f"{PAGE}/list")
    assert listed.status_code == 200
    for (number,), row in rows_of(ledger.database.engine)["batches"].items():
        if row["state"] == BatchState.HELD:
            assert row["label"] in listed.text
        shown = client.get(f"{PAGE}/{number}")
        assert shown.status_code == 200, row["batch_id"]
        assert row["label"] in shown.text


@pytest.mark.slow
def test_a_run_takes_what_was_waiting_and_nothing_else(ledger: Ledger, world: AirflowWorld) -> None:
    def put(batch: str, device: int, count: int = 60, wrong: int = 0, **manifest: Any) -> None:
        records = meter_readings(count, device=f"device-{device}", day=DAY)
        for record in records[:wrong]:
            record["value"] = 77_777
        stage(world.staging, records, day=DAY, batch=batch, device=f"device-{device}", **manifest)

    put("verified", 1)
    put("replaced", 2)
    put("replacing", 2, 50, replaces="replaced")
    put("parts", 3, 2100)
    put("nothing", 5, wrong=60)
    put("rejected", 4, wrong=40)
    put("prepared", 6)
    put("planned", 7)
    before = rows_of(ledger.database.engine)

    days = {"first_day": str(DAY), "last_day": str(DAY)}
    run = world.run_dag({**days, "max_quarantined_percent": 100})

    assert run.state == "success"
    now = AT_THE_TIME | dict.fromkeys(("planned", "prepared", "rejected"), BatchState.VERIFIED)
    assert states(ledger) == now
    assert world.posts() == 3, "what was verified was sent again"
    taken = {
        key
        for key, row in before["batches"].items()
        if row["batch_id"] in ("planned", "prepared", "rejected")
    }
    others = {key: row for key, row in before["batches"].items() if key not in taken}
    assert changes({"batches": others}, rows_of(ledger.database.engine)) == []

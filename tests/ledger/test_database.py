from __future__ import annotations

import os
import re
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from sqlalchemy.exc import IntegrityError

from tests.servers import postgresql_database
from tidepool_ingest.ledger import Lease, Ledger, database
from tidepool_ingest.ledger.database import (
    HEAD_REVISION,
    LeaseLostError,
    LedgerConfigurationError,
    LedgerUnavailableError,
    alembic_config,
    ledger_url,
)
from tidepool_ingest.ledger.schema import WHERE, metadata


def test_migrations_lead_to_the_tables_of_the_schema(ledger: Ledger) -> None:
    with ledger.database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        differences = compare_metadata(context, metadata)

    assert differences == []


def plain(condition: object) -> str:
    """Return a condition without what PostgreSQL adds when it repeats it: brackets, casts and capitals."""
    return re.sub(r"::\w+|[()]", "", str(condition)).casefold()


def test_indexes_of_some_rows_only_are_those_of_the_schema(ledger: Ledger) -> None:
    """Alembic compares no conditions of indexes."""
    kind = f"{ledger.database.engine.dialect.name}_where"
    wanted = {
        index.name: plain(index.info[WHERE])
        for table in metadata.tables.values()
        for index in table.indexes
        if WHERE in index.info
    }
    with ledger.database.reading() as connection:
        found = {
            index["name"]: plain(index["dialect_options"][kind])
            for table in metadata.tables
            for index in inspect(connection).get_indexes(table)
            if kind in index.get("dialect_options", {})
        }

    assert found == wanted != {}


def test_the_newest_revision_is_the_one_we_say() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == HEAD_REVISION


def test_many_processes_may_migrate_at_once(address: str) -> None:
    errors: list[Exception] = []

    def start() -> None:
        ledger = Ledger(address)
        try:
            ledger.migrate()
        except Exception as error:
            errors.append(error)
        finally:
            ledger.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []


def test_a_new_file_that_another_process_writes_to_is_waited_for(tmp_path: Path) -> None:
    """SQLite's own wait does not cover the change to write-ahead logging of a file that somebody uses."""
    path = tmp_path / "ledger.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.2, other.rollback)
    release.start()
    ledger = Ledger(f"sqlite:///{path}")
    try:
        ledger.migrate()
    finally:
        ledger.close()
        release.join()
        other.close()

    mode = sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)


def test_a_new_file_that_stays_in_use_is_waited_for_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SQLITE_WAIT_SECONDS", 0.1)
    path = tmp_path / "ledger.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ledger = Ledger(f"sqlite:///{path}")
    try:
        with pytest.raises(LedgerUnavailableError):
            ledger.migrate()
    finally:
        ledger.close()
        other.close()


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:////tmp/x.db", "sqlite"),
        ("postgres://u:p@h/d", "postgresql+psycopg"),
        ("postgresql+psycopg2://u:p@h/d", "postgresql+psycopg"),
    ],
)
def test_the_driver_is_ours_whatever_the_address_says(given: str, driver: str) -> None:
    assert ledger_url(given).drivername == driver


@pytest.mark.parametrize(
    "given", ["mysql://u:canary-secret@h/d", "canary-secret", "oracle://canary-secret@h"]
)
def test_an_unusable_address_is_refused_without_repeating_it(given: str) -> None:
    with pytest.raises(LedgerConfigurationError) as caught:
        ledger_url(given)

    assert "canary" not in str(caught.value)


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    ledger = Ledger("postgresql://user:canary-secret@127.0.0.1:1/none")
    with pytest.raises(LedgerUnavailableError) as caught:
        ledger.batches.get(1)

    assert "canary" not in str(caught.value)
    assert "tidepool_ledger" in str(caught.value)


def test_a_file_that_another_process_keeps_writing_to_is_waited_for_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SQLITE_WAIT_SECONDS", 0)
    path = tmp_path / "ledger.db"
    with closing(Ledger(f"sqlite:///{path}")) as ledger, closing(sqlite3.connect(path)) as another:
        ledger.migrate()
        another.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError), ledger.database.writing():
            pass

        assert ledger.batches.days() == []


@pytest.fixture
def on_postgresql(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """A ledger whose pool holds one connection, which the server has ended."""
    with (
        postgresql_database(request.getfixturevalue("postgresql")) as address,
        closing(Ledger(address)) as ledger,
    ):
        ledger.migrate()
        with closing(Ledger(address)) as another, another.database.writing() as connection:
            others = "datname = current_database() AND pid != pg_backend_pid()"
            connection.exec_driver_sql(
                f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {others}"
            )
        yield ledger


def test_a_connection_that_was_lost_while_nobody_used_it_is_replaced(
    on_postgresql: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_SECONDS", 0.0)

    assert on_postgresql.batches.days() == []


def test_a_connection_that_is_lost_in_use_fails_what_used_it_and_nothing_more(
    on_postgresql: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_SECONDS", 3_600.0)

    with pytest.raises(LedgerUnavailableError):
        on_postgresql.batches.days()
    assert on_postgresql.batches.days() == []


def modes(path: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.glob(f"{path.name}*")}


@pytest.fixture
def umask() -> Iterator[None]:
    """The mask that most machines have, under which SQLite makes files that everybody may read."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_sqlite_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(Ledger(f"sqlite:///{path}")) as ledger:
        assert not path.exists()
        ledger.migrate()
        assert modes(path) == dict.fromkeys(["ledger.db", "ledger.db-wal", "ledger.db-shm"], 0o600)


@pytest.mark.usefixtures("umask")
def test_a_sqlite_file_behind_a_link_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "ledger.db"
    path.parent.mkdir()
    (tmp_path / "link.db").symlink_to(path)
    with closing(Ledger(f"sqlite:///{tmp_path / 'link.db'}")) as ledger:
        ledger.migrate()
        assert modes(path) == dict.fromkeys(["ledger.db", "ledger.db-wal", "ledger.db-shm"], 0o600)


@pytest.mark.usefixtures("umask")
def test_a_sqlite_file_of_an_earlier_version_is_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    other = sqlite3.connect(path)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("CREATE TABLE a (b)")
    assert set(modes(path).values()) == {0o644}
    with closing(Ledger(f"sqlite:///{path}")) as ledger:
        ledger.database.now()
        assert modes(path) == dict.fromkeys(["ledger.db", "ledger.db-wal", "ledger.db-shm"], 0o600)
    other.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.usefixtures("umask")
def test_a_sqlite_file_of_somebody_else_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    os.chown(path, 65_534, 65_534)
    with closing(Ledger(f"sqlite:///{path}")) as ledger:
        ledger.database.now()

    assert modes(path)["ledger.db"] == 0o644


def throttled(ledger: Ledger) -> set[str]:
    return set(ledger.rate_limits.in_force())


def with_error_swallowed(ledger: Ledger, part: Callable[[], AbstractContextManager[object]]) -> None:
    """Write a row, and in a part that fails another one; handle the error."""
    with ledger.database.together():
        ledger.rate_limits.record("one.example.org", 60.0)
        with suppress(ValueError), part():
            ledger.rate_limits.record("other.example.org", 60.0)
            raise ValueError


@pytest.mark.parametrize("nested", [False, True])
def test_what_fails_in_part_is_not_written_even_if_the_error_is_swallowed(
    ledger: Ledger, nested: bool
) -> None:
    with pytest.raises(RuntimeError):
        with_error_swallowed(ledger, ledger.database.together if nested else ledger.database.writing)

    assert throttled(ledger) == set()
    with ledger.database.together():
        ledger.rate_limits.record("one.example.org", 60.0)
    assert throttled(ledger) == {"one.example.org"}


def test_a_statement_that_fails_in_part_is_not_half_written(ledger: Ledger) -> None:
    """SQLite would commit the row before it; PostgreSQL nothing, and call that committed."""

    def write() -> None:
        with ledger.database.together():
            ledger.rate_limits.record("one.example.org", 60.0)
            with suppress(IntegrityError), ledger.database.writing() as connection:
                connection.exec_driver_sql("INSERT INTO rate_limits SELECT * FROM rate_limits")

    with pytest.raises(RuntimeError):
        write()

    assert throttled(ledger) == set()


def test_a_lease_that_was_lost_stays_lost_within_a_transaction(ledger: Ledger) -> None:
    def write(lease: Lease) -> None:
        with ledger.database.together():
            with suppress(LeaseLostError), lease.writing():
                pass
            with lease.writing():
                ledger.rate_limits.record("one.example.org", 60.0)

    with ledger.leases.held("batch:1", seconds=60.0) as lease:
        with ledger.database.writing() as connection:
            connection.exec_driver_sql("DELETE FROM leases")
        with pytest.raises(RuntimeError):
            write(lease)

    assert throttled(ledger) == set()

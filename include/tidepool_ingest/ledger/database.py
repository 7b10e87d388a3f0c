"""The ledger's database: how it is reached."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tidepool_ingest.ledger.errors import LedgerConfigurationError, LedgerUnavailableError

T = TypeVar("T")

SQLITE_WAIT_SECONDS = 30
"""How long a writer waits for another one on SQLite, which takes one writer at a time."""

CONNECT_WAIT_SECONDS = 10
"""How long to wait for PostgreSQL to take a connection."""

READING = "ledger_reading"
"""Execution option of a connection that only reads, and so need not wait for SQLite's one writer."""

KEYS_A_QUERY = 500
"""Content keys asked for at once; SQLite takes 32,766 variables in a statement, older ones 999."""

SUPPORTED = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
"""Databases the ledger is tested on, and the driver it uses for each."""


def ledger_url(address: str) -> URL:
    """Read a ledger address and name the driver the project ships.

    :param address: a SQLAlchemy URL, for example ``sqlite:////var/lib/ledger.db`` or
        ``postgresql://user:password@host/ledger``.
    :raises LedgerConfigurationError: for another database, or an address that cannot be read.
    """
    try:
        url = make_url(address)
    except ArgumentError:
        # The address may hold a password, so it is not repeated.
        raise LedgerConfigurationError(
            "The ledger's address cannot be read.",
            "Give a URL such as sqlite:////path/ledger.db or postgresql://user:password@host/database.",
        ) from None
    driver = SUPPORTED.get(url.get_backend_name())
    if driver is None:
        raise LedgerConfigurationError(
            f"The ledger cannot live in {url.get_backend_name()}.", "Use SQLite or PostgreSQL."
        )
    return url.set(drivername=driver)


def open_engine(address: str) -> Engine:
    """Return an engine for the ledger; nothing is connected yet.

    :param address: see :func:`ledger_url`.
    """
    url = ledger_url(address)
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    return create_engine(
        url, pool_pre_ping=True, hide_parameters=True, connect_args={"connect_timeout": CONNECT_WAIT_SECONDS}
    )


def _sqlite_engine(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": SQLITE_WAIT_SECONDS})

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver must not begin transactions by itself: BEGIN IMMEDIATE below does, so that
        # a reader never has to become a writer in mid-transaction, which SQLite may refuse.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get(READING, False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


class Database:
    """A connection pool to the ledger's database, and the two kinds of transaction on it.

    :param address: see :func:`ledger_url`.
    """

    def __init__(self, address: str) -> None:
        self.engine = open_engine(address)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that only reads: on SQLite it does not wait for the writer."""
        with unavailable_named(), self.engine.connect().execution_options(**{READING: True}) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that writes, committed at its end; an exception takes it back whole."""
        with unavailable_named(), self.engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Give the pooled connections back."""
        self.engine.dispose()


def portions(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """Yield some values in portions that one statement can ask for."""
    for start in range(0, len(items), KEYS_A_QUERY):
        yield items[start : start + KEYS_A_QUERY]


def once_more_if_met(write: Callable[[], T], times: int = 1) -> T:
    """Carry out a write that inserts what another task may be inserting in the same instant.

    :param write: looks first what is there; a whole transaction. Done again, it finds what the other wrote.
    :param times: how often it is done again: of many rows, some may be met anew each time.
    """
    for _ in range(times):
        with suppress(IntegrityError):
            return write()
    return write()


@contextmanager
def unavailable_named() -> Iterator[None]:
    """Turn the drivers' errors about a database that is away, or none, into one that says what to do."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise LedgerUnavailableError(type(error.orig).__name__) from None
    except DatabaseError as error:
        if type(error.orig) is not sqlite3.DatabaseError:
            raise
        raise LedgerConfigurationError(
            "The ledger's file is not a SQLite database, or is damaged.",
            "Check the address; if it is right, restore the file from its backup.",
        ) from None
    except PoolTimeoutError as error:
        raise LedgerUnavailableError(type(error).__name__) from None

"""The ledger's database: how it is reached, and how its schema is brought up to date.

Alembic is imported only when there is something to migrate, which each task checks.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Executable,
    create_engine,
    event,
    exc,
    func,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.pool import ConnectionPoolEntry

from tidepool_ingest.errors import Disposition, IngestError, as_sentence
from tidepool_ingest.ledger.schema import NOW
from tidepool_ingest.privacy import keep_private

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.dialects import postgresql, sqlite


class LedgerConfigurationError(IngestError):
    """The ledger's address, or what it needs to keep a secret, cannot be used."""

    code = "ledger-configuration"
    sentence = "the ledger cannot be used"
    remedy = "Correct the connection `tidepool_ledger`."

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy=remedy)


class LedgerUnavailableError(IngestError):
    """The ledger's database does not answer, or stays locked by another process.

    :param cause: the class name of the driver's error; its text may quote what was written.
    """

    disposition: Disposition = Disposition.RETRIABLE
    code = "ledger-unavailable"
    sentence = "the ledger's database does not answer"
    remedy = (
        "Nothing is lost: the attempt resumes from the ledger once the database is back. Check the "
        "connection `tidepool_ledger`."
    )

    def __init__(self, cause: str) -> None:
        super().__init__(as_sentence(f"{self.sentence} ({cause})"))


class UnknownBatchError(IngestError):
    """The ledger has no batch of that number: it was made with another ledger, or was erased."""

    code = "batch-unknown"
    sentence = "the ledger does not know the batch"
    remedy = (
        "Check that all tasks use the same ledger connection, and clear the task `plan` of this run as well, "
        "so that the batch is found and registered again."
    )

    def __init__(self, batch: int) -> None:
        super().__init__(f"The ledger has no batch {batch}.")
        self.batch = batch


class UnknownActionError(IngestError):
    """The ledger has no action of that number."""

    code = "action-unknown"
    sentence = "nobody has requested this on the uploads page"
    remedy = "Request it there: the page records it first."

    def __init__(self, action: int) -> None:
        super().__init__(as_sentence(f"{self.sentence}: the ledger has no action {action}"))


class LeaseHeldError(IngestError):
    """Another task is working on the same batch or device.

    :param name: the lease's name: a kind and a short hash.
    :param seconds: how long until it can be taken over at the latest, unless its holder renews it.
    """

    disposition: Disposition = Disposition.RETRIABLE
    waits = True
    code = "lease-held"
    sentence = "another task is working on it"
    remedy = "Nothing to do: it is tried again. If the other task has died, its lease expires by itself."

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(
            f"Another task is working on {name}.",
            remedy="Nothing to do: this task tries again. If the other one has died, its lease expires "
            f"within {seconds:.0f} s.",
        )
        self.name = name
        self.retry_after = seconds


class OlderFirstError(LeaseHeldError):
    """Older batches of the device are uploaded first: a run in progress has yet to work on them.

    :param name: name of the lease on the first of them.
    :param seconds: how long until it is a good time to see whether they have ended.
    :param batches: their numbers, oldest first.
    """

    code = "older-first"
    sentence = "older batches of its device are uploaded first, and a run has yet to work on them"
    remedy = (
        "Nothing to do: it is tried again. It does not wait for one that has failed, is held, or whose run "
        "has ended."
    )
    first: ClassVar[str] = "Older batches of the same device are uploaded first"

    def __init__(self, name: str, seconds: float, batches: Sequence[int] = ()) -> None:
        super().__init__(name, seconds)
        self.what = f"{self.first}: {len(batches)}, beginning with {name}."
        self.remedy = type(self).remedy
        self.args = (f"{self.what} {self.remedy}",)
        self.batches = tuple(batches)


class NewerFirstError(OlderFirstError):
    """Tidepool already has newer batches of the device that this ledger does not know: adopted first.

    :param batches: their numbers, newest first.
    """

    code = "newer-first"
    sentence = "Tidepool already has newer batches of its device, which this ledger has yet to adopt"
    first = "Newer batches of the same device, which Tidepool already has, are adopted first"


class LeaseLostError(IngestError):
    """The task stalled for too long, and another one has taken over its work."""

    disposition: Disposition = Disposition.RETRIABLE
    code = "lease-lost"
    sentence = "its task's lease has expired, and another task may have taken over"
    remedy = "Nothing to do: the other task resumes from the ledger, or this one when it tries again."

    def __init__(self, name: str) -> None:
        super().__init__(f"This task's lease on {name} has expired, and another task may have taken over.")
        self.name = name


T = TypeVar("T")

SQLITE_WAIT_SECONDS = 30
"""How long a writer waits for another one on SQLite, which takes one writer at a time."""

SQLITE_RETRY_SECONDS = 0.02
"""How often a new file is tried again that another process is using."""

CONNECT_WAIT_SECONDS = 10
"""How long to wait for PostgreSQL to take a connection."""

IDLE_SECONDS = 1.0
"""A connection to PostgreSQL that was used less long ago is not asked whether it is still open."""

READING = "ledger_reading"
"""Execution option of a connection that only reads, and so need not wait for SQLite's one writer."""

QUERY_BATCH_SIZE = 500
"""Values per query; SQLite takes 32,766 variables per statement, older versions 999."""

SUPPORTED = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
"""Databases the ledger is tested on, and the driver it uses for each."""


AIRFLOWS_EXTRA = "__extra__"
"""What Airflow puts into a connection's URI if its extra does not fit into one."""


def ledger_url(address: str) -> URL:
    """Parse a ledger address, and set the driver that the project ships.

    :param address: a SQLAlchemy URL, for example ``sqlite:////var/lib/ledger.db`` or
        ``postgresql://user:password@host/ledger``.
    :raises LedgerConfigurationError: for another database, or an address that cannot be read.
    """
    try:
        url = make_url(address)
    except exc.ArgumentError:
        # The address may contain a password, so it is not repeated.
        raise LedgerConfigurationError(
            "The ledger's address cannot be read.",
            "Give a URL such as sqlite:////path/ledger.db or postgresql://user:password@host/database.",
        ) from None
    driver = SUPPORTED.get(url.get_backend_name())
    if driver is None:
        raise LedgerConfigurationError(
            f"The ledger cannot live in {url.get_backend_name()}.", "Use SQLite or PostgreSQL."
        )
    if AIRFLOWS_EXTRA in url.query:
        raise LedgerConfigurationError(
            "The ledger's connection has an extra that is no JSON object of texts.",
            'Write it as {"sslmode": "require"}, or leave it empty.',
        )
    return url.set(drivername=driver)


def open_engine(address: str) -> Engine:
    """Return an engine for the ledger; nothing is connected yet.

    :param address: see :func:`ledger_url`.
    """
    url = ledger_url(address)
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    engine = create_engine(url, hide_parameters=True, connect_args={"connect_timeout": CONNECT_WAIT_SECONDS})

    @event.listens_for(engine, "checkin")
    def note_use(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def replace_if_lost(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("used", math.inf) > IDLE_SECONDS:
            try:
                engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error:
                raise exc.InvalidatePoolError from None

    @event.listens_for(engine, "connect")
    def use_utc(connection: Any, _record: Any) -> None:
        # In another zone the server would write the last hours of the year 9999, or the first ones of the
        # year 1, as of a year that Python does not have: one such `stagedAt` would be read by everybody.
        with connection.cursor() as cursor:
            cursor.execute("SET TIME ZONE 'UTC'")
        connection.commit()

    return engine


def _sqlite_engine(url: URL) -> Engine:
    in_memory = not url.database or url.database.startswith((":memory:", "file:"))
    file = None if in_memory else Path(str(url.database))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": SQLITE_WAIT_SECONDS})

    @event.listens_for(engine, "do_connect")
    def close_to_others(*_given: Any) -> None:
        if file is not None:
            keep_private(file)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver must not begin transactions by itself: BEGIN IMMEDIATE below does, so that
        # a reader never has to become a writer within a transaction, which SQLite may refuse.
        connection.isolation_level = None
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        how = "BEGIN" if connection.get_execution_options().get(READING, False) else "BEGIN IMMEDIATE"
        driver: Any = connection.connection.driver_connection
        try:
            driver.execute(how)  # as a statement of SQLAlchemy's it would take as long as a query
        except sqlite3.Error as error:
            raise exc.DBAPIError.instance(how, None, error, sqlite3.Error) from None

    return engine


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch a file to write-ahead logging, once and for all; wait while another process uses it.

    SQLite reads the file before it locks it for this change, and waits for no lock while it reads: of several
    processes that open a new file at once, all but one are told immediately that it is locked.
    """
    deadline = time.monotonic() + SQLITE_WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(SQLITE_RETRY_SECONDS)


class _OfThread(threading.local):
    """What one thread has open."""

    shared: Connection | None = None
    checked: set[Hashable] | None = None
    has_failed: bool = False


class Database:
    """A connection pool to the ledger's database, and the two kinds of transaction on it.

    :param address: see :func:`ledger_url`.
    """

    def __init__(self, address: str) -> None:
        self.engine = open_engine(address)
        self._of_thread = _OfThread()
        self._reading: dict[str, Any] = {READING: True}
        if self.engine.dialect.name == "postgresql":
            # Each statement sees what is committed by then, in a transaction as well: it needs none.
            self._reading["isolation_level"] = "AUTOCOMMIT"

    @contextmanager
    def reading(self, *, streams: bool = False) -> Iterator[Connection]:
        """Open a connection that only reads: on SQLite a transaction, which does not wait for the writer.

        :param streams: whether rows are fetched one block after another, which PostgreSQL does only in one.
        """
        if (shared := self._of_thread.shared) is not None:
            yield shared
            return
        options = {READING: True} if streams else self._reading
        with translated_errors(), self.engine.connect().execution_options(**options) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that writes, committed at its end; an exception rolls it back."""
        if (shared := self._of_thread.shared) is not None:
            if shared.get_execution_options().get(READING, False):
                raise RuntimeError("what is read together must not write")
            with self._as_part():
                yield shared
            return
        with translated_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def together(self, *, only_reads: bool = False) -> Iterator[None]:
        """Let all that this thread reads and writes in the ``with`` block be one transaction: all or nothing.

        No request goes out in between (:meth:`check_apart`): the rows that it has written stay locked until
        its end, on SQLite the whole database.

        :param only_reads: whether nothing is written, so that it does not wait for a writer.
        :raises RuntimeError: the block has swallowed the error of something that was to be written in it.
            Nothing is written then: SQLite would commit the rest, and PostgreSQL nothing, without a word.
        """
        of_thread = self._of_thread
        if of_thread.shared is not None:
            with self._as_part():
                yield
            return
        with self.reading() if only_reads else self.writing() as connection:
            try:
                of_thread.shared, of_thread.checked, of_thread.has_failed = connection, set(), False
                yield
                if of_thread.has_failed:
                    raise RuntimeError("a part of what is written together has failed")
            finally:
                of_thread.shared = of_thread.checked = None

    @contextmanager
    def _as_part(self) -> Iterator[None]:
        """Let nothing of :meth:`together` be committed if this part of it fails, whoever handles that."""
        try:
            yield
        except BaseException:
            self._of_thread.has_failed = True
            raise

    def is_checked(self, what: Hashable) -> bool:
        """Return whether something that holds to the end of a transaction was found in this one already.

        :param what: what was found. Within :meth:`together`, it counts as found from now on.
        """
        checked = self._of_thread.checked
        if checked is None:
            return False
        is_known = what in checked
        checked.add(what)
        return is_known

    @property
    def is_together(self) -> bool:
        """Whether this thread is within :meth:`together`."""
        return self._of_thread.shared is not None

    def check_apart(self) -> None:
        """Make sure that this thread holds no transaction open while it waits for somebody else.

        :raises RuntimeError: it is within :meth:`together`.
        """
        if self.is_together:
            raise RuntimeError("a request must not be sent within a transaction of the ledger")

    def now(self) -> datetime:
        """Return the present moment by the database's clock."""
        with self.reading() as connection:
            return now_of(connection)

    def close(self) -> None:
        """Close the pooled connections."""
        self.engine.dispose()


def now_of(connection: Connection) -> datetime:
    """Return the present moment by the clock of the database that a transaction is in.

    Where nothing has to be compared, write :data:`~tidepool_ingest.ledger.schema.NOW`.
    """
    return connection.execute(_NOW).scalar_one()


_NOW = select(NOW)


InsertOf: TypeAlias = "Callable[..., postgresql.Insert | sqlite.Insert]"
"""A dialect's ``insert``: only these know ``ON CONFLICT``."""


def for_each_dialect(made_of: Callable[[InsertOf], Executable]) -> Mapping[str, Executable]:
    """Return a statement that inserts, or changes what is there, by the name of the dialect; made once.

    :param made_of: returns the statement, given the dialect's ``insert``.
    """
    return _ForEachDialect(made_of)


class _ForEachDialect(dict[str, Executable]):
    """Makes the statement of a dialect when it is first asked for."""

    def __init__(self, made_of: Callable[[InsertOf], Executable]) -> None:
        super().__init__()
        self._made_of = made_of

    def __missing__(self, dialect: str) -> Executable:
        made = self[dialect] = self._made_of(_insert_of(dialect))
        return made


def _insert_of(dialect: str) -> InsertOf:
    # Loaded only here: a ledger is in one database, and PostgreSQL's dialect takes longer than a query.
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert
    from sqlalchemy.dialects import postgresql

    return postgresql.insert


def batched(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """Yield values in batches that fit into one statement."""
    for start in range(0, len(items), QUERY_BATCH_SIZE):
        yield items[start : start + QUERY_BATCH_SIZE]


def retry_on_conflict(write: Callable[[], T], times: int = 1) -> T:
    """Carry out a write that inserts what another task may insert at the same moment; retry on a conflict.

    :param write: a whole transaction that first reads what is there. Repeated, it finds what the other wrote.
    :param times: how often it is retried: with many rows, other ones may conflict each time.
    """
    for _ in range(times):
        with suppress(exc.IntegrityError):
            return write()
    return write()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn the drivers' errors about a missing or broken database into one that says what to do."""
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError) as error:
        raise LedgerUnavailableError(type(error.orig).__name__) from None
    except exc.DatabaseError as error:
        if type(error.orig) is not sqlite3.DatabaseError:
            raise
        raise LedgerConfigurationError(
            "The ledger's file is not a SQLite database, or is damaged.",
            "Check the address; if it is right, restore the file from its backup.",
        ) from None
    except exc.TimeoutError as error:
        raise LedgerUnavailableError(type(error).__name__) from None


MIGRATIONS = Path(__file__).parent / "migrations"

HEAD_REVISION = max(path.name for path in MIGRATIONS.glob("versions/[0-9]*.py")).partition("_")[0]
"""The newest revision, from the files' names: Alembic need not be imported to find it."""

MIGRATION_LOCK = 0x71DE_9001
"""PostgreSQL advisory lock: one process migrates at a time."""


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision; do nothing if it is there already.

    Safe when many processes start at once: they take turns.

    :param engine: the ledger's engine.
    :raises LedgerConfigurationError: if the database is at a revision that this version does not know; it is
        left as it is.
    """
    if current_revision(engine) == HEAD_REVISION:
        return
    from alembic import command
    from alembic.runtime.migration import MigrationContext

    config = alembic_config()
    with _quietly(), engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in revisions():
            raise LedgerConfigurationError(
                "The ledger's tables are those of another version of this project, or of another program "
                f"(revision {current}).",
                "Use the version that made them, or name an empty database in the connection "
                "`tidepool_ledger`. Nothing in this one was changed.",
            )
        command.upgrade(config, "head")


def current_revision(engine: Engine) -> str | None:
    """Return the revision the database is at, ``None`` for an empty one."""
    with translated_errors(), engine.connect().execution_options(**{READING: True}) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return revision


def revisions() -> list[str]:
    """Return the revisions that this version can start from, oldest first."""
    from alembic.script import ScriptDirectory

    newest_first = ScriptDirectory.from_config(alembic_config()).walk_revisions()
    return [script.revision for script in newest_first][::-1]


def alembic_config() -> Config:
    """Return Alembic's configuration for the ledger's own migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep Alembic's log lines about each step out of the tasks' logs."""
    logger = logging.getLogger("alembic.runtime.migration")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def distinct(connection: Connection, column: Column[Any]) -> list[Any]:
    """Return the distinct values of a column in order, without the empty one.

    :param connection: a transaction.
    :param column: the first one of an index.
    """
    walk = select(func.min(column).label("value")).cte("walk", recursive=True)
    following = select(func.min(column)).where(column > walk.c.value).scalar_subquery()
    walk = walk.union_all(select(following).where(walk.c.value.is_not(None)))
    return list(connection.scalars(select(walk.c.value).where(walk.c.value.is_not(None))))

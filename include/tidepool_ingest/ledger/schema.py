"""The ledger's tables: what was found, what was opened, what was sent.

User ids, device ids and folders stand here, in the staging paths and in the quarantine file only.
No table holds a record value, a token in clear, or text that a server sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from tidepool_ingest.errors import Disposition, IngestError, as_sentence
from tidepool_ingest.texts import problem_of

_Value = TypeVar("_Value")

USER_ID_LENGTH = 36
"""Characters of the longer kind of Tidepool user id, a UUID."""
DATA_SET_ID_LENGTH = 37
"""Characters of the longest upload id: ``upid_`` and 32 hex digits."""

CODE_LENGTH = 80
"""Characters of a cause's code."""

INDEXED_LENGTH = 500
"""Characters of the name that a feed is found by, and of a device id: PostgreSQL indexes no more than 2,704
bytes of a row."""

LENGTH = "length"
"""Key of a text column's ``info``: characters that it may hold, where its type does not say."""

WHERE = "where"
"""Key of an index's ``info``: the condition of the rows that are in it, where not all are.

Given as an argument of each dialect, it would load both of them; the migrations make the indexes.
"""

AutoId = BigInteger().with_variant(Integer, "sqlite")
"""A primary key that counts by itself; SQLite does that for INTEGER only."""


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware on the way in, UTC on the way out, whatever the database keeps."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a time without a zone, which would mean another instant on every machine."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the ledger takes aware times only: give the datetime a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give SQLite's naive times the zone they were written in."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class LedgerTextError(DontWrapMixin, IngestError):
    """A text cannot be written into the ledger, on whatever database: nothing was sent to it.

    :param column: table and column.
    :param problem: what is wrong with the text, which is not repeated.
    """

    disposition: Disposition = Disposition.DATA
    code = "ledger-text"
    sentence = "a text that the ledger would hold cannot be kept by every database"
    remedy = (
        "Find the text by the column that is named: it came from staging, from Airflow or from Tidepool. "
        "Correct it there, and run again."
    )

    def __init__(self, column: str, problem: str) -> None:
        self.particulars = f"{column} would hold {problem}"
        super().__init__(as_sentence(f"{self.sentence}: {self.particulars}"))
        self.column = column
        self.problem = problem


class LedgerText(TypeDecorator[str]):
    """A text that SQLite and PostgreSQL keep alike: what one of them would refuse reaches neither.

    :param length: characters that a column of the database has; as many as wanted if left out.
    :param most: characters that it may hold.
    :param where: its table and column.
    """

    impl = Text
    cache_ok = True

    def __init__(self, length: int | None = None, most: int | None = None, where: str = "") -> None:
        super().__init__()
        self.length = length
        self.most = most
        self.where = where

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        """Return the type that the database knows it by."""
        return Text() if self.length is None else String(self.length)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Refuse a text that could not be kept.

        :raises LedgerTextError: it says where, and what is wrong.
        """
        if value is not None:
            self.check(value)
        return value

    def check(self, value: str) -> None:
        """Make sure that a text can be kept.

        :raises LedgerTextError: it cannot; it says where, and what is wrong.
        """
        if problem := problem_of(value):
            raise LedgerTextError(self.where, problem)
        if self.most is not None and len(value) > self.most:
            raise LedgerTextError(self.where, f"more than its {self.most} characters")

    def coerce_compared_value(self, op: Any, value: Any) -> LedgerText:
        """Take a text of any length to compare with: it equals nothing, on any database."""
        return LedgerText(where=self.where)


class DialectSpecific(FunctionElement[_Value]):
    """An expression that one kind of database is told in other words; all others are told it as it is.

    ``compiles`` gives those words to a class of its own.
    """

    inherit_cache = True


@compiles(DialectSpecific)
def _as_it_is(element: DialectSpecific[Any], compiler: Any, **more: Any) -> str:
    return str(compiler.process(element.clauses, **more))


class DatabaseNow(FunctionElement[datetime]):
    """The present moment by the database's clock."""

    type = UtcDateTime()
    inherit_cache = True


@compiles(DatabaseNow, "postgresql")
def _postgresql_now(_element: DatabaseNow, _compiler: Any, **_more: Any) -> str:
    return "statement_timestamp()"


@compiles(DatabaseNow, "sqlite")
def _sqlite_now(_element: DatabaseNow, _compiler: Any, **_more: Any) -> str:
    # As a column of times holds it, so that both compare as texts.
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


NOW = DatabaseNow()
"""What times in the ledger are written and compared by: tasks on several machines share no other clock."""


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _time(name: str, *, required: bool = False, comment: str | None = None) -> Column[Any]:
    return Column(name, UtcDateTime, nullable=not required, comment=comment)


NOT_CLEAN = (
    "coalesce(part_of, 0) = 0 AND NOT (state = 'verified' AND reason IS NULL AND dismissed IS NULL "
    "AND coalesce(quarantined, 0) = 0)"
)
"""The condition that a whole batch is not simply verified, word for word that of its index.

``part_of IS NULL`` would lead SQLite, which has no statistics, to the index of parts.
"""

batches = Table(
    "batches",
    metadata,
    Column("id", AutoId, primary_key=True),
    Column("api_host", String(255), nullable=False),
    Column(
        "content_key",
        String(64),
        nullable=False,
        comment="sha256 of user, data set body, edits and file digests",
    ),
    Column("user_id", String(USER_ID_LENGTH), nullable=False),
    Column("batch_id", Text, nullable=False, comment="name of the staged folder"),
    Column("day", Date, nullable=False, comment="date folder, the partition that a data interval selects"),
    Column("folder", Text, nullable=False),
    _time("staged_at"),
    Column(
        "label", Text, nullable=False, comment="day, device model and short hash: what logs and pages show"
    ),
    Column("connection", Text, comment="Airflow connection that the manifest names, if it names one"),
    Column("device_id", Text, info={LENGTH: INDEXED_LENGTH}),
    Column(
        "device_key",
        String(64),
        comment="sha256 of the user and what stays of a device when its device id changes",
    ),
    Column("zones", Text, comment="time zones that local times of its files were read in, as JSON"),
    Column("formats", Text, comment="formats of its files, as JSON"),
    Column("device", Text, comment="manufacturers and model of its device, as JSON"),
    Column("data_set_type", String(16), nullable=False, server_default="normal"),
    Column("replaces", AutoId, comment="batch whose data sets are deleted once this one shows in Tidepool"),
    Column("part_of", AutoId, comment="batch that it is a part of; empty for a whole one"),
    Column("part", Integer, comment="its place among the parts, from 1"),
    Column("part_records", Integer, comment="of a batch that is cut into parts: records a part, at most"),
    Column("state", String(24), nullable=False),
    Column("reason", String(80), comment="code of the error or guard that stopped it"),
    Column("reason_detail", Text, comment="where in the batch, and how often: our words, positions, counts"),
    Column("stopped_in", Text, comment="Airflow's task that it stopped in, as JSON"),
    Column("dismissed", String(24), comment="why a person has dismissed it; empty if nobody has"),
    Column("staged", BigInteger, comment="records found in its files"),
    Column("accepted", BigInteger),
    Column("quarantined", BigInteger),
    Column("identical", BigInteger, comment="repeats of a record of the same batch, kept once"),
    Column("expected_rows", BigInteger, comment="rows Tidepool makes of the accepted records"),
    Column("chunks", Integer, comment="requests that the accepted records travel in, as planned"),
    Column("purged", String(16), comment="what was taken out of its work area; empty while that is whole"),
    _time("missed_at", comment="when a plan first did not find its folder; empty while it is there"),
    _time("created_at", required=True),
    _time("updated_at", required=True),
    UniqueConstraint("api_host", "content_key"),
    Index(None, "api_host", "user_id", "batch_id"),
    # Whole batches of some people on some days, how many there are on each day and what was accepted of them;
    # and what is not simply verified, which is little. Both answer an overview without a look at a row.
    Index(
        "ix_batches_day_whole",
        *("day", "part_of", "user_id", "device_id", "api_host", "data_set_type", "state", "accepted"),
    ),
    Index(
        "ix_batches_day_not_clean",
        *("day", "user_id", "device_id", "api_host", "data_set_type", "state", "reason", "dismissed"),
        *("quarantined", "part_of"),
        info={WHERE: NOT_CLEAN},
    ),
    # Of whole batches only: those are counted and looked for by their state.
    Index(None, "state", "id", info={WHERE: "part_of IS NULL"}),
    Index(None, "reason"),
    Index(None, "purged", "updated_at"),
    Index(None, "part_of", "part"),
)

device_spans = Table(
    "device_spans",
    metadata,
    Column("id", AutoId, primary_key=True),
    Column("api_host", String(255), nullable=False),
    Column("user_id", String(USER_ID_LENGTH), nullable=False),
    Column("device_id", Text, nullable=False, comment="empty if the manifests name none"),
    Column("data_set_type", String(16), nullable=False),
    Column("first_day", Date, nullable=False, comment="staged day of its first batch"),
    Column("last_day", Date, nullable=False, comment="staged day of its newest batch"),
    Column("newest", AutoId, ForeignKey("batches.id"), nullable=False, comment="its newest batch"),
    UniqueConstraint("user_id", "api_host", "data_set_type", "device_id"),
)

batch_days = Table(
    "batch_days",
    metadata,
    Column("batch", AutoId, ForeignKey("batches.id"), primary_key=True),
    Column("day", Date, primary_key=True, comment="UTC day of the records, not of the staged folder"),
    Column("type", String(32), primary_key=True),
    Column("records", BigInteger, nullable=False, comment="accepted records of that day and type"),
    Column("hours", Text, comment="the same by hour of the day: 24 numbers, empty if not known"),
    Index(None, "day"),
)

quarantine_reasons = Table(
    "quarantine_reasons",
    metadata,
    Column("batch", AutoId, ForeignKey("batches.id"), primary_key=True),
    Column("type", String(32), primary_key=True),
    Column("code", String(CODE_LENGTH), primary_key=True),
    Column("records", BigInteger, nullable=False, comment="records that the code refused, maybe with others"),
)

data_sets = Table(
    "data_sets",
    metadata,
    Column("id", AutoId, primary_key=True),
    Column("batch", AutoId, ForeignKey("batches.id"), nullable=False),
    Column(
        "ordinal",
        Integer,
        nullable=False,
        comment="1 for a batch's first data set, 2 if that was given up, …",
    ),
    Column(
        "data_set_id", String(DATA_SET_ID_LENGTH), comment="the session id; empty until Tidepool has answered"
    ),
    Column("data_set_type", String(16), nullable=False),
    Column("deduplicator", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("expected_rows", BigInteger, nullable=False),
    Column("visible_rows", BigInteger),
    Column("superseded_rows", BigInteger, comment="rows that a later upload hid, when it was last checked"),
    Column(
        "generation",
        Integer,
        comment="how often the content was uploaded or undone on purpose before, as its mark says",
    ),
    Column("dag_id", Text),
    Column("run_id", Text),
    Column("map_index", Integer),
    Column("try_number", Integer),
    _time("opened_at"),
    _time("closed_at"),
    _time("verified_at"),
    _time("checked_at"),
    _time("created_at", required=True),
    _time("updated_at", required=True),
    UniqueConstraint("batch", "ordinal"),
    Index(None, "data_set_id"),
    Index(None, "state", "batch"),
    Index(None, "state", "checked_at", "verified_at"),
    Index(None, "dag_id", "batch"),
)

chunks = Table(
    "chunks",
    metadata,
    Column("data_set", AutoId, ForeignKey("data_sets.id"), primary_key=True),
    Column("chunk_index", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False, comment="of the chunk's accepted lines as prepared"),
    Column("records", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    _time("updated_at", required=True),
)

feeds = Table(
    "feeds",
    metadata,
    Column("id", AutoId, primary_key=True),
    Column("api_host", String(255), nullable=False),
    Column("user_id", String(USER_ID_LENGTH), nullable=False),
    Column(
        "client_name",
        Text,
        nullable=False,
        comment="the program that the data sets name",
        info={LENGTH: INDEXED_LENGTH},
    ),
    Column("data_set_type", String(16), nullable=False, comment="normal and continuous share no name"),
    Column("deduplicator", Text, comment="of the continuous data set"),
    Column(
        "data_set_id",
        String(DATA_SET_ID_LENGTH),
        comment="the one continuous data set; empty until it is found",
    ),
    _time("pinned_at"),
    _time("created_at", required=True),
    UniqueConstraint("api_host", "user_id", "client_name"),
    Index(None, "data_set_id"),
)

feed_writes = Table(
    "feed_writes",
    metadata,
    Column("feed", AutoId, ForeignKey("feeds.id"), primary_key=True),
    Column("batch", AutoId, ForeignKey("batches.id"), primary_key=True),
    Column(
        "chunk_index",
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="index of the chunk that Tidepool has stored; -1 for deletions that it has carried out",
    ),
    Column(
        "origins",
        LargeBinary,
        nullable=False,
        comment="digests, 8 bytes each, of the origin ids written or deleted",
    ),
    _time("created_at", required=True),
    Index(None, "batch"),
)

rejections = Table(
    "rejections",
    metadata,
    Column("batch", AutoId, ForeignKey("batches.id"), primary_key=True),
    Column(
        "ordinal",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="place of the record among those that prepare accepted, from 0",
    ),
    Column("type", String(32), nullable=False),
    Column("rows", Integer, nullable=False, comment="rows that Tidepool would have made of it"),
    Column("problems", Text, nullable=False, comment="codes and pointers as JSON, names of a person's as *"),
    _time("created_at", required=True),
)

rate_limits = Table(
    "rate_limits",
    metadata,
    Column("api_host", String(255), primary_key=True),
    Column("pauses", Integer, nullable=False, comment="how often in a row it asked for one"),
    _time("recorded_at", required=True),
    Column("seconds", Float, nullable=False, server_default="0", comment="how long it lasts from then on"),
)

file_digests = Table(
    "file_digests",
    metadata,
    Column("path_key", String(64), primary_key=True, comment="sha256 of the file's address"),
    Column(
        "fingerprint", String(255), nullable=False, comment="size and modification time, or the store's etag"
    ),
    Column("sha256", String(64), nullable=False),
    _time("updated_at", required=True),
    Index(None, "updated_at"),
)

manifests = Table(
    "manifests",
    metadata,
    Column("path_key", String(64), primary_key=True, comment="sha256 of the batch folder's address"),
    Column("fingerprint", String(64), nullable=False, comment="changes when any file of the folder does"),
    Column("user_id", String(USER_ID_LENGTH), nullable=False),
    Column("content_key", String(64), nullable=False),
    Column("label", Text, nullable=False),
    Column("connection", Text, comment="Airflow connection that the manifest names, if it names one"),
    Column("device_id", Text),
    Column("data_set_type", String(16), nullable=False),
    _time("staged_at"),
    Column("met_on", Date, nullable=False, comment="about when a run last met it, in UTC"),
    Index(None, "user_id"),
    Index(None, "met_on"),
)

actions = Table(
    "actions",
    metadata,
    Column("id", AutoId, primary_key=True),
    Column("actor", Text, nullable=False, comment="Airflow's name of the person"),
    Column("kind", String(24), nullable=False),
    Column("batch", AutoId, ForeignKey("batches.id"), comment="empty for what concerns a whole run"),
    Column("detail", Text, comment="fixed words, for example the parameters that a run confirmed"),
    Column("dag_id", Text),
    Column("run_id", Text),
    Column("status", String(16), nullable=False),
    Column("reason", String(CODE_LENGTH), comment="code of the error that it ended with"),
    _time("created_at", required=True),
    _time("ended_at"),
    Index(None, "batch", "id"),
    Index(None, "dag_id", "run_id"),
)

leases = Table(
    "leases",
    metadata,
    Column(
        "name", String(80), primary_key=True, comment="kind and short hash of what has one owner at a time"
    ),
    Column("owner", String(64), nullable=False),
    Column("fence", BigInteger, nullable=False, comment="grows with every takeover"),
    _time("expires_at", required=True),
)

turns = Table(
    "turns",
    metadata,
    Column("batch", AutoId, ForeignKey("batches.id"), primary_key=True),
    Column("dag_id", Text, primary_key=True),
    Column("run_id", Text, primary_key=True),
    Column("map_index", Integer, comment="of its task; empty where several batches share one"),
    _time("expires_at", required=True),
    Index(None, "dag_id", "run_id"),
    Index(None, "expires_at"),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("connection", String(250), primary_key=True),
    Column("sealed_token", Text, nullable=False, comment="encrypted with Airflow's Fernet key"),
    Column(
        "seed_digest",
        String(64),
        nullable=False,
        comment="of the connection's own token: a new login there wins",
    ),
    _time("updated_at", required=True),
)


def _guard_texts() -> None:
    """Let each column of texts refuse what one database would keep and another one not."""
    for table in metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, String):
                length = column.type.length
                most = column.info.get(LENGTH, length)
                column.type = LedgerText(length, most, f"{table.name}.{column.name}")


_guard_texts()


def check_found_texts(texts: Mapping[str, str | None]) -> None:
    """Make sure that the ledger can keep what was found of a batch, before many are written by one statement.

    :param texts: by column of the tables of batches, manifests, feeds and data sets.
    :raises LedgerTextError: it cannot; it says which column, and what is wrong.
    """
    for table in (batches, manifests, feeds, data_sets):
        for column in table.columns:
            text_found = texts.get(column.name)
            if text_found is not None and isinstance(column.type, LedgerText):
                column.type.check(text_found)

"""What the ledger knows of data sets and of the chunks sent to them.

Intent is recorded before a request is sent and its outcome after, so that after a crash the next attempt
knows which step is in doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Executable, Select, bindparam, delete, exists, func, insert, select, update

from tidepool_ingest.ledger.database import Database, InsertOf, batched, for_each_dialect, now_of
from tidepool_ingest.ledger.leases import Lease, writing_under
from tidepool_ingest.ledger.schema import NOW, batch_days, batches, chunks, data_sets
from tidepool_ingest.ledger.states import (
    BatchState,
    ChunkState,
    DataSetState,
)
from tidepool_ingest.ledger.transitions import write_data_set_state, write_state
from tidepool_ingest.ledger.whole_batches import WHOLE

COMMAND_LINE = "(command line)"
"""What stands for a DAG where a command does the work; no DAG can be called so. It has no runs to look up."""


@dataclass(frozen=True, kw_only=True)
class TaskOrigin:
    """The Airflow task that works on a data set; of a command, only :data:`COMMAND_LINE` for the DAG."""

    dag_id: str | None = None
    run_id: str | None = None
    map_index: int | None = None
    try_number: int | None = None


@dataclass(frozen=True, kw_only=True)
class DataSetRow(TaskOrigin):
    """One row of the table ``data_sets``.

    :param generation: what its mark at Tidepool says; ``None`` if it was opened without one.
    """

    id: int
    batch: int
    ordinal: int
    data_set_id: str | None
    data_set_type: str
    deduplicator: str
    state: DataSetState
    expected_rows: int
    visible_rows: int | None
    superseded_rows: int | None
    generation: int | None
    opened_at: datetime | None
    closed_at: datetime | None
    verified_at: datetime | None
    checked_at: datetime | None
    created_at: datetime
    updated_at: datetime

    def was_verified_by(self, run_id: str | None, since: datetime | None) -> bool:
        """Return whether a run has verified it, at or after a moment if one is given.

        A run that is cleared, or reprocessed by a backfill, keeps its id; its start time distinguishes them.
        """
        if self.run_id != run_id:
            return False
        return since is None or (self.verified_at is not None and self.verified_at >= since)


@dataclass(frozen=True, kw_only=True)
class ChunkRow:
    """One row of the table ``chunks``."""

    data_set: int
    chunk_index: int
    digest: str
    records: int
    state: ChunkState
    attempts: int
    updated_at: datetime


class DataSets:
    """The tables of data sets and chunks.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin_opening(
        self,
        batch: int,
        *,
        data_set_type: str,
        deduplicator: str,
        expected_rows: int,
        origin: TaskOrigin,
        data_set_id: str | None = None,
        instead_of: int | None = None,
        generation: int | None = None,
        lease: Lease | None = None,
        id_of: Callable[[int], str] | None = None,
    ) -> DataSetRow:
        """Record that a data set is about to be opened for a batch, or that the batch goes to an open one.

        :param batch: the batch's number.
        :param data_set_type: ``normal`` or ``continuous``.
        :param deduplicator: the deduplicator's full name.
        :param expected_rows: rows that Tidepool will hold when it is complete.
        :param origin: the task that opens it.
        :param data_set_id: the continuous data set that the batch goes to.
        :param instead_of: number of the batch's unfinished row for it, which is abandoned.
        :param generation: what its mark will say.
        :param lease: the lease under which this is written, here and below.
        :param id_of: returns the data set's id for its ordinal among the batch's, from 1; ``None`` if
            Tidepool chooses the id.
        """
        with writing_under(self._database, lease) as connection:
            if instead_of is not None:
                write_data_set_state(connection, instead_of, DataSetState.ABANDONED, {})
            last = connection.scalar(_LAST, {"number": batch})
            state = DataSetState.OPENING if data_set_id is None else DataSetState.OPEN
            values = {
                **vars(origin),
                "batch": batch,
                "ordinal": (last or 0) + 1,
                "data_set_type": data_set_type,
                "deduplicator": deduplicator,
                "state": state,
                "data_set_id": data_set_id if id_of is None else id_of((last or 0) + 1),
                "expected_rows": expected_rows,
                "generation": generation,
            }
            inserted = connection.execute(_INSERTS[state], values).one()
        return _data_set(inserted)

    def record_found(
        self,
        batch: int,
        data_set_id: str,
        *,
        deduplicator: str,
        generation: int,
        created_at: datetime | None,
        expected_rows: int,
        visible_rows: int,
        superseded_rows: int,
        sent: Mapping[int, tuple[str, int]],
        origin: TaskOrigin,
        compared: bool = True,
        lease: Lease | None = None,
    ) -> DataSetRow:
        """Record a normal data set that Tidepool has and the ledger did not know, as verified.

        :param batch: the number of the batch that it was opened for.
        :param data_set_id: its id at Tidepool.
        :param deduplicator: the deduplicator's full name.
        :param generation: what its mark says.
        :param created_at: when Tidepool created it. When it was closed, nobody says; not before that.
        :param expected_rows: rows that Tidepool makes of the accepted records.
        :param visible_rows: rows that it shows.
        :param superseded_rows: rows that a later upload of the device hides.
        :param sent: digest and number of records of each chunk, by index.
        :param origin: the task that found it.
        :param compared: whether it was compared; without that, no upload ends with it.
        :param lease: the lease under which this is written.
        """
        with writing_under(self._database, lease) as connection:
            now = now_of(connection)
            created = created_at or now
            last = connection.scalar(select(func.max(data_sets.c.ordinal)).where(data_sets.c.batch == batch))
            values = {
                **vars(origin),
                "batch": batch,
                "ordinal": (last or 0) + 1,
                "data_set_id": data_set_id,
                "data_set_type": "normal",
                "deduplicator": deduplicator,
                "state": DataSetState.VERIFIED,
                "expected_rows": expected_rows,
                "visible_rows": visible_rows,
                "superseded_rows": superseded_rows,
                "generation": generation,
                "opened_at": created,
                "closed_at": created,
                "verified_at": now if compared else None,
                "created_at": now,
                "updated_at": now,
            }
            found = _data_set(
                connection.execute(insert(data_sets).values(values).returning(*data_sets.c)).one()
            )
            stored = {"data_set": found.id, "state": ChunkState.STORED, "attempts": 1, "updated_at": now}
            rows = [
                {**stored, "chunk_index": index, "digest": digest, "records": records}
                for index, (digest, records) in sent.items()
            ]
            if rows:
                connection.execute(insert(chunks), rows)
        return found

    def mark_open(
        self, data_set: int, data_set_id: str | None = None, *, lease: Lease | None = None
    ) -> DataSetRow:
        """Record that Tidepool has created a data set, which now takes data.

        :param data_set: its number in the ledger, here and below.
        :param data_set_id: its id; ``None`` if the ledger has it already.
        :return: the data set as it is now, here and below.
        """
        values = {} if data_set_id is None else {"data_set_id": data_set_id}
        return self._move(data_set, DataSetState.OPEN, lease, **values)

    def mark_not_created(self, data_set: int, *, lease: Lease | None = None) -> None:
        """Record that Tidepool has not created a data set, and never will."""
        self._move(data_set, DataSetState.NOT_CREATED, lease)

    def mark_unreachable(self, data_set: int, *, lease: Lease | None = None) -> None:
        """Record that the id of a data set whose creation is in doubt can never be found out."""
        self._move(data_set, DataSetState.UNREACHABLE, lease)

    def begin_close(self, data_set: int, *, lease: Lease | None = None) -> None:
        """Record that a data set is about to be closed, perhaps once more."""
        self._move(data_set, DataSetState.CLOSING, lease)

    def mark_closed(self, data_set: int, *, lease: Lease | None = None) -> DataSetRow:
        """Record that a data set is closed."""
        return self._move(data_set, DataSetState.CLOSED, lease)

    def mark_verified(
        self,
        data_set: int,
        *,
        expected_rows: int,
        visible_rows: int,
        superseded_rows: int | None = None,
        lease: Lease | None = None,
    ) -> None:
        """Record that what is visible of a data set is exactly what was sent, each row once.

        :param expected_rows: rows that Tidepool makes of the accepted records.
        :param visible_rows: rows that it shows.
        :param superseded_rows: rows that a later upload of the device hides.
        """
        self._move(
            data_set,
            DataSetState.VERIFIED,
            lease,
            expected_rows=expected_rows,
            visible_rows=visible_rows,
            superseded_rows=superseded_rows,
        )

    def begin_delete(self, data_set: int, *, lease: Lease | None = None) -> None:
        """Record that a data set is about to be deleted, perhaps once more."""
        self._move(data_set, DataSetState.DELETING, lease)

    def mark_deleted(self, data_set: int, *, lease: Lease | None = None) -> None:
        """Record that Tidepool has deleted a data set, or no longer knows it."""
        self._move(data_set, DataSetState.DELETED, lease)

    def retract(self, batch: int, *, lease: Lease | None = None) -> None:
        """Record that a batch of a feed is withdrawn, and its share in the continuous data set abandoned.

        :param batch: the batch's number; another batch of its feed retracts it.
        """
        shares = select(data_sets.c.id).where(
            data_sets.c.batch == batch, data_sets.c.state.in_((DataSetState.OPEN, DataSetState.VERIFIED))
        )
        with writing_under(self._database, lease) as connection:
            write_state(connection, batches.c.id == batch, BatchState.WITHDRAWN, reason=None)
            for share in connection.scalars(shares).all():
                write_data_set_state(connection, share, DataSetState.ABANDONED, {})

    def _move(self, data_set: int, state: DataSetState, lease: Lease | None, **values: Any) -> DataSetRow:
        with writing_under(self._database, lease) as connection:
            return _data_set(write_data_set_state(connection, data_set, state, values))

    def record_reverified(
        self, data_set: int, visible_rows: int, superseded_rows: int, *, lease: Lease | None = None
    ) -> None:
        """Record that a verified data set was reverified and is unchanged.

        :param data_set: its number in the ledger.
        :param visible_rows: rows that Tidepool shows of it now.
        :param superseded_rows: rows that a later upload of the device hides.
        :param lease: the lease under which this is written.
        """
        with writing_under(self._database, lease) as connection:
            connection.execute(
                update(data_sets)
                .where(data_sets.c.id == data_set)
                .values(checked_at=NOW, visible_rows=visible_rows, superseded_rows=superseded_rows)
            )

    def due_for_reverification(self, before: datetime, limit: int) -> list[int]:
        """Return the batches whose verified data set has to be verified again, the most urgent first.

        At once, what shares days with an upload of the device that was deleted since and not made again:
        Tidepool may not show again what that one had superseded. Then, what was not verified recently,
        longest ago first.

        Normal data sets only: what a batch has added to a continuous one, later ones may have replaced. Not
        those whose work area was purged: there is nothing to compare with. Nor what a person has dismissed.

        :param before: those that were last verified before this moment.
        :param limit: how many at most.
        """
        others = data_sets.alias()
        newest = select(func.max(others.c.ordinal)).where(others.c.batch == data_sets.c.batch)
        whole = batches.alias()
        # People dismiss whole batches, of which a part has the data set.
        dismissed = exists().where(whole.c.id == WHOLE, whole.c.dismissed.is_not(None))
        verified = (
            select(data_sets.c.batch, func.coalesce(data_sets.c.checked_at, data_sets.c.verified_at))
            .join(batches, batches.c.id == data_sets.c.batch)
            .where(
                batches.c.state == BatchState.VERIFIED,
                batches.c.purged.is_(None),
                ~dismissed,
                data_sets.c.state == DataSetState.VERIFIED,
                data_sets.c.data_set_type == "normal",
                data_sets.c.ordinal == newest.scalar_subquery(),
            )
        )
        # As two queries, each follows the order of an index and stops at the limit.
        never = verified.where(data_sets.c.checked_at.is_(None), data_sets.c.verified_at <= before)
        long_ago = verified.where(data_sets.c.checked_at <= before)
        queries = (
            never.order_by(data_sets.c.verified_at).limit(limit),
            long_ago.order_by(data_sets.c.checked_at).limit(limit),
        )
        at_once = _beside_deleted(verified).order_by(data_sets.c.batch).limit(limit)
        with self._database.reading() as connection:
            urgent = [row.batch for row in connection.execute(at_once)]
            due = sorted((last, batch) for query in queries for batch, last in connection.execute(query))
        return list(dict.fromkeys([*urgent, *(batch for _last, batch in due)]))[:limit]

    def set_origin(self, data_set: int, origin: TaskOrigin, *, lease: Lease | None = None) -> None:
        """Record which task works on a data set now, after another one has stopped."""
        with writing_under(self._database, lease) as connection:
            connection.execute(
                update(data_sets).where(data_sets.c.id == data_set).values(**vars(origin), updated_at=NOW)
            )

    def get(self, data_set: int) -> DataSetRow:
        """Return one data set as it is now."""
        query = select(data_sets).where(data_sets.c.id == data_set)
        with self._database.reading() as connection:
            return _data_set(connection.execute(query).one())

    def of_batch(self, batch: int) -> list[DataSetRow]:
        """Return every data set that was started for a batch, oldest first."""
        with self._database.reading() as connection:
            return [_data_set(row) for row in connection.execute(_OF_BATCH, {"number": batch})]

    def known(self, data_set_ids: Collection[str]) -> set[str]:
        """Return which data sets of some the ledger has, in whatever state.

        :param data_set_ids: ids at Tidepool.
        """
        found: set[str] = set()
        if not data_set_ids:
            return found
        with self._database.reading() as connection:
            for batch_of_ids in batched(list(data_set_ids)):
                query = select(data_sets.c.data_set_id).where(data_sets.c.data_set_id.in_(batch_of_ids))
                found.update(connection.scalars(query))
        return found

    def of_batches(self, numbers: Sequence[int]) -> list[DataSetRow]:
        """Return every data set that was started for these batches, by batch and age."""
        with self._database.reading() as connection:
            return [_data_set(row) for row in connection.execute(_OF_BATCHES, {"numbers": list(numbers)})]

    def begin_chunk(
        self, data_set: int, chunk_index: int, *, digest: str, records: int, lease: Lease | None = None
    ) -> None:
        """Record that a chunk is about to be sent; each time counts as an attempt."""
        given = {"data_set": data_set, "chunk_index": chunk_index, "digest": digest, "records": records}
        with writing_under(self._database, lease) as connection:
            connection.execute(_BEGIN_CHUNK[connection.dialect.name], given)

    def chunk_stored(self, data_set: int, chunk_index: int, *, lease: Lease | None = None) -> None:
        """Record that Tidepool has confirmed a chunk."""
        with writing_under(self._database, lease) as connection:
            connection.execute(_CHUNK_STORED, {"its_data_set": data_set, "its_index": chunk_index})

    def forget_chunks(self, data_set: int, indexes: Sequence[int], *, lease: Lease | None = None) -> None:
        """Take back that chunks are about to be sent: they never were.

        :param indexes: their indexes; one that is stored stays.
        """
        unsent = (chunks.c.data_set == data_set, chunks.c.state == ChunkState.SENDING)
        with writing_under(self._database, lease) as connection:
            for some in batched(indexes):
                connection.execute(delete(chunks).where(*unsent, chunks.c.chunk_index.in_(some)))

    def chunks_of(self, data_set: int) -> dict[int, ChunkRow]:
        """Return the chunks that were sent or are being sent to a data set, by index."""
        with self._database.reading() as connection:
            rows = connection.execute(select(chunks).where(chunks.c.data_set == data_set)).all()
        found = (dict(row._mapping) for row in rows)
        return {row["chunk_index"]: ChunkRow(**{**row, "state": ChunkState(row["state"])}) for row in found}


_OF_BATCH = select(data_sets).where(data_sets.c.batch == bindparam("number")).order_by(data_sets.c.ordinal)
_LAST = select(func.max(data_sets.c.ordinal)).where(data_sets.c.batch == bindparam("number"))
_INSERT = insert(data_sets).values(created_at=NOW, updated_at=NOW).returning(*data_sets.c)
_INSERTS = {DataSetState.OPENING: _INSERT, DataSetState.OPEN: _INSERT.values(opened_at=NOW)}
"""What inserts a data set that is about to be opened, or that is open."""

_OF_BATCHES = (
    select(data_sets)
    .where(data_sets.c.batch.in_(bindparam("numbers", expanding=True)))
    .order_by(data_sets.c.batch, data_sets.c.ordinal)
)


def _begin_chunk(insert: InsertOf) -> Executable:
    """Return the statement that records the intent to send a chunk, for the first time or once more."""
    names = ("data_set", "chunk_index", "digest", "records")
    given = {name: bindparam(name, type_=chunks.c[name].type) for name in names}
    new = insert(chunks).values(**given, state=ChunkState.SENDING, attempts=1, updated_at=NOW)
    return new.on_conflict_do_update(
        index_elements=[chunks.c.data_set, chunks.c.chunk_index],
        set_={"state": ChunkState.SENDING, "attempts": chunks.c.attempts + 1, "updated_at": NOW},
    )


_BEGIN_CHUNK = for_each_dialect(_begin_chunk)

_CHUNK_STORED = (
    update(chunks)
    .where(chunks.c.data_set == bindparam("its_data_set"), chunks.c.chunk_index == bindparam("its_index"))
    .values(state=ChunkState.STORED, updated_at=NOW)
)


def _beside_deleted(verified: Select[tuple[int, datetime]]) -> Select[tuple[int, datetime]]:
    """Return those of which an upload of the device that has days in common was deleted since."""
    gone, its_batch, its_days, days = (
        data_sets.alias(),
        batches.alias(),
        batch_days.alias(),
        batch_days.alias(),
    )
    beside = (
        select(days.c.batch, func.max(gone.c.updated_at).label("at"))
        .join_from(gone, its_batch, its_batch.c.id == gone.c.batch)
        .join(its_days, its_days.c.batch == its_batch.c.id)
        .join(days, days.c.day == its_days.c.day)
        .join(batches, batches.c.id == days.c.batch)
        .where(
            gone.c.state == DataSetState.DELETED,
            its_batch.c.state != BatchState.VERIFIED,
            batches.c.id != its_batch.c.id,
            batches.c.api_host == its_batch.c.api_host,
            batches.c.user_id == its_batch.c.user_id,
            batches.c.device_id == its_batch.c.device_id,
        )
        .group_by(days.c.batch)
        .subquery()
    )
    last = func.coalesce(data_sets.c.checked_at, data_sets.c.verified_at)
    return verified.join(beside, beside.c.batch == batches.c.id).where(beside.c.at > last)


def _data_set(row: Any) -> DataSetRow:
    values = dict(row._mapping)
    return DataSetRow(**{**values, "state": DataSetState(values["state"])})

"""What the ledger knows about the parts of giant batches.

A part is a batch of its own for everything that uploads, verifies and reverifies. The whole batch has no data
set: its state is derived from theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, func, insert, or_, select, update

from tidepool_ingest.ledger.batches import BatchRow, batch_row
from tidepool_ingest.ledger.database import Database, batched, now_of, retry_on_conflict
from tidepool_ingest.ledger.leases import Lease, writing_under
from tidepool_ingest.ledger.schema import batches, rejections
from tidepool_ingest.ledger.states import TERMINAL_STATES, BatchState, check_batch_state
from tidepool_ingest.ledger.transitions import write_state, write_state_of
from tidepool_ingest.ledger.whole_batches import part_label


@dataclass(frozen=True, kw_only=True)
class FoundPart:
    """A part as ``prepare`` has cut it. All its records are accepted."""

    content_key: str
    records: int
    expected_rows: int
    chunks: int


class Parts:
    """The rows of parts, in the table of batches.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_batch(self, whole: int) -> list[BatchRow]:
        """Return the parts of a split batch in their order; none for one that is not split.

        :param whole: the batch's number.
        """
        with self._database.reading() as connection:
            return _parts_of(connection, whole)

    def wholes_of(self, numbers: Sequence[int]) -> dict[int, int]:
        """Return the numbers of all parts of batches, each with the number of its whole batch.

        :param numbers: the numbers of the whole batches.
        """
        found: dict[int, int] = {}
        with self._database.reading() as connection:
            for batch_of_ids in batched(numbers):
                query = select(batches.c.id, batches.c.part_of).where(
                    batches.c.part_of.in_(batch_of_ids), batches.c.state != BatchState.OVERWRITTEN
                )
                found.update((row.id, row.part_of) for row in connection.execute(query))
        return found

    def register(self, whole: BatchRow, found: Sequence[FoundPart]) -> list[BatchRow]:
        """Register the parts that a batch is split into; those of an earlier split no longer count.

        A part that is known keeps its state and its history.

        :param whole: the batch.
        :param found: its parts in their order; none when it stays whole.
        """
        return retry_on_conflict(lambda: self._register(whole, found))

    def _register(self, whole: BatchRow, found: Sequence[FoundPart]) -> list[BatchRow]:
        with self._database.writing() as connection:
            now = now_of(connection)
            # Another run may be registering the same parts: this lock makes them take turns.
            connection.execute(select(batches.c.id).where(batches.c.id == whole.id).with_for_update())
            query = select(batches).where(batches.c.part_of == whole.id)
            known = {row.content_key: batch_row(row) for row in connection.execute(query)}
            gone = [row.id for key, row in known.items() if key not in {part.content_key for part in found}]
            of_earlier_split = and_(batches.c.id.in_(gone), batches.c.state != BatchState.OVERWRITTEN)
            write_state(connection, of_earlier_split, BatchState.OVERWRITTEN, reason=None, now=now)
            for number, part in enumerate(found, 1):
                values = {
                    **{name: getattr(whole, name) for name in _SHARED_WITH_WHOLE},
                    "label": part_label(whole.label, number, len(found)),
                    "part": number,
                    "chunks": part.chunks,
                }
                counted = {
                    "staged": part.records,
                    "accepted": part.records,
                    "quarantined": 0,
                    "identical": 0,
                    "expected_rows": part.expected_rows,
                }
                before = known.get(part.content_key)
                if before is None:
                    identity = {"content_key": part.content_key, "part_of": whole.id, "created_at": now}
                    values |= {**identity, **counted, "state": BatchState.PREPARED, "updated_at": now}
                    connection.execute(insert(batches).values(values))
                    continue
                if before.state is BatchState.OVERWRITTEN:
                    check_batch_state(before.state, BatchState.PREPARED, is_part=True)
                    values |= {**counted, "state": BatchState.PREPARED}
                    values |= dict.fromkeys(("reason", "reason_detail", "stopped_in"))
                if any(getattr(before, name) != value for name, value in values.items()):
                    changed = update(batches).where(batches.c.id == before.id)
                    connection.execute(changed.values(**values, updated_at=now))
            return _parts_of(connection, whole.id)

    def rejected_in_others(self, part: BatchRow) -> tuple[int, int]:
        """Return how many records of the other parts of a batch Tidepool itself has rejected, and their rows.

        :param part: the part whose own rejections do not count.
        """
        query = (
            select(func.count(), func.sum(rejections.c.rows))
            .join(batches, batches.c.id == rejections.c.batch)
            .where(batches.c.part_of == part.part_of, batches.c.id != part.id)
        )
        with self._database.reading() as connection:
            records, rows = connection.execute(query).one()
        return records, int(rows or 0)

    def set_all(self, whole: int, state: BatchState, *, lease: Lease | None = None) -> None:
        """Write one state for a batch and all its parts at once, when it is replaced or withdrawn.

        :param whole: the batch's number.
        :param state: the state.
        :param lease: the lease on the whole batch.
        """
        of_it = or_(batches.c.id == whole, batches.c.part_of == whole)
        with writing_under(self._database, lease) as connection:
            current = and_(of_it, batches.c.state != BatchState.OVERWRITTEN)
            write_state(connection, current, state, reason=None)

    def sum_up(self, whole: int, *, lease: Lease | None = None) -> BatchState:
        """Derive the state of a batch from its parts, and return it.

        It is verified once each part is verified or has no record to upload; if a part no longer is, it is
        uploading again. What a guard or a person has decided about the whole stays.

        :param whole: the number of a split batch.
        :param lease: the lease on the whole batch.
        """
        with writing_under(self._database, lease) as connection:
            query = select(batches.c.state).where(batches.c.id == whole)
            state = BatchState(connection.execute(query.with_for_update()).scalar_one())
            parts = _parts_of(connection, whole)
            if state not in (BatchState.PREPARED, BatchState.UPLOADING, BatchState.VERIFIED):
                return state
            reason, detail = next(
                ((part.reason, part.reason_detail) for part in parts if part.reason), (None, None)
            )
            if all(part.state in TERMINAL_STATES for part in parts):
                state = BatchState.VERIFIED
            elif state is BatchState.VERIFIED:
                state = BatchState.UPLOADING
            write_state_of(connection, whole, state, reason=reason, reason_detail=detail)
        return state


def _parts_of(connection: Connection, whole: int) -> list[BatchRow]:
    return [batch_row(row) for row in connection.execute(_OF_WHOLE, {"whole": whole})]


_OF_WHOLE = (
    select(batches)
    .where(batches.c.part_of == bindparam("whole"), batches.c.state != BatchState.OVERWRITTEN)
    .order_by(batches.c.part)
)


_SHARED_WITH_WHOLE = (
    "api_host",
    "user_id",
    "batch_id",
    "day",
    "staged_at",
    "folder",
    "connection",
    "device_id",
    "data_set_type",
    "replaces",
)
"""Columns that a part shares with its whole batch."""

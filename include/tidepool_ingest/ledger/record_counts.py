"""What became of a batch's records: accepted ones by day, others by reason, and Tidepool's rejections."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, select

from tidepool_ingest.ledger.database import Database, now_of
from tidepool_ingest.ledger.leases import Lease, writing_under
from tidepool_ingest.ledger.schema import batch_days, batches, device_spans, quarantine_reasons, rejections
from tidepool_ingest.ledger.whole_batches import IS_WHOLE

Days = dict[date, dict[str, int]]
"""Numbers of records by UTC day and type."""

Hours = dict[date, dict[str, str]]
"""The same by hour of the day, as :func:`~tidepool_ingest.coverage.text_of_hours` writes them."""


class BatchDays:
    """The table of record days.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def replace_for_batch(
        self,
        batch: int,
        days: Mapping[date, Mapping[str, int]],
        hours: Mapping[date, Mapping[str, str]] | None = None,
    ) -> None:
        """Record the days of a batch's accepted records, in place of what was recorded before.

        :param batch: the batch's number.
        :param days: numbers of records by UTC day and type.
        :param hours: the same by hour, as :data:`Hours`; not known of a batch that was prepared before they
            were counted.
        """
        by_hour = hours or {}
        wanted = {
            (day, kind, records, by_hour.get(day, {}).get(kind))
            for day, kinds in days.items()
            for kind, records in kinds.items()
        }
        names = ("day", "type", "records", "hours")
        rows = [{"batch": batch, **dict(zip(names, row, strict=True))} for row in wanted]
        with self._database.writing() as connection:
            # Another run may be recording the same: this lock makes them take turns.
            connection.execute(_LOCK_BATCH, {"number": batch})
            recorded = {tuple(row) for row in connection.execute(_DAYS, {"number": batch})}
            if wanted == recorded:
                return
            if recorded:
                connection.execute(_FORGET_DAYS, {"number": batch})
            if rows:
                connection.execute(_ADD_DAYS, rows)

    def of_batch(self, batch: int) -> Days:
        """Return the numbers of a batch's accepted records, oldest day first."""
        days: Days = {}
        for day, kind, records, _hours in self._of_batch(batch):
            days.setdefault(day, {})[kind] = records
        return days

    def hours_of_batch(self, batch: int) -> Hours:
        """Return the numbers of a batch's accepted records by UTC hour, as far as they are known."""
        found: Hours = {}
        for day, kind, _records, hours in self._of_batch(batch):
            if hours is not None:
                found.setdefault(day, {})[kind] = hours
        return found

    def _of_batch(self, batch: int) -> Sequence[Any]:
        with self._database.reading() as connection:
            return connection.execute(_DAYS, {"number": batch}).all()


_LOCK_BATCH = select(batches.c.id).where(batches.c.id == bindparam("number")).with_for_update()
_ADD_DAYS = insert(batch_days)
_FORGET_DAYS = delete(batch_days).where(batch_days.c.batch == bindparam("number"))
_DAYS = (
    select(batch_days.c.day, batch_days.c.type, batch_days.c.records, batch_days.c.hours)
    .where(batch_days.c.batch == bindparam("number"))
    .order_by(batch_days.c.day, batch_days.c.type)
)


class BatchEnd(NamedTuple):
    """The day of the last record of one batch.

    :param label: the batch's label.
    :param last_day: UTC day of its last record.
    :param updated_at: when its state last changed.
    """

    api_host: str
    user_id: str
    device_id: str
    label: str
    last_day: date
    updated_at: datetime


def batch_ends(
    database: Database, since: date, *, of: tuple[Sequence[str], Sequence[str]] | None = None
) -> Iterator[BatchEnd]:
    """Yield the last days of batches, device by device, each device's in order.

    :param database: the ledger's database.
    :param since: only batches with records from this day on.
    :param of: only batches of these users and of these devices, by id.
    """
    if of is not None:
        yield from _batch_ends_of(database, since, *of)
        return
    ends = (
        select(batch_days.c.batch, func.max(batch_days.c.day).label("last_day"))
        .where(batch_days.c.day >= since)
        .group_by(batch_days.c.batch)
        .subquery()
    )
    query = (
        select(
            batches.c.api_host,
            batches.c.user_id,
            batches.c.device_id,
            batches.c.label,
            ends.c.last_day,
            batches.c.updated_at,
        )
        .join(ends, ends.c.batch == batches.c.id)
        .where(batches.c.device_id.is_not(None), IS_WHOLE)
        .order_by(batches.c.api_host, batches.c.user_id, batches.c.device_id, ends.c.last_day)
    )
    with database.reading(streams=True) as connection:
        for row in connection.execution_options(yield_per=ROWS_PER_BATCH).execute(query):
            yield BatchEnd(*row)


def _batch_ends_of(
    database: Database, since: date, users: Sequence[str], devices: Sequence[str]
) -> Iterator[BatchEnd]:
    last_day = (
        select(func.max(batch_days.c.day))
        .where(batch_days.c.batch == batches.c.id, batch_days.c.day >= since)
        .scalar_subquery()
    )
    columns = (batches.c.api_host, batches.c.user_id, batches.c.device_id, batches.c.label)
    query = select(*columns, last_day.label("last_day"), batches.c.updated_at)
    query = query.where(
        batches.c.user_id.in_(users),
        batches.c.device_id.in_(devices),
        batches.c.api_host.in_(select(device_spans.c.api_host).distinct()),
        func.coalesce(batches.c.part_of, 0) == 0,
    ).order_by(*columns[:3], "last_day")
    with database.reading(streams=True) as connection:
        for row in connection.execution_options(yield_per=ROWS_PER_BATCH).execute(query):
            if row.last_day is not None:
                yield BatchEnd(*row)


ROWS_PER_BATCH = 1_000


Reasons = dict[str, dict[str, int]]
"""Numbers of records by type and code."""


class QuarantineReasons:
    """The table of reasons.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def replace_for_batch(self, batch: int, reasons: Mapping[str, Mapping[str, int]]) -> None:
        """Record why records of a batch are rejected, in place of what was recorded before.

        :param batch: the batch's number.
        :param reasons: numbers of records by type and code.
        """
        if self.of_batch(batch) == reasons:
            return
        rows = [
            {"batch": batch, "type": kind, "code": code, "records": records}
            for kind, codes in reasons.items()
            for code, records in codes.items()
        ]
        with self._database.writing() as connection:
            # Another run may be recording the same: this lock makes them take turns.
            connection.execute(_LOCK_BATCH, {"number": batch})
            connection.execute(delete(quarantine_reasons).where(quarantine_reasons.c.batch == batch))
            if rows:
                connection.execute(insert(quarantine_reasons), rows)

    def of_batch(self, batch: int) -> Reasons:
        """Return why records of a batch are rejected."""
        reasons: Reasons = {}
        with self._database.reading() as connection:
            for kind, code, records in connection.execute(_REASONS, {"number": batch}):
                reasons.setdefault(kind, {})[code] = records
        return reasons


_REASONS = (
    select(quarantine_reasons.c.type, quarantine_reasons.c.code, quarantine_reasons.c.records)
    .where(quarantine_reasons.c.batch == bindparam("number"))
    .order_by(quarantine_reasons.c.type, quarantine_reasons.c.records.desc(), quarantine_reasons.c.code)
)


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """One record that Tidepool rejected.

    :param ordinal: its ordinal among the records that ``prepare`` accepted, from 0.
    :param type: its type.
    :param rows: rows that Tidepool would have made of it.
    :param problems: codes and pointers, with ``*`` for names that a person chose.
    """

    ordinal: int
    type: str
    rows: int
    problems: tuple[tuple[str, str], ...]


_FORGET_REJECTED = delete(rejections).where(rejections.c.batch == bindparam("number"))
_REJECTED = select(rejections).where(rejections.c.batch == bindparam("number")).order_by(rejections.c.ordinal)


class Rejections:
    """The table of rejections.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, batch: int, rejected: Iterable[Rejection], *, lease: Lease | None = None) -> None:
        """Record that Tidepool rejected records of a batch; known ones stay as they are.

        :param batch: the batch's number.
        :param rejected: the records.
        :param lease: the lease under which this is written.
        """
        with writing_under(self._database, lease) as connection:
            now = now_of(connection)
            known = set(connection.scalars(select(rejections.c.ordinal).where(rejections.c.batch == batch)))
            rows = [
                {**vars(record), "batch": batch, "problems": json.dumps(record.problems), "created_at": now}
                for record in rejected
                if record.ordinal not in known
            ]
            if rows:
                connection.execute(insert(rejections), rows)

    def forget(self, batch: int) -> None:
        """Delete the rejections of a batch; Tidepool will reject the records again."""
        with self._database.writing() as connection:
            connection.execute(_FORGET_REJECTED, {"number": batch})

    def of_batch(self, batch: int) -> dict[int, Rejection]:
        """Return the rejections of a batch by the records' ordinals."""
        with self._database.reading() as connection:
            found = connection.execute(_REJECTED, {"number": batch}).all()
        return {
            row.ordinal: Rejection(
                ordinal=row.ordinal,
                type=row.type,
                rows=row.rows,
                problems=tuple((code, pointer) for code, pointer in json.loads(row.problems)),
            )
            for row in found
        }

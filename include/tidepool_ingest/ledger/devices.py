"""What the ledger knows about the batches of one device and their order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, func, not_, or_, select

from tidepool_ingest.ledger.batches import ORDER_COLUMNS, BatchRow, batch_row, order_key_of
from tidepool_ingest.ledger.database import Database, batched, now_of
from tidepool_ingest.ledger.leases import lease_of_batch
from tidepool_ingest.ledger.record_counts import Days
from tidepool_ingest.ledger.schema import NOW, batch_days, batches, data_sets, leases, turns
from tidepool_ingest.ledger.states import SUPERSEDED_STATES, TERMINAL_STATES, BatchState, DataSetState
from tidepool_ingest.ledger.transitions import is_one_of
from tidepool_ingest.ledger.whole_batches import WHOLE

SHOWN = (DataSetState.CLOSING, DataSetState.CLOSED, DataSetState.VERIFIED)
"""States of a data set whose records are to be seen, or may be at any moment."""


class SharedDays(NamedTuple):
    """An upload that has records on some days.

    :param label: its label.
    :param state: its state.
    :param days: how many records it has on each of them, by UTC day, the oldest first.
    """

    label: str
    state: BatchState
    days: dict[date, int]


class Devices:
    """Batches of the same device of the same user at the same API host.

    A batch that another one replaces does not count beside that one: it is deleted in any case. Of a split
    batch, the parts count, each with its own data set and the days of its own records; never for each other.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def newer(
        self,
        batch: BatchRow,
        states: Collection[DataSetState],
        *,
        sharing_days: bool,
        deduplicators: Collection[str] | None = None,
    ) -> dict[int, date]:
        """Return the staged days of later batches that have a data set in one of some states, newest first.

        :param batch: the batch in question.
        :param states: states of the data set.
        :param sharing_days: only those that have records on a day on which it has some too.
        :param deduplicators: only those whose data set has one of these; ``None`` for all.
        """
        of_some = None if deduplicators is None else tuple(sorted(deduplicators))
        query = _newer(batch.device_id is not None, sharing_days, tuple(states), of_some)
        with self._database.reading() as connection:
            newer = [(order_key_of(row), row) for row in connection.execute(query, _given(batch))]
        newer.sort(key=lambda found: found[0], reverse=True)
        return {row.id: row.day for key, row in newer if key > batch.order_key}

    def older_in_progress(self, batch: BatchRow, *, sharing_days: bool) -> dict[str, float]:
        """Return the leases on earlier batches that a task is working on.

        :param batch: the batch in question.
        :param sharing_days: only those that have records on a day on which it has some too.
        :return: seconds until each lease expires, by its name.
        """
        query = _older(batch.device_id is not None, sharing_days)
        found: dict[str, float] = {}
        with self._database.reading() as connection:
            names = set()
            for row in connection.execute(query, _given(batch)):
                if order_key_of(row) >= batch.order_key:
                    continue
                names.add(lease_of_batch(row.id))
                if row.part_of is not None and row.state not in TERMINAL_STATES:
                    # Its turn may still come while a task works on the whole batch.
                    names.add(lease_of_batch(row.part_of))
            if not names:
                return found
            now = now_of(connection)
            for batch_of_ids in batched(sorted(names)):
                alive = select(leases.c.name, leases.c.expires_at).where(
                    leases.c.name.in_(batch_of_ids), leases.c.expires_at > now
                )
                for name, expires_at in connection.execute(alive):
                    found[name] = (expires_at - now).total_seconds()
        return found

    def older_planned(self, batch: BatchRow, *, sharing_days: bool) -> list[int]:
        """Return the earlier batches that a run has yet to work on, oldest first.

        :param batch: the batch in question, or a part of it.
        :param sharing_days: only those that have records on a day on which it has some too, or of which that
            is not known yet.
        """
        query = _planned(batch.device_id is not None, sharing_days)
        with self._database.reading() as connection:
            found = [(order_key_of(row), row.id) for row in connection.execute(query, _given(batch))]
        return [number for key, number in sorted(found) if key < batch.order_key]

    def newer_to_be_started(self, batch: BatchRow) -> list[BatchRow]:
        """Return the later whole batches that are planned or prepared and have no data set yet, newest first.

        :param batch: the batch in question, or a part of it.
        """
        its = batches.alias()
        is_started = exists().where(
            data_sets.c.batch == its.c.id, func.coalesce(its.c.part_of, its.c.id) == batches.c.id
        )
        query = select(batches).where(
            _of_same_device(has_device=batch.device_id is not None),
            batches.c.day >= batch.day,
            batches.c.part_of.is_(None),
            batches.c.state.in_([BatchState.PLANNED, BatchState.PREPARED]),
            ~is_started,
        )
        with self._database.reading() as connection:
            found = [batch_row(row) for row in connection.execute(query, _given(batch))]
        return sorted(
            (row for row in found if row.order_key > batch.order_key),
            key=lambda row: row.order_key,
            reverse=True,
        )

    def verified_since(self, batch: BatchRow, since: datetime) -> dict[str, str]:
        """Return the deduplicators of other verified data sets of the device that were closed since, by id.

        :param batch: the batch in question.
        :param since: the moment.
        """
        query = (
            select(data_sets.c.data_set_id, data_sets.c.deduplicator)
            .join(batches, batches.c.id == data_sets.c.batch)
            .where(
                _of_same_device(has_device=batch.device_id is not None),
                data_sets.c.state == DataSetState.VERIFIED,
                data_sets.c.closed_at > since,
            )
        )
        with self._database.reading() as connection:
            return {row.data_set_id: row.deduplicator for row in connection.execute(query, _given(batch))}

    def days_of_others(self, batch: BatchRow) -> Days:
        """Return how many records other verified batches of the device have on the days of this one's.

        :param batch: the batch in question.
        """
        days: Days = {}
        with self._database.reading() as connection:
            own = set(connection.scalars(select(batch_days.c.day).where(batch_days.c.batch == batch.id)))
            verified = select(batches.c.id).where(
                _of_same_device(has_device=batch.device_id is not None), _is_verified()
            )
            others = list(connection.scalars(verified, _given(batch)))
            for batch_of_ids in batched(others if own else []):
                query = (
                    select(batch_days.c.day, batch_days.c.type, func.sum(batch_days.c.records))
                    .where(batch_days.c.batch.in_(batch_of_ids), batch_days.c.day.between(min(own), max(own)))
                    .group_by(batch_days.c.day, batch_days.c.type)
                )
                for day, kind, records in connection.execute(query):
                    if day in own:
                        kinds = days.setdefault(day, {})
                        kinds[kind] = kinds.get(kind, 0) + int(records)
        return days

    def others_of(self, batch: BatchRow) -> list[BatchRow]:
        """Return the other whole batches of a device, whatever it was called then, the newest first.

        Left out is what another batch has taken the place of, or is about to, and what a person has undone.

        :param batch: the whole batch in question, of which is known which device it is of.
        """
        known_as = [batches.c.device_key == batch.device_key] if batch.device_key else []
        called = [batches.c.device_id == batch.device_id] if batch.device_id else []
        if not known_as and not called:
            return []
        query = select(batches).where(
            batches.c.api_host == batch.api_host,
            batches.c.user_id == batch.user_id,
            batches.c.data_set_type == batch.data_set_type,
            or_(*known_as, *called),
            or_(batches.c.device_key.is_not(None), batches.c.zones.is_not(None)),
            batches.c.part_of.is_(None),
            batches.c.id.not_in([batch.id, *([] if batch.replaces is None else [batch.replaces])]),
            batches.c.state.not_in([*SUPERSEDED_STATES, BatchState.WITHDRAWN]),
        )
        with self._database.reading() as connection:
            found = [batch_row(row) for row in connection.execute(query)]
        return sorted(found, key=lambda row: (row.order_key, row.id), reverse=True)

    def shown_days(self, numbers: Sequence[int], first: date, last: date) -> dict[int, Days]:
        """Return how many records of whole batches are to be seen at Tidepool on some days, by batch.

        Of a batch that is split, only parts count that are.

        :param numbers: the batches' numbers.
        :param first: the first day in question.
        :param last: the last one.
        """
        is_shown = exists().where(data_sets.c.batch == batches.c.id, data_sets.c.state.in_(SHOWN))
        found: dict[int, Days] = {}
        with self._database.reading() as connection:
            for batch_of_ids in batched(numbers):
                for column in (batches.c.id, batches.c.part_of):
                    query = (
                        select(WHOLE, batch_days.c.day, batch_days.c.type, batch_days.c.records)
                        .join(batches, batches.c.id == batch_days.c.batch)
                        .where(column.in_(batch_of_ids), batch_days.c.day.between(first, last), is_shown)
                    )
                    for number, day, kind, records in connection.execute(query):
                        kinds = found.setdefault(number, {}).setdefault(day, {})
                        kinds[kind] = kinds.get(kind, 0) + records
        return found

    def on_days(
        self, device_ids: Collection[str], days: Collection[date], user_id: str | None = None
    ) -> list[SharedDays]:
        """Return the uploads of devices that have records on some days, the newest first.

        Of a split batch, the whole counts, with the records of all its parts. Left out is what another batch
        has taken the place of.

        :param device_ids: ``deviceId`` of each device.
        :param days: UTC days.
        :param user_id: whose uploads, ``None`` for those of anybody.
        """
        wanted = set(days)
        if not wanted or not device_ids:
            return []
        whole = batches.alias()
        query = (
            select(whole.c.id, whole.c.label, whole.c.state, batches.c.part_of, batch_days.c.day)
            .add_columns(func.sum(batch_days.c.records))
            .select_from(batch_days)
            .join(batches, batches.c.id == batch_days.c.batch)
            .join(whole, whole.c.id == WHOLE)
            .where(
                whole.c.device_id.in_(sorted(device_ids)),
                whole.c.state.not_in(SUPERSEDED_STATES),
                batches.c.state != BatchState.OVERWRITTEN,
                batch_days.c.day.between(min(wanted), max(wanted)),
                *([] if user_id is None else [whole.c.user_id == user_id]),
            )
            .group_by(whole.c.id, whole.c.label, whole.c.state, batches.c.part_of, batch_days.c.day)
            .order_by(whole.c.id.desc(), batch_days.c.day)
        )
        own: dict[int, SharedDays] = {}
        of_parts: dict[int, SharedDays] = {}
        with self._database.reading() as connection:
            for number, label, state, part_of, day, records in connection.execute(query):
                if day in wanted:
                    found = own if part_of is None else of_parts
                    shared = found.setdefault(number, SharedDays(label, BatchState(state), {}))
                    shared.days[day] = int(records)
        # What is known of the whole is known of its parts as well.
        return [shared for _, shared in sorted((of_parts | own).items(), reverse=True)]

    def newest_verified_days(
        self, api_host: str, user_ids: Sequence[str], *, after: date
    ) -> dict[tuple[str, str | None], date]:
        """Return the latest staged day that is verified, by user and device.

        :param api_host: the host of the Tidepool API.
        :param user_ids: the users in question.
        :param after: only days after this one, which are few: most uploads are newer than all others of their
            device.
        """
        found: dict[tuple[str, str | None], date] = {}
        with self._database.reading() as connection:
            for batch_of_ids in batched(user_ids):
                query = (
                    select(batches.c.user_id, batches.c.device_id, func.max(batches.c.day))
                    .where(
                        batches.c.api_host == api_host,
                        batches.c.user_id.in_(batch_of_ids),
                        batches.c.day > after,
                        batches.c.data_set_type == "normal",
                        _is_verified(),
                    )
                    .group_by(batches.c.user_id, batches.c.device_id)
                )
                found.update(((user, device), day) for user, device, day in connection.execute(query))
        return found


def _is_verified() -> ColumnElement[bool]:
    return exists().where(data_sets.c.batch == batches.c.id, data_sets.c.state == DataSetState.VERIFIED)


# What each batch asks before it is closed is made once: making such a statement costs more than an answer.


def _given(batch: BatchRow) -> dict[str, Any]:
    """Return what the statements below are given of a batch."""
    return {
        "number": batch.id,
        "host": batch.api_host,
        "user": batch.user_id,
        "device": batch.device_id,
        "type": batch.data_set_type,
        "of": batch.day,
        "own": batch.part_of or batch.id,
        "replaced": batch.part_of or batch.id if batch.replaces is None else batch.replaces,
    }


def _of_same_device(*, has_device: bool) -> ColumnElement[bool]:
    """Return the condition that a batch is another one of the device of one that is given later."""
    device = batches.c.device_id == bindparam("device") if has_device else batches.c.device_id.is_(None)
    return and_(
        batches.c.api_host == bindparam("host"),
        batches.c.user_id == bindparam("user"),
        device,
        batches.c.data_set_type == bindparam("type"),
        # Parts of one batch have no record in common: they do not count as others.
        not_(is_one_of(WHOLE, (bindparam("own"), bindparam("replaced")))),
    )


def _shares_a_day() -> ColumnElement[bool]:
    own, others = batch_days.alias(), batch_days.alias()
    its = own.c.batch == bindparam("number")
    return exists().where(its, others.c.batch == batches.c.id, own.c.day == others.c.day)


@cache
def _newer(
    has_device: bool,
    sharing_days: bool,
    states: tuple[DataSetState, ...],
    deduplicators: tuple[str, ...] | None,
) -> Select[Any]:
    of_some = is_one_of(data_sets.c.deduplicator, deduplicators or ())
    return (
        select(batches.c.id, *ORDER_COLUMNS)
        .join(data_sets, data_sets.c.batch == batches.c.id)
        .where(
            _of_same_device(has_device=has_device),
            batches.c.day >= bindparam("of"),
            is_one_of(data_sets.c.state, states),
            *([] if deduplicators is None else [of_some]),
            *([_shares_a_day()] if sharing_days else []),
        )
        .distinct()
    )


@cache
def _older(has_device: bool, sharing_days: bool) -> Select[Any]:
    part = batches.alias()
    is_split = exists().where(part.c.part_of == batches.c.id, part.c.state != BatchState.OVERWRITTEN)
    return select(batches.c.id, batches.c.part_of, batches.c.state, *ORDER_COLUMNS).where(
        _of_same_device(has_device=has_device),
        batches.c.day <= bindparam("of"),
        ~is_split,
        *([_shares_a_day()] if sharing_days else []),
    )


@cache
def _planned(has_device: bool, sharing_days: bool) -> Select[Any]:
    has_turn = exists().where(turns.c.batch == batches.c.id, turns.c.expires_at > NOW)
    counts = or_(batches.c.accepted.is_(None), _shares_a_day())
    return select(batches.c.id, *ORDER_COLUMNS).where(
        _of_same_device(has_device=has_device),
        batches.c.day <= bindparam("of"),
        has_turn,
        *([counts] if sharing_days else []),
    )

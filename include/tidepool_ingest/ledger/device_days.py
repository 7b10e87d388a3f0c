"""What came of each device on each staged day, and how it stands: what an overview is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import IntEnum
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Date,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from tidepool_ingest.ledger.database import Database, batched
from tidepool_ingest.ledger.schema import NOT_CLEAN, batch_days, batches, data_sets, device_spans
from tidepool_ingest.ledger.states import DECLINED, BatchState
from tidepool_ingest.privacy import short_hash


class DeviceKey(NamedTuple):
    """What tells a device's batches from others'.

    :param device_id: its id; empty if the manifests name none.
    """

    api_host: str
    user_id: str
    device_id: str
    data_set_type: str


class Standing(IntEnum):
    """How a batch stands, the worst last."""

    DISMISSED = 1
    """A person has dismissed, declined or undone it, or another batch has replaced it."""
    VERIFIED = 2
    """It is verified, and none of its records was rejected."""
    IN_PROGRESS = 3
    """A run has it in hand, or is to take it."""
    PARTLY = 4
    """It is done, and records of it were rejected: some, or all within the allowed share."""
    HELD = 5
    """A guard holds it."""
    FAILED = 6
    """Its last attempt ended with an error, or it was found changed after it was verified."""


STANDINGS = {int(standing): standing for standing in Standing}
"""By what a query calls them; as quick as thousands of days ask for."""


@dataclass(frozen=True, slots=True)
class DeviceSpan:
    """From when to when batches of a device were staged.

    :param label: of the newest batch.
    :param newest: its number.
    :param last_record: UTC day of the newest batch's last record, as far as it is known.
    """

    key: DeviceKey = field(repr=False)
    first_day: date
    last_day: date
    newest: int
    label: str
    last_record: date | None


@dataclass(slots=True)
class DayOfDevice:
    """What was staged of a device on one day; what has another batch's content in its place does not count.

    :param worst: how the worst of its batches stands.
    :param some_verified: whether one of them is simply verified.
    :param visible: rows that Tidepool shows of the newest data sets, when they were last counted.
    """

    worst: Standing = Standing.DISMISSED
    some_verified: bool = False
    batches: int = 0
    accepted: int = 0
    rejected: int = 0
    visible: int = 0

    @property
    def standing(self) -> Standing:
        """How it stands: as its worst batch, and partly if only some of them are verified."""
        if self.worst is Standing.IN_PROGRESS and self.some_verified:
            return Standing.PARTLY
        return self.worst


NOT_COUNTED = (BatchState.OVERWRITTEN, BatchState.GONE)
"""States of a batch that is in staging no more, and of which nothing came."""

_KEY = tuple(device_spans.c[name] for name in DeviceKey._fields)

_OF_BATCH = (
    batches.c.api_host,
    batches.c.user_id,
    func.coalesce(batches.c.device_id, "").label("device_id"),
    batches.c.data_set_type,
)

_IN_INDEX = (batches.c.user_id, batches.c.device_id, batches.c.api_host, batches.c.data_set_type)
"""The same, as the indexes by day have them."""

_COUNTS: ColumnElement[bool] = batches.c.state.not_in(NOT_COUNTED)

_STANDING: ColumnElement[int] = case(
    (
        or_(
            batches.c.dismissed.is_not(None),
            batches.c.reason == DECLINED,
            batches.c.state.in_((BatchState.WITHDRAWN, BatchState.REPLACED)),
        ),
        int(Standing.DISMISSED),
    ),
    (
        or_(
            batches.c.state == BatchState.FAILED,
            and_(
                batches.c.reason.is_not(None),
                batches.c.state.in_((BatchState.UPLOADING, BatchState.VERIFIED)),
            ),
        ),
        int(Standing.FAILED),
    ),
    (batches.c.state == BatchState.HELD, int(Standing.HELD)),
    (batches.c.state == BatchState.NOTHING_ACCEPTED, int(Standing.PARTLY)),
    (
        batches.c.state == BatchState.VERIFIED,
        case(
            (func.coalesce(batches.c.quarantined, 0) > 0, int(Standing.PARTLY)), else_=int(Standing.VERIFIED)
        ),
    ),
    else_=int(Standing.IN_PROGRESS),
)


def extend_spans(connection: Connection, rows: Iterable[Any]) -> None:
    """Record that batches were staged, in the transaction that registers them.

    :param connection: the transaction.
    :param rows: whole batches, new or moved to another day.
    """
    newest: dict[DeviceKey, tuple[date, int]] = {}
    oldest: dict[DeviceKey, date] = {}
    for row in rows:
        if row.part_of is None:
            key = DeviceKey(row.api_host, row.user_id, row.device_id or "", row.data_set_type)
            newest[key] = max(newest.get(key, (row.day, row.id)), (row.day, row.id))
            oldest[key] = min(oldest.get(key, row.day), row.day)
    known: dict[DeviceKey, Any] = {}
    for some in batched(sorted({key.user_id for key in newest})):
        of_users = select(device_spans).where(device_spans.c.user_id.in_(some))
        for span in connection.execute(of_users.order_by(device_spans.c.id)):
            known[DeviceKey(span.api_host, span.user_id, span.device_id, span.data_set_type)] = span
    new = [
        {**key._asdict(), "first_day": oldest[key], "last_day": day, "newest": number}
        for key, (day, number) in sorted(newest.items())
        if key not in known
    ]
    if new:
        connection.execute(insert(device_spans), new)
    grown = []
    for key, span in known.items():  # in the order of their numbers: others take their locks alike
        day, number = newest.get(key, (span.last_day, span.newest))
        first = oldest.get(key, span.first_day)
        if first < span.first_day or (day, number) > (span.last_day, span.newest):
            grown.append({"span": span.id, "first": first, "day": day, "number": number})
    if grown:
        connection.execute(_GROW, grown)


def _grow() -> Update:
    """Return the statement that extends a span as it is now: another run may have written it meanwhile."""
    table = device_spans.c
    first, day = bindparam("first", type_=Date), bindparam("day", type_=Date)
    number = bindparam("number", type_=BigInteger)
    is_newer = or_(table.last_day < day, and_(table.last_day == day, table.newest < number))
    return (
        update(device_spans)
        .where(table.id == bindparam("span"))
        .values(
            first_day=case((table.first_day > first, first), else_=table.first_day),
            newest=case((is_newer, number), else_=table.newest),
            last_day=case((is_newer, day), else_=table.last_day),
        )
    )


_GROW = _grow()


class DeviceDays:
    """Batches by device and staged day.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def spans(self, *, api_host: str | None = None, data_set_type: str | None = None) -> list[DeviceSpan]:
        """Return from when to when each device has sent.

        :param api_host: only devices whose data go there, here and below.
        :param data_set_type: only devices of this type of data set, here and below.
        """
        last_record = (
            select(func.max(batch_days.c.day))
            .where(batch_days.c.batch == device_spans.c.newest)
            .scalar_subquery()
        )
        others = [device_spans.c[name] for name in ("first_day", "last_day", "newest")]
        # By its number: joined, PostgreSQL would rather read all batches.
        label = select(batches.c.label).where(batches.c.id == device_spans.c.newest).scalar_subquery()
        query = select(*_KEY, *others, label, last_record)
        query = query.where(*_limits(device_spans.c, api_host, data_set_type))
        with self._database.reading() as connection:
            return [
                DeviceSpan(DeviceKey(*row[:4]), row[4], row[5], row[6], row[7], row[8])
                for row in connection.execute(query)
            ]

    def troubled(
        self, first: date, last: date, *, api_host: str | None = None, data_set_type: str | None = None
    ) -> dict[DeviceKey, tuple[int, ...]]:
        """Return on how many days each device stands how, but for days on which all is simply verified.

        :param first: the first staged day in question, here and below.
        :param last: the last one.
        :returns: for each device, the numbers of days in the order of :class:`Standing`.
        """
        other = batches.alias()
        is_mixed = exists().where(
            other.c.day == batches.c.day,
            other.c.part_of.is_(None),
            other.c.user_id == batches.c.user_id,
            # Expressions: both databases are to go by day and person, not through a state or a host.
            func.coalesce(other.c.api_host, "") == batches.c.api_host,
            func.coalesce(other.c.device_id, "") == func.coalesce(batches.c.device_id, ""),
            other.c.data_set_type == batches.c.data_set_type,
            func.coalesce(other.c.state, "") == BatchState.VERIFIED,
            other.c.dismissed.is_(None),
            other.c.reason.is_(None),
        )
        # As `DayOfDevice` has it, of a day on which something else is simply verified.
        in_progress = _STANDING.in_([int(Standing.IN_PROGRESS)])
        dismissed = _STANDING.in_([int(Standing.DISMISSED)])
        standing = case(
            (and_(in_progress, is_mixed), int(Standing.PARTLY)),
            (and_(dismissed, is_mixed), int(Standing.VERIFIED)),
            else_=_STANDING,
        )
        # In the order of the index, so that no sorting comes before the one by device.
        days = (
            select(*_IN_INDEX, func.max(standing).label("standing"))
            .where(text(NOT_CLEAN), batches.c.day.between(first, last), _COUNTS)
            .where(*_limits(batches.c, api_host, data_set_type))
            .group_by(batches.c.day, *_IN_INDEX)
            .subquery()
        )
        device_id = func.coalesce(days.c.device_id, "")
        key = (days.c.api_host, days.c.user_id, device_id, days.c.data_set_type)
        numbers = [func.sum(case((days.c.standing == int(stands), 1), else_=0)) for stands in Standing]
        query = select(*key, *numbers).group_by(days.c.user_id, device_id, *key[::3])
        with self._database.reading() as connection:
            return {DeviceKey(*row[:4]): row[4:] for row in connection.execute(query)}

    def accepted(self, first: date, last: date) -> dict[DeviceKey, int]:
        """Return how many records were accepted of each device: this reads every batch of these days."""
        # In the words of the index, so that it answers alone.
        query = (
            select(*_OF_BATCH, func.sum(batches.c.accepted))
            .where(func.coalesce(batches.c.part_of, 0) == 0, batches.c.day.between(first, last), _COUNTS)
            .group_by(batches.c.user_id, _OF_BATCH[2], batches.c.api_host, batches.c.data_set_type)
        )
        with self._database.reading() as connection:
            return {DeviceKey(*row[:4]): int(row[4] or 0) for row in connection.execute(query)}

    def of_devices(
        self, keys: Collection[DeviceKey], first: date, last: date
    ) -> dict[DeviceKey, dict[date, DayOfDevice]]:
        """Return what was staged of some devices, day by day.

        :param keys: the devices.
        """
        found: dict[DeviceKey, dict[date, DayOfDevice]] = {key: {} for key in keys}
        by_values = {tuple(key): days for key, days in found.items()}  # as a row has them
        # Each day by itself, so that an index leads to these people's batches on it.
        days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        query = (
            select(batches.c.id, *_OF_BATCH, batches.c.day, _STANDING)
            .add_columns(
                batches.c.accepted, batches.c.quarantined, batches.c.part_records, data_sets.c.visible_rows
            )
            .select_from(batches.outerjoin(data_sets, data_sets.c.batch == batches.c.id))
            .where(batches.c.day.in_(days), batches.c.part_of.is_(None), _COUNTS)
            .order_by(batches.c.id, data_sets.c.ordinal)
        )
        split: dict[int, DayOfDevice] = {}
        with self._database.reading() as connection:
            for some in batched(sorted(found)):
                of_some = query.where(
                    batches.c.user_id.in_({key.user_id for key in some}),
                    _OF_BATCH[2].in_({key.device_id for key in some}),
                )
                before, older = 0, 0
                for row in connection.execute(of_some):
                    of_device = by_values.get(row[1:5])
                    if of_device is None:
                        continue
                    number, _, _, _, _, day, standing, accepted, rejected, part_records, visible = row
                    of_day = of_device.get(day)
                    if of_day is None:
                        of_day = of_device[day] = DayOfDevice()
                    if number == before:  # A newer data set of the same batch counts in place of the older.
                        of_day.visible += (visible or 0) - older
                    else:
                        stands = STANDINGS[standing]
                        of_day.worst = max(of_day.worst, stands)
                        of_day.some_verified |= stands is Standing.VERIFIED
                        of_day.batches += 1
                        of_day.accepted += accepted or 0
                        of_day.rejected += rejected or 0
                        of_day.visible += visible or 0
                        if part_records is not None:
                            split[number] = of_day
                    before, older = number, visible or 0
            newest = data_sets.c.ordinal == _newest_ordinal()
            for some_wholes in batched(sorted(split)):
                of_parts = (
                    select(batches.c.part_of, func.sum(data_sets.c.visible_rows))
                    .select_from(batches)
                    .join(data_sets, and_(data_sets.c.batch == batches.c.id, newest))
                    .where(batches.c.part_of.in_(some_wholes), batches.c.state != BatchState.OVERWRITTEN)
                    .group_by(batches.c.part_of)
                )
                for whole, visible in connection.execute(of_parts):
                    split[whole].visible += int(visible or 0)
        return found

    def by_day(self, first: date, last: date) -> dict[date, dict[Standing, int]]:
        """Return how many whole batches stand how on each staged day."""
        within = batches.c.day.between(first, last)
        whole = func.coalesce(batches.c.part_of, 0) == 0
        stands = case((_COUNTS, _STANDING), else_=0).label("stands")
        not_clean = (
            select(batches.c.day, stands, func.count())
            .where(text(NOT_CLEAN), within)
            .group_by(batches.c.day, stands)
        )
        all_of_day = select(batches.c.day, func.count()).where(whole, within).group_by(batches.c.day)
        found: dict[date, dict[Standing, int]] = {}
        with self._database.reading() as connection:
            clean = Counter({day: number for day, number in connection.execute(all_of_day)})
            for day, standing, number in connection.execute(not_clean):
                clean[day] -= number
                if standing:
                    found.setdefault(day, {})[STANDINGS[standing]] = number
        for day, number in clean.items():
            if number:
                of_day = found.setdefault(day, {})
                of_day[Standing.VERIFIED] = of_day.get(Standing.VERIFIED, 0) + number
        return found

    def identified(self, person: str | None, device: str | None) -> set[tuple[str, str]]:
        """Return the user and device ids that have these short hashes.

        No database knows the hashes, so they are made here, of as many ids as there are devices.

        :param person: of the user id; ``None`` if it does not matter.
        :param device: of the device id, likewise; empty for what has none.
        """
        query = select(device_spans.c.user_id, device_spans.c.device_id).distinct()
        with self._database.reading() as connection:
            ids = connection.execute(query).all()
        return {
            (user, named)
            for user, named in ids
            if (person is None or short_hash(user) == person)
            and (device is None or (named and short_hash(named)) == device)
        }

    def hosts(self) -> list[str]:
        """Return the hosts of the Tidepool APIs that data go to."""
        with self._database.reading() as connection:
            return sorted(connection.scalars(select(device_spans.c.api_host).distinct()))


def _newest_ordinal() -> Any:
    others = data_sets.alias()
    return select(func.max(others.c.ordinal)).where(others.c.batch == batches.c.id).scalar_subquery()


def _limits(columns: Any, api_host: str | None, data_set_type: str | None) -> Sequence[ColumnElement[bool]]:
    wanted = {"api_host": api_host, "data_set_type": data_set_type}
    return [columns[name] == value for name, value in wanted.items() if value is not None]

"""What a person's device was before: the time zone and the ``deviceId`` with which its records went up.

The identity of a record holds its instant and its ``deviceId``. A file that is read in another zone, or comes
under another ``deviceId``, therefore shows beside what is there of the same days, and not in its place. So it
is held until a person has said that it is meant.

Days are compared as the ledger has them. As long as both work areas are there, their records tell the rest:
where two batches merely touch, as they do on the day of a journey, and where a file's own clock led to the
same instants in both zones.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Any, ClassVar, Final

from upath import UPath

from tidepool_ingest.deep_json import loads
from tidepool_ingest.digests import digest_of
from tidepool_ingest.errors import Fault, HeldError, meant_as
from tidepool_ingest.ledger import BatchRow, Ledger
from tidepool_ingest.ledger.record_counts import Days
from tidepool_ingest.local_times import LocalTimes, Period
from tidepool_ingest.model.deduplicators import CONTINUOUS, AtClose, Deduplicator
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea

Pairs = set[tuple[date, str]]
"""UTC days and types of records."""

NAMED: Final = 3
"""Earlier batches that a message names; it counts the others."""

DAYS_READ: Final = 5
"""Days, at most, of which the records of two batches are compared: where none is in both, no other is."""

BESIDE: Final = 1
BESIDE_OF_OTHER: Final = 3
"""Days before and after those, of which records are read too: in another zone, they may be on another day."""

BATCHES_READ: Final = 10
"""Earlier batches, at most, whose records are read."""


ZONE_DIFFERS: Final = "zone-differs"
DEVICE_RENAMED: Final = "device-renamed"

BEFORE_FAULTS: Final[dict[str, Fault]] = {
    ZONE_DIFFERS: Fault(
        "its local times are read in another time zone than those of the same days and device that are "
        "uploaded already",
        "If its zone is wrong, correct it, or give periods, each `until` a local time. If the earlier one "
        "was, name that batch under `replaces`, so that it is deleted. In a feed, or if both are meant to "
        'show, say so in the manifest: `"meantAs": ["zone-differs"]`. The records of a feed then take the '
        "place of the earlier ones, by their origin ids; those of a normal data set show twice.",
        mends=meant_as(ZONE_DIFFERS),
    ),
    DEVICE_RENAMED: Fault(
        "records of the same days and device are uploaded already under another deviceId",
        "Give the deviceId that the device had before. If the new one is to stay, undo the earlier uploads "
        "on the uploads page. In a feed, or if both are meant to show, say so in the manifest: "
        '`"meantAs": ["device-renamed"]`. The records of a feed then take the place of the earlier ones, by '
        "their origin ids; those of a normal data set show twice.",
        mends=meant_as(DEVICE_RENAMED),
    ),
}


class DeviceChangedError(HeldError):
    """Something of a device is other than it was when records of the same days went up.

    :param code: a key of ``faults``.
    :param batch: the batch's label.
    :param before: labels of the batches that are shown, the newest first.
    :param days: on how many days both have records.
    :param then: what would become of these days.
    """

    faults = BEFORE_FAULTS

    def __init__(self, code: str, batch: str, before: Sequence[str], days: int, then: str) -> None:
        fault = self.faults[code]
        more = f" and {len(before) - NAMED} more" if len(before) > NAMED else ""
        named = f"{', '.join(before[:NAMED])}{more}"
        on_days = "1 day" if days == 1 else f"{days} days"
        super().__init__(
            f"Batch {batch} is held: {fault.sentence} (on {on_days}, by {named}). {then} "
            "Nothing of it is left open.",
            remedy=fault.remedy,
            code=code,
        )
        self.particulars = f"on {days} {'day' if days == 1 else 'days'}"
        self.batch = batch
        self.before = [*before]
        self.days = days


def check_before(
    batch: BatchRow,
    ledger: Ledger,
    root: UPath,
    deduplicator: Deduplicator,
    meant_as: Collection[str],
) -> None:
    """Hold a batch whose device had another zone or ``deviceId`` when records of the same days went up.

    What another one of them changed as it was meant, is what the device was before: of each day and type, the
    newest batch counts. A batch that says nothing about its zone or device is not compared, nor one that
    shows already.

    :param batch: the whole batch, prepared; in the ledger are the days of its records.
    :param ledger: knows the other batches of the device.
    :param root: the staging root, with the work areas.
    :param deduplicator: its data set's.
    :param meant_as: codes of what is meant to be as it is.
    :raises DeviceChangedError: its zone or ``deviceId`` differs; the message has labels and numbers only.
    """
    others, kinds = _to_compare(batch, ledger, deduplicator, meant_as)
    days = ledger.batch_days.of_batch(batch.id) if kinds else {}
    if not days:
        return
    numbers = [batch.id, *(one.id for one in others)]
    shown_days = ledger.devices.shown_days(numbers, min(days), max(days))
    shown = {number: _pairs(of_batch) for number, of_batch in shown_days.items()}
    if batch.id in shown:
        return
    comparison = _Comparison(batch, deduplicator, _pairs(days), shown, _Records(root, batch))
    for kind in kinds:
        found = comparison.with_others(kind, others)
        if found.days:
            then = _what_then(batch, deduplicator)
            raise DeviceChangedError(kind.code, batch.label, found.labels, len(found.days), then)


def may_differ_from_before(
    batch: BatchRow, ledger: Ledger, deduplicator: Deduplicator, meant_as: Collection[str]
) -> bool:
    """Return whether :func:`check_before` has anything to compare; the ledger alone tells.

    :param batch: the whole batch, prepared.
    :param ledger: knows the other batches of the device.
    :param deduplicator: its data set's.
    :param meant_as: codes of what is meant to be as it is.
    """
    return bool(_to_compare(batch, ledger, deduplicator, meant_as)[1])


def _to_compare(
    batch: BatchRow, ledger: Ledger, deduplicator: Deduplicator, meant_as: Collection[str]
) -> tuple[list[BatchRow], list[_Zone | _Name]]:
    """Return the other batches of the device that count, and in what one of them may differ."""
    wanted: list[_Zone | _Name] = [kind for kind in (_ZONE, _NAME) if kind.code not in meant_as]
    if not wanted or not (batch.device_key or batch.zones):
        return [], []
    others = [one for one in ledger.devices.others_of(batch) if _counts(one, batch)]
    return others, [
        kind for kind in wanted if any(kind.may_differ(batch, one, deduplicator) for one in others)
    ]


@dataclass
class _Found:
    """What differs, and of which days and types it is known what the device was before."""

    labels: list[str] = field(default_factory=list)
    days: set[date] = field(default_factory=set)
    settled: Pairs = field(default_factory=set)

    def add(self, one: BatchRow, differing: Pairs) -> None:
        self.labels.append(one.label)
        self.days.update(day for day, _type in differing)
        self.settled |= differing


@dataclass(frozen=True)
class _Comparison:
    """A batch beside the others of its device.

    :param own: days and types of its records.
    :param shown: those of others, by their numbers, as far as they show.
    """

    batch: BatchRow
    deduplicator: Deduplicator
    own: Pairs
    shown: Mapping[int, Pairs]
    records: _Records

    def with_others(self, kind: _Zone | _Name, others: Sequence[BatchRow]) -> _Found:
        """Return on which days something of the device is other than it was.

        :param others: the other batches, the newest first.
        """
        found = _Found()
        for one in others:
            shared = (self.own & self.shown.get(one.id, set())) - found.settled
            if not shared or not kind.knows(self.batch, one):
                continue
            differing = kind.differing(self.batch, one, self.deduplicator, shared)
            found.settled |= shared - differing
            if not differing:
                continue
            seen = self.records.compared(one, differing, in_other_zones=kind is _ZONE)
            changed = {pair for pair in differing if seen[pair[1]] is _Seen.CHANGED}
            found.settled |= {pair for pair in differing if seen[pair[1]] is _Seen.ALIKE}
            if changed:
                found.add(one, changed)
        return found


def _pairs(days: Days) -> Pairs:
    return {(day, kind) for day, kinds in days.items() for kind in kinds}


def _counts(one: BatchRow, batch: BatchRow) -> bool:
    """Return whether another batch counts: in a feed, only an earlier one of the same program."""
    if batch.data_set_type == CONTINUOUS:
        return one.device_key == batch.device_key and (one.order_key, one.id) < (batch.order_key, batch.id)
    # Two devices may go by one deviceId.
    return None in (one.device_key, batch.device_key) or one.device_key == batch.device_key


def _what_then(batch: BatchRow, deduplicator: Deduplicator) -> str:
    if batch.data_set_type == CONTINUOUS and not deduplicator.drops_equal:
        return "Otherwise it would replace their records, by origin ids."
    return "Otherwise these days would show twice."


# ---------------------------------------------------------------- what can differ


class _Zone:
    """The zones of local times, which decide about instants."""

    code: ClassVar[str] = ZONE_DIFFERS

    def knows(self, batch: BatchRow, one: BatchRow) -> bool:
        """Return whether both batches say what theirs is."""
        return batch.zones is not None and one.zones is not None

    def may_differ(self, batch: BatchRow, one: BatchRow, deduplicator: Deduplicator) -> bool:
        """Return whether it may be another one on some days, and both would show."""
        deletes_it = deduplicator.at_close is AtClose.DELETES_ALL and batch.device_id == one.device_id
        return self.knows(batch, one) and batch.zones != one.zones and not deletes_it

    def differing(self, batch: BatchRow, one: BatchRow, deduplicator: Deduplicator, shared: Pairs) -> Pairs:
        """Return the days and types, of those of both, on which it is another one."""
        if not self.may_differ(batch, one, deduplicator):
            return set()
        days = days_that_differ(str(batch.zones), str(one.zones), {day for day, _type in shared})
        return {(day, kind) for day, kind in shared if day in days}


class _Name:
    """The ``deviceId``, by which the deduplicator knows the device."""

    code: ClassVar[str] = DEVICE_RENAMED

    def knows(self, batch: BatchRow, one: BatchRow) -> bool:
        """Return whether both batches say what theirs is, and are of one device."""
        is_same = batch.device_key is not None and batch.device_key == one.device_key
        return is_same and bool(batch.device_id and one.device_id)

    def may_differ(self, batch: BatchRow, one: BatchRow, deduplicator: Deduplicator) -> bool:
        """Return whether it is another one, and both would show."""
        # What drops equal records of its data set does not look at the deviceId.
        return self.knows(batch, one) and batch.device_id != one.device_id and not deduplicator.drops_equal

    def differing(self, batch: BatchRow, one: BatchRow, deduplicator: Deduplicator, shared: Pairs) -> Pairs:
        """Return the days and types, of those of both, on which it is another one."""
        return shared if self.may_differ(batch, one, deduplicator) else set()


_ZONE: Final = _Zone()
_NAME: Final = _Name()


# ---------------------------------------------------------------- clocks

QUARTER: Final = timedelta(minutes=15)
"""Clocks are set forward and back, and zones change, at quarters of an hour."""

REACH: Final = timedelta(hours=26)
"""How far a local time may be from the UTC day that its instant is in."""


@dataclass(frozen=True)
class _Clock:
    """A device's clock: the zones that it was set to one after the other."""

    times: LocalTimes
    untils: tuple[str, ...]


def days_that_differ(zones: str, others: str, days: Collection[date]) -> set[date]:
    """Return the UTC days on which local times are other instants in some zones than in others.

    Of several files, each may have a clock of its own: no day differs on which one clock of each side agrees.

    :param zones: as the ledger has those of a batch.
    :param others: as it has those of another one.
    :param days: the days in question.
    """
    own, other = _clocks_of(zones), _clocks_of(others)
    if not own or not other:
        return set()
    return {day for day in days if not any(_agree(a, b, day) for a in own for b in other)}


def _clocks_of(zones: str) -> list[_Clock]:
    """Return the clocks of a batch's files by their zones in the ledger, but for zones that are not known."""
    clocks = []
    for periods in json.loads(zones):
        with suppress(KeyError):
            times = LocalTimes([Period(*period) for period in periods])
            clocks.append(_Clock(times, tuple(until for _zone, until in periods if until)))
    return clocks


def _agree(one: _Clock, other: _Clock, day: date) -> bool:
    """Return whether two clocks show the same at the same instant, as far as either is on a UTC day."""
    try:
        first = datetime(day.year, day.month, day.day) - REACH
        end = first + timedelta(days=1) + 2 * REACH
    except OverflowError:  # at the beginning or the end of what a date can say
        return True
    shown = [(first + number * QUARTER).isoformat() for number in range((end - first) // QUARTER)]
    shown += [until for until in (*one.untils, *other.untils) if first.isoformat() <= until < end.isoformat()]
    for local in shown:
        instant, instead = one.times.read(local).time, other.times.read(local).time
        if instant != instead and day.isoformat() in (instant[:10], instead[:10]):
            return False
    return True


# ---------------------------------------------------------------- records


class _Seen(Enum):
    """What the records of two batches show."""

    APART = "none is in both"
    ALIKE = "those in both are the same"
    CHANGED = "some would be there twice"


OF_MOMENTS: Final = ("time", "deviceTime", "timezoneOffset", "origin", "id")
"""Fields of a record that depend on when it is, or name it."""


class _Moments:
    """When the records of one type are: digests of their instants, and of what the clock showed."""

    def __init__(self) -> None:
        self.instants: set[int] = set()
        self.shown: set[int] = set()
        self.both: set[tuple[int, int]] = set()
        self.at_instants: set[int] = set()
        self.as_shown: set[int] = set()
        self.first, self.last = "~", ""

    def add(self, datum: Mapping[str, Any], instant: str, *, counts: bool) -> None:
        """Take a record.

        :param counts: whether it is one of those of which most decide.
        """
        moment = digest_of(instant)
        self.instants.add(moment)
        self.first, self.last = min(self.first, instant), max(self.last, instant)
        if clock := datum.get("deviceTime"):
            shown = digest_of(str(clock))
            self.shown.add(shown)
            self.both.add((shown, moment))
            if not counts:
                return
            content = repr({name: value for name, value in datum.items() if name not in OF_MOMENTS})
            self.at_instants.add(digest_of(f"{instant} {content}"))
            self.as_shown.add(digest_of(f"{clock} {content}"))

    def beside(self, other: _Moments) -> _Seen:
        """Return what is to be seen if the same record is at the same moment in both."""
        is_in_both = not (self.instants.isdisjoint(other.instants) and self.shown.isdisjoint(other.shown))
        return _Seen.CHANGED if is_in_both else _Seen.APART

    def in_other_zones(self, other: _Moments) -> _Seen:
        """Return what is to be seen if zones may have put the same record at two instants.

        What a clock showed tells it: instants are equal by chance where readings come every few minutes. If
        more records are the same at one instant than under one local time, their instants are their own.
        """
        if not (self.shown and other.shown):
            return _Seen.CHANGED
        if len(self.at_instants & other.at_instants) > len(self.as_shown & other.as_shown):
            return _Seen.ALIKE
        common = self.shown & other.shown
        if not common:
            return _Seen.APART
        if common == {shown for shown, _moment in self.both & other.both}:
            return _Seen.ALIKE
        # Whoever flies west sees some hours twice: one file ends before the other begins, and goes on.
        are_apart = self.last < other.first or other.last < self.first
        is_journey = are_apart and common not in (self.shown, other.shown)
        return _Seen.APART if is_journey else _Seen.CHANGED


class _Records:
    """Compares when the records of a batch and of earlier ones are, as far as their work areas are there.

    :param root: the staging root.
    :param batch: the batch.
    """

    def __init__(self, root: UPath, batch: BatchRow) -> None:
        self._root = root
        self._batch = batch
        self._left = BATCHES_READ

    def compared(self, one: BatchRow, pairs: Pairs, *, in_other_zones: bool) -> dict[str, _Seen]:
        """Return what records of the batch and of another one show, by type; changed, if they cannot be read.

        :param one: the other batch.
        :param pairs: days and types of which both have records.
        :param in_other_zones: whether their local times are read in other zones.
        """
        self._left -= 1
        days = sorted({day for day, _type in pairs})
        days = days[:: -(-len(days) // DAYS_READ)]
        kinds = {kind for _day, kind in pairs}
        seen = dict.fromkeys(kinds, _Seen.CHANGED)
        with suppress(BatchError):
            own = self._moments(self._batch, days, kinds) if self._left >= 0 else {}
            other = self._moments(one, days, kinds, is_other=True) if own else {}
            for kind in own.keys() & other.keys():
                compare = own[kind].in_other_zones if in_other_zones else own[kind].beside
                seen[kind] = compare(other[kind])
        return seen

    def _moments(
        self, row: BatchRow, days: Collection[date], kinds: Collection[str], *, is_other: bool = False
    ) -> dict[str, _Moments]:
        """Return when records of some days, and of those beside them, are, by type; empty if not known.

        Of the other batch, more days are read, so that it lacks no record that is on another day there.
        """
        work = WorkArea(self._root, row.content_key)
        plan = work.load()
        if plan is None:
            return {}
        reach = BESIDE_OF_OTHER if is_other else BESIDE
        ordinals = {day.toordinal() + more for day in days for more in range(-reach, reach + 1)}
        near = {date.fromordinal(one) for one in ordinals if 0 < one <= date.max.toordinal()}
        moments: dict[str, _Moments] = {}
        for area, part in work.areas_with_records(plan):
            if near.isdisjoint(part.days):
                continue
            for datum in _data_of(area, part, near):
                instant = parse_instant(str(datum.get("time") or ""))
                if datum.get("type") not in kinds or instant is None or instant.utc_date not in near:
                    continue
                found = moments.setdefault(datum["type"], _Moments())
                found.add(datum, instant.text, counts=is_other or instant.utc_date in days)
        return moments


def _data_of(area: WorkArea, plan: PreparedBatch, days: Collection[date]) -> Iterator[dict[str, Any]]:
    """Yield the records that may be of some days."""
    texts = [day.isoformat().encode() for day in days]
    for chunk in plan.chunks:
        for line in area.read_chunk(chunk):
            if any(text in line for text in texts):
                yield loads(line)

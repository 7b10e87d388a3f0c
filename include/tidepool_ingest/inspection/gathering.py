"""What is counted of accepted records as they pass, by type, day and hour; memory grows with days only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from heapq import nlargest
from itertools import pairwise
from typing import Any, Final, NamedTuple

from tidepool_ingest.coverage import HOURS
from tidepool_ingest.inspection.findings import DayFound, Gap, GlucoseFound, HourOfDay, TypeFound
from tidepool_ingest.local_times import HOUR, zone_named
from tidepool_ingest.model import type_of
from tidepool_ingest.model.glucose import MG_PER_DL_IN_MMOL_PER_L, MG_PER_DL_UNITS
from tidepool_ingest.model.gotime import parse_instant

MG_PER_DL: Final = "mg/dL"
MMOL_PER_L: Final = "mmol/L"

SENSOR: Final = "cbg"
METER: Final = "smbg"

PERCENTILES: Final = (5, 25, 50, 75, 95)

LOW_MG_DL: Final = 70.0
HIGH_MG_DL: Final = 180.0
"""The range that time in range counts, inclusive: Battelino et al., Diabetes Care 2019;42:1593."""

MINUTES_A_DAY: Final = 24 * 60

GAP_MINUTES: Final = 30
GAP_INTERVALS: Final = 3
"""A gap has both: three readings of a sensor that sends every 15 minutes, six of one that does every 5."""

REGULAR_SHARE: Final = 0.5
"""Of its steps, how many a sensor that sends regularly makes at its usual interval, or a minute off."""

INTERVAL_MAX: Final = 15
"""Minutes between readings of the slowest sensors that send by themselves."""

GAPS_MAX: Final = 50
"""Gaps that are told one by one."""

_HOUR_MS: Final = 3_600_000


class LocalHour(NamedTuple):
    """A local day, and the hour of it."""

    day: date
    hour: int


class Gaps(NamedTuple):
    """When a sensor that sends regularly has sent nothing.

    :param interval: usual minutes from one reading to the next; 0 where they are not regular, or there are
        none: then nothing is known of gaps.
    :param number: how many gaps there are.
    :param hours: how long they are together.
    :param longest: the longest of them, in that order.
    """

    interval: int = 0
    number: int = 0
    hours: float = 0
    longest: tuple[Gap, ...] = ()


class LocalHours:
    """Says to which local hour an instant belongs.

    :param zone: a time zone's name.
    """

    def __init__(self, zone: str) -> None:
        self._zone: tzinfo = zone_named(zone)
        self._hours: dict[str, tuple[LocalHour, LocalHour, int]] = {}
        self._shown: dict[str, LocalHour | None] = {}

    def of(self, datum: Mapping[str, Any], time: str) -> LocalHour | None:
        """Return the hour that the device showed, or else that of the zone.

        :param datum: an accepted record.
        :param time: its instant in UTC, ``YYYY-MM-DDThh:mm…``.
        """
        shown = datum.get("deviceTime")
        if type(shown) is str and (local := self._as_shown(shown[:HOUR])) is not None:
            return local
        hour, minute = time[:HOUR], int(time[HOUR + 1 : HOUR + 3])
        try:
            early, late, changes_at = self._hours[hour]
        except KeyError:
            early, late, changes_at = self._hours[hour] = self._in_zone(hour)
        return early if minute < changes_at else late

    def _as_shown(self, text: str) -> LocalHour | None:
        try:
            return self._shown[text]
        except KeyError:
            try:
                moment = datetime.fromisoformat(f"{text}:00")
                found = LocalHour(moment.date(), moment.hour)
            except ValueError:
                found = None
            self._shown[text] = found
            return found

    def _in_zone(self, hour: str) -> tuple[LocalHour, LocalHour, int]:
        """Return the local hours in which an hour of UTC begins and ends, and at which minute it changes."""
        begins = datetime.fromisoformat(f"{hour}:00").replace(tzinfo=UTC)
        first, last = (moment.astimezone(self._zone) for moment in (begins, begins + timedelta(minutes=59)))
        return (
            LocalHour(first.date(), first.hour),
            LocalHour(last.date(), last.hour),
            60 - first.minute if first.hour != last.hour else 60,
        )


@dataclass
class _Day:
    records: list[int] = field(default_factory=lambda: [0] * HOURS)
    readings: list[int] = field(default_factory=lambda: [0] * HOURS)
    types: Counter[str] = field(default_factory=Counter)
    bolus: float = 0.0
    basal: float = 0.0
    carbs: float = 0.0


class Gathering:
    """Counts accepted records.

    :param zone: the zone in which days and hours are counted where records do not say what a clock showed.
    """

    def __init__(self, zone: str) -> None:
        self._local = LocalHours(zone)
        self._days: dict[date, _Day] = {}
        self._types: dict[str, list[Any]] = {}
        self._levels: dict[str, Counter[tuple[str, int, float]]] = {SENSOR: Counter(), METER: Counter()}
        self.meals = [0] * HOURS
        """Meals and doses for them that a person has told or given, by local hour."""
        self.minutes: dict[str, int] = {}
        """By UTC day, in which of its 1,440 minutes there is a sensor's reading: one bit each, the first the
        lowest."""
        self._utc_days: set[str] = set()
        self.device_ids: Counter[str] = Counter()
        """How many records each device has, by ``deviceId``."""

    def see(self, data: Iterable[Mapping[str, Any]]) -> None:
        """Count some accepted records.

        :param data: the records, decoded.
        """
        for datum in data:
            self._count(datum, utc_text(datum["time"]))

    def _count(self, datum: Mapping[str, Any], time: str) -> None:
        kind = type_of(datum)
        self._utc_days.add(time[:10])
        self.device_ids[datum.get("deviceId") or ""] += 1
        try:
            counted = self._types[kind]
        except KeyError:
            counted = self._types[kind] = [0, time, time]
        counted[0] += 1
        if time < counted[1]:
            counted[1] = time
        elif time > counted[2]:
            counted[2] = time
        try:
            local = self._local.of(datum, time)
        except (ValueError, OverflowError):  # the Platform accepts years that no calendar here has
            return
        if local is None:
            return
        day, hour = local
        try:
            found = self._days[day]
        except KeyError:
            found = self._days[day] = _Day()
        found.records[hour] += 1
        found.types[kind] += 1
        if kind in _BY_HAND:
            self.meals[hour] += 1
        self._add_amounts(found, kind, datum, hour, time)

    def _add_amounts(self, found: _Day, kind: str, datum: Mapping[str, Any], hour: int, time: str) -> None:
        if kind == SENSOR:
            found.readings[hour] += 1
            self._levels[SENSOR][datum["units"], hour, round(datum["value"], 2)] += 1
            self._mark(time)
        elif kind == METER:
            self._levels[METER][datum["units"], hour, round(datum["value"], 2)] += 1
        elif kind in _AMOUNTS:
            _AMOUNTS[kind](found, datum)

    def _mark(self, time: str) -> None:
        minute = int(time[11:13]) * 60 + int(time[14:16])
        day = time[:10]
        self.minutes[day] = self.minutes.get(day, 0) | 1 << minute

    # ------------------------------------------------------------ what came of it

    @property
    def sensor_levels(self) -> Mapping[tuple[str, int, float], int]:
        """How often a sensor shows which value, by unit and local hour."""
        return self._levels[SENSOR]

    def gaps(self) -> Gaps:
        """Return when a sensor that sends regularly has sent nothing."""
        steps = Counter(after - before for before, after in pairwise(self._marked()))
        if not steps:
            return Gaps()
        usual = max(steps, key=lambda step: (steps[step], -step))
        regular = sum(steps[usual + more] for more in (-1, 0, 1))
        if usual > INTERVAL_MAX or regular < REGULAR_SHARE * steps.total():
            return Gaps()
        least = max(GAP_MINUTES, GAP_INTERVALS * usual)
        long = {step: number for step, number in steps.items() if step >= least}
        longest = nlargest(
            GAPS_MAX,
            (
                (after - before, -before)
                for before, after in pairwise(self._marked())
                if after - before >= least
            ),
        )
        return Gaps(
            interval=usual,
            number=sum(long.values()),
            hours=round(sum(step * number for step, number in long.items()) / 60, 1),
            longest=tuple(
                Gap(start=_at_minute(-start), end=_at_minute(minutes - start), hours=round(minutes / 60, 2))
                for minutes, start in longest
            ),
        )

    def _marked(self) -> Iterator[int]:
        """Yield the minutes with a reading of a sensor, counted from the first year on, in order."""
        for day in sorted(self.minutes):
            try:
                begins = date.fromisoformat(day).toordinal() * MINUTES_A_DAY
            except ValueError:
                continue
            bits = self.minutes[day]
            while bits:
                lowest = bits & -bits
                yield begins + lowest.bit_length() - 1
                bits ^= lowest

    @property
    def span(self) -> tuple[str, str] | None:
        """Instants of the first and the last record, in UTC."""
        if not self._types:
            return None
        return min(found[1] for found in self._types.values()), max(
            found[2] for found in self._types.values()
        )

    def types(self, rejected: Mapping[str, int]) -> tuple[TypeFound, ...]:
        """Return the records by type, the most frequent first.

        :param rejected: rejected records by type.
        """
        kinds = sorted({*self._types, *rejected}, key=lambda kind: (-self._number(kind), kind))
        return tuple(
            TypeFound(
                type=kind,
                accepted=self._number(kind),
                rejected=rejected.get(kind, 0),
                first=moment_of(self._types[kind][1]) if kind in self._types else None,
                last=moment_of(self._types[kind][2]) if kind in self._types else None,
            )
            for kind in kinds
        )

    def _number(self, kind: str) -> int:
        return int(self._types[kind][0]) if kind in self._types else 0

    def days(self) -> tuple[DayFound, ...]:
        """Return the local days with records, in order."""
        return tuple(
            DayFound(
                day=day,
                records=tuple(found.records),
                types=dict(sorted(found.types.items())),
                readings=tuple(found.readings),
                bolus=round(found.bolus, 3),
                basal=round(found.basal, 3),
                carbs=round(found.carbs, 1),
            )
            for day, found in sorted(self._days.items())
        )

    def utc_days(self) -> tuple[date, ...]:
        """Return the UTC days with records, in order, without those of the year 0."""
        return tuple(date.fromisoformat(day) for day in sorted(self._utc_days) if day >= "0001")

    def glucose(self) -> GlucoseFound | None:
        """Return what glucose values there are: of sensors, or of meters where there is no sensor."""
        levels = self._levels[SENSOR] or self._levels[METER]
        if not levels:
            return None
        in_mg = sum(count for (units, _, _), count in levels.items() if units in MG_PER_DL_UNITS)
        unit = MG_PER_DL if 2 * in_mg >= levels.total() else MMOL_PER_L
        by_hour: dict[int, Counter[float]] = {}
        for (units, hour, value), count in levels.items():
            by_hour.setdefault(hour, Counter())[_in_unit(value, units, unit)] += count
        whole: Counter[float] = sum(by_hour.values(), Counter())
        total = whole.total()
        below = sum(count for (units, _, value), count in levels.items() if _in_mg(value, units) < LOW_MG_DL)
        above = sum(count for (units, _, value), count in levels.items() if _in_mg(value, units) > HIGH_MG_DL)
        digits = 0 if unit == MG_PER_DL else 1
        return GlucoseFound(
            unit=MG_PER_DL if unit == MG_PER_DL else MMOL_PER_L,
            readings=total,
            lowest=round(min(whole), digits),
            highest=round(max(whole), digits),
            mean=round(sum(value * count for value, count in whole.items()) / total, 1),
            below=round(below / total, 4),
            in_range=round((total - below - above) / total, 4),
            above=round(above / total, 4),
            hours=tuple(
                HourOfDay(hour=hour, readings=counts.total(), percentiles=_percentiles(counts, digits))
                for hour, counts in sorted(by_hour.items())
            ),
        )


def _in_mg(value: float, units: str) -> float:
    """Return a value as the range counts it.

    In whole mg/dL, both 3.9 mmol/L and Tidepool's 3.88545 mmol/L for 70 mg/dL are the limit itself.
    """
    return value if units in MG_PER_DL_UNITS else round(value * MG_PER_DL_IN_MMOL_PER_L)


def _in_unit(value: float, units: str, unit: str) -> float:
    is_mg = units in MG_PER_DL_UNITS
    if is_mg == (unit == MG_PER_DL):
        return value
    return round(value / MG_PER_DL_IN_MMOL_PER_L, 5) if is_mg else value * MG_PER_DL_IN_MMOL_PER_L


def _percentiles(counts: Counter[float], digits: int) -> tuple[float, float, float, float, float]:
    """Return percentiles by nearest rank."""
    total, values = counts.total(), sorted(counts.items())
    found: list[float] = []
    seen, index = 0, -1
    for percent in PERCENTILES:
        rank = max(1, -(-percent * total // 100))
        while seen < rank:
            index += 1
            seen += values[index][1]
        found.append(round(values[index][0], digits))
    low, lower, middle, higher, high = found
    return low, lower, middle, higher, high


def utc_text(time: str) -> str:
    """Return an accepted time in UTC, ``YYYY-MM-DDThh:mm:ss…Z``.

    :param time: the time as the Platform accepts it, where an hour before ten may have a single digit.
    """
    if time[-1] == "Z" and time[HOUR] == ":":
        return time
    instant = parse_instant(time)
    if instant is None:
        raise ValueError("an accepted record has a time that cannot be read")
    day, seconds = instant.utc_date, instant.moment[0] % 86_400
    hour, rest = divmod(seconds, 3_600)
    minute, second = divmod(rest, 60)
    return f"{day.isoformat()}T{hour:02}:{minute:02}:{second:02}Z"


def moment_of(time: str) -> datetime | None:
    """Return an instant as a ``datetime``; ``None`` for the year 0, which the Platform accepts.

    :param time: in UTC, with ``Z``.
    """
    try:
        return datetime.fromisoformat(time)
    except ValueError:
        return None


def _at_minute(minute: int) -> datetime:
    days, of_day = divmod(minute, MINUTES_A_DAY)
    return datetime.combine(date.fromordinal(days), datetime.min.time(), UTC) + timedelta(minutes=of_day)


# ---------------------------------------------------------------- insulin and carbohydrate


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _at(datum: Mapping[str, Any], *names: str) -> object:
    found: object = datum
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _add_bolus(day: _Day, datum: Mapping[str, Any]) -> None:
    day.bolus += _number(datum.get("normal")) + _number(datum.get("extended"))


def _add_insulin(day: _Day, datum: Mapping[str, Any]) -> None:
    dose = _number(_at(datum, "dose", "total"))
    if _at(datum, "formulation", "simple", "actingType") in ("long", "intermediate"):
        day.basal += dose
    else:
        day.bolus += dose


def _add_basal(day: _Day, datum: Mapping[str, Any]) -> None:
    day.basal += _number(datum.get("rate")) * _number(datum.get("duration")) / _HOUR_MS


def _add_food(day: _Day, datum: Mapping[str, Any]) -> None:
    day.carbs += _number(_at(datum, "nutrition", "carbohydrate", "net"))


def _add_calculation(day: _Day, datum: Mapping[str, Any]) -> None:
    day.carbs += _number(datum.get("carbInput"))
    embedded = datum.get("bolus")
    if isinstance(embedded, Mapping):
        _add_bolus(day, embedded)


_AMOUNTS: Final = {
    "bolus": _add_bolus,
    "insulin": _add_insulin,
    "basal": _add_basal,
    "food": _add_food,
    "wizard": _add_calculation,
}
"""What records of a type add to the amounts of their day. A basal counts on the day on which it begins."""


_BY_HAND: Final = frozenset({"food", "insulin", "wizard"})
"""Types of records that somebody has made: while asleep, nobody does. A pump gives a bolus by itself."""


def coverage_of(days: Sequence[DayFound]) -> dict[date, tuple[int, ...]]:
    """Return the readings of a sensor by day and hour; all records where there are none.

    :param days: the days.
    """
    has_sensor = any(any(day.readings) for day in days)
    return {day.day: day.readings if has_sensor else day.records for day in days}

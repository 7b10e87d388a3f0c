"""Values that Tidepool takes and that look wrong all the same.

False alarms are worse than silence: each threshold is where no device's own data were seen to reach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

from tidepool_ingest.inspection.findings import DayFound, Suspicion
from tidepool_ingest.inspection.gathering import METER, SENSOR, Gathering, moment_of, utc_text
from tidepool_ingest.model.glucose import MG_PER_DL_IN_MMOL_PER_L, MG_PER_DL_UNITS

FLAT_HOURS: Final = 6
"""A working sensor may show one value for two or three hours, rounded to tenths of mmol/L; not for six."""

FLAT_READINGS: Final = 12

LOWEST_SHOWN, HIGHEST_SHOWN = 45.0, 395.0
"""mg/dL: at the ends of what it can measure, a sensor shows one value for as long as it takes."""

SPIKE_MG_DL: Final = 100.0
"""Glucose changes by some 4 mg/dL a minute at most: not by 100 in five minutes, and back in the next five."""

SPIKE_MINUTES: Final = 6

TWIN_SECONDS: Final = 45
"""Readings so close are of one measurement, told by two programs; no sensor measures so often."""

TWINS_SHARE: Final = 0.2

UNITS_READINGS: Final = 3
LOWEST_MG_DL: Final = 25.0
"""Nobody lives with less, and no sensor shows it: such values are in mmol/L."""

CONVERTED_READINGS: Final = 200
CONVERTED_DIFFERENT: Final = 25
CONVERTED_SHARE: Final = 0.995
"""Tenths of mmol/L, multiplied by 18, are 5 of 9 whole numbers of mg/dL: by chance no 25 different values are
all among them."""

LINEAR_READINGS: Final = 500
LINEAR_SHARE: Final = 0.6
"""A quarter at most of a sensor's readings, rounded as they are, change by just as much as the one before."""

FUTURE: Final = timedelta(days=1)
"""Further ahead of this machine's clock than any time zone."""

FIRST_SENSORS: Final = date(1999, 1, 1)
"""There was no continuous glucose monitor before."""

FAR: Final = timedelta(days=3 * 366)
FAR_SHARE: Final = 0.05
"""Few records that are years from all others have the time of a clock that was not set yet."""

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 24 * _HOUR_S
_DAYS_MAX: Final = 5_000
_DEVICES_MAX: Final = 100
_FOLLOWS_S: Final = 20 * _MINUTE_S
"""Longest interval of sensors, and some more: what is further apart does not follow each other."""


class _Reading(NamedTuple):
    at: int
    value: float
    time: str


@dataclass
class _Run:
    """Readings of one device that follow each other, in the order of their rows."""

    latest: _Reading | None = None
    before: _Reading | None = None
    flat: _Reading | None = None  # since when the value is the same
    flat_readings: int = 0
    was_flat: bool = False


@dataclass
class _Count:
    """How often something was seen, and when first."""

    number: int = 0
    first: str = ""

    def add(self, time: str, number: int = 1) -> None:
        self.number += number
        if not self.first or time < self.first:
            self.first = time


class Suspecting:
    """Looks at accepted records as they pass; memory does not grow with them.

    :param now: records after it are in the future; this machine's clock, if left out.
    """

    def __init__(self, now: datetime | None = None) -> None:
        self._limit = ((now or datetime.now(UTC)) + FUTURE).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._runs: dict[object, _Run] = {}
        self._days: dict[str, int] = {}
        self._future, self._flat, self._doubled, self._twins, self._spikes, self._mmol = (
            _Count() for _ in range(6)
        )
        self._readings = self._steps = self._linear = 0

    def see(self, data: Iterable[Mapping[str, Any]]) -> None:
        """Look at some accepted records.

        :param data: the records, decoded.
        """
        for datum in data:
            time = utc_text(datum["time"])
            if time > self._limit:
                self._future.add(time)
            kind = datum["type"]
            if kind == SENSOR:
                self._see_reading(datum, time)
            elif kind == METER and datum["value"] < LOWEST_MG_DL and datum["units"] in MG_PER_DL_UNITS:
                self._mmol.add(time)

    def _see_reading(self, datum: Mapping[str, Any], time: str) -> None:
        day = time[:10]
        try:
            begins = self._days[day]
        except KeyError:
            begins = self._begin(day)
        at = begins + int(time[11:13]) * _HOUR_S + int(time[14:16]) * _MINUTE_S + int(time[17:19])
        value = datum["value"]
        if datum["units"] not in MG_PER_DL_UNITS:
            value = value * MG_PER_DL_IN_MMOL_PER_L
        elif value < LOWEST_MG_DL:
            self._mmol.add(time)
        device = datum.get("deviceId")
        run = self._runs.get(device)
        if run is None:
            if len(self._runs) >= _DEVICES_MAX:
                self._runs.clear()
            run = self._runs[device] = _Run()
        self._readings += 1
        self._follow(run, _Reading(at, value, time))

    def _begin(self, day: str) -> int:
        """Return when a day began, in seconds; 0 for one that no calendar here has."""
        if len(self._days) >= _DAYS_MAX:
            self._days.clear()
        try:
            begins = date.fromisoformat(day).toordinal() * _DAY_S
        except ValueError:
            begins = 0
        self._days[day] = begins
        return begins

    def _follow(self, run: _Run, reading: _Reading) -> None:
        """Compare a reading with those before it, in whichever order of time the file is."""
        latest, before = run.latest, run.before
        if latest is None:
            run.latest = run.flat = reading
            run.flat_readings = 1
            return
        apart = abs(reading.at - latest.at)
        is_same = reading.value == latest.value
        if apart < TWIN_SECONDS:
            if apart:
                self._twins.add(reading.time)
            elif not is_same:
                self._doubled.add(reading.time)
        elif apart > _FOLLOWS_S:
            before = None
        elif before is not None:
            step, last_step = reading.value - latest.value, latest.value - before.value
            self._steps += 1
            if step and abs(step - last_step) < 1e-4:
                self._linear += 1
            if (
                abs(last_step) > SPIKE_MG_DL
                and abs(step) > SPIKE_MG_DL
                and abs(step + last_step) < SPIKE_MG_DL / 2
                and max(apart, abs(latest.at - before.at)) <= SPIKE_MINUTES * _MINUTE_S
            ):
                self._spikes.add(latest.time)
        self._follow_flat(run, reading, is_same and apart <= _FOLLOWS_S)
        if apart >= TWIN_SECONDS:
            run.before = None if apart > _FOLLOWS_S else latest
            run.latest = reading

    def _follow_flat(self, run: _Run, reading: _Reading, is_flat: bool) -> None:
        """See whether the value stays as it is."""
        if not is_flat or run.flat is None:
            run.flat, run.flat_readings, run.was_flat = reading, 1, False
            return
        run.flat_readings += 1
        if (
            abs(reading.at - run.flat.at) >= FLAT_HOURS * _HOUR_S
            and run.flat_readings >= FLAT_READINGS
            and LOWEST_SHOWN < reading.value < HIGHEST_SHOWN
        ):
            self._flat.add(min(reading.time, run.flat.time), 1 if run.was_flat else run.flat_readings)
            run.was_flat = True

    # ------------------------------------------------------------ what came of it

    def found(self, gathered: Gathering, days: Sequence[DayFound]) -> tuple[Suspicion, ...]:
        """Return what looks wrong.

        :param gathered: what else was counted of the same records.
        :param days: the local days.
        """
        return tuple(
            Suspicion(kind=kind, sentence=sentence, count=count.number, first=moment_of(count.first))
            for kind, count, sentence in self._found(gathered, days)
            if count.number
        )

    def _found(self, gathered: Gathering, days: Sequence[DayFound]) -> Iterator[tuple[str, _Count, str]]:
        readings = self._readings
        if UNITS_READINGS <= self._mmol.number < readings / 2:
            yield (
                "units",
                self._mmol,
                (
                    f"Glucose values below {LOWEST_MG_DL:.0f} are labelled mg/dL, and look like mmol/L: "
                    "the file seems to mix units."
                ),
            )
        if converted := converted_values(gathered.sensor_levels):
            yield (
                "converted",
                _Count(converted, _first(gathered)),
                (
                    "The values in mg/dL are all tenths of mmol/L, multiplied by 18: somebody has converted "
                    "them. Tidepool keeps mmol/L more exactly if it gets them as the device wrote them."
                ),
            )
        yield (
            "flat-line",
            self._flat,
            (f"A sensor shows the same value for {FLAT_HOURS} hours or more, as none that works does."),
        )
        yield (
            "doubled-rows",
            self._doubled,
            (
                "Readings of the same device and instant have different values: of a clock set back, "
                "two sensors, or exports of different days."
            ),
        )
        if self._twins.number > TWINS_SHARE * readings:
            yield (
                "doubled-rows",
                self._twins,
                (
                    f"Readings follow others of the same device within {TWIN_SECONDS} seconds, as where two "
                    "programs tell the same ones."
                ),
            )
        yield (
            "spikes",
            self._spikes,
            (
                f"Single readings are {SPIKE_MG_DL:.0f} mg/dL (5.6 mmol/L) or more away from those five "
                "minutes before and after them."
            ),
        )
        if self._steps >= LINEAR_READINGS and self._linear >= LINEAR_SHARE * self._steps:
            yield (
                "interpolated",
                _Count(self._linear, _first(gathered)),
                (
                    "Most readings change by exactly as much as the one before: they were computed between "
                    "real ones, and no sensor has measured them."
                ),
            )
        yield "future", self._future, "Records are more than a day in the future by this machine's clock."
        yield from _far_off(days)


def converted_values(levels: Mapping[tuple[str, int, float], int]) -> int:
    """Return how many values in mg/dL are there if all of them look multiplied by 18, else 0.

    :param levels: how often there is which value, by unit and hour.
    """
    values: Counter[float] = Counter()
    for (units, _hour, value), count in levels.items():
        if units in MG_PER_DL_UNITS:
            values[value] += count
    total = values.total()
    if total < CONVERTED_READINGS or len(values) < CONVERTED_DIFFERENT:
        return 0
    for factor in (18.0, 18.018, 18.0182, MG_PER_DL_IN_MMOL_PER_L):
        is_whole = all(float(value).is_integer() for value in values)
        made = {
            round(tenths * factor / 10, 0 if is_whole else 2) for tenths in range(round(1000 / factor * 10))
        }
        if sum(count for value, count in values.items() if value in made) >= CONVERTED_SHARE * total:
            return total
    return 0


def _first(gathered: Gathering) -> str:
    return gathered.span[0] if gathered.span else ""


_NO_MEASUREMENT: Final = frozenset({"pumpSettings", "cgmSettings", "upload"})
"""Types whose records may begin long before all others, as a profile that is in force since 1970."""


def _far_off(days: Sequence[DayFound]) -> Iterator[tuple[str, _Count, str]]:
    """Yield which records were made by a clock that was not set."""
    numbers = [
        (day.day, number)
        for day in days
        if (number := sum(count for kind, count in day.types.items() if kind not in _NO_MEASUREMENT))
    ]
    total = sum(number for _day, number in numbers)
    early = [one for one in numbers if one[0] < FIRST_SENSORS]
    if early:
        yield (
            "clock",
            _count_of(early),
            (
                f"Records are from before {FIRST_SENSORS.year}, when there was no such device: the clock was "
                "not set, or dates were changed."
            ),
        )
    rest = numbers[len(early) :]
    for group in (_split_off(rest), _split_off(rest[::-1])):
        if group and sum(number for _day, number in group) <= FAR_SHARE * total:
            yield (
                "clock",
                _count_of(group),
                (
                    "Few records are years apart from all others: the device's clock may not have been set "
                    "yet."
                ),
            )


def _split_off(numbers: Sequence[tuple[date, int]]) -> list[tuple[date, int]]:
    """Return the days at one end that are far from the next."""
    for index in range(1, len(numbers)):
        if abs(numbers[index][0] - numbers[index - 1][0]) >= FAR:
            return list(numbers[:index])
    return []


def _count_of(numbers: Sequence[tuple[date, int]]) -> _Count:
    first = min(day for day, _number in numbers)
    return _Count(sum(number for _day, number in numbers), f"{first.isoformat()}T00:00:00Z")

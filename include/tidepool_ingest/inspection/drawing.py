"""Where the shapes of the page's pictures go: paths and places, no markup and no colours.

A picture is stretched to the width that it is given, so its own units are days and hours; what is written in
it has its place in per cent. Hours of equal fullness are one path, which keeps the page of ten years small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, timedelta, tzinfo
from itertools import pairwise
from typing import Final, Literal

from tidepool_ingest.coverage import HOURS, Column, full_hour, level_of, passes_in
from tidepool_ingest.inspection.findings import GlucoseFound
from tidepool_ingest.texts import MONTHS

MOST_DAYS_IN_A_ROW: Final = 31
"""Days that are drawn in one row, each as wide as there is room; of more, each month or year has its own."""

MOST_MONTHS: Final = 12
"""Months that are drawn apart; of more, each year is a row."""

MOST_YEARS: Final = 40
"""Years that are drawn, the latest ones, for the page not to grow with what nobody looks at."""

WEEKDAYS: Final = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]

BARS_HEIGHT: Final = 100
"""Height of the highest bar, in its picture's own units."""

LEVELS_HEIGHT: Final = 260
"""Height of the picture of glucose levels, in pixels."""

_TICKS: Final = {
    "mg/dL": (54, 70, 180, 250, 300, 350, 400, 500),
    "mmol/L": (3.0, 3.9, 10.0, 13.9, 16.7, 19.4, 22.2, 27.8),
}
_LINE_HEIGHT: Final = 12
"""Pixels between two labels that do not touch."""

_TARGET: Final = {"mg/dL": (70.0, 180.0), "mmol/L": (3.9, 10.0)}


def day_words(day: date) -> str:
    """Return a day as people write it.

    :param day: the day.
    """
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def days_words(first: date, last: date) -> str:
    """Return a first and a last day as people write them.

    :param first: the first day.
    :param last: the last one.
    """
    if first == last:
        return day_words(first)
    if first.year != last.year:
        return f"{day_words(first)} \N{EN DASH} {day_words(last)}"
    begins = f"{first.day}" if first.month == last.month else f"{first.day} {MONTHS[first.month - 1]}"
    dash = "\N{EN DASH}" if first.month == last.month else " \N{EN DASH} "
    return f"{begins}{dash}{day_words(last)}"


@dataclass(frozen=True)
class Tick:
    """A word at an edge of a picture.

    :param at: how far along the edge, in per cent.
    :param label: the word.
    :param is_limit: whether the line at it is one of the target range.
    """

    at: float
    label: str
    is_limit: bool = False


@dataclass(frozen=True)
class Spot:
    """What is said where the pointer is.

    :param x: left edge, in columns.
    :param title: the words.
    """

    x: int
    title: str


# ---------------------------------------------------------------- days by hours

_NONE: Final = (0,) * HOURS
_NO_HOUR: Final = -1
"""In place of a level: the zone leaves this hour out."""


@dataclass(frozen=True)
class Band:
    """Days side by side, with 24 hours from midnight on in each.

    :param title: what days they are.
    :param columns: for how many days there is room.
    :param records: how many records they have.
    :param hours: how many of their hours have some.
    :param possible: how many hours they have; one that the zone leaves out is none.
    :param paths: the hours of each level, by level: lines that are one column wide.
    :param ticks: days.
    :param spots: what is said about each day.
    """

    title: str
    columns: int
    records: int
    hours: int
    possible: int
    paths: tuple[tuple[int, str], ...]
    ticks: tuple[Tick, ...]
    spots: tuple[Spot, ...]


@dataclass(frozen=True)
class HeatMap:
    """Days by hours.

    :param kind: ``days`` in one row, ``months`` apart, or a row for each of the ``years``.
    :param bands: the rows or months, those without a record left out.
    :param full_hour: how many records a full hour has.
    :param levels: levels that occur.
    :param years_left_out: how many of the oldest years are not drawn.
    """

    kind: Literal["days", "months", "years"]
    bands: tuple[Band, ...]
    full_hour: int
    levels: frozenset[int]
    years_left_out: int


@dataclass(frozen=True)
class Span:
    """From the first hour that has a record to the last one.

    :param first_day: day of the first one.
    :param first_hour: hour of the day.
    :param last_day: day of the last one.
    :param last_hour: hour of the day.
    """

    first_day: date
    first_hour: int
    last_day: date
    last_hour: int

    @classmethod
    def of(cls, days: Mapping[date, Sequence[int]]) -> Span:
        """Return the span of some days, each of which has a record.

        :param days: numbers of records by day, 24 a day.
        """
        first, last = min(days), max(days)
        hours = [hour for hour, count in enumerate(days[last]) if count]
        return cls(first, next(hour for hour, count in enumerate(days[first]) if count), last, hours[-1])

    def hours(self, days: Mapping[date, Sequence[int]], zone: tzinfo) -> int:
        """Return how many hours it has, without those that the zone leaves out.

        :param days: numbers of records by day, 24 a day.
        :param zone: the zone of these days.
        """
        whole = (self.last_day - self.first_day).days
        every = (self.first_day + timedelta(days=ahead) for ahead in range(whole + 1))
        left_out = sum(len(_left_out(day, self.hours_of(day), days.get(day, _NONE), zone)) for day in every)
        return HOURS * whole + self.last_hour + 1 - self.first_hour - left_out

    def hours_of(self, day: date) -> range:
        """Return which hours of a day are in it.

        :param day: one of its days.
        """
        return range(
            self.first_hour if day == self.first_day else 0,
            self.last_hour + 1 if day == self.last_day else HOURS,
        )


def _left_out(day: date, hours: range, counts: Sequence[int], zone: tzinfo) -> frozenset[int]:
    """Return the hours that a zone leaves out, unless the device's clock showed them all the same."""
    passes = passes_in(zone, day)
    return frozenset(hour for hour in hours if not (passes[hour] or counts[hour]))


def heat_map(days: Mapping[date, Sequence[int]], noun: str, zone: tzinfo = UTC) -> HeatMap:
    """Lay days by hours out.

    :param days: numbers of records by day, 24 a day; there is at least one day.
    :param noun: what is counted, in the plural.
    :param zone: the zone of these days.
    """
    span = Span.of(days)
    first, last = span.first_day, span.last_day
    full = full_hour(days)
    left_out = 0
    if (last - first).days < MOST_DAYS_IN_A_ROW:
        kind: Literal["days", "months", "years"] = "days"
        length = (last - first).days + 1
        frames = [_Frame(days_words(first, last), first, max(length, 7), tuple(_day_ticks(first, length)))]
    elif len(months := sorted({(day.year, day.month) for day in days})) <= MOST_MONTHS:
        kind = "months"
        frames = [_month(year, month) for year, month in months]
    else:
        kind = "years"
        years = sorted({day.year for day in days})
        left_out = max(len(years) - MOST_YEARS, 0)
        frames = [_year(year) for year in years[left_out:]]
    bands = tuple(_band(frame, days, span, full, noun, zone) for frame in frames)
    levels = frozenset(level for band in bands for level, _ in band.paths)
    return HeatMap(kind, bands, full, levels, left_out)


@dataclass(frozen=True)
class _Frame:
    title: str
    first: date
    columns: int
    ticks: tuple[Tick, ...]
    days: int = 0
    """How many days it has, if fewer than columns."""


def _day_ticks(first: date, length: int) -> Iterator[Tick]:
    columns, step = max(length, 7), 1 if length <= 8 else 2 if length <= 16 else 7
    for index in range(0, length, step):
        day = first + timedelta(days=index)
        label = f"{WEEKDAYS[day.weekday()]} {day.day}"
        yield Tick(round(100 * (index + 0.5) / columns, 2), label)


def _month(year: int, month: int) -> _Frame:
    first = date(year, month, 1)
    length = 31 if month == 12 else (date(year, month + 1, 1) - first).days
    ticks = tuple(Tick(round(100 * (day - 0.5) / 31, 2), str(day)) for day in (1, 8, 15, 22, 29))
    return _Frame(f"{MONTHS[month - 1]} {year}", first, 31, ticks, length)


def _year(year: int) -> _Frame:
    first = date(year, 1, 1)
    length = (date(year, 12, 31) - first).days + 1
    ticks = tuple(
        Tick(round(100 * (date(year, month, 1) - first).days / 366, 2), MONTHS[month - 1][:3])
        for month in range(1, 13)
    )
    return _Frame(str(year), first, 366, ticks, length)


def _band(
    frame: _Frame, days: Mapping[date, Sequence[int]], span: Span, full: int, noun: str, zone: tzinfo
) -> Band:
    paths: dict[int, list[str]] = {}
    spots = []
    records = hours = possible = 0
    for x in range(frame.days or frame.columns):
        try:
            day = frame.first + timedelta(days=x)
        except OverflowError:  # the last day that there is
            break
        if not span.first_day <= day <= span.last_day:
            continue
        own = span.hours_of(day)
        counts = days.get(day, _NONE)
        left_out = _left_out(day, own, counts, zone)
        there = {hour: counts[hour] for hour in own if hour not in left_out}
        records, hours = records + sum(there.values()), hours + sum(map(bool, there.values()))
        possible += len(there)
        passes = passes_in(zone, day)
        for level, start, length in _runs(
            [level_of(there[hour], full, days=passes[hour]) if hour in there else _NO_HOUR for hour in own]
        ):
            if level != _NO_HOUR:
                paths.setdefault(level, []).append(f"M{x}.5 {own.start + start}v{length}")
        spots.append(Spot(x, _day_title(day, own, there, noun)))
    return Band(
        title=frame.title,
        columns=frame.columns,
        records=records,
        hours=hours,
        possible=possible,
        paths=tuple((level, "".join(path)) for level, path in sorted(paths.items())),
        ticks=frame.ticks,
        spots=tuple(spots),
    )


def _runs(levels: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield what is equal and follows each other: level, first hour, number of hours."""
    start = 0
    for hour in range(1, len(levels) + 1):
        if hour == len(levels) or levels[hour] != levels[start]:
            yield levels[start], start, hour - start
            start = hour


def _day_title(day: date, hours: range, there: Mapping[int, int], noun: str) -> str:
    name = f"{WEEKDAYS[day.weekday()]} {day_words(day)}"
    counts = there.values()
    if not any(counts):
        return f"{name}: none"
    has_none = [there.get(hour) == 0 for hour in hours]
    empty = [(start, length) for is_empty, start, length in _runs(has_none) if is_empty]
    told = f"{name}: {sum(counts):,} {noun} in {sum(map(bool, counts))} of {len(counts)} hours"
    if not empty or len(empty) > 3:
        return told
    return f"{told}; none " + ", ".join(
        f"{hours.start + start:02}\N{EN DASH}{hours.start + start + length:02}" for start, length in empty
    )


# ---------------------------------------------------------------- bars


@dataclass(frozen=True)
class Bars:
    """A bar for each column of a picture of days, of one or more parts stacked on each other.

    :param columns: for how many bars there is room.
    :param paths: of each part, all its bars.
    :param highest: what the highest bar stands for.
    :param gaps: columns that stand for a long time without any record.
    """

    columns: int
    paths: tuple[str, ...]
    highest: float
    gaps: tuple[Spot, ...] = ()


def bars(columns: Sequence[Column], *parts: Callable[[Column], float], room: int = 0) -> Bars:
    """Lay bars out.

    :param columns: the picture's columns.
    :param parts: what of a column each part shows, from the bottom up.
    :param room: leave room for as many bars, if there are fewer.
    """
    values = [[part(column) for part in parts] for column in columns]
    highest = max(map(sum, values), default=0.0)
    paths: list[list[str]] = [[] for _ in parts]
    for x, stacked in enumerate(values):
        top = float(BARS_HEIGHT)
        for path, value in zip(paths, stacked, strict=True):
            height = BARS_HEIGHT * value / highest if highest else 0
            if value > 0:
                # A day with a single record is to be seen beside one with hundreds.
                path.append(f"M{x}.1 {top:.4g}v{-max(height, 1.5):.4g}h.8v{max(height, 1.5):.4g}z")
            top -= height
    gaps = tuple(
        Spot(x, f"{days_words(column.first_day, column.last_day)}: no record")
        for x, column in enumerate(columns)
        if column.is_gap
    )
    return Bars(max(len(columns), room), tuple(map("".join, paths)), highest, gaps)


def column_ticks(columns: Sequence[Column], room: int = 0) -> tuple[Tick, ...]:
    """Return some days along the lower edge of bars.

    :param columns: the picture's columns.
    :param room: as for :func:`bars`.
    """
    if not columns:
        return ()
    wide = max(len(columns), room)
    several_years = columns[0].first_day.year != columns[-1].last_day.year
    step = -(-wide // (5 if several_years else 7))
    ticks = []
    for index in range(0, len(columns), step):
        day = columns[index].first_day
        month = MONTHS[day.month - 1][:3]
        label = f"{month} {day.year}" if several_years else f"{day.day} {month}"
        ticks.append(Tick(round(100 * (index + 0.5) / wide, 2), label))
    return tuple(ticks)


# ---------------------------------------------------------------- glucose by hour of the day


@dataclass(frozen=True)
class Levels:
    """Glucose by hour of the day.

    :param wide: from the 5th percentile to the 95th.
    :param narrow: from the 25th to the 75th.
    :param median: the 50th.
    :param target: upper edge and height of the target range.
    :param ticks: levels at the left edge; ``at`` is in pixels from the top.
    :param spots: what is said about each hour.
    """

    wide: str
    narrow: str
    median: str
    target: tuple[float, float]
    ticks: tuple[Tick, ...]
    spots: tuple[Spot, ...]


Point = tuple[float, float]


def levels(found: GlucoseFound) -> Levels:
    """Lay glucose by hour of the day out; an hour is one unit wide, and a pixel one unit high.

    :param found: the levels, of at least one hour.
    """
    highest = max(hour.percentiles[4] for hour in found.hours)
    low, high = _TARGET[found.unit]
    top = next((tick for tick in _TICKS[found.unit] if tick > max(highest, high) * 1.02), highest * 1.05)

    def y(value: float) -> float:
        return round(LEVELS_HEIGHT * (1 - value / top), 1)

    curves: list[list[list[Point]]] = [
        _with_edges({hour.hour: y(hour.percentiles[number]) for hour in found.hours}) for number in range(5)
    ]
    ticks = tuple(
        Tick(y(tick), f"{tick:g}" if found.unit == "mg/dL" else f"{tick:.1f}", is_limit=tick in (low, high))
        for tick in _TICKS[found.unit]
        if tick <= top
        and (tick in (low, high) or min(abs(y(tick) - y(low)), abs(y(tick) - y(high))) >= _LINE_HEIGHT)
    )
    spots = tuple(
        Spot(
            hour.hour,
            f"{hour.hour:02}:00\N{EN DASH}{hour.hour + 1:02}:00: "
            f"median {hour.percentiles[2]:g} {found.unit}, "
            f"half from {hour.percentiles[1]:g} to {hour.percentiles[3]:g}, "
            f"nine of ten from {hour.percentiles[0]:g} to {hour.percentiles[4]:g}; "
            f"{hour.readings:,} values",
        )
        for hour in found.hours
    )
    return Levels(
        wide=_area(curves[4], curves[0]),
        narrow=_area(curves[3], curves[1]),
        median="".join(f"M{_place(run[0])}{_curve(run)}" for run in curves[2]),
        target=(y(high), round(y(low) - y(high), 1)),
        ticks=ticks,
        spots=spots,
    )


def _with_edges(values: Mapping[int, float]) -> list[list[Point]]:
    """Return points in the middle of hours that follow each other, and on their outer edges."""
    runs: list[list[Point]] = []
    for hour in sorted(values):
        if hour - 1 in values:
            runs[-1].append((hour + 0.5, values[hour]))
        else:
            runs.append([(float(hour), values[hour]), (hour + 0.5, values[hour])])
        if hour + 1 not in values:
            runs[-1].append((hour + 1.0, values[hour]))
    if 0 in values and 23 in values:  # the day goes on after midnight
        midnight = round((values[0] + values[23]) / 2, 1)
        runs[0][0], runs[-1][-1] = (0.0, midnight), (24.0, midnight)
    return runs


def _area(upper: Sequence[Sequence[Point]], lower: Sequence[Sequence[Point]]) -> str:
    return "".join(
        f"M{_place(above[0])}{_curve(above)}L{_place(below[-1])}{_curve(below[::-1])}z"
        for above, below in zip(upper, lower, strict=True)
    )


def _place(point: Point) -> str:
    return f"{point[0]:g} {point[1]:g}"


def _curve(points: Sequence[Point]) -> str:
    """Return a smooth line from the first point on, which exceeds no point: Fritsch and Carlson's."""
    slopes = [(after[1] - before[1]) / (after[0] - before[0]) for before, after in pairwise(points)]
    inner = [
        0.0 if before * after <= 0 else 2 * before * after / (before + after)
        for before, after in pairwise(slopes)
    ]
    tangents = [slopes[0], *inner, slopes[-1]]
    made = []
    for index, (before, after) in enumerate(pairwise(points)):
        third = (after[0] - before[0]) / 3
        controls = (
            (before[0] + third, before[1] + third * tangents[index]),
            (after[0] - third, after[1] - third * tangents[index + 1]),
            after,
        )
        made.append("C" + " ".join(f"{x:.4g} {y:.4g}" for x, y in controls))
    return "".join(made)

"""Records by day and hour, and per day as bars: a gap, or what is there twice, stands out.

A template draws what is laid out here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta, tzinfo
from itertools import groupby
from statistics import median

from tidepool_ingest.coverage import (
    HOURS,
    LEVELS,
    LONGEST_GAP,
    MORE_THAN_USUAL,
    Column,
    DayHours,
    Picture,
    hours_of_text,
    in_zone,
    picture_of,
)
from tidepool_ingest.local_times import zone_named

Days = Mapping[date, Mapping[str, int]]

HEIGHT = 56
"""Height of the highest bar, in units."""
STEP = 9
"""Distance from one day to the next, in units."""
BAR = 7
"""Width of a bar, in units."""

MOST_SLOTS = 1_100
"""Most days to draw: three years. Older ones are in the table only."""

FEWEST_SLOTS = 30
"""Least number of days to leave room for, so that the bars of few days stay narrow."""
STRETCHED_SLOTS = 120
"""Most days that are fitted to the page's width; charts with more are scrolled."""

UNUSUAL = 1.7
"""Multiple of the median above which a day looks as if it were there twice."""
CHANCE = 3.0
"""How many square roots of the median a day must exceed it by, too: small numbers vary by chance."""
FEWEST_DAYS = 3
"""Least number of days with records for a meaningful median."""
REGULAR = 0.7
"""Least share of days with records for a day without any to be a gap: nobody exercises every day."""


@dataclass(frozen=True)
class Bar:
    """One day, or a long gap.

    :param x: left edge.
    :param day: the day; the first one of a long gap.
    :param records: of this upload.
    :param others: of other verified uploads of the device.
    :param top: upper edge of the own part.
    :param height: height of the own part.
    :param others_top: upper edge of the others' part, which is stacked on the own part.
    :param others_height: height of the others' part.
    :param mark: ``gap`` for a day that should have records and has none, ``unusual`` for one with many
        more than usual, or nothing.
    :param gap_days: how many days a long gap has, or 0.
    """

    x: int
    day: date
    records: int
    others: int
    top: float
    height: float
    others_top: float
    others_height: float
    mark: str
    gap_days: int = 0


@dataclass(frozen=True)
class TypeChart:
    """The days of one type of records.

    :param type: the type.
    :param records: how many there are in all.
    :param bars: the days.
    :param width: their width, in units.
    :param stretched: whether the chart is stretched to the page's width.
    :param has_room: whether the days take less than the whole width.
    :param highest: records of the highest bar.
    :param gaps: days that should have records and have none, long gaps left out.
    :param unusual: days with many more than usual.
    """

    type: str
    records: int
    bars: tuple[Bar, ...]
    width: int
    stretched: bool
    has_room: bool
    highest: int
    gaps: int
    unusual: tuple[date, ...]


def charts(own: Days, others: Days) -> list[TypeChart]:
    """Return a chart for each type of records, the most frequent first; all share their days.

    :param own: numbers of an upload's records by day and type.
    :param others: the same of other verified uploads of the device, on these days.
    """
    slots = _slots(sorted(own))
    totals: dict[str, int] = {}
    for counts in own.values():
        for kind, records in counts.items():
            totals[kind] = totals.get(kind, 0) + records
    kinds = sorted(totals, key=lambda kind: (-totals[kind], kind))
    return [_chart(kind, totals[kind], slots, own, others) for kind in kinds]


def _slots(days: list[date]) -> list[tuple[date, int]]:
    """Return what is drawn side by side: each day, or the first day of a long gap and its length."""
    slots: list[tuple[date, int]] = []
    for before, day in zip([None, *days], days, strict=False):
        missing = (day - before).days - 1 if before else 0
        if before and missing > LONGEST_GAP:
            slots.append((before + timedelta(days=1), missing))
        elif before:
            slots += [(before + timedelta(days=ahead), 0) for ahead in range(1, missing + 1)]
        slots.append((day, 0))
    return slots[-MOST_SLOTS:]


def _chart(kind: str, total: int, slots: list[tuple[date, int]], own: Days, others: Days) -> TypeChart:
    counts = {day: own.get(day, {}).get(kind, 0) for day, gap in slots if not gap}
    beside = {day: others.get(day, {}).get(kind, 0) for day in counts}
    present = [day for day, records in counts.items() if records]
    usual = median(counts[day] for day in present) if len(present) >= FEWEST_DAYS else 0
    most = max(UNUSUAL * usual, usual + CHANCE * usual**0.5)
    unusual = tuple(day for day in present if usual and counts[day] > most)
    inside = [day for day in counts if present and present[0] <= day <= present[-1]]
    regular = len(present) >= REGULAR * len(inside)
    highest = max([counts[day] + beside[day] for day in counts], default=0)
    gaps = {day for day in inside if regular and not counts[day]}
    bars = tuple(_bars(slots, counts, beside, max(highest, 1), gaps, unusual))
    width, stretched = max(len(slots), FEWEST_SLOTS) * STEP, len(slots) <= STRETCHED_SLOTS
    has_room = len(slots) < FEWEST_SLOTS
    return TypeChart(kind, total, bars, width, stretched, has_room, highest, len(gaps), unusual)


def _bars(
    slots: list[tuple[date, int]],
    counts: Mapping[date, int],
    beside: Mapping[date, int],
    highest: int,
    gaps: set[date],
    unusual: tuple[date, ...],
) -> Iterator[Bar]:
    for index, (day, gap_days) in enumerate(slots):
        records, others = counts.get(day, 0), beside.get(day, 0)
        mark = "unusual" if day in unusual else "gap" if day in gaps else ""
        height = HEIGHT * records / highest
        others_height = HEIGHT * others / highest
        yield Bar(
            x=index * STEP,
            day=day,
            records=records,
            others=others,
            top=round(HEIGHT - height, 2),
            height=round(height, 2),
            others_top=round(HEIGHT - height - others_height, 2),
            others_height=round(others_height, 2),
            mark=mark,
            gap_days=gap_days,
        )


# ---------------------------------------------------------------- days by hours

Hours = Mapping[date, Mapping[str, str]]
"""Numbers of records by UTC day and type, 24 a text, as the ledger has them."""

SENSOR = "cbg"
"""The type of a sensor's readings, which should come in every hour."""

HEAT_COLUMNS = 120
"""Most columns of days: each is some pixels wide on a phone, too."""
FEWEST_HEAT_COLUMNS = 12
"""Least number of columns to leave room for, so that two dates fit below."""
CELL_STEP = 7
"""Distance from one hour to the next, in units."""
CELL = 6
"""Height of an hour, in units."""
HEAT_STEP = 18
"""Width of a column in pixels, where there is room."""
MOST_TICKS = 4
"""Most months that are named between the first and the last day."""
ROOM_OF_DATE = 0.24
"""Share of the width at each end that a date takes on a phone."""


@dataclass(frozen=True)
class HeatColumn:
    """One column of the heat map: a day, several ones, or a long gap.

    :param x: left edge.
    :param first: its first day.
    :param last: its last day.
    :param hours: records in each hour of the day.
    :param levels: how full each is.
    :param cells: for each level that it has, the outlines of its hours.
    :param is_gap: whether it is a long time without any record.
    """

    x: int
    first: date
    last: date
    hours: tuple[int, ...]
    levels: tuple[int, ...]
    cells: tuple[tuple[int, str], ...]
    is_gap: bool

    @property
    def records(self) -> int:
        """How many records it has."""
        return sum(self.hours)

    @property
    def missing(self) -> str:
        """From which hour to which it has none, unless that is the whole day."""
        return _spans(self.levels, 0) if self.records else ""

    @property
    def unusual(self) -> str:
        """From which hour to which it has many more than usual."""
        return _spans(self.levels, MORE_THAN_USUAL)


@dataclass(frozen=True)
class HeatMap:
    """Days by hours.

    :param type: the type of the records; empty if they are of all types.
    :param zone: the name of the time zone in which its days and hours are.
    :param columns: the days.
    :param full_hour: records of a full hour.
    :param days_a_column: how many days most columns stand for.
    :param is_cut: whether the oldest days are left out.
    :param ticks: names of months between, each with its place in percent of the width.
    """

    type: str
    zone: str
    columns: tuple[HeatColumn, ...]
    full_hour: int
    days_a_column: int
    is_cut: bool
    ticks: tuple[tuple[float, str], ...]

    @property
    def slots(self) -> int:
        """For how many columns there is room."""
        return max(len(self.columns), FEWEST_HEAT_COLUMNS)

    @property
    def width(self) -> int:
        """Width, in the units of its cells."""
        return self.slots * STEP

    @property
    def pixels(self) -> int:
        """Width in pixels, where there is room."""
        return self.slots * HEAT_STEP

    @property
    def height(self) -> int:
        """Height, in units and in pixels."""
        return HOURS * CELL_STEP


def heat_map(hours: Hours, zones: str | None) -> HeatMap | None:
    """Return a batch's days by hours: the readings of a sensor, or all records where there are none.

    :param hours: its records by UTC day and type.
    :param zones: the zones of its local times, as the ledger has them. A single one whose hours are whole is
        the one that the picture is in; otherwise it is in UTC.
    :return: nothing if its hours are not known.
    """
    has_sensor = any(SENSOR in kinds for kinds in hours.values())
    by_hour: dict[date, tuple[int, ...]] = {}
    for day, kinds in hours.items():
        counted = [hours_of_text(text) for kind, text in kinds.items() if kind == SENSOR or not has_sensor]
        if counted:
            by_hour[day] = tuple(map(sum, zip(*counted, strict=True)))
    name, zone, local = _in_own_zone(by_hour, zones)
    picture = picture_of(local, columns=HEAT_COLUMNS, zone=zone)
    if not picture.columns:
        return None
    return HeatMap(
        type=SENSOR if has_sensor else "",
        zone=name,
        columns=tuple(_heat_column(number, column) for number, column in enumerate(picture.columns)),
        full_hour=picture.full_hour,
        days_a_column=picture.days_a_column,
        is_cut=picture.is_cut,
        ticks=tuple(_ticks(picture)),
    )


def _in_own_zone(hours: DayHours, zones: str | None) -> tuple[str, tzinfo | None, DayHours]:
    zone = single_zone(zones)
    local = in_zone(hours, zone[1]) if zone else None
    return ("UTC", None, hours) if zone is None or local is None else (*zone, local)


def single_zone(zones: str | None) -> tuple[str, tzinfo] | None:
    """Return the zone that all local times of a batch are in, with its name, if there is a single one.

    :param zones: as the ledger has them.
    """
    clocks = json.loads(zones) if zones else []
    if len(clocks) != 1 or len(clocks[0]) != 1:
        return None
    name = str(clocks[0][0][0])
    try:
        return name, zone_named(name)
    except KeyError:  # of another version of the time zone database
        return None


def zones_in_words(zones: str | None) -> list[str]:
    """Return the zones of a batch's local times, one text for each clock; without the times of changes."""
    return [", then ".join(str(period[0]) for period in clock) for clock in json.loads(zones or "[]")]


def _heat_column(number: int, column: Column) -> HeatColumn:
    x = number * STEP
    cells = tuple(
        (level, "".join(f"M{x} {hour * CELL_STEP}h{BAR + 1}v{CELL}h-{BAR + 1}z" for hour in found))
        for level in LEVELS
        if (found := [hour for hour, each in enumerate(column.levels) if each == level])
    )
    return HeatColumn(
        x=x,
        first=column.first_day,
        last=column.last_day,
        hours=column.hours,
        levels=column.levels,
        cells=() if column.is_gap else cells,
        is_gap=column.is_gap,
    )


def _spans(levels: tuple[int, ...], wanted: int) -> str:
    """Return the hours of one level as spans, such as ``3-7, 12-13``."""
    spans, start = [], 0
    for level, group in groupby(levels):
        end = start + len(list(group))
        if level == wanted:
            spans.append(f"{start}\N{EN DASH}{end}")
        start = end
    return ", ".join(spans)


def _ticks(picture: Picture) -> Iterator[tuple[float, str]]:
    """Yield where months begin, as far as their names have room."""
    count = len(picture.columns)
    slots = max(count, FEWEST_HEAT_COLUMNS)
    begins = [
        (number / slots, column.last_day.replace(day=1))
        for number, column in enumerate(picture.columns)
        if number and not column.is_gap and column.last_day.day <= picture.days_a_column
    ]
    inside = [one for one in begins if ROOM_OF_DATE <= one[0] <= count / slots - ROOM_OF_DATE]
    step = -(-len(inside) // MOST_TICKS) or 1
    for share, day in inside[::step]:
        yield round(100 * share, 2), f"{day:%b}"

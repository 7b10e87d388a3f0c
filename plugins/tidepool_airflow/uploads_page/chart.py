"""Records per day as bars, drawn by a template so that a gap or a day that is there twice stands out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median

Days = Mapping[date, Mapping[str, int]]

HEIGHT = 56
"""Height of the highest bar, in units."""
STEP = 9
"""Distance from one day to the next, in units."""
BAR = 7
"""Width of a bar, in units."""

LONGEST_GAP = 31
"""Days without a record that are drawn one by one; a longer gap is drawn as one."""
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

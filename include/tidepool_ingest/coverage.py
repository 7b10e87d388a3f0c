"""Coverage: records counted by day and hour, and how a picture of it is laid out, wherever it is drawn.

A picture has a column for each day, or for several days where there are many, and 24 hours from midnight on
in each. How full an hour is, is a *level*: its count beside that of a usual full hour. So a sensor's picture
shows the hours in which it did not send, however often it sends; and nothing of what was measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, TypeAlias

HOURS: Final = 24
"""Hours of a day. One that is there twice, as clocks go back, is one hour with twice as many records."""

ONCE: Final = (1,) * HOURS
"""How often each hour is there on a day on which no clock is changed."""

DayHours: TypeAlias = Mapping[date, Sequence[int]]
"""Numbers of records by day, 24 a day."""

LONGEST_GAP: Final = 31
"""Days without a record that are drawn one by one; a longer gap is drawn as one column."""

MORE_THAN_USUAL: Final = 5
"""The level above all others: records that may be there twice."""

LEVELS: Final = range(MORE_THAN_USUAL + 1)
"""0 for an hour without a record, 1 to 4 for quarters of a full one, and :data:`MORE_THAN_USUAL`."""

_FULL_SHARE: Final = 0.9
"""A full hour has as many records as this share of all hours with some have at most."""

_TWICE: Final = 1.6
_FEWEST_FULL: Final = 4
"""Fewer records an hour than that vary by chance, so that many of them mean nothing."""


@dataclass(frozen=True)
class Column:
    """One column of the picture.

    :param first_day: its day, or the first one of several.
    :param days: how many days it stands for.
    :param hours: numbers of records, 24, summed over its days.
    :param levels: how full each of these hours is, each one of :data:`LEVELS`.
    :param is_gap: whether it stands for a long time without any record.
    """

    first_day: date
    days: int
    hours: tuple[int, ...]
    levels: tuple[int, ...]
    is_gap: bool = False

    @property
    def last_day(self) -> date:
        """The last of its days."""
        return self.first_day + timedelta(days=self.days - 1)


@dataclass(frozen=True)
class Picture:
    """The picture of some days.

    :param columns: from the first day to the last.
    :param full_hour: how many records a full hour has.
    :param is_cut: whether there was no room for the oldest columns, because of many long gaps.
    """

    columns: tuple[Column, ...]
    full_hour: int
    is_cut: bool = False

    @property
    def days_a_column(self) -> int:
        """How many days most columns stand for."""
        return max((column.days for column in self.columns if not column.is_gap), default=1)


def picture_of(days: DayHours, *, columns: int, zone: tzinfo | None = None) -> Picture:
    """Lay a picture out.

    :param days: numbers of records by day; days may be missing.
    :param columns: most columns that there is room for.
    :param zone: the zone in which these are days, where clocks are changed in it: how full an hour is that is
        there twice follows from both, and one that is left out is as full as the one beside it.
    """
    full = full_hour(days)
    runs = _runs(sorted(day for day, hours in days.items() if any(hours)))
    together = 1
    longest = max((length for _, length, is_gap in runs if not is_gap), default=1)
    while (
        sum(1 if gap else -(-length // together) for _, length, gap in runs) > columns and together < longest
    ):
        together += 1
    made = [
        column
        for first, length, is_gap in runs
        for column in _columns(days, first, length, length if is_gap else together, full, is_gap, zone)
    ]
    return Picture(tuple(made[-columns:]), full, is_cut=len(made) > columns)


def full_hour(days: DayHours) -> int:
    """Return how many records an hour has in which nothing is missing.

    :param days: numbers of records by day.
    :return: 0 where there are none.
    """
    counts = sorted(count for hours in days.values() for count in hours if count)
    return counts[int(_FULL_SHARE * (len(counts) - 1))] if counts else 0


def level_of(count: int, full: int, *, days: int = 1) -> int:
    """Return how full an hour is: one of :data:`LEVELS`.

    :param count: its records, of all days together.
    :param full: how many a full hour has.
    :param days: of how many days it is.
    """
    if not count or not full:
        return 0
    share = count / (full * max(days, 1))
    if share > _TWICE and full >= _FEWEST_FULL:
        return MORE_THAN_USUAL
    return min(4, int(4 * share) + 1)


def text_of_hours(hours: Sequence[int]) -> str:
    """Return 24 numbers as a short text: commas between them, nothing for none."""
    return ",".join(str(count or "") for count in hours)


def hours_of_text(text: str) -> tuple[int, ...]:
    """Return the 24 numbers that :func:`text_of_hours` has written."""
    return tuple(int(count or 0) for count in text.split(","))


def in_zone(days: DayHours, zone: tzinfo) -> DayHours | None:
    """Return UTC days and hours as those of a time zone.

    :param days: numbers of records by UTC day.
    :param zone: the zone.
    :return: ``None`` if its hours do not begin with those of UTC.
    """
    local: dict[date, list[int]] = {}
    for day, hours in days.items():
        for hour, count in enumerate(hours):
            if not count:
                continue
            moment = datetime.combine(day, time(hour), UTC)
            try:
                there = moment.astimezone(zone)
            except OverflowError:  # the first or the last day that there is
                there = moment
            if there.minute or there.second:
                return None
            local.setdefault(there.date(), [0] * HOURS)[there.hour] += count
    return local


def passes_in(zone: tzinfo | None, day: date) -> Sequence[int]:
    """Return how often each hour of a day is there: twice as clocks go back, not at all as they go forward.

    Half an hour counts as a whole one.

    :param zone: the zone; ``None`` for UTC.
    :param day: the day in it.
    """
    if zone is None:
        return ONCE
    try:
        midnight, start = datetime.combine(day, time(), zone), datetime.combine(day, time(), UTC)
        if midnight.utcoffset() == datetime.combine(day + timedelta(days=1), time(), zone).utcoffset():
            return ONCE
        quarters = range(-4 * HOURS, 8 * HOURS)
        moments = [(start + timedelta(minutes=15 * quarter)).astimezone(zone) for quarter in quarters]
    except OverflowError:  # the first or the last day that there is
        return ONCE
    inside = Counter(moment.hour for moment in moments if moment.date() == day)
    return [-(-inside[hour] // 4) for hour in range(HOURS)]


_Run = tuple[date, int, bool]
"""First day, number of days, and whether they are a long gap."""


def _runs(present: Sequence[date]) -> list[_Run]:
    """Return what follows each other: days that are drawn one by one, and long gaps."""
    runs: list[_Run] = []
    for day in present:
        if not runs:
            runs.append((day, 1, False))
            continue
        first, length, _ = runs[-1]
        missing = (day - first).days - length
        if missing > LONGEST_GAP:
            runs += [(first + timedelta(days=length), missing, True), (day, 1, False)]
        else:
            runs[-1] = (first, length + missing + 1, False)
    return runs


def _columns(
    days: DayHours,
    first: date,
    length: int,
    together: int,
    full: int,
    is_gap: bool,
    zone: tzinfo | None,
) -> Iterator[Column]:
    for start in range(0, length, together):
        own = [first + timedelta(days=ahead) for ahead in range(start, min(start + together, length))]
        if is_gap:
            yield Column(own[0], len(own), (0,) * HOURS, (0,) * HOURS, is_gap=True)
            continue
        counted = [days[day] for day in own if day in days]
        hours = tuple(map(sum, zip(*counted, strict=True))) or (0,) * HOURS
        passes = tuple(map(sum, zip(*(passes_in(zone, day) for day in own), strict=True)))
        levels = [level_of(count, full, days=there) for count, there in zip(hours, passes, strict=True)]
        for hour in (hour for hour in range(HOURS) if not passes[hour]):
            levels[hour] = levels[hour - 1] if hour else levels[1]
        yield Column(own[0], len(own), hours, tuple(levels))

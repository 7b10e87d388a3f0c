"""Instants as Tidepool writes them, and what a clock in the person's time zone showed."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

from tidepool_ingest.formats.nightscout.values import DAY_MS, HOUR_MS, MINUTE_MS
from tidepool_ingest.local_times import Period, timezone_names, zone_named

QUARTER_MS: Final = 15 * MINUTE_MS
"""Zones change their offset at whole quarter hours of UTC."""

REMEMBERED_MAX: Final = 50_000
"""Hours, and offsets by quarter hour, that are remembered: some megabytes."""

_OFFSET: Final = re.compile(r"(?:GMT|UTC)\s*([+-])\s*0?([0-9]{1,2})(?::?00)?", re.IGNORECASE)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
OF_HOUR: Final = [f":{minute:02}:{second:02}" for minute in range(60) for second in range(60)]
"""Minute and second of each second of an hour, as times end."""


@cache
def _names_by_spelling() -> dict[str, str]:
    return {name.casefold(): name for name in timezone_names()}


def zone_meant(written: str) -> str | None:
    """Return the IANA name of a zone that a profile names, ``None`` if none is meant for certain.

    ``GMT+4`` is what people call four hours ahead of UTC, which is ``Etc/GMT-4``; ``ETC/GMT+5`` is how Loop
    writes ``Etc/GMT+5``.

    :param written: as in the profile.
    """
    name = written.strip()
    if match := _OFFSET.fullmatch(name):
        sign, hours = match.groups()
        name = f"Etc/GMT{'-' if sign == '+' else '+'}{int(hours)}" if int(hours) else "Etc/GMT"
    return _names_by_spelling().get(name.casefold().replace(" ", "_"))


class Moments:
    """Writes instants."""

    def __init__(self) -> None:
        self._hours: dict[int, str] = {}

    def written(self, ms: int) -> str:
        """Return an instant in UTC, ``YYYY-MM-DDThh:mm:ssZ`` or with milliseconds if it has some.

        :param ms: milliseconds since 1970.
        """
        fraction = ms % 1000
        return f"{self.stamp(ms)}.{fraction:03}Z" if fraction else f"{self.stamp(ms)}Z"

    def stamp(self, ms: int) -> str:
        """Return what a clock in UTC shows at an instant, ``YYYY-MM-DDThh:mm:ss``."""
        hour, rest = divmod(ms, HOUR_MS)
        start = self._hours.get(hour)
        if start is None:
            if len(self._hours) >= REMEMBERED_MAX:
                self._hours.clear()
            day = (_EPOCH + timedelta(days=hour // 24)).strftime("%Y-%m-%d").rjust(10, "0")
            begins = hour - hour % 24
            self._hours.update({begins + of_day: f"{day}T{of_day:02}" for of_day in range(24)})
            start = self._hours[hour]
        return start + OF_HOUR[rest // 1000]


class Clock:
    """What a clock in a zone shows.

    :param zone: the zone's IANA name.
    """

    def __init__(self, zone: str) -> None:
        self.zone = zone
        self._info = zone_named(zone)
        self._offsets: dict[int, int] = {}
        self._days: dict[int, int | None] = {}

    def offset(self, ms: int) -> int:
        """Return how many minutes the clock is ahead of UTC at an instant."""
        day = ms // DAY_MS
        ahead = self._days[day] if day in self._days else self._of_day(day)
        return self._of_quarter(ms // QUARTER_MS) if ahead is None else ahead

    def _of_day(self, day: int) -> int | None:
        """Return the offset throughout a day of UTC, ``None`` if it changes; it does so once at most."""
        if len(self._days) >= REMEMBERED_MAX:
            self._days.clear()
        first, last = (self._of_quarter(at // QUARTER_MS) for at in (day * DAY_MS, (day + 1) * DAY_MS - 1))
        self._days[day] = first if first == last else None
        return self._days[day]

    def throughout(self, start: int, end: int) -> int | None:
        """Return the offset from one instant to another, ``None`` if it changes.

        :param start: milliseconds since 1970.
        :param end: the same, not included.
        """
        day = start // DAY_MS
        if day == (end - 1) // DAY_MS and (ahead := self._days.get(day)) is not None:
            return ahead
        offsets = {self.offset(at) for at in range(start, end, QUARTER_MS)}
        return offsets.pop() if len(offsets) == 1 else None

    def _of_quarter(self, quarter: int) -> int:
        found = self._offsets.get(quarter)
        if found is None:
            if len(self._offsets) >= REMEMBERED_MAX:
                self._offsets.clear()
            moment = (_EPOCH + timedelta(milliseconds=quarter * QUARTER_MS)).astimezone(self._info)
            ahead = moment.utcoffset() or timedelta()
            found = self._offsets[quarter] = round(ahead.total_seconds() / 60)
        return found

    def shows(self, day: datetime, second: int) -> int:
        """Return at which instant the clock shows a time of a day: the first, if it does so twice.

        :param day: its midnight, without a zone.
        :param second: of the day.
        """
        shown = (day + timedelta(seconds=second)).replace(tzinfo=self._info)
        return round((shown - _EPOCH).total_seconds() * 1000)

    def day(self, ms: int) -> datetime:
        """Return the midnight that begins the clock's day, without a zone."""
        shown = _EPOCH.replace(tzinfo=None) + timedelta(milliseconds=ms + self.offset(ms) * MINUTE_MS)
        return shown.replace(hour=0, minute=0, second=0, microsecond=0)


@cache
def clock_in(zone: str) -> Clock:
    """Return the clock of a zone.

    :param zone: its IANA name.
    """
    return Clock(zone)


class StatedClocks:
    """The zones that a person has stated, one after the other.

    :param periods: in the order of time; the last one does not end. There may be none.
    """

    def __init__(self, periods: Sequence[Period]) -> None:
        self._clocks = [clock_in(period.zone) for period in periods]
        self._ends = [
            clock.shows(datetime.fromisoformat(period.until), 0)
            for clock, period in zip(self._clocks, periods, strict=True)
            if period.until
        ]

    def at(self, ms: int) -> Clock | None:
        """Return the clock at an instant, ``None`` if no zone was stated."""
        return self._clocks[bisect_right(self._ends, ms)] if self._clocks else None

    def throughout(self, start: int, end: int) -> Clock | None:
        """Return the clock from one instant to another, ``None`` if none was stated or it may change.

        :param start: milliseconds since 1970.
        :param end: the same, not included.
        """
        is_one = bisect_right(self._ends, start) == bisect_left(self._ends, end)
        return self.at(start) if is_one else None

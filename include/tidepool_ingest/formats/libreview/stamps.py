"""Dates and clocks as LibreView writes them, in whichever order, and the instants that they stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Final, NamedTuple

from tidepool_ingest.formats.delimited import SHORT_CELL
from tidepool_ingest.local_times import LocalTimes, Period

ORDERS: Final = ("dmy", "mdy", "ymd")

DAY: Final = 24 * 60
"""Minutes."""

DAYS_MAX: Final = 2_000
"""Dates, and times of day, that are remembered: five years."""

YEARS: Final = range(1900, 2200)

_DATE: Final = re.compile(r"([0-9]{1,4})([-/.])([0-9]{1,2})\2([0-9]{1,4})")
_TIME: Final = re.compile(
    r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?(?:[ \u00a0\u202f]?([AaPp])\.?[ \u00a0]?[Mm]\.?)?"
)
_STAMP: Final = re.compile(r"\s*([0-9./-]{8,10})(?:T|\s+)([0-9].*?)\s*", re.DOTALL)


class Day(NamedTuple):
    """A date under one order.

    :param iso: ``YYYY-MM-DD``.
    :param number: of the day, for differences.
    """

    iso: str
    number: int


class Time(NamedTuple):
    """A time of day.

    :param minute: of the day.
    :param text: ``hh:mm:ss``.
    :param is_whole: whether it has no seconds.
    """

    minute: int
    text: str
    is_whole: bool


Days = tuple[Day | None, Day | None, Day | None]
"""A date under each of :data:`ORDERS`; ``None`` where it is no date."""

NO_DAYS: Final[Days] = (None, None, None)


class Calendar:
    """Reads stamps; remembers the dates and times that it has read."""

    def __init__(self) -> None:
        self._days: dict[str, Days] = {}
        self.times: dict[str, Time | None] = {}
        """What a clock's text means; filled by :meth:`time`."""

    def days(self, text: str) -> Days:
        """Return what a date's text means under each order."""
        days = self._days.get(text)
        if days is None:
            if len(self._days) >= DAYS_MAX:
                self._days.clear()
            days = self._days[text] = _days_in(text)
        return days

    def time(self, text: str) -> Time | None:
        """Return what a clock's text means, ``None`` if it is no time of day."""
        try:
            return self.times[text]
        except KeyError:
            if len(text) > SHORT_CELL:
                return None
            if len(self.times) >= DAYS_MAX:
                self.times.clear()
            time = self.times[text] = _time_in(text)
            return time


def split(stamp: str) -> tuple[str, str]:
    """Return the texts of a stamp's date and clock, both empty if it is no stamp.

    :param stamp: as it stands in its cell, perhaps with blanks around it.
    """
    match = _STAMP.fullmatch(stamp)
    return (match.group(1), match.group(2)) if match else ("", "")


def _days_in(text: str) -> Days:
    match = _DATE.fullmatch(text)
    if match is None:
        return NO_DAYS
    first, second, third = match.group(1), match.group(3), match.group(4)
    if len(first) == 4 and len(third) <= 2:
        return (None, None, _day(first, second, third))
    if len(third) == 4 and len(first) <= 2:
        return (_day(third, second, first), _day(third, first, second), None)
    return NO_DAYS


def _day(year: str, month: str, day: str) -> Day | None:
    if int(year) not in YEARS:
        return None
    try:
        found = date(int(year), int(month), int(day))
    except ValueError:
        return None
    return Day(found.isoformat(), found.toordinal())


def _time_in(text: str) -> Time | None:
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    hour, minute, second, half = int(match[1]), int(match[2]), int(match[3] or 0), match[4]
    if half and hour > 12:
        return None
    if half:
        hour = hour % 12 + (12 if half in "Pp" else 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    return Time(hour * 60 + minute, f"{hour:02}:{minute:02}:{second:02}", not second)


class PlainDay(NamedTuple):
    """A date on which the offset of its zone does not change, so that its times need not be looked up.

    :param iso: ``YYYY-MM-DD``.
    :param offset: minutes that its local times are ahead of UTC.
    :param before: the date before it.
    :param after: the date after it.
    """

    iso: str
    offset: int
    before: str
    after: str

    def instant(self, minute: int) -> str:
        """Return the instant of a minute of the day, in UTC with ``Z``."""
        at = minute - self.offset
        if at < 0:
            return f"{self.before}{_MINUTE_TEXTS[at + DAY]}"
        return f"{self.iso}{_MINUTE_TEXTS[at]}" if at < DAY else f"{self.after}{_MINUTE_TEXTS[at - DAY]}"


_MINUTE_TEXTS: Final = tuple(f"T{minute // 60:02}:{minute % 60:02}:00Z" for minute in range(DAY))


class Zone:
    """Where a device's clock was set: finds the instants of its local times, a whole day at once.

    :param periods: the zones in the order of time.
    """

    def __init__(self, periods: Sequence[Period]) -> None:
        self.local_times = LocalTimes(periods)
        self._set_on = {period.until[: len("2026-03-05")] for period in periods}
        self._days: dict[str, PlainDay | None] = {}

    def plain_day(self, iso: str) -> PlainDay | None:
        """Return a date as a plain day, ``None`` if its times have to be looked up each.

        :param iso: ``YYYY-MM-DD``.
        """
        try:
            return self._days[iso]
        except KeyError:
            if len(self._days) >= DAYS_MAX:
                self._days.clear()
            day = self._days[iso] = self._plain_day(iso)
            return day

    def _plain_day(self, iso: str) -> PlainDay | None:
        first, last = (self.local_times.read(f"{iso}T{time}") for time in ("00:00:00", "23:59:59"))
        if first.offset != last.offset or first.doubt or last.doubt or iso in self._set_on:
            return None
        number = date.fromisoformat(iso).toordinal()
        before, after = (date.fromordinal(number + step).isoformat() for step in (-1, 1))
        day = PlainDay(iso, first.offset, before, after)
        return day if day.instant(0) == first.time else None  # an offset may have had seconds


def separator_of(text: str) -> str:
    """Return what stands between the parts of a date, empty for none."""
    return next((sign for sign in text if not sign.isdigit()), "")

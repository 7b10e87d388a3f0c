"""Times as the Platform reads, compares and writes them: Go's ``time`` package.

Go's parser is laxer than RFC 3339 in some places (a one-digit hour, a comma before the fraction, offsets of
24 hours or 60 minutes, any number of digits) and stricter than ``datetime.fromisoformat`` in others, and
Python's datetime has neither a year 0 nor nanoseconds. So times are read here, once.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date
from typing import Final, NamedTuple

_DATE = r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
_CLOCK = r"([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?"
_ZONE = r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
_RFC3339: Final = re.compile(f"{_DATE}T{_CLOCK}{_ZONE}")
_LOCAL: Final = re.compile(f"{_DATE}T{_CLOCK}")

_DAY = r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_SURE_LOCAL = (
    rf"(?:[1-9][0-9]{{3}}|0[1-9][0-9]{{2}})-{_DAY}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
)
SURE_INSTANT: Final = _SURE_LOCAL + "Z"
"""What is certainly an instant other than the zero one; 29 February and unusual spellings are left out. The
expression is for a whole text."""
SURE_LOCAL_TIME: Final = _SURE_LOCAL

NANOSECOND_DIGITS: Final = 9
OFFSET_HOURS_MAX: Final = 24
"""Hours; Go: "some people do write offsets of 24 hours or 60 minutes"."""
OFFSET_MINUTES_MAX: Final = 60
_YEAR_MAX: Final = 9999
_DAY_SECONDS: Final = 24 * 60 * 60


class Instant(NamedTuple):
    """A time as it was sent. Its moment and its spelling are worked out when they are asked for.

    :param year: 0..9999.
    :param month: 1..12.
    :param day: 1..31, as the month has.
    :param hour: 0..23.
    :param minute: 0..59.
    :param second: 0..59.
    :param fraction: digits of the second after the point, at most nine, without zeros at the end.
    :param offset: minutes ahead of UTC.
    """

    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int
    fraction: str
    offset: int

    @property
    def moment(self) -> tuple[int, int]:
        """What instants are compared by: seconds since 0000-03-01T00:00:00Z, and nanoseconds."""
        minutes = (_days(self.year, self.month, self.day) * 24 + self.hour) * 60 + self.minute - self.offset
        return minutes * 60 + self.second, int(self.fraction.ljust(NANOSECOND_DIGITS, "0"))

    @property
    def utc_date(self) -> date:
        """The day in UTC; the first or the last that a ``date`` can hold for one beyond."""
        ordinal = date(1, 3, 1).toordinal() - _days(1, 3, 1) + self.moment[0] // (24 * 60 * 60)
        return date.fromordinal(min(max(ordinal, date.min.toordinal()), date.max.toordinal()))

    @property
    def is_zero(self) -> bool:
        """Whether it is 0001-01-01T00:00:00Z, which Go treats as "no time"."""
        return self.year <= 1 and self.moment == (_days(1, 1, 1) * 24 * 60 * 60, 0)

    @property
    def is_shown(self) -> bool:
        """Whether its year in UTC is one that the Platform's API can write, 0 to 9999."""
        if 0 < self.year < _YEAR_MAX:
            return True
        return _days(0, 1, 1) * _DAY_SECONDS <= self.moment[0] < _days(_YEAR_MAX + 1, 1, 1) * _DAY_SECONDS

    @property
    def text(self) -> str:
        """How Go writes it: RFC 3339 with the shortest fraction and the offset as sent."""
        date = f"{self.year:04}-{self.month:02}-{self.day:02}"
        clock = f"{self.hour:02}:{self.minute:02}:{self.second:02}"
        return f"{date}T{clock}{'.' if self.fraction else ''}{self.fraction}{_zone(self.offset)}"


def parse_instant(text: str) -> Instant | None:
    """Read an RFC 3339 time with an offset, as ``time.Parse(time.RFC3339Nano, …)`` does.

    :param text: the time as sent.
    :return: the instant; ``None`` when Go would not parse it.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    sign, offset_hours, offset_minutes = found.group(8, 9, 10)
    if sign is None:
        return _instant(found, 0)
    if int(offset_hours) > OFFSET_HOURS_MAX or int(offset_minutes) > OFFSET_MINUTES_MAX:
        return None
    offset = int(offset_hours) * 60 + int(offset_minutes)
    return _instant(found, -offset if sign == "-" else offset)


def parse_local_time(text: str) -> Instant | None:
    """Read a time without offset, as ``time.ParseInLocation("2006-01-02T15:04:05", …, time.UTC)`` does.

    :param text: the time as sent; a fraction is tolerated.
    :return: the instant it would be in UTC; ``None`` when Go would not parse it.
    """
    found = _LOCAL.fullmatch(text)
    return None if found is None else _instant(found, 0)


def _instant(found: re.Match[str], offset: int) -> Instant | None:
    digits = found.group(1, 2, 3, 4, 5, 6)
    year, month, day, hour, minute, second = map(int, digits)
    in_range = 1 <= month <= 12 and day >= 1 and hour < 24 and minute < 60 and second < 60
    if not in_range or (day > 28 and day > _days_in_month(year, month)):
        return None
    fraction = found[7]
    fraction = fraction[:NANOSECOND_DIGITS].rstrip("0") if fraction else ""
    return Instant(year, month, day, hour, minute, second, fraction, offset)


def _zone(offset: int) -> str:
    if offset == 0:
        return "Z"
    hours, minutes = divmod(abs(offset), 60)
    return f"{'-' if offset < 0 else '+'}{hours:02}:{minutes:02}"


def _days_in_month(year: int, month: int) -> int:
    # Year 0 is a leap year for Go, and unknown to calendar; 400 years on, the calendar is the same.
    return monthrange(year + 400, month)[1]


def _days(year: int, month: int, day: int) -> int:
    """Count the days since 0000-03-01: years that begin in March end with the leap day."""
    if month <= 2:
        year, month = year - 1, month + 12
    return year * 365 + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 1

"""Times and lengths of time as cells of tables have them: which format, and what it means.

A pattern is written as for Python's ``strptime``, whose names of months and days are English here whatever
the machine's language is. It is read by a regular expression that is made once, and five times as fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

Unit: TypeAlias = Literal["ms", "s", "min"]
"""What a duration in a record is in."""

LONGEST_STAMP: Final = 60
"""Characters of a time; what is longer is none."""


class Stamp(NamedTuple):
    """A time as a cell has it.

    :param local: what a clock showed, ``YYYY-MM-DDThh:mm:ss``; empty for a count of seconds since 1970.
    :param fraction: of the second, with its point, to milliseconds; mostly empty.
    :param offset: minutes that the clock was ahead of UTC, if the cell says so.
    :param utc: the instant, ``YYYY-MM-DDThh:mm:ss``, of a count.
    """

    local: str
    fraction: str = ""
    offset: int | None = None
    utc: str = ""


ReadStamp: TypeAlias = Callable[[str], Stamp | None]
"""Reads a cell without blanks around it; returns ``None`` for what is no time. The date may not exist."""


class PatternError(ValueError):
    """A format is none that tables can have; the message repeats nothing of it."""


class StampFormat(NamedTuple):
    """How the times of a table are written.

    :param read: reads one.
    :param has_offset: each time says its own offset, or is a count; ``None``: some may.
    :param swaps: day and month are both numbers and might have been swapped.
    :param after_hour: how many characters come after the hour, if they are ``:mm`` or ``:mm:ss``; else 0.
    """

    read: ReadStamp
    has_offset: bool | None
    swaps: bool = False
    after_hour: int = 0

    @property
    def seconds(self) -> str:
        """What is missing in :data:`AFTER_HOUR` of such times."""
        return ":00" if self.after_hour == len(":mm") else ""


AFTER_HOUR: Final = frozenset(
    [f":{minute:02}{second}" for minute in range(60) for second in ("", *(f":{s:02}" for s in range(60)))]
)
"""What may come after an hour: ``:mm`` and ``:mm:ss``. Times that end so differ in nothing else."""


_ISO: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:[.,]([0-9]{1,9}))?)?"
    r" ?(Z|z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
_is_plain: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
).fullmatch
"""Matches an ISO time to the second without an offset, as most are."""
_NO_DATE: Final = re.compile(r"[0-9]{1,2}[:.][0-9]{2}([:.][0-9]{2}([.,][0-9]+)?)?( ?[AaPp]\.?[Mm]\.?)?")
_COUNT: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?([eE]\+?[0-9]{1,2})?")

_SECONDS_MIN: Final = 100_000_000
"""Counts below this, in March 1973, are no times: zeros, and seconds that are said to be milliseconds."""
_SECONDS_END: Final = 10_000_000_000
"""Counts from this on, in the year 2286, are milliseconds that are said to be seconds."""


def stamp_reader(written: str) -> StampFormat:
    """Return how to read times.

    :param written: ``iso``, ``epoch-s``, ``epoch-ms``, or a pattern with ``%``.
    :raises PatternError: it is none of these, or lacks what makes a time certain.
    """
    if written == "iso":
        return StampFormat(_read_iso, None, after_hour=len(":mm:ss"))
    if written in ("epoch-s", "epoch-ms"):
        return StampFormat(_count_reader(Decimal(1) if written == "epoch-s" else Decimal("0.001")), True)
    return _pattern_reader(written)


def is_time_of_day(text: str) -> bool:
    """Return whether a cell has hours and minutes, and no date.

    :param text: the cell, without blanks around it.
    """
    return len(text) <= LONGEST_STAMP and _NO_DATE.fullmatch(text) is not None


@lru_cache(maxsize=100)
def is_date(date: str) -> bool:
    """Return whether there is such a day.

    :param date: ``YYYY-MM-DD``.
    """
    try:
        datetime.fromisoformat(date)
    except ValueError:
        return False
    return True


def swapped(local: str) -> str | None:
    """Return a time with its day as its month and the other way round; ``None`` if there is no such month.

    :param local: ``YYYY-MM-DDThh:mm:ss``.
    """
    return f"{local[:5]}{local[8:10]}-{local[5:7]}{local[10:]}" if local[8:10] <= "12" else None


def _read_iso(text: str) -> Stamp | None:
    if _is_plain(text):
        return Stamp(text if text[10] == "T" else f"{text[:10]}T{text[11:]}")
    match = _ISO.fullmatch(text) if len(text) <= LONGEST_STAMP else None
    if match is None:
        return None
    date, hour, minute, second, fraction, zone = match.groups()
    local = f"{date}T{hour:>02}:{minute}:{second or '00'}"
    return Stamp(local, _fraction(fraction), None if zone is None else _offset(zone))


def _fraction(digits: str | None) -> str:
    thousandths = f"{digits or '':0<3}"[:3]
    return "" if thousandths == "000" else f".{thousandths}"


def _offset(zone: str) -> int:
    if zone in ("Z", "z"):
        return 0
    hours, minutes = int(zone[1:3]), int(zone[-2:]) if len(zone) > len("+01") else 0
    return (hours * 60 + minutes) * (-1 if zone[0] == "-" else 1)


def _count_reader(seconds: Decimal) -> ReadStamp:
    hours: dict[int, str] = {}

    def read(text: str) -> Stamp | None:
        match = _COUNT.fullmatch(text)
        if match is None:
            return None
        thousandths = round(Decimal(text) * seconds * 1000)
        whole, rest = divmod(thousandths, 1000)
        if not _SECONDS_MIN <= whole < _SECONDS_END:
            return None
        hour, second = divmod(whole, 3600)
        if hour not in hours:
            if len(hours) > 10_000:  # a year of them
                hours.clear()
            start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
            hours[hour] = start.strftime("%Y-%m-%dT%H")
        utc = f"{hours[hour]}:{second // 60:02}:{second % 60:02}"
        return Stamp("", f".{rest:03}" if rest else "", None, utc)

    return read


_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FULL_MONTHS: Final = "january february march april may june july august september october november december"
_DAYS: Final = "mon tue wed thu fri sat sun"
_FULL_DAYS: Final = "monday tuesday wednesday thursday friday saturday sunday"


def _one_of(words: str) -> str:
    return f"(?i:{'|'.join(words.split())})"


_DIRECTIVES: Final = {
    "Y": ("year", "[0-9]{4}"),
    "y": ("short_year", "[0-9]{2}"),
    "m": ("month", "1[0-2]|0?[1-9]"),
    "b": ("month_name", _one_of(" ".join(_MONTHS))),
    "B": ("month_name", _one_of(_FULL_MONTHS)),
    "d": ("day", "3[01]|[12][0-9]|0?[1-9]"),
    "H": ("hour", "2[0-3]|[01]?[0-9]"),
    "I": ("half_hour", "1[0-2]|0?[1-9]"),
    "p": ("half", r"(?i:[ap]\.?m\.?)"),
    "M": ("minute", "[0-5]?[0-9]"),
    "S": ("second", "[0-5]?[0-9]"),
    "f": ("fraction", "[0-9]{1,9}"),
    "z": ("zone", "[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?"),
    "a": ("", _one_of(_DAYS)),
    "A": ("", _one_of(_FULL_DAYS)),
}
"""The group and the regular expression of each directive."""

_OF_TWO_DIGITS: Final = ("month", "day", "hour", "half_hour", "minute", "second")
_SIGNS: Final = re.compile(r"%.?|\s+|.", re.DOTALL)

_ENDS: Final = {len(":mm"): ["%H", ":", "%M"], len(":mm:ss"): ["%H", ":", "%M", ":", "%S"]}
"""Ends of patterns after whose hour only ``:mm`` or ``:mm:ss`` stands, by its length."""

_NEEDED: Final = {
    "year (%Y)": ("year", "short_year"),
    "month (%m)": ("month", "month_name"),
    "day (%d)": ("day",),
    "hour (%H)": ("hour", "half_hour"),
    "minutes (%M)": ("minute",),
}


def _pattern_reader(written: str) -> StampFormat:
    parts, groups = [], list[str]()
    signs = _SIGNS.findall(written)
    for before, sign, after in zip(["", *signs], signs, [*signs[1:], ""], strict=False):
        if sign.isspace():
            parts.append(r"\s+")
        elif sign.startswith("%"):
            is_alone = not (before.startswith("%") or after.startswith("%"))
            parts.append(_directive(sign[1:], groups, is_alone=is_alone))
        else:
            parts.append(re.escape(sign))
    if not groups:
        raise PatternError("is neither iso, epoch-s, epoch-ms nor a pattern such as %d.%m.%Y %H:%M")
    missing = [needed for needed, any_of in _NEEDED.items() if not set(any_of) & set(groups)]
    if "day (%d)" in missing and "hour (%H)" not in missing:
        raise PatternError("has no date, and a time of day alone is no time")
    if missing:
        raise PatternError(f"has no {missing[0]}")
    if ("half_hour" in groups) != ("half" in groups):
        raise PatternError("needs %p with %I, and %H without it")
    expression = re.compile("".join(parts))
    swaps = "month" in groups
    after_hour = next((length for length, end in _ENDS.items() if signs[-len(end) :] == end), 0)
    if "fraction" in groups or (after_hour == len(":mm") and "second" in groups):
        after_hour = 0  # they stand before the hour
    return StampFormat(_reader_of(expression), "zone" in groups, swaps, after_hour)


def _directive(letter: str, groups: list[str], *, is_alone: bool) -> str:
    """Return the regular expression of a directive, and add its group.

    Where nothing separates it from another one, its digits are all there: else it could be read in two ways.
    """
    if letter == "%":
        return "%"
    if letter not in _DIRECTIVES:
        known = " ".join(f"%{name}" for name in _DIRECTIVES)
        raise PatternError(f"has a directive that is not known; known are {known}")
    group, expression = _DIRECTIVES[letter]
    if not group:
        return expression
    if group in groups:
        raise PatternError("has a directive twice")
    groups.append(group)
    if not is_alone and group in _OF_TWO_DIGITS:
        expression = expression.replace("?", "")
    return f"(?P<{group}>{expression})"


def _reader_of(expression: re.Pattern[str]) -> ReadStamp:
    number = {name: index - 1 for name, index in expression.groupindex.items()}
    year, short_year = number.get("year"), number.get("short_year")
    month, month_name, day = number.get("month"), number.get("month_name"), number["day"]
    hour, half_hour, half = number.get("hour"), number.get("half_hour"), number.get("half")
    minute, second = number["minute"], number.get("second")
    fraction, zone = number.get("fraction"), number.get("zone")
    match = expression.fullmatch

    def read(text: str) -> Stamp | None:
        found = match(text) if len(text) <= LONGEST_STAMP else None
        if found is None:
            return None
        groups = found.groups()
        if year is not None:
            years = groups[year]
        else:
            short = groups[short_year or 0]
            years = f"19{short}" if short >= "69" else f"20{short}"  # as strptime
        months = groups[month] if month is not None else _month(groups[month_name or 0])
        hours = groups[hour] if hour is not None else _hour(groups[half_hour or 0], groups[half or 0])
        seconds = "00" if second is None else groups[second]
        return Stamp(
            f"{years}-{months:>02}-{groups[day]:>02}T{hours:>02}:{groups[minute]:>02}:{seconds:>02}",
            "" if fraction is None else _fraction(groups[fraction]),
            None if zone is None else _offset(groups[zone]),
        )

    return read


def _month(name: str) -> str:
    return str(_MONTHS.index(name[:3].lower()) + 1)


def _hour(hour: str, half: str) -> str:
    return str(int(hour) % 12 + (12 if half[0] in "pP" else 0))


# ---------------------------------------------------------------- lengths of time

_CLOCK: Final = re.compile(r"([0-9]{1,4}):([0-5][0-9]):([0-5][0-9])")
_PERIOD: Final = re.compile(
    r"P(?:([0-9]{1,4})D)?(?:T(?:([0-9]{1,6})H)?(?:([0-9]{1,6})M)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)S)?)?"
)
_PER_SECOND: Final = {"ms": Decimal(1000), "s": Decimal(1)}
_DIGITS: Final = 40


def clock_seconds(text: str) -> Decimal | None:
    """Return how many seconds ``hh:mm:ss`` are; ``None`` for another text.

    :param text: the cell, without blanks around it.
    """
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds = map(int, match.groups())
    return Decimal(hours * 3600 + minutes * 60 + seconds)


def iso_seconds(text: str) -> Decimal | None:
    """Return how many seconds an ISO 8601 duration is, in days and less; ``None`` for another text.

    :param text: such as ``PT1H30M``.
    """
    match = _PERIOD.fullmatch(text) if len(text) <= LONGEST_STAMP else None
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (Decimal(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def in_unit(seconds: Decimal, unit: Unit) -> str:
    """Return a length of time as a JSON number; minutes to the thousandth.

    :param seconds: it.
    :param unit: what it is to be in.
    """
    if unit == "min":
        return plain((seconds / 60).quantize(Decimal("0.001")))
    return plain(seconds * _PER_SECOND[unit])


def plain(number: Decimal) -> str:
    """Return a number as JSON has it, without an exponent and zeros at its end.

    :param number: any finite one.
    """
    with localcontext(prec=_DIGITS):
        text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

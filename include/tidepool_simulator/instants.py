"""Times as the Platform's database keeps them and gives them back: milliseconds, in UTC."""

from __future__ import annotations

import time

from tidepool_ingest.model.gotime import parse_instant

_DAYS_TO_EPOCH = 719_468
"""Days from 0000-03-01, where the model counts from, to 1970-01-01."""
_SECONDS_OF_A_DAY = 86_400
_DAYS_OF_400_YEARS = 146_097


SHOWN_FROM_MS, SHOWN_BEFORE_MS = -62_167_219_200_000, 253_402_300_800_000
"""The years 0 to 9999: the API cannot write another one, and leaves the datum out."""


def milliseconds_of(text: str) -> int | None:
    """Return a time with a zone as milliseconds since 1970, rounded down; None when it is no time."""
    instant = parse_instant(text)
    if instant is None:
        return None
    seconds, nanoseconds = instant.moment
    return (seconds - _DAYS_TO_EPOCH * _SECONDS_OF_A_DAY) * 1000 + nanoseconds // 1_000_000


def utc_text(milliseconds: int) -> str:
    """Write a time as Go writes one it has read from the database: UTC, no trailing zeros."""
    seconds, fraction = divmod(milliseconds, 1000)
    days, rest = divmod(seconds, _SECONDS_OF_A_DAY)
    year, month, day = _date_of(days)
    text = f"{year:04d}-{month:02d}-{day:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{text}{f'.{fraction:03d}'.rstrip('0') if fraction else ''}Z"


def utc_of(text: str) -> str:
    """Write a time as it comes back from the database; what is no time stays as it is."""
    milliseconds = milliseconds_of(text)
    return text if milliseconds is None else utc_text(milliseconds)


def now_milliseconds() -> int:
    """Return the clock, in the milliseconds the database keeps."""
    return time.time_ns() // 1_000_000


def now_text() -> str:
    """Return the clock as the Platform writes it."""
    return utc_text(now_milliseconds())


def _date_of(days: int) -> tuple[int, int, int]:
    # Years begin in March here, so that the leap day is the last day of a year; datetime ends at the year 1.
    era, day_of_era = divmod(days + _DAYS_TO_EPOCH, _DAYS_OF_400_YEARS)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    month = (shifted_month + 2) % 12 + 1
    return year_of_era + era * 400 + (month <= 2), month, day_of_year - (153 * shifted_month + 2) // 5 + 1

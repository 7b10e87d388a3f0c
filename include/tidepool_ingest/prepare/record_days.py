"""On which days a batch's accepted records lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from operator import itemgetter
from typing import Any, Final

from tidepool_ingest.model.gotime import parse_instant

_TIME: Final = itemgetter("time")
_TYPE: Final = itemgetter("type")
_LAST_CHARACTER: Final = itemgetter(-1)
_DATE: Final = itemgetter(slice(10))
"""``YYYY-MM-DD``, with which every accepted time begins."""


class RecordDays:
    """Counts records by UTC day and type, in memory that grows with the days only."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def see(self, data: Sequence[Mapping[str, Any]]) -> None:
        """Count accepted records.

        :param data: the records, decoded.
        """
        self.add(map(_TIME, data), map(_TYPE, data))

    def add(self, times: Iterable[str], kinds: Iterable[str]) -> None:
        """Count accepted records of which the times and, in the same order, the types are known."""
        times = list(times)
        if set(map(_LAST_CHARACTER, times)) <= {"Z"}:
            days = list(map(_DATE, times))
        else:
            days = [_DATE(time) if time[-1] == "Z" else utc_day(time).isoformat() for time in times]
        self._counts.update(zip(days, kinds, strict=True))

    def by_type(self) -> dict[str, int]:
        """Return the number of records by type."""
        found: Counter[str] = Counter()
        for (_, kind), count in self._counts.items():
            found[kind] += count
        return dict(found)

    def by_day(self) -> dict[date, dict[str, int]]:
        """Return the number of records by day and type, oldest day first."""
        found: dict[date, Counter[str]] = {}
        for (text, kind), count in sorted(self._counts.items()):
            found.setdefault(utc_day(f"{text}T00:00:00Z"), Counter())[kind] += count
        return {day: dict(kinds) for day, kinds in sorted(found.items())}


def utc_day(time: str) -> date:
    """Return the day of an accepted time in UTC.

    The Platform takes the year 0000, which no ``date`` has, and an offset can lead past the year 9999: such
    a time counts as of the first or the last day that there is.

    :param time: the time as the Platform takes it.
    """
    instant = parse_instant(time)
    if instant is None:
        raise ValueError("an accepted record has a time that cannot be read")
    return instant.utc_date

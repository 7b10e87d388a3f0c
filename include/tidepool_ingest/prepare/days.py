"""When records are: counts by day, hour and type, and the moments by which a batch is cut."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from operator import itemgetter
from typing import Any, Final

from tidepool_ingest.coverage import HOURS, text_of_hours
from tidepool_ingest.model.gotime import Instant, parse_instant

_TIME: Final = itemgetter("time")
_TYPE: Final = itemgetter("type")
_LAST_CHARACTER: Final = itemgetter(-1)
_HOUR: Final = itemgetter(slice(13))
"""``YYYY-MM-DDTHH``, with which every accepted time begins; an hour before ten may have a single digit."""

_MOST_HOURS: Final = 4_096
"""Hours that are counted by their texts; more are put together, day by day, in less memory."""

_NO_HOURS: Final = bytes(HOURS * 8)
DAY: Final = 10
"""Characters of a moment that name its day: ``YYYY-MM-DD``."""

MOMENT: Final = 19
"""Characters of a moment: ``YYYY-MM-DDTHH:MM:SS``, in UTC. Moments are in order as their texts are."""


class RecordDays:
    """Counts records by UTC day, hour and type, in memory that grows with the days only."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._days: dict[tuple[str, str], array[int]] = {}

    def see(self, data: Sequence[Mapping[str, Any]]) -> None:
        """Count accepted records.

        :param data: the records, decoded.
        """
        self.add(in_utc(list(map(_TIME, data))), map(_TYPE, data))

    def add(self, times: Iterable[str], kinds: Iterable[str]) -> None:
        """Count accepted records of which the types are known, and the times or moments in UTC."""
        self._counts.update(zip(map(_HOUR, times), kinds, strict=True))
        if len(self._counts) > _MOST_HOURS:
            self._put_together()

    def within(self, begin: str, end: str | None) -> RecordDays:
        """Return the counts of some days only.

        :param begin: the first of them; empty for all from the first.
        :param end: the day after the last; ``None`` for all to the last.
        """
        found = RecordDays()
        for (text, kind), hours in self._put_together().items():
            if text >= begin and (end is None or text < end):
                found._days[text, kind] = hours[:]
        return found

    def with_those_of(self, other: RecordDays) -> RecordDays:
        """Return the counts of both."""
        found = self.within("", None)
        for key, hours in other._put_together().items():
            own = found._days.get(key, array("Q", _NO_HOURS))
            found._days[key] = array("Q", map(sum, zip(own, hours, strict=True)))
        return found

    def by_text(self) -> dict[str, int]:
        """Return the number of records by day, as :func:`moment_of` writes it."""
        found: Counter[str] = Counter()
        for (text, _), hours in self._put_together().items():
            found[text] += sum(hours)
        return dict(found)

    def by_type(self) -> dict[str, int]:
        """Return the number of records by type."""
        found: Counter[str] = Counter()
        for (_, kind), hours in self._put_together().items():
            found[kind] += sum(hours)
        return dict(found)

    def by_day(self) -> dict[date, dict[str, int]]:
        """Return the number of records by day and type, oldest day first."""
        return {
            day: {kind: sum(hours) for kind, hours in kinds.items()} for day, kinds in self._sorted().items()
        }

    def by_hour(self) -> dict[date, dict[str, str]]:
        """Return the same by hour, as :func:`~tidepool_ingest.coverage.text_of_hours` writes them."""
        return {
            day: {kind: text_of_hours(hours) for kind, hours in kinds.items()}
            for day, kinds in self._sorted().items()
        }

    def _sorted(self) -> dict[date, dict[str, array[int]]]:
        found: dict[date, dict[str, array[int]]] = {}
        for (text, kind), hours in sorted(self._put_together().items(), key=itemgetter(0)):
            kinds = found.setdefault(utc_day(f"{text}T00:00:00Z"), {})
            # Two texts are one day only where no date has their year.
            kinds[kind] = (
                array("Q", map(sum, zip(kinds[kind], hours, strict=True))) if kind in kinds else hours
            )
        return dict(sorted(found.items()))

    def _put_together(self) -> dict[tuple[str, str], array[int]]:
        """Return what was counted by day and type, 24 numbers each."""
        for (text, kind), count in self._counts.items():
            key = text[:DAY], kind
            if (hours := self._days.get(key)) is None:
                hours = self._days[key] = array("Q", _NO_HOURS)
            hours[int(text[DAY + 1 :].rstrip(":"))] += count
        self._counts.clear()
        return self._days


def utc_day(time: str) -> date:
    """Return the day of an accepted time in UTC.

    The Platform accepts the year 0000, which no ``date`` has, and an offset can lead past the year 9999: such
    a time counts as the first or the last possible day.

    :param time: the time as the Platform accepts it.
    """
    return _instant_of(time).utc_date


def _instant_of(time: str) -> Instant:
    instant = parse_instant(time)
    if instant is None:
        raise ValueError("an accepted record has a time that cannot be read")
    return instant


def moment_of(time: str) -> str:
    """Return when an accepted time is, to the second; the same for every spelling of one identity."""
    if time[-1] == "Z":
        return time[:MOMENT]
    instant = _instant_of(time)
    minutes, second = divmod(instant.moment[0] % (24 * 60 * 60), 60)
    return f"{instant.utc_date}T{minutes // 60:02}:{minutes % 60:02}:{second:02}"


def in_utc(times: Sequence[str]) -> Sequence[str]:
    """Return accepted times as texts in UTC, each of which begins with its moment.

    Most are in UTC, and are passed on as they are: that costs no call for each.
    """
    if set(map(_LAST_CHARACTER, times)) <= {"Z"}:
        return times
    return [time if time[-1] == "Z" else f"{moment_of(time)}Z" for time in times]

"""Hours of a table's columns: which of them are so plain that all of their times are known at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from tidepool_ingest.formats.table.columns import LAST_SECOND, Array, Clock, ColumnRows
from tidepool_ingest.formats.table.rows import BoundTable
from tidepool_ingest.formats.table.stamps import is_date
from tidepool_ingest.local_times import DAY, HOUR, HOURS_MAX, LocalTimes, at_offset

_FIRST_SECOND: Final = ":00:00"
_TIME: Final = '"time":"'
_HOURS_OF_DAY: Final = frozenset(f"{sign}{hour:02}" for sign in "T " for hour in range(24))
_DAY_MEMBERS: Final = re.compile(
    f'{_TIME}([0-9-]+)T([0-9:]+)Z","deviceTime":"([0-9-]+)T([0-9:]+)","timezoneOffset":(-?[0-9]+)'
).fullmatch

Where: TypeAlias = Callable[[], LocalTimes | None]
"""Returns where the clock was set, ``None`` if nobody says it."""


class Hour(NamedTuple):
    """An hour whose times differ in minutes and seconds only, and in nothing else of a record.

    :param members: the times of a record, cut where these go; two pieces, or three with a local time.
    """

    members: tuple[str, ...]

    def instant(self, rest: str) -> str:
        """Return when a time of it was.

        :param rest: ``:mm:ss``.
        """
        return f"{self.members[0].removeprefix(_TIME)}{rest}Z"


class Hours:
    """Knows the hours of a table's times; the same for all readings of the file.

    :param table: the bound mapping.
    """

    def __init__(self, table: BoundTable) -> None:
        self._form = table.format
        self._known: dict[str, Hour | None] = {}

    def of(self, clock: Clock, which: Sequence[int], zone: Where) -> list[Hour | None]:
        """Return hours of a clock; ``None`` for those whose times have to be looked at one by one.

        :param clock: the times of some rows.
        :param which: indexes of the hours that are asked for; others are ``None``.
        :param zone: asked at the first local time.
        """
        known, found = self._known, list[Hour | None]([None]) * len(clock.starts)
        for at in which:
            start = clock.starts[at]
            try:
                found[at] = known[start]
            except KeyError:
                if len(known) >= HOURS_MAX:
                    known.clear()
                if not self._remember_day(start, zone):
                    known[start] = self._hour(start, clock.ends[at], clock.end, zone)
                found[at] = known[start]
        return found

    def _remember_day(self, start: str, zone: Where) -> bool:
        """Remember all hours of an ISO time's day, if it is of one offset, as most are."""
        date, rest = start[: DAY + 1], start[HOUR:]
        if start[DAY:HOUR] not in _HOURS_OF_DAY or not rest.startswith(_FIRST_SECOND):
            return False
        after = rest[len(_FIRST_SECOND) :]
        first = self._members(f"{date}00{rest}", zone)
        last = self._members(f"{date}23{LAST_SECOND}{after}", zone)
        found = None if first is None or last is None else (_DAY_MEMBERS(first), _DAY_MEMBERS(last))
        if found is None or found[0] is None or found[1] is None:
            return False
        opening, closing = found[0].groups(), found[1].groups()
        # The members of the last second are those of the first, but for the hours and the day of UTC.
        if opening[2:] != (start[:DAY], "00:00:00", closing[4]) or closing[3] != "23:59:59":
            return False
        begins = opening[1]
        if not begins.endswith(_FIRST_SECOND) or closing[2] != start[:DAY]:
            return False
        times = None if after else zone()  # a time with an offset of its own needs no zone
        if times is not None and not times.is_plain_day(start[:DAY]):
            return False
        shift = int(begins[:2])
        for hour in range(24):
            utc = shift + hour
            day = opening[0] if utc < 24 else closing[0]
            members = (
                f"{_TIME}{day}T{utc % 24:02}",
                f'Z","deviceTime":"{start[:DAY]}T{hour:02}',
                f'","timezoneOffset":{opening[4]}',
            )
            self._known[f"{date}{hour:02}{rest}"] = Hour(members)
        return True

    def _hour(self, start: str, end: str, rest: str, zone: Where) -> Hour | None:
        first, last = self._members(start, zone), self._members(end, zone)
        if first is None or last is None:
            return None
        pieces = first.split(_FIRST_SECOND)
        return Hour(tuple(pieces)) if len(pieces) in (2, 3) and rest.join(pieces) == last else None

    def _members(self, text: str, zone: Where) -> str | None:
        stamp = None if text != text.strip() else self._form.read(text)
        if stamp is None or stamp.fraction:
            return None
        local, _fraction, offset, utc = stamp
        if not local:
            return f'{_TIME}{utc}Z"'
        if not is_date(local[:10]):
            return None
        try:
            if offset is not None:
                time = at_offset(local, offset)
            else:
                times = zone()
                if times is None:
                    return None
                time, offset, doubt = times.read(local)
                if doubt or not times.is_plain_hour(local[:HOUR]):
                    return None
        except ValueError:
            return None
        return f'{_TIME}{time}","deviceTime":"{local}","timezoneOffset":{offset}'


def known_times(rows: ColumnRows, clock: Clock, hours: Sequence[Hour | None]) -> Array:
    """Return for each row whether its hour says when it was.

    :param rows: the rows.
    :param clock: their times.
    :param hours: those of the clock.
    """
    arrow = rows.arrow
    if None not in hours:
        return rows.everything if clock.valid is None else clock.valid
    known = arrow.array([hour is not None for hour in hours]).take(clock.indices)
    return known if clock.valid is None else arrow.compute.and_(known, clock.valid)


def last_time(clock: Clock, hours: Sequence[Hour | None], read: Array) -> str:
    """Return when the last of some rows was, empty if there is none or it has no local time.

    :param clock: their times, all of which are known.
    :param hours: those of the clock.
    :param read: which rows.
    """
    if not read.true_count:
        return ""
    at = max(index for index, is_read in enumerate(read.to_pylist()) if is_read)
    hour = hours[clock.indices[at].as_py()]
    return "" if hour is None or len(hour.members) == 2 else hour.instant(clock.rests[at].as_py())

"""Which order the dates of a LibreView file are in, and what its clock did, told by its rows as a whole.

An account's settings say whether its files begin dates with the day, the month or the year, and no file names
it. Where no day is above 12, only the rows as a whole tell: of one serial and record type they follow each
other in time, so that under the right order they go hardly anywhere, and under the wrong one they leap by
months. So each order is followed along the rows at once, in memory that does not grow with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tidepool_ingest.formats.libreview.stamps import (
    DAY,
    NO_DAYS,
    ORDERS,
    Calendar,
    Day,
    Days,
    Zone,
    separator_of,
)
from tidepool_ingest.local_times import DOUBLED, MISSING

BACKWARDS_MAX: Final = 25 * 60
"""Minutes that rows of one kind may run backwards: a clock that was set, or a journey around the world."""

NEAR: Final = 6 * 60
"""Minutes within which a row follows another one over midnight, as only the right order can have it."""


class Found:
    """What the rows of one track show under one order.

    :ivar travelled: minutes from each row to the next one, forwards or backwards, all together.
    :ivar near: how often a row followed another one over midnight within a few hours.
    :ivar swapped: how often rows ran backwards by more than a clock that was set.
    :ivar swapped_line: line of the first such row.
    :ivar latest: day and minute of the latest row.
    :ivar missing: rows at a local time that the zone leaves out.
    :ivar missing_line: line of the first such row.
    :ivar doubled: dates on which rows run backwards within the hour that the zone has twice.
    """

    __slots__ = (
        "doubled",
        "latest",
        "missing",
        "missing_line",
        "near",
        "swapped",
        "swapped_line",
        "travelled",
    )

    def __init__(self) -> None:
        self.travelled = self.near = self.swapped = self.swapped_line = 0
        self.missing = self.missing_line = 0
        self.latest: tuple[Day, int] | None = None
        self.doubled: set[str] = set()


class Tracks:
    """Follows the rows of a file under each order, each serial and record type by itself.

    :param zone: where the device's clock was set.
    :param order: the order, if it is known.
    """

    def __init__(self, zone: Zone, order: str | None = None) -> None:
        self.calendar = Calendar()
        self.zone = zone
        self._stated = order
        self.orders = [number for number, name in enumerate(ORDERS) if order in (None, name)]
        """Numbers of the orders that may be it, and that all stamps have allowed so far."""
        self.differ = False
        """Whether a date means another day under another order."""
        self.separators: set[str] = set()

    def meet(self, text: str) -> Days:
        """Return what a date's text means under each order, and which orders it leaves.

        A text that is a date under none is the matter of its own row.
        """
        days = self.calendar.days(text)
        possible = [number for number in range(len(ORDERS)) if days[number] is not None]
        if possible and self._stated is None:
            self.orders = [number for number in self.orders if number in possible]
            self.differ = self.differ or (len(possible) > 1 and days[0] != days[1])
        if possible:
            self.separators.add(separator_of(text))
        return days

    def doubt(self, iso: str, minute: int) -> str:
        """Return whether the zone leaves a local time out, or has it twice."""
        return self.zone.local_times.read(f"{iso}T{minute // 60:02}:{minute % 60:02}:00").doubt


class Track:
    """The rows of one serial and record type, in the file's order; see :class:`Tracks`."""

    def __init__(self, tracks: Tracks) -> None:
        self.tracks = tracks
        self.date = ""
        self.minute = 0
        self.turns = 0  # how often the date changed
        self.found = tuple(Found() for _ in ORDERS)
        self._days: Days = NO_DAYS
        self._first: tuple[Days, int] | None = None
        self._latest = 0  # minute of the latest row of this date
        self._changing: tuple[int, ...] = ()  # orders under which the zone changes its offset on this date
        self._was_doubled = [False] * len(ORDERS)

    def see(self, date: str, minute: int, line: int) -> bool:
        """Take the next row.

        :param date: text of its date.
        :param minute: of the day.
        :param line: number of its line.
        :return: whether its date is one, under any order.
        """
        if date != self.date:
            if not self._turn(date, minute, line):
                return False
        elif minute > self._latest:
            self._latest = minute
        if self._changing:
            self._see_change(minute, line)
        self.minute = minute
        return True

    def _turn(self, date: str, minute: int, line: int) -> bool:
        """Go on to another date."""
        days = self.tracks.meet(date)
        if days == NO_DAYS:
            return False
        self._leave()
        before = self._days
        if self._first is None:
            self._first = (days, minute)
        self.turns += bool(self.date)
        for found, old, new in zip(self.found, before, days, strict=True):
            if old is None or new is None:
                continue
            step = (new.number - old.number) * DAY + minute - self.minute
            found.travelled += abs(step)
            found.near += abs(step) <= NEAR
            if step < -BACKWARDS_MAX:
                found.swapped += 1
                found.swapped_line = found.swapped_line or line
        self.date, self._days, self._latest = date, days, minute
        self._changing = tuple(
            number
            for number in self.tracks.orders
            if (day := days[number]) is not None and self.tracks.zone.plain_day(day.iso) is None
        )
        self._was_doubled = [False] * len(ORDERS)
        return True

    def _leave(self) -> None:
        """Count the latest row of the present date."""
        for found, day in zip(self.found, self._days, strict=True):
            if day is not None and (found.latest is None or found.latest < (day, self._latest)):
                found.latest = (day, self._latest)

    def end(self) -> None:
        """End with the last row.

        Rows that somebody has sorted otherwise say nothing about an hour that is there twice.
        """
        self._leave()
        first_days, first_minute = self._first or (NO_DAYS, 0)
        for found, first, last in zip(self.found, first_days, self._days, strict=True):
            went = (last.number - first.number) * DAY + self.minute - first_minute if first and last else -1
            if went < 0 or found.swapped:
                found.doubled.clear()

    def _see_change(self, minute: int, line: int) -> None:
        for number in self._changing:
            day, found = self._days[number], self.found[number]
            doubt = self.tracks.doubt(day.iso, minute) if day else ""
            if doubt == MISSING:
                found.missing += 1
                found.missing_line = found.missing_line or line
            is_doubled = doubt == DOUBLED
            if day and is_doubled and self._was_doubled[number] and minute < self.minute:
                found.doubled.add(day.iso)
            self._was_doubled[number] = is_doubled


def order_told(tracks: Tracks, every: Sequence[Track], generated: str) -> int | None:
    """Return the number of the order that a file's dates are in, ``None`` if nothing tells.

    :param tracks: what all stamps allow.
    :param every: each of them, ended.
    :param generated: text of the date on which the file was generated, if it is spelled as the others are.
    """
    orders = tracks.orders
    if len(orders) < 2:
        return orders[0] if orders else None
    if not tracks.differ:
        return orders[0]
    days = tracks.calendar.days(generated) if generated else NO_DAYS
    told = _order_by_travel(orders, every, days)
    narrowed = [number for number in orders if days[number] is not None]
    if len(narrowed) == 1:
        return narrowed[0] if told in (None, narrowed[0]) else None
    return told


def _order_by_travel(orders: Sequence[int], every: Sequence[Track], generated: Days) -> int | None:
    """Return the order under which rows go on over midnight, or travel far less than under any other.

    What would be chosen by little is not told.
    """
    nights = {number: sum(track.found[number].near for track in every) for number in orders}
    if len(shown := [number for number in orders if nights[number]]) == 1 and nights[shown[0]] >= _NIGHTS_MIN:
        return shown[0]
    travelled = {}
    for number in orders:
        latest = max((day[0].number for track in every if (day := track.found[number].latest)), default=0)
        last = generated[number]
        travelled[number] = sum(track.found[number].travelled for track in every)
        if last is not None and all(generated[other] for other in orders):
            travelled[number] += abs(last.number - latest) * DAY
    best, second = sorted(orders, key=travelled.__getitem__)[:2]
    is_shown = nights[best] > 0 or sum(track.turns for track in every) >= _TURNS_MIN
    is_clear = travelled[best] * _TIMES_FARTHER <= travelled[second]
    is_far = travelled[second] - travelled[best] >= _FARTHER_MIN
    return best if is_shown and is_clear and is_far else None


_NIGHTS_MIN: Final = 2
"""Midnights that rows have to go on over, under one order only, to tell it by that alone."""
_TURNS_MIN: Final = 3
"""Dates that rows have to turn to where none follows over midnight: two of the same day of a month, a year
or a month apart, would be next to each other under the other order."""
_TIMES_FARTHER: Final = 4
_FARTHER_MIN: Final = 20 * DAY

"""Whether a sensor was scanned or looked at, told by how close together its own readings are.

A Libre 1 or 2 keeps a reading every 15 minutes, and what is scanned is a measurement of its own. A Libre 3
sends one every 5 minutes, or oftener, and what the file calls a scan only says that somebody has looked at
the app: it repeats what was sent. The newest app names no sensor, and one app reads both kinds one after the
other, so that the rows around a scan tell, not the device's name.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Final

SENT_MAX: Final = 6
"""Most minutes between two readings that a sensor has sent by itself."""

KEPT_MAX: Final = 20
"""Most minutes between two readings of the same wear."""

STEPS_MIN: Final = 3
"""Steps from one reading to the next that a stretch of them needs to tell anything."""

DAY: Final = 24 * 60

Spot = tuple[str, int]
"""Text of a date, and minute of that day."""


class Spacing:
    """Sees the sensor readings of one serial in the file's order; then tells about moments.

    What is remembered are the stretches of time in which the kind of sensor stayed the same.
    """

    def __init__(self) -> None:
        self._stretches: list[tuple[bool, Spot, Spot]] = []  # whether sent, first and last reading
        self._first: Spot | None = None  # of the stretch that has not ended yet
        self._last: Spot = ("", 0)
        self._sent = self._kept = 0  # steps of it
        self._all_sent = self._all_kept = 0
        self._ends: list[tuple[int, int, bool]] = []

    def see(self, date: str, minute: int) -> None:
        """Take the next reading.

        :param date: text of its date.
        :param minute: of the day.
        """
        last_date, last_minute = self._last
        step = abs(minute - last_minute) if date == last_date else minute + DAY - last_minute
        if 0 < step <= SENT_MAX:
            self._sent += 1
        elif SENT_MAX < step <= KEPT_MAX:
            self._kept += 1
        elif step:
            self._end()
            self._first = (date, minute)
        self._last = (date, minute)

    def _end(self) -> None:
        """End the present stretch: what it shows is kept if it is long enough, and new."""
        first, steps = self._first, self._sent + self._kept
        self._all_sent += self._sent
        self._all_kept += self._kept
        is_sent = self._sent > self._kept
        self._sent = self._kept = 0
        if first is None or steps < STEPS_MIN:
            return
        if self._stretches and self._stretches[-1][0] == is_sent:
            self._stretches[-1] = (is_sent, self._stretches[-1][1], self._last)
        else:
            self._stretches.append((is_sent, first, self._last))

    def end(self, moment: Callable[[Spot], int]) -> None:
        """End with the last row.

        :param moment: returns when a reading was, in minutes since whenever.
        """
        self._end()
        ends = ((sorted(map(moment, spots)), sent) for sent, *spots in self._stretches)
        self._ends = sorted((first, last, sent) for (first, last), sent in ends)

    def is_view(self, moment: int, name: str) -> bool:
        """Return whether what the file calls a scan is only a look at what the sensor had sent.

        :param moment: when it was, on the same scale.
        :param name: what the file calls the device, for a file that has no reading of the sensor itself.
        """
        ends = self._ends
        if not ends:
            if self._all_sent or self._all_kept:
                return self._all_sent > self._all_kept
            return _sends_by_name(name)
        at = bisect_right(ends, (moment, moment, True)) - 1
        if at < 0:
            return ends[0][2]
        _first, last, is_sent = ends[at]
        if moment > last and at + 1 < len(ends) and ends[at + 1][0] - moment < moment - last:
            return ends[at + 1][2]
        return is_sent


def _sends_by_name(name: str) -> bool:
    return any(known in name.lower() for known in ("libre 3", "libre app"))

"""What the transmitters' clocks say about the clock of the device that showed their readings.

A transmitter counts seconds from its own start, whatever time zone its wearer is in; a stamp is what the
phone or receiver showed. Stamp less count only drifts, by some 4 seconds a day, until the device's clock is
set: at a change to or from summer time, or on a journey. So the differences between readings show every
change of the device's offset from UTC, rounded to quarter hours, and what they leave open is one number: the
offset from which the changes count. It is chosen so that most readings have the time zone's own.

A device outlives its transmitters. What its clock was ahead of the time zone at a transmitter's end, it is at
the beginning of the next one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

from tidepool_ingest.formats.reader import SteadyClock
from tidepool_ingest.local_times import DOUBLED, LocalTime, LocalTimes

QUARTER_S: Final = 15 * 60
"""Offsets of time zones differ by whole quarter hours."""

STEADY_S: Final = 120
"""Seconds by which stamp less count may change from one reading to the next without the clock being set."""

SAME_COUNT_S: Final = 27 * 3600
"""Clocks of two places differ by at most 26 hours: what differs by more counts from another start."""

READING_S: Final = 300
"""Seconds from one reading to the next, in which the device's clock may have been set at any moment."""

HOLDING_S: Final = 3 * 3600
"""How long a clock has to agree with its zone, and then not any more, to show that it did not follow it."""

RUNS_MAX: Final = 10_000
"""Most times that the clocks of one file may be set: it bounds memory."""

_EPOCH: Final = datetime(1970, 1, 1)
_DAY_S: Final = 24 * 3600
_NO_LIMIT: Final = 1 << 62


class TooManyRunsError(Exception):
    """The counts are no clock's: stamps and counts have almost nothing to do with each other."""


class Shown(NamedTuple):
    """What a device's clock was when it showed a local time.

    :param offset: minutes ahead of UTC.
    :param in_zone: whether that is the time zone's own offset at that moment.
    :param is_sure: whether the clock showed that time once only.
    """

    offset: int
    in_zone: bool = True
    is_sure: bool = True


class _Steady(NamedTuple):
    """Counts and shifts, the ends included, at which a clock had one offset from UTC."""

    first: int
    last: int
    least: float
    most: float
    offset: int


_NEVER: Final = _Steady(0, -1, 0, -1, 0)


class _Run:
    """Readings of one transmitter, in the order of its count, between which the clock was not set.

    A shift is stamp less count, in seconds.
    """

    __slots__ = ("first", "first_shift", "last", "last_shift", "offset", "readings")

    def __init__(self, count: int, shift: int) -> None:
        self.first = self.last = count
        self.first_shift = self.last_shift = shift
        self.readings = 1
        self.offset = 0  # minutes ahead of UTC

    @property
    def starts(self) -> int:
        """Its first stamp."""
        return self.first + self.first_shift

    @property
    def ends(self) -> int:
        """Its last stamp."""
        return self.last + self.last_shift

    @property
    def until(self) -> int:
        """The instant of its last stamp, in seconds since 1970 in UTC."""
        return self.ends - self.offset * 60

    def shift_at(self, count: int) -> float:
        """Return the shift at a count, where it drifts evenly."""
        if self.last == self.first:
            return self.first_shift
        part = (count - self.first) / (self.last - self.first)
        return self.first_shift + part * (self.last_shift - self.first_shift)


class _Count:
    """The readings that count from one start: a transmitter's."""

    def __init__(self, count: int, shift: int) -> None:
        self.shift = shift
        self.runs = [_Run(count, shift)]
        self._firsts = [count]
        self._run = self.runs[0]
        self._limit = _NO_LIMIT

    def add(self, count: int, shift: int) -> int:
        """Add a reading; return how many runs have been added for it."""
        run = self._run
        if run.last < count < self._limit and -STEADY_S < shift - run.last_shift < STEADY_S:
            run.last = count
            run.last_shift = shift
            run.readings += 1
            return 0
        before = len(self.runs)
        index = self._place(count, shift)
        self._run = self.runs[index]
        self._limit = self._firsts[index + 1] if index + 1 < len(self.runs) else _NO_LIMIT
        return len(self.runs) - before

    def _place(self, count: int, shift: int) -> int:
        """Put a reading into a run, or into one of its own; return its index."""
        index = bisect_right(self._firsts, count) - 1
        if index >= 0:
            run = self.runs[index]
            if count <= run.last:
                run.readings += 1
                return index
            if abs(shift - run.last_shift) < STEADY_S:
                run.last, run.last_shift = count, shift
                run.readings += 1
                return index
        if index + 1 < len(self.runs):
            run = self.runs[index + 1]
            if abs(shift - run.first_shift) < STEADY_S:
                run.first = self._firsts[index + 1] = count
                run.first_shift = shift
                run.readings += 1
                return index + 1
        self.runs.insert(index + 1, _Run(count, shift))
        self._firsts.insert(index + 1, count)
        return index + 1

    def begin_at(self, offset: int) -> None:
        """Give each run its offset, in minutes, where the first one has this one."""
        shift = self.runs[0].first_shift
        for run in self.runs:
            offset += _quarters(run.first_shift - shift)
            run.offset, shift = offset, run.last_shift

    def at(self, count: int, shift: int) -> _Steady:
        """Return what the clock was at a reading, and around it."""
        index = max(bisect_right(self._firsts, count) - 1, 0)
        run = self.runs[index]
        if quarters := _quarters(shift - run.shift_at(count)):
            # A clock that was set for less time than it was set by is within a run.
            return _Steady(count, count, shift, shift, run.offset + quarters)
        first, last = max(run.first, count - _DAY_S), min(run.last, count + _DAY_S)
        means = run.shift_at(first), run.shift_at(last)
        half = QUARTER_S // 2
        return _Steady(first, last, max(means) - half, min(means) + half, run.offset)


class TransmitterClock:
    """Learns from all readings of a file how its device's clock was set, and then tells the offset at each.

    :param zone: the time zone, or the zones one after the other.
    """

    def __init__(self, zone: LocalTimes) -> None:
        self._zone = zone
        self._counts: dict[str, list[_Count]] = {}
        self._transmitter = ""
        self._first: _Count | None = None  # of that transmitter
        self._steady = _NEVER
        self._how_many = 0
        self._runs: list[_Run] = []  # by their first stamps
        self._starts: list[int] = []
        self._latest: list[_Run] = []  # for each run, which one up to it shows the latest stamp
        self._newest: list[_Run] = []  # and which one has the last instant

    def add(self, transmitter: str, count: int, stamp: int) -> None:
        """Add a reading.

        :param transmitter: its name, which may be empty.
        :param count: seconds since the transmitter's start.
        :param stamp: what the device showed, in seconds since 1970 of its own clock.
        :raises TooManyRunsError: the counts are no clock's.
        """
        shift = stamp - count
        found = self._first
        if found is None or transmitter != self._transmitter or abs(shift - found.shift) > SAME_COUNT_S:
            found = self._count_of(transmitter, shift)
        if found is None:
            self._counts.setdefault(transmitter, []).append(_Count(count, shift))
            self._how_many += 1
            self._transmitter, self._first = transmitter, self._counts[transmitter][0]
        else:
            self._how_many += found.add(count, shift)
        if self._how_many > RUNS_MAX:
            raise TooManyRunsError

    @property
    def knows(self) -> bool:
        """Whether there was any reading."""
        return bool(self._counts)

    def settle(self) -> None:
        """Find the offset of every run, now that all readings are there."""
        counts = [count for named in self._counts.values() for count in named]
        if not counts:
            return
        counts.sort(key=lambda count: (count.runs[0].starts, count.shift))
        offset = self._read(counts[0].runs[0].starts).offset
        self._chain(counts, offset)
        ahead = self._readings_by_ahead(counts)
        usually = max(ahead, key=lambda minutes: (round(ahead[minutes]), -abs(minutes), minutes))
        if usually:
            self._chain(counts, offset - usually)
        self._runs = sorted((run for count in counts for run in count.runs), key=lambda run: run.starts)
        self._starts = [run.starts for run in self._runs]
        for run in self._runs:
            ends_later = not self._latest or run.ends > self._latest[-1].ends
            self._latest.append(run if ends_later else self._latest[-1])
            is_newer = not self._newest or run.until > self._newest[-1].until
            self._newest.append(run if is_newer else self._newest[-1])

    def steady(self) -> Iterator[tuple[SteadyClock, ...]]:
        """Yield for each transmitter the stretches in which the clock was not set, in order."""
        for named in self._counts.values():
            for count in named:
                yield tuple(SteadyClock(run.starts, run.ends, run.offset) for run in count.runs)

    def passes_through_missing_hour(self) -> bool:
        """Return whether the clock was the zone's, and then went on through an hour that this leaves out."""
        return any(
            agreed == 0 and then < 0 and min(agreed_s, then_s) >= HOLDING_S
            for run in self._runs
            for (agreed_s, agreed), (then_s, then) in pairwise(self._pieces(run))
        )

    def of_reading(self, transmitter: str, count: int, stamp: int) -> int:
        """Return the offset from UTC, in minutes, of the clock that showed a reading.

        :param transmitter: of a reading that was added, and so are the others.
        :raises KeyError: it was not.
        """
        shift = stamp - count
        first, last, least, most, offset = self._steady
        if transmitter == self._transmitter and first <= count <= last and least <= shift <= most:
            return offset
        found = self._count_of(transmitter, shift)
        if found is None:
            raise KeyError("no such reading")
        self._transmitter, self._steady = transmitter, found.at(count, shift)
        return self._steady.offset

    def of_stamp(self, stamp: int) -> Shown:
        """Return what the clock was that showed a local time, by the readings next to it.

        :param stamp: as for :meth:`add`.
        """
        around = self._around(stamp)
        if not around:
            return self._between(stamp)
        offsets = {run.offset for run in around}
        if len(offsets) == 1:
            return self._shown(stamp, offsets.pop())
        ahead = {self._ahead_near(run, stamp) for run in around}
        if len(ahead) == 1:
            return self._in_zone(stamp, ahead.pop())
        return self._shown(stamp, max(offsets), is_sure=False)

    def _between(self, stamp: int) -> Shown:
        """Return the same for a time at which there are no readings."""
        index = bisect_right(self._starts, stamp)
        # A clock that was set back has shown later stamps before: it shows them again as it was set.
        sides = [*self._newest[max(index - 1, 0) : index], *self._runs[index : index + 1]]
        ahead = {self._ahead_near(run, stamp) for run in sides}
        if len(ahead) <= 1:
            return self._in_zone(stamp, ahead.pop() if ahead else 0)
        if sides[0].offset == sides[1].offset:
            return self._shown(stamp, sides[0].offset)
        nearest = min(sides, key=lambda run: min(abs(stamp - run.starts), abs(stamp - run.ends)))
        return self._in_zone(stamp, self._ahead_near(nearest, stamp))._replace(is_sure=False)

    def _around(self, stamp: int) -> list[_Run]:
        """Return the runs whose clock may have shown a local time."""
        found = []
        index = bisect_right(self._starts, stamp + READING_S) - 1
        while index >= 0 and self._latest[index].ends + READING_S >= stamp:
            if self._runs[index].ends + READING_S >= stamp:
                found.append(self._runs[index])
            index -= 1
        return found

    def _shown(self, stamp: int, offset: int, *, is_sure: bool = True) -> Shown:
        return Shown(offset, self._ahead_at(stamp - offset * 60, offset) == 0, is_sure)

    def _in_zone(self, stamp: int, ahead: int) -> Shown:
        """Return what a clock was that is so many minutes ahead of the zone."""
        home = self._read(stamp - ahead * 60)
        return Shown(home.offset + ahead, ahead == 0, not home.doubt)

    def _count_of(self, transmitter: str, shift: int) -> _Count | None:
        for count in self._counts.get(transmitter, ()):
            if abs(shift - count.shift) <= SAME_COUNT_S:
                return count
        return None

    def _chain(self, counts: list[_Count], offset: int) -> None:
        """Give each run its offset, where the first one of all has this one."""
        counts[0].begin_at(offset)
        latest = counts[0]
        for count in counts[1:]:
            start = count.runs[0].starts
            before = next((run for run in reversed(latest.runs) if run.starts <= start), latest.runs[0])
            ahead = self._ahead_near(before, start)
            possible = [own + ahead for own in self._offsets(start - ahead * 60)]
            count.begin_at(possible[0])
            if len(possible) > 1:  # in the hour that the zone has twice: which pass shows later
                readings = self._readings_by_ahead([count])
                if max(readings, key=lambda minutes: readings[minutes]) == ahead + possible[0] - possible[1]:
                    count.begin_at(possible[1])
            if count.runs[-1].ends > latest.runs[-1].ends:
                latest = count

    def _readings_by_ahead(self, counts: list[_Count]) -> dict[int, float]:
        """Return at how many readings the clock is how many minutes ahead of the zone."""
        readings: defaultdict[int, float] = defaultdict(float)
        for count in counts:
            for run in count.runs:
                pieces = self._pieces(run)
                length = sum(seconds for seconds, _ahead in pieces)
                for seconds, ahead in pieces:
                    readings[ahead] += run.readings * (seconds / length if length else 1)
        return readings

    def _pieces(self, run: _Run) -> list[tuple[int, int]]:
        """Return for how many seconds a run is how many minutes ahead of the zone, in order."""
        at, end = run.starts - run.offset * 60, run.ends - run.offset * 60
        pieces = [(0, self._ahead_at(at, run.offset))]
        while at < end:
            until = min(at + _DAY_S, end)
            length, ahead = pieces[-1]
            if (then := self._ahead_at(until, run.offset)) != ahead:
                unchanged = at
                while until - unchanged > QUARTER_S:
                    middle = (unchanged + until) // 2
                    if self._ahead_at(middle, run.offset) == ahead:
                        unchanged = middle
                    else:
                        until = middle
                pieces.append((0, then))
            pieces[-1 if then == ahead else -2] = (length + until - at, ahead)
            at = until
        return pieces

    def _ahead_near(self, run: _Run, stamp: int) -> int:
        """Return how many minutes a run is ahead of the zone where it is nearest to a stamp."""
        nearest = min(max(stamp, run.starts), run.ends)
        return self._ahead_at(nearest - run.offset * 60, run.offset)

    def _ahead_at(self, instant: int, offset: int) -> int:
        """Return how many minutes an offset is ahead of the zone's own.

        :param instant: in seconds since 1970 in UTC.
        """
        near = offset
        for _ in range(3):
            own = self._offsets(instant + near * 60)
            for possible in own:
                if possible in self._offsets(instant + possible * 60):
                    return offset - possible
            near = own[0]
        return offset - near

    def _offsets(self, stamp: int) -> list[int]:
        """Return the offset at which the zone has a local time; both if it has it twice."""
        first = self._read(stamp)
        second = [self._read(stamp, second=True).offset] if first.doubt == DOUBLED else []
        return [first.offset, *second]

    def _read(self, stamp: int, *, second: bool = False) -> LocalTime:
        return self._zone.read((_EPOCH + timedelta(seconds=stamp)).isoformat(), second=second)


def _quarters(seconds: float) -> int:
    """Return a difference of shifts in minutes, in whole quarter hours."""
    return round(seconds / QUARTER_S) * 15

"""What all rows of a table show that one alone does not; seen before a record is made of any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from tidepool_ingest.formats.delimited import Rows
from tidepool_ingest.formats.table.cells import RefusedError
from tidepool_ingest.formats.table.column_hours import Hours, known_times, last_time
from tidepool_ingest.formats.table.column_pass import both, candidates_of
from tidepool_ingest.formats.table.columns import ColumnRows
from tidepool_ingest.formats.table.rows import BoundTable, PlainHour, in_order, remember_hour
from tidepool_ingest.formats.table.stamps import AFTER_HOUR, is_date, is_time_of_day, swapped
from tidepool_ingest.local_times import DOUBLED, MISSING, LocalTimes
from tidepool_ingest.staging.errors import BatchError

DEVICES_MAX: Final = 1_000
"""Devices that one file may have, as for other files that are staged."""

_FEW_DAYS: Final = timedelta(days=3)
_WEEKS: Final = timedelta(days=20)


class Survey:
    """Looks at all rows of a file.

    :param table: the bound mapping.
    :param chosen: the device whose rows are meant, empty for all.
    :param make_zone: says where the clock was set; asked at the first local time.
    """

    def __init__(self, table: BoundTable, chosen: str, make_zone: Callable[[], LocalTimes]) -> None:
        self._table = table
        self._chosen = chosen
        self._make_zone = make_zone
        self._order = table.mapping.time.order
        self._last: dict[str, str] = {}
        self._hours_tell = self._order is None and table.device is None
        self._hour: PlainHour | None = None
        self._rest = ""
        self._told_apart: set[str] = set()
        self.column_hours = Hours(table)
        """Hours of rows that are read by their columns."""
        self.hours: dict[str, PlainHour] = {}
        """Hours in which nothing is to be found out, as their times are written."""
        self.zone: LocalTimes | None = None
        """Where the clock was set, ``None`` if no time is local."""
        self.serials: dict[str, None] = {}
        """The devices, in order."""
        self.readable = 0
        """Times that could be read."""
        self.unreadable = 0
        """Times that could not."""
        self.without_date = 0
        """Those of them that are a time of day alone."""
        self.missing = 0
        """Times in an hour that the zone leaves out."""
        self.missing_line = 0
        """Where the first of them is."""
        self.steps: dict[str, DateSteps] = {}
        """Looks for swapped days and months, by device."""

    @property
    def told_apart(self) -> frozenset[str]:
        """Days whose two passes of an hour the order of rows tells apart."""
        return frozenset(self._told_apart)

    @property
    def is_over(self) -> bool:
        """Whether no later row can show more."""
        table = self._table
        tells_all = table.format.has_offset is True and not table.format.swaps
        return self.readable > 0 and table.device is None and tells_all

    def see(self, rows: Rows) -> None:
        """Look at some rows.

        :param rows: the next ones.
        :raises BatchError: ``timezone-missing`` or ``stage-too-many-devices``.
        """
        table, chosen, hours = self._table, self._chosen, self.hours if self._hours_tell else {}
        is_meant, time_text, after_hour = table.is_meant, table.time_text, table.format.after_hour
        last, seen = self._hour, 0
        for cells, line in zip(rows.cells, rows.lines, strict=True):
            try:
                if not is_meant(cells):
                    continue
                text = time_text(cells)
                rest = text[-after_hour:]
                if rest in AFTER_HOUR and (hour := hours.get(text[:-after_hour])) is not None:
                    seen += 1
                    if hour is not last:
                        self._see_hour(hour, rest, line)
                        last = hour
                    self._rest = rest
                    continue
                serial = table.serial(cells)
            except RefusedError:
                continue
            if chosen and serial != chosen:
                continue
            if serial and serial not in self.serials:
                self._add_device(serial)
            self._leave_hour()
            last = None
            self._see_time(text, serial, line)
        self.readable += seen

    def see_columns(self, rows: ColumnRows) -> bool:
        """Look at some rows by their columns; return whether that was possible.

        :param rows: the next ones.
        :raises BatchError: as for :meth:`see`.
        """
        table, compute = self._table, rows.arrow.compute
        if table.format.swaps or (self._order is not None and table.device is not None):
            return False
        candidates = candidates_of(rows, table, self._chosen)
        clock = rows.clock(table.time, table.format, table.mapping.time.format)
        if candidates is None or clock is None:
            return False
        read = both(rows, candidates.meant, candidates.own)
        read = rows.everything if read is None else read
        timed = both(rows, read, clock.valid)
        which = compute.unique(clock.indices.filter(timed)).to_pylist()
        hours = self.column_hours.of(clock, which, self._made_zone)
        known = known_times(rows, clock, hours)
        doubtful = compute.and_not(read, known)
        if doubtful.true_count > (0 if self._order else len(rows) // 2):
            return False
        if candidates.serials is not None:
            serials, indices = candidates.serials
            for at in compute.unique(indices.filter(read)).to_pylist():
                if serials[at] not in self.serials:
                    self._add_device(serials[at])
        self.readable += compute.and_(read, known).true_count
        for index in compute.indices_nonzero(doubtful).to_pylist():
            cells = rows.cells_of(index)
            self._see_time(table.time_text(cells), table.serial(cells), rows.lines[index])
        if self._order is not None and (last := last_time(clock, hours, read)):
            self._last[""] = last
        return True

    def _made_zone(self) -> LocalTimes:
        if self.zone is None:
            self.zone = self._make_zone()
        return self.zone

    def _see_hour(self, hour: PlainHour, rest: str, line: int) -> None:
        """Look at the first of some times in an hour that is known; nothing is to be seen in the others."""
        self._leave_hour()
        self._hour = hour
        if self._table.format.swaps:
            self._steps_of("").see(self._local(hour, rest), line)

    def _leave_hour(self) -> None:
        """Note the last time of those."""
        if self._hour is not None and self._table.format.swaps:
            self._steps_of("").previous = self._local(self._hour, self._rest)
        self._hour = None

    def _local(self, hour: PlainHour, rest: str) -> str:
        return f"{hour[1]}{rest}{self._table.format.seconds}"

    def _add_device(self, serial: str) -> None:
        if len(self.serials) >= DEVICES_MAX:
            raise BatchError("stage-too-many-devices")
        self.serials[serial] = None

    def _see_time(self, text: str, serial: str, line: int) -> None:
        stamp = self._table.format.read(text)
        if stamp is None:
            self.unreadable += bool(text)
            self.without_date += is_time_of_day(text)
            return
        local = stamp.local
        if local and not is_date(local[:10]):
            self.unreadable += 1
            return
        try:
            if local and stamp.offset is None:
                self._see_local(text, local, serial, line)
        except ValueError:  # an hour before the first year
            self.unreadable += 1
            return
        self.readable += 1
        if self._table.format.swaps:
            self._steps_of(serial).see(local, line)

    def _steps_of(self, serial: str) -> DateSteps:
        steps = self.steps.get(serial)
        if steps is None:
            steps = self.steps[serial] = DateSteps()
        return steps

    def _see_local(self, text: str, local: str, serial: str, line: int) -> None:
        found = self._made_zone().read(local)
        if found.doubt == MISSING:
            self.missing += 1
            self.missing_line = self.missing_line or line
        if self._order is None:
            if self._hours_tell:
                remember_hour(self.hours, self._table.format, text, local, self._made_zone())
            return
        if found.doubt == DOUBLED:
            second = self._made_zone().read(local, second=True)
            by_order = in_order(found, second, self._last.get(serial, ""), self._order)
            if by_order is (second if self._order == "oldest-first" else found):
                self._told_apart.add(local[:10])
            found = by_order
        self._last[serial] = found.time


@dataclass
class DateSteps:
    """Looks for days and months that were swapped, row by row.

    A spreadsheet that takes days for months swaps them in the first twelve days of each month, and leaves the
    others: where a block of them begins or ends, time runs against the file's order, and would not with day
    and month swapped back. A pattern that takes one for the other shows only where no day is beyond the
    twelfth, as steps of a month from day to day.
    """

    line: int = 0
    """Where the first step against the order is that swapping explains."""
    previous: str = field(default="", repr=False)
    """The time of the row before."""
    _forward: int = 0
    _backward: int = 0
    _lines: dict[bool, int] = field(default_factory=dict)
    _months: int = 0
    _days: int = 0
    _all_may_be_months: bool = True
    _first_line: int = 0

    def see(self, local: str, line: int) -> None:
        """Look at the next row of a device.

        :param local: what its clock showed, ``YYYY-MM-DDThh:mm:ss``.
        :param line: the row's line.
        """
        previous, self.previous = self.previous, local
        if local[:10] == previous[:10]:
            return
        self._all_may_be_months = self._all_may_be_months and local[8:10] <= "12"
        if not previous:
            return
        if local > previous:
            self._forward += 1
        else:
            self._backward += 1
        self._see_step(previous, local, line)

    def is_swapped(self) -> bool:
        """Return whether days and months were swapped, now that all rows were seen; ``line`` says where."""
        is_newest_first = self._backward > self._forward
        if is_newest_first in self._lines:
            self.line = self._lines[is_newest_first]
            return True
        self.line = self._first_line
        return self._all_may_be_months and self._months > self._days

    def _see_step(self, previous: str, local: str, line: int) -> None:
        step = _between(previous, local)
        self._days += abs(step) <= _FEW_DAYS
        if abs(step) < _WEEKS:  # days and months that are swapped are a month apart, or more
            return
        nearest = min(
            (abs(_between(*pair)) for pair in _swapped_pairs(previous, local)), default=timedelta.max
        )
        if nearest > _FEW_DAYS:
            return
        # A step back is against the order of a file that begins with the oldest row, a step on of another.
        self._lines.setdefault(step > timedelta(0), line)
        self._months += 1
        self._first_line = self._first_line or line


def _between(earlier: str, later: str) -> timedelta:
    return datetime.fromisoformat(later) - datetime.fromisoformat(earlier)


def _swapped_pairs(previous: str, local: str) -> list[tuple[str, str]]:
    before, after = swapped(previous), swapped(local)
    pairs = [(previous, after), (before, local), (before, after)]
    return [(one, other) for one, other in pairs if one is not None and other is not None]

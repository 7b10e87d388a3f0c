"""One reading of a table from its beginning: what each row is, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

from tidepool_ingest.digests import digest_of
from tidepool_ingest.formats.delimited import DUPLICATE_ROW, ROW_RAGGED, TIME_UNREADABLE
from tidepool_ingest.formats.row_counts import OTHER_DEVICE
from tidepool_ingest.formats.table.cells import (
    Cells,
    CompiledRule,
    Indexes,
    RefusedError,
    SomeCells,
    Test,
    condition_test,
    rule_names,
)
from tidepool_ingest.formats.table.mapping import Steps, TableMapping, pointer_of
from tidepool_ingest.formats.table.stamps import AFTER_HOUR, StampFormat, stamp_reader
from tidepool_ingest.local_times import DOUBLED, HOUR, HOURS_MAX, LocalTime, LocalTimes, at_offset
from tidepool_ingest.staging.errors import BatchError

OUT_OF_ORDER: Final = "staged-out-of-order"
NAME_MISSING: Final = "staged-origin-key-missing"
DEVICE_MISSING: Final = "staged-device-id-missing"

FILTERED: Final = "filtered"
NO_VALUE: Final = "no-value"

REMEMBERED_ROWS: Final = 50_000
"""Rows among which an identical one is found at least: half a year of readings, in a few megabytes. Further
apart, equal records are found when the batch is prepared."""


class TableColumnError(BatchError):
    """A column that the mapping names is not in the header, or is there twice.

    :param steps: where in the mapping it is named.
    :param column: its name, which is no part of the message: it may be what somebody else has written.
    :param problem: what is wrong with it.
    :param file_number: which file, counting from 1 in the manifest's order.
    """

    def __init__(self, steps: Steps, column: str, problem: str, file_number: int | None) -> None:
        super().__init__("table-column", file_number=file_number, detail=f"{pointer_of(steps)} {problem}")
        self.column = column

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the column's name in this process: only who has given the mapping is told it."""
        restore, (kind, args, state) = super().__reduce__()
        return restore, (kind, args, {**state, "column": ""})


Instant: TypeAlias = tuple[str, str, bool]
"""When a row was: in UTC with ``Z``; its times as members of a JSON object; whether they are in doubt."""

PlainHour: TypeAlias = tuple[str, str, str]
"""An hour that is wholly in its zone: in UTC, ``YYYY-MM-DDThh``; the same as the clock showed it; and how the
members of a record end."""


def remember_hour(
    hours: dict[str, PlainHour], form: StampFormat, text: str, local: str, zone: LocalTimes
) -> None:
    """Remember the hour of a time, if all of it is as simple.

    :param hours: those known so far, by how their times begin.
    :param form: how times are written.
    :param text: the time as written.
    :param local: the same, ``YYYY-MM-DDThh:mm:ss``.
    :param zone: where the clock was set.
    """
    if not form.after_hour or text[-form.after_hour :] not in AFTER_HOUR:
        return
    start = local[:HOUR]
    first, last = zone.read(f"{start}:00:00"), zone.read(f"{start}:59:59")
    is_whole = first.time[HOUR:] == ":00:00Z" and first.time[:HOUR] == last.time[:HOUR]
    if is_whole and not first.doubt and not last.doubt and zone.is_plain_hour(start):
        if len(hours) >= HOURS_MAX:
            hours.clear()
        end = f'{form.seconds}","timezoneOffset":{first.offset}'
        hours[text[: -form.after_hour]] = (first.time[:HOUR], start, end)


class BoundTable:
    """A mapping that knows the columns of one file.

    :param mapping: it.
    :param header: the columns' names.
    :param file_number: which file, for errors.
    :param nested: names of further columns, whose values no cell can show.
    :raises TableColumnError: a column is not there, or twice, or nested.
    """

    def __init__(
        self,
        mapping: TableMapping,
        header: Sequence[str],
        file_number: int | None,
        *,
        nested: frozenset[str] = frozenset(),
    ) -> None:
        names = [name.strip() for name in header]
        indexes: Indexes = {name: at for at, name in enumerate(names)}
        counts = Counter(names)
        for steps, column in mapping.columns():
            if counts[column] != 1 or column in nested:
                problem = "is in it twice" if counts[column] else "is not in it"
                if column in nested:
                    problem = "is in it, and nested: it holds lists or objects, and no single values"
                raise TableColumnError(steps, column, problem, file_number)
        self.mapping = mapping
        self.width = len(names)
        decimal = mapping.csv.decimal
        self.tests = tuple(condition_test(one, indexes, decimal) for one in mapping.where)
        self.tested = tuple(indexes[one.column] for one in mapping.where)
        for_tests = {indexes[one.column] for one in mapping.where}
        self.needed_by_tests = max(for_tests, default=-1) + 1
        needed = (indexes[column] for steps, column in mapping.columns() if steps[0] != "rowNumber")
        self.needed = max(needed) + 1
        self.row_number = tuple(sorted({indexes[name] for name in mapping.row_number}))
        self.time = tuple(indexes[name] for name in mapping.time.names)
        self.device = None if mapping.device is None else indexes[mapping.device.column]
        self.id = tuple(indexes[name] for name in mapping.id)
        self.named_by = self.id
        if self.device is not None and self.device not in self.id:
            self.named_by = (self.device, *self.id)
        self.format = stamp_reader(mapping.time.format)
        self.rules = [
            CompiledRule(rule, indexes, decimal, name)
            for rule, name in zip(mapping.rules, rule_names(mapping.rules), strict=True)
        ]
        self._all_rules = [(number, rule, rule.tests) for number, rule in enumerate(self.rules)]
        self._rules_by_word: dict[str, list[tuple[int, CompiledRule, tuple[Test, ...]]]] = {}
        self._word_at = self._rules_told_apart()

    def rules_of(self, cells: Cells) -> Sequence[tuple[int, CompiledRule, tuple[Test, ...]]]:
        """Return the rules that may give a record of a row, with their numbers and what is left to be tested.

        :param cells: the row.
        """
        at = self._word_at
        return self._all_rules if at is None else self._rules_by_word.get(cells[at].strip(), ())

    def is_meant(self, cells: Cells) -> bool:
        """Return whether a row is to be looked at.

        :param cells: the row.
        :raises RefusedError: it is too long or too short for its header, or what is asked for is no number.
        """
        count = len(cells)
        if count > self.width or count < self.needed_by_tests:
            raise RefusedError(ROW_RAGGED)
        for test in self.tests:
            if not test(cells):
                return False
        if count < self.needed:
            raise RefusedError(ROW_RAGGED)
        return True

    def _rules_told_apart(self) -> int | None:
        """Return the column whose word says which rules are meant, if there is one; note them by word."""
        columns = {None if rule.words is None else rule.words[0] for rule in self.rules}
        if len(columns) > 1 or None in columns:
            return None
        for number, rule in enumerate(self.rules):
            for word in rule.words[1] if rule.words else ():
                self._rules_by_word.setdefault(word, []).append((number, rule, rule.tests[1:]))
        return columns.pop()

    def serial(self, cells: Cells) -> str:
        """Return what tells a row's device from others, empty if nothing does.

        :raises RefusedError: the cell is empty.
        """
        if self.device is None:
            return ""
        serial = cells[self.device].strip()
        if not serial:
            raise RefusedError(DEVICE_MISSING)
        return serial

    def time_text(self, cells: Cells) -> str:
        """Return the time of a row as it is written, without blanks around it."""
        if len(self.time) == 1:
            return cells[self.time[0]].strip()
        if len(self.time) == 2:  # a date and a time, as is usual
            return f"{cells[self.time[0]].strip()} {cells[self.time[1]].strip()}"
        return " ".join(cells[at].strip() for at in self.time)

    def row_name(self, cells: SomeCells) -> str | None:
        """Return what names a row for ever, ``None`` if nothing does.

        :raises RefusedError: one of its cells is empty: other rows would have the same name.
        """
        if not self.id:
            return None
        parts = [cells[at].strip() for at in self.named_by]
        if "" in parts:
            raise RefusedError(NAME_MISSING)
        name = ":".join(parts)
        if "%" not in name and name.count(":") < len(parts):
            return name
        return ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)


class Instants:
    """Finds out when rows were; a doubled hour by the order of rows, if the file is in order of events.

    :param table: the bound mapping.
    :param zone: where the clock was set, ``None`` if nothing says it.
    :param told_apart: days whose two passes of an hour the order of rows tells apart.
    :param hours: see :func:`remember_hour`.
    """

    def __init__(
        self,
        table: BoundTable,
        zone: LocalTimes | None,
        told_apart: frozenset[str],
        hours: dict[str, PlainHour],
    ) -> None:
        self._format = table.format
        self._after_hour = table.format.after_hour
        self._seconds = f"{table.format.seconds}Z"
        self._hours = hours
        self._order = table.mapping.time.order
        self._zone = zone
        self._told_apart = told_apart
        self._last = ""
        self._offset_hours: dict[tuple[str, int], str] = {}

    def of(self, text: str) -> Instant:
        """Return the instant of a row.

        :param text: its time as written.
        :raises RefusedError: it is no time.
        """
        rest = text[-self._after_hour :]
        if rest in AFTER_HOUR and (hour := self._hours.get(text[: -self._after_hour])) is not None:
            in_utc, start, end = hour
            self._last = time = f"{in_utc}{rest}{self._seconds}"
            return time, f'"time":"{time}","deviceTime":"{start}{rest}{end}', False
        stamp = self._format.read(text)
        if stamp is None:
            raise RefusedError(TIME_UNREADABLE)
        local, fraction, offset, utc = stamp
        if not local:
            return f"{utc}{fraction}Z", f'"time":"{utc}{fraction}Z"', False
        uncertain = False
        try:
            if offset is not None:
                time = self._at_offset(local, offset)
            elif self._zone is None:
                raise RefusedError(TIME_UNREADABLE)
            else:
                time, offset, doubt = self._zone.read(local)
                if doubt:
                    time, offset, uncertain = self._in_doubt(local, LocalTime(time, offset, doubt))
                else:
                    remember_hour(self._hours, self._format, text, local, self._zone)
        except ValueError:
            raise RefusedError(TIME_UNREADABLE) from None
        self._last = time
        if fraction:
            time = f"{time[:-1]}{fraction}Z"
        return time, f'"time":"{time}","deviceTime":"{local}","timezoneOffset":{offset}', uncertain

    def went_on_to(self, time: str) -> None:
        """Note the instant of the last of some rows that were read otherwise.

        :param time: in UTC, to the second.
        """
        self._last = time

    def _at_offset(self, local: str, offset: int) -> str:
        """Return the instant of a time with its own offset; whole hours are remembered."""
        if offset % 60:
            return at_offset(local, offset)
        key = local[:HOUR], offset
        hour = self._offset_hours.get(key)
        if hour is None:
            if len(self._offset_hours) >= HOURS_MAX:
                self._offset_hours.clear()
            hour = self._offset_hours[key] = at_offset(f"{local[:HOUR]}:00:00", offset)[:HOUR]
        return f"{hour}{local[HOUR:]}Z"

    def _in_doubt(self, local: str, first: LocalTime) -> tuple[str, int, bool]:
        if first.doubt == DOUBLED and local[:10] in self._told_apart and self._zone is not None:
            chosen = in_order(first, self._zone.read(local, second=True), self._last, self._order)
            return chosen.time, chosen.offset, False
        return first.time, first.offset, True


Order = Literal["oldest-first", "newest-first"] | None


def in_order(first: LocalTime, second: LocalTime, last: str, order: Order) -> LocalTime:
    """Return which of an hour's passes a time is in, by the row before it in a file in order of events.

    :param first: the time in the first pass.
    :param second: the same in the second.
    :param last: the instant of the row before, empty if there is none.
    :param order: that of the file.
    """
    if order == "oldest-first":
        return second if first.time < last else first
    return first if last and second.time > last else second


class RecentRows:
    """Remembers the rows of late, in bounded memory."""

    def __init__(self) -> None:
        self._newer: set[int] = set()
        self._older: set[int] = set()

    def known_of(self, rows: Sequence[str | bytes]) -> list[int]:
        """Return which of some rows are among the last ones before them, and remember them all.

        :param rows: their texts.
        """
        digests = set(map(digest_of, rows))
        newer = self._newer
        is_new = len(digests) == len(rows) and len(newer) + len(digests) < REMEMBERED_ROWS
        if is_new and newer.isdisjoint(digests) and self._older.isdisjoint(digests):
            newer |= digests
            return []
        return [index for index, row in enumerate(rows) if self.has(row)]

    def has(self, row: str | bytes) -> bool:
        """Return whether a row is among the last ones, and remember it.

        :param row: its text.
        """
        digest = digest_of(row)
        newer = self._newer
        if digest in newer:
            return True
        known = digest in self._older
        newer.add(digest)
        if len(newer) >= REMEMBERED_ROWS:
            self._older, self._newer = newer, set()
        return known


class RowPass:
    """What each row of a file is, from its beginning to its end.

    :param table: the bound mapping.
    :param instants: when rows were.
    :param serial: the device whose rows are meant, empty for all.
    """

    def __init__(self, table: BoundTable, instants: Instants, serial: str) -> None:
        self._table = table
        self.instants = instants
        """When rows were."""
        self._instant_of = instants.of
        self._serial = serial
        recent = RecentRows()
        self._has_come = recent.has
        self.known_of = recent.known_of
        """See :meth:`RecentRows.known_of`."""
        self._is_meant = table.is_meant
        self._time_text = table.time_text
        self._has_number = bool(table.row_number)
        self._has_device = table.device is not None

    def look(self, cells: Cells, text: bytes) -> Instant | str:
        """Return when a row was, or why it is none to be read.

        :param cells: the row.
        :param text: the same as staged.
        :raises RefusedError: it cannot be read.
        """
        table = self._table
        if not self._is_meant(cells):
            return FILTERED
        if self._has_device:
            serial = table.serial(cells)
            if self._serial and serial != self._serial:
                return OTHER_DEVICE
        if self._has_come(self._without_number(cells) if self._has_number else text):
            return DUPLICATE_ROW
        return self.instant(cells)

    def instant(self, cells: Cells) -> Instant | str:
        """Return when a row was that is meant and new, or why it is none to be read.

        :param cells: the row.
        :raises RefusedError: it has no time.
        """
        time = self._time_text(cells)
        if not time and not any(cell.strip() for cell in cells):
            return NO_VALUE
        return self._instant_of(time)

    def _without_number(self, cells: Cells) -> str:
        kept = [*cells]
        for at in self._table.row_number:
            kept[at : at + 1] = [""]
        return "\x1f".join(kept)

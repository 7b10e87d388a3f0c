"""The format ``table``: tables with any columns, by a mapping that says what a row means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tidepool_ingest.formats.delimited import Rows
from tidepool_ingest.formats.holds import CLOCK_NOT_IN_ZONE, DATES_SWAPPED, hold_unless_meant
from tidepool_ingest.formats.reader import Block, Device, Reader, ReadingContext, RejectedRow
from tidepool_ingest.formats.table.cells import Cells, CompiledRule, RefusedError
from tidepool_ingest.formats.table.column_pass import ColumnPass
from tidepool_ingest.formats.table.columns import ColumnRows, pieces_of
from tidepool_ingest.formats.table.files import DelimitedTable, TableFile
from tidepool_ingest.formats.table.mapping import MappingError, TableMapping
from tidepool_ingest.formats.table.parquet import ParquetTable
from tidepool_ingest.formats.table.records import checked_mapping
from tidepool_ingest.formats.table.rows import (
    NO_VALUE,
    OUT_OF_ORDER,
    BoundTable,
    Instant,
    Instants,
    RowPass,
    TableColumnError,
)
from tidepool_ingest.formats.table.stamps import in_unit
from tidepool_ingest.formats.table.survey import Survey
from tidepool_ingest.formats.table.workbook import WorkbookTable
from tidepool_ingest.local_times import LocalTimes
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import PARQUET_MAGIC, WORKBOOK_MAGIC, SourceFile
from tidepool_ingest.texts import counted

__all__ = ["TableColumnError", "TableReader", "kind_of_table", "mapping_of", "open_table"]


def mapping_of(raw: object, file_number: int | None = None) -> TableMapping:
    """Return the mapping of a table, checked.

    :param raw: what the manifest or a file beside it has, as JSON has it; ``None`` if there is none.
    :param file_number: which file, for the error.
    :raises BatchError: ``table-mapping``, saying where.
    """
    if raw is None:
        raise BatchError("table-mapping", file_number=file_number, detail="there is none")
    try:
        return checked_mapping(raw)
    except MappingError as error:
        raise BatchError("table-mapping", file_number=file_number, detail=str(error)) from None


def kind_of_table(file: SourceFile) -> type[TableFile]:
    """Return what reads a table, by how its file begins.

    :param file: the file.
    :raises BatchError: it cannot be read.
    """
    start = file.start()
    if start.startswith(PARQUET_MAGIC):
        return ParquetTable
    return WorkbookTable if start.startswith(WORKBOOK_MAGIC) else DelimitedTable


def open_table(file: SourceFile, mapping: TableMapping) -> TableFile:
    """Open a table of whatever kind.

    :param file: the file.
    :param mapping: what its columns mean.
    :raises BatchError: it cannot be read.
    """
    return kind_of_table(file)(file, mapping)


class TableReader(Reader):
    """Reads what a mapping says from each row."""

    name = "table"
    title = "Table"
    rows_are_json = False
    version = 1
    has_own_rows = True
    options = frozenset({"timezone", "serial", "table"})

    def __init__(self, files: Sequence[SourceFile], context: ReadingContext) -> None:
        super().__init__(files, context)
        (self._file,) = files
        self._mapping: TableMapping | None = None
        self._table: BoundTable | None = None
        self._survey: Survey | None = None
        self._table_file: TableFile | None = None

    @property
    def has_names(self) -> bool:
        """Whether the mapping says what names a row."""
        return bool(self._own_mapping().id)

    @property
    def ending(self) -> str:
        """How the name of such a file ends, where it goes into a batch as it is."""
        return self._opened().ending

    def devices(self) -> list[Device]:
        """Return the devices by the column that tells them apart; one without a name, if there is none."""
        survey = self._surveyed()
        processing = "none" if survey.zone is None else "across-the-board-timezone"
        device = self._own_mapping().device
        if device is None:
            return [Device("", {"timeProcessing": processing})]
        return [
            Device(serial, {"deviceId": f"{device.prefix}{serial}", "timeProcessing": processing})
            for serial in survey.serials
        ]

    def survey(self) -> None:
        """Find out what only all rows show: devices, and clocks that were not as they should be.

        :raises BatchError: ``table-mapping``, ``table-column``, ``table-times``, ``timezone-missing``, or the
            file cannot be read.
        :raises ClockHeldError: hours that the zone leaves out, or days and months that were swapped.
        """
        for rows in self._batches_of_table():
            survey = self._surveyed()
            if not isinstance(rows, ColumnRows) or not survey.see_columns(rows):
                for some in pieces_of(rows):
                    survey.see(some)
            if survey.is_over:
                break
        survey = self._surveyed()
        if survey.unreadable and not survey.readable:
            is_time_of_day = survey.without_date == survey.unreadable
            detail = "all are times of day without a date" if is_time_of_day else None
            raise BatchError("table-times", file_number=self._file.number, detail=detail)
        if survey.missing:
            first = f"{self._opened().place} {survey.missing_line}"
            detail = f"{counted(survey.missing, 'time')}, the first in {first}"
            self._hold(CLOCK_NOT_IN_ZONE, detail)
        for steps in survey.steps.values():
            if steps.is_swapped():
                self._hold(DATES_SWAPPED, f"first seen in {self._opened().place} {steps.line}")

    def blocks(self, file: SourceFile) -> Iterator[Block]:
        """Yield the records of the file.

        :param file: the file.
        :raises BatchError: ``file-several-devices``.
        """
        if len(self._surveyed().serials) > 1 and not self._serial:
            raise BatchError("file-several-devices", file_number=file.number)
        position, making = 0, None
        for rows in self._batches_of_table():
            making = making or self._making()
            yield from making.blocks(rows, position)
            position += len(rows)

    def rows(self, file: SourceFile) -> Iterator[Block]:
        """Yield the rows of the file.

        :param file: the file.
        """
        position = 0
        for rows in self._rows_of_table():
            positions, rejected = rows.positions(position)
            where = [f"{rows.place} {line}" for line in rows.lines]
            yield Block(position, rows.texts, rejected, positions=list(positions), where=where)
            position += len(rows)

    def close(self) -> None:
        """Remove what was kept while reading."""
        if self._table_file is not None:
            self._table_file.close()

    @property
    def _serial(self) -> str:
        return (self._file.options.serial or "").strip()

    def _own_mapping(self) -> TableMapping:
        if self._mapping is None:
            self._mapping = mapping_of(self._file.options.table, self._file.number)
            if self._serial and self._mapping.device is None:
                detail = "it has no `deviceId`, whose column would be that of the file's `serial`"
                raise BatchError("table-mapping", file_number=self._file.number, detail=detail)
        return self._mapping

    def _bound(self) -> BoundTable:
        if self._table is None:
            raise BatchError("file-empty", file_number=self._file.number)
        return self._table

    def _surveyed(self) -> Survey:
        if self._survey is None:
            self._survey = Survey(
                self._bound(), self._serial, lambda: LocalTimes(self.context.periods_of(self._file))
            )
        return self._survey

    def _opened(self) -> TableFile:
        if self._table_file is None:
            self._table_file = open_table(self._file, self._own_mapping())
        return self._table_file

    def _rows_of_table(self) -> Iterator[Rows]:
        for rows in self._batches_of_table():
            yield from pieces_of(rows)

    def _batches_of_table(self) -> Iterator[Rows | ColumnRows]:
        """Yield the rows below the names of the columns, which are noted."""
        opened = self._opened()
        for rows in opened.batches():
            if self._table is None:
                self._bind(opened)
            yield rows
        if self._table is None and opened.names is not None:
            self._bind(opened)

    def _bind(self, opened: TableFile) -> None:
        names = opened.names or []
        self._table = BoundTable(self._own_mapping(), names, self._file.number, nested=opened.nested)

    def _hold(self, code: str, detail: str) -> None:
        hold_unless_meant(code, self.context.meant_as, file_number=self._file.number, detail=detail)

    def _device_id(self) -> str | None:
        """Return the id of the one device whose rows are read; the data set's comes first."""
        device = self._own_mapping().device
        if self.context.device_id is not None or device is None:
            return self.context.device_id
        serial = self._serial or next(iter(self._surveyed().serials), "")
        return f"{device.prefix}{serial}"

    def _pass(self) -> RowPass:
        table, survey = self._bound(), self._surveyed()
        return RowPass(table, Instants(table, survey.zone, survey.told_apart, survey.hours), self._serial)

    def _making(self) -> _Making:
        survey, row_pass = self._surveyed(), self._pass()
        making = _Making(self._bound(), self._device_id(), row_pass, self._kept_rows)
        making.columns = ColumnPass(
            self._bound(),
            survey.column_hours,
            survey.zone,
            row_pass,
            self._serial,
            making.device,
            making.records,
        )
        return making

    def _kept_rows(self) -> Iterator[tuple[Cells, str]]:
        """Yield the cells of each row that is to be read, and when it was; once more from the beginning."""
        row_pass = self._pass()
        for rows in self._rows_of_table():
            for cells, text in zip(rows.cells, rows.texts, strict=True):
                try:
                    found = row_pass.look(cells, text)
                except RefusedError:
                    continue
                if not isinstance(found, str):
                    yield cells, found[0]


class _Making:
    """Makes the records of a file, block by block.

    :param table: the bound mapping.
    :param device_id: of all records, ``None`` if nobody says it.
    :param row_pass: a reading of the file.
    :param kept_rows: reads the file's rows once more, beside this.
    """

    def __init__(
        self,
        table: BoundTable,
        device_id: str | None,
        row_pass: RowPass,
        kept_rows: Callable[[], Iterator[tuple[Cells, str]]],
    ) -> None:
        self._table = table
        self._look = row_pass.look
        self.device = "" if device_id is None else f',"deviceId":{json.dumps(device_id)}'
        """That of each record, as a member."""
        self.columns: ColumnPass | None = None
        """Makes those of many rows at once."""
        self._followers: list[tuple[int, _Follower]] = []
        for number, rule in enumerate(table.rules):
            if rule.to_next is not None:
                is_ahead = table.mapping.time.order == "oldest-first"
                self._followers.append((number, _Follower(rule, kept_rows() if is_ahead else None)))

    def blocks(self, rows: Rows | ColumnRows, first_position: int) -> Iterator[Block]:
        """Yield the records of some rows.

        :param rows: the rows.
        :param first_position: position of the first of them.
        """
        if isinstance(rows, ColumnRows) and self.columns is not None:
            blocks = self.columns.blocks(rows, first_position)
            if blocks is not None:
                yield from blocks
                return
        for some in pieces_of(rows):
            yield self.block(some, first_position)
            first_position += len(some)

    def block(self, rows: Rows, first_position: int) -> Block:
        """Return the records of some rows.

        :param rows: the rows.
        :param first_position: position of the first of them.
        """
        positions, rejected = rows.positions(first_position)
        block: dict[str, Any] = {"lines": [], "staged": [], "positions": [], "where": []}
        lines, staged, of_rows, where = block.values()
        skipped: dict[str, int] = {}
        look, make = self._look, self.records
        for cells, text, line, position in zip(rows.cells, rows.texts, rows.lines, positions, strict=True):
            try:
                found = look(cells, text)
                records = found if isinstance(found, str) else make(cells, found)
            except RefusedError as refused:
                rejected.append(RejectedRow(position, refused.code, text, f"{rows.place} {line}"))
                continue
            if isinstance(records, str) or not records:
                reason = records or NO_VALUE
                skipped[str(reason)] = skipped.get(str(reason), 0) + 1
                continue
            place = f"{rows.place} {line}"
            for record in records:
                lines.append(record.encode())
                staged.append(text)
                of_rows.append(position)
                where.append(place)
        return Block(first_position, rejected=rejected, skipped=skipped, **block)

    def records(self, cells: Cells, instant: Instant) -> list[str]:
        """Return the records of a row.

        :param cells: the row.
        :param instant: when it was.
        :raises RefusedError: a cell cannot be read.
        """
        table = self._table
        time, members, uncertain = instant
        head = f"{members}{self.device}"
        durations = self._durations(cells, time) if self._followers else {}
        row_name = table.row_name(cells) if table.id else None
        records = []
        for number, rule, tests in table.rules_of(cells):
            for test in tests:
                if not test(cells):
                    break
            else:
                record = rule.record(cells, head, uncertain, row_name, durations.get(number))
                if record is not None:
                    records.append(record)
        return records

    def _durations(self, cells: Cells, time: str) -> dict[int, str]:
        """Return by rule how long it is until the next row that gives a record of it."""
        ends = {number: follower.end(cells, time) for number, follower in self._followers}
        durations = {}
        for number, follower in self._followers:
            end = ends[number]
            if end is not None:
                durations[number] = follower.duration(time, end)
        return durations


class _Follower:
    """Knows for each row when the next row came that gives a record of the same rule.

    :param rule: the rule.
    :param rows: all rows and their times, read ahead in a file that begins with the oldest; ``None`` in one
        that begins with the newest, where that row was before.
    """

    def __init__(self, rule: CompiledRule, rows: Iterator[tuple[Cells, str]] | None) -> None:
        if rule.to_next is None:
            raise ValueError("no rule with a duration to the next row")
        self._rule = rule
        self._to = rule.to_next.to
        self._max = rule.to_next.seconds
        self._rows = rows
        self._before: str | None = None
        self._newest = ""
        if rows is not None:
            self._next_of(rows)

    def end(self, cells: Cells, time: str) -> str | None:
        """Return when the next row of the rule came, ``None`` if nobody knows; called once for each row.

        Where none came, the table itself may be known to have gone on for the longest time there is.
        """
        if self._rows is None:
            self._newest = self._newest or time
        if not self._rule.applies(cells):
            return None
        if self._rows is not None:
            end = self._next_of(self._rows)
        else:
            end, self._before = self._before, time
        if end is None and _seconds_between(time, self._newest) >= self._max:
            return self._newest
        return end

    def duration(self, time: str, end: str) -> str:
        """Return the time between two rows in the unit of the rule, as JSON.

        :raises RefusedError: the rows are not in the order that the mapping states.
        """
        seconds = _seconds_between(time, end)
        if seconds <= 0:
            raise RefusedError(OUT_OF_ORDER)
        return in_unit(min(seconds, self._max), self._to)

    def _next_of(self, rows: Iterator[tuple[Cells, str]]) -> str | None:
        for cells, time in rows:
            self._newest = time
            if self._rule.applies(cells):
                return time
        return None


def _seconds_between(earlier: str, later: str) -> Decimal:
    step = datetime.fromisoformat(later) - datetime.fromisoformat(earlier)
    return Decimal(step // timedelta(milliseconds=1)) / 1000

"""What Dexcom Clarity exports as CSV: the format ``clarity``.

Rows are read by position, because their header is translated. A first pass learns from the transmitters'
clocks when the device's own clock was set (:mod:`tidepool_ingest.formats.clarity.clock`), and the second one
makes a record of each row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from tidepool_ingest.formats.clarity.clock import TooManyRunsError
from tidepool_ingest.formats.clarity.events import COLUMNS_MAX, COLUMNS_MIN, GLUCOSE, MG_PER_DL, RATE, is_note
from tidepool_ingest.formats.clarity.records import Records, Survey
from tidepool_ingest.formats.delimited import ROW_BROKEN, DelimitedText, Rows, first_rows
from tidepool_ingest.formats.holds import CLOCK_NOT_IN_ZONE, hold_unless_meant
from tidepool_ingest.formats.reader import Block, ClockSigns, Device, Reader, ReadingContext
from tidepool_ingest.local_times import LocalTimes
from tidepool_ingest.model.glucose import MMOL_PER_L
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile

if TYPE_CHECKING:
    from pydantic import JsonValue

DEVICE_ID: Final = "Dexcom-Clarity"
"""One for a person: the file knows transmitters and phones, which change, and no other device."""

_UNIT: Final = re.compile(r"m(?:g/dl|mol/l)", re.IGNORECASE)


def units_of(header: Sequence[str]) -> str | None:
    """Return the unit of a file's glucose values; ``None`` if that is no header of Clarity's.

    Whatever its language: the column of glucose and that of its rate of change name one unit.

    :param header: the cells of a file's first row.
    """
    if len(header) < COLUMNS_MIN or any(cell.strip() for cell in header[COLUMNS_MAX:]):
        return None
    named = {index: unit.lower() for index, cell in enumerate(header) for unit in _UNIT.findall(cell)}
    if named.keys() != {GLUCOSE, RATE} or named[GLUCOSE] != named[RATE]:
        return None
    return MG_PER_DL if named[GLUCOSE] == MG_PER_DL.lower() else MMOL_PER_L


class ClarityReader(Reader):
    """Reads readings and events of a Clarity export."""

    name = "clarity"
    title = "Dexcom Clarity export"
    rows_are_json = False
    has_own_rows = True
    version = 1
    options = frozenset({"timezone", "keep_notes"})

    def __init__(self, files: Sequence[SourceFile], context: ReadingContext) -> None:
        super().__init__(files, context)
        self._models: set[str] = set()
        self._texts = {file: _Text(file) for file in files}
        self._surveys: dict[SourceFile, Survey] = {}
        self._records: list[Records] = []

    @classmethod
    def recognizes(cls, start: bytes) -> bool:
        """Return whether the first row is a header of Clarity's, in whatever language."""
        rows = first_rows(start)
        return bool(rows) and units_of(rows[0]) is not None

    @property
    def has_names(self) -> bool:
        """Readings are named by the transmitter and its clock, other events by their stamps."""
        return True

    def devices(self) -> list[Device]:
        """Return the one device that a person's Clarity account stands for."""
        fields: dict[str, JsonValue] = {
            "deviceId": DEVICE_ID,
            "deviceManufacturers": ["Dexcom"],
            "deviceTags": ["cgm"],
            "timeProcessing": "across-the-board-timezone",
        }
        if self._models:
            fields["deviceModel"] = ", ".join(sorted(self._models))
        return [Device("", fields)]

    def clock_signs(self) -> ClockSigns:
        """Return how the transmitters saw the clock being set."""
        return ClockSigns(
            steady=tuple(runs for survey in self._surveys.values() for runs in survey.clock.steady())
        )

    def survey(self) -> None:
        """Learn how the device's clock was set.

        :raises BatchError: the file cannot be read, is no export of Clarity's, or has no time zone.
        :raises ClockHeldError: it has times in an hour that its zone leaves out.
        """
        for file, text in self._texts.items():
            text.check_header()
            survey = Survey(LocalTimes(self.context.periods_of(file)))
            try:
                for rows in text.rows():
                    survey.see(rows.cells)
            except TooManyRunsError:
                detail = "its transmitter times are those of no clock"
                raise BatchError("file-other-format", file_number=file.number, detail=detail) from None
            survey.end()
            self._models |= survey.models
            if survey.has_missing_hour:
                hold_unless_meant(CLOCK_NOT_IN_ZONE, self.context.meant_as, file_number=file.number)
            self._surveys[file] = survey

    def blocks(self, file: SourceFile) -> Iterator[Block]:
        """Yield the records of a file that was surveyed."""
        text = self._texts[file]
        records = Records(
            self._surveys[file],
            self.context.device_id or DEVICE_ID,
            header=text.header,
            units=text.units,
            keep_notes=file.options.keep_notes,
        )
        self._records.append(records)
        first = 0
        for rows in text.rows():
            yield from records.blocks(rows, first)
            first += len(rows)

    def close(self) -> None:
        """Remove what was kept while reading."""
        for records in self._records:
            records.close()

    def rows(self, file: SourceFile) -> Iterator[Block]:
        """Yield the rows of the file below its header."""
        first = 0
        for rows in self._texts[file].rows():
            positions, rejected = rows.positions(first)
            where = [f"line {line}" for line in rows.lines]
            yield Block(first, rows.texts, rejected, positions=list(positions), where=where)
            first += len(rows)


class _Text:
    """The rows of a file below its header."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._text = DelimitedText(file)
        self.header: list[str] = []
        self.units = ""

    def check_header(self) -> None:
        """Read the header.

        :raises BatchError: there is none, or it is not one of Clarity's.
        """
        for _ in self.rows():
            return

    def rows(self) -> Iterator[Rows]:
        """Yield the rows below the header.

        :raises BatchError: as for :meth:`check_header`.
        """
        is_first = True
        for rows in self._text.rows():
            if is_first and len(rows):
                is_first = False
                self._take_header(rows)
            if not is_first:
                _reject_swallowed(rows)
                yield rows
        if is_first:
            raise BatchError("file-empty", file_number=self._file.number)

    def _take_header(self, rows: Rows) -> None:
        header = rows.cells[0] if rows.cells else []
        units = units_of(header)
        if units is None:
            detail = "its first row is not the header of an export of Dexcom Clarity"
            raise BatchError("file-other-format", file_number=self._file.number, detail=detail)
        self.header, self.units = header, units
        del rows.cells[0], rows.texts[0], rows.lines[0]


def _reject_swallowed(rows: Rows) -> None:
    """Reject rows of several lines: but for notes, only a quote that is not closed has made them one."""
    if b"\n" not in b"".join(rows.texts):
        return
    for index in reversed(range(len(rows.texts))):
        if b"\n" in rows.texts[index] and not is_note(rows.cells[index]):
            rows.rejected.append((rows.lines[index], ROW_BROKEN, rows.texts[index]))
            del rows.cells[index], rows.texts[index], rows.lines[index]

"""Tables in Excel workbooks: one sheet, by the values that are stored in it, and nothing else of the file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import IO, Any, Final

from tidepool_ingest.formats.delimited import Rows
from tidepool_ingest.formats.reader import BLOCK_RECORDS
from tidepool_ingest.formats.table.files import (
    TableFile,
    checked_rows,
    decimal_signs,
    library,
    plain_stamp,
)
from tidepool_ingest.formats.table.mapping import TableMapping
from tidepool_ingest.staging.compression import MAX_RATIO, RATIO_FROM_BYTES
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile

"""Begins such a file, which is a zip archive."""

MAX_ROWS: Final = 1_048_576
"""Rows that a sheet can have."""

MAX_EXPANDED_BYTES: Final = 4 * 1024**3
"""Largest workbook, expanded: a sheet full of rows of some thirty cells."""

MAX_HELD_BYTES: Final = 256 * 1024**2
"""Largest part of it that is held in memory, such as its texts; the rows of a sheet are not."""

MAX_MEMBERS: Final = 10_000

_START_BYTES: Final = 64 * 1024
_WORKBOOK: Final = "xl/workbook.xml"
_SHEETS: Final = "xl/worksheets/"
_CUSTOM: Final = "customXml/"
_WHOLE_UP_TO: Final = 1e15
"""Numbers below this, in size, are whole where they say so."""


class WorkbookTable(TableFile):
    """An Excel workbook (.xlsx, .xlsm)."""

    place = "sheet row"
    ending = "xlsx"
    damaged = "an Excel workbook that cannot be read"

    def __init__(self, file: SourceFile, mapping: TableMapping) -> None:
        super().__init__(file, mapping)
        self._stack = ExitStack()
        self._sheet: Any = None
        self._is_datetime: Any = None
        self._signs: list[str] = []

    def close(self) -> None:
        """Remove the copy that was read."""
        self._sheet = None
        self._stack.close()

    def rows(self) -> Iterator[Rows]:
        """Yield the rows below that of the names.

        :raises BatchError: ``table-library``, ``table-sheet``, ``file-not-records``, ``file-truncated``,
            ``file-damaged`` or ``file-bomb``.
        """
        if self._sheet is None:
            self._open()
        rows = iter(self._sheet.rows)
        for first in range(1, MAX_ROWS + 2, BLOCK_RECORDS):
            with self.reading():
                some = list(islice(rows, BLOCK_RECORDS))
                cells, numbers = self._cells_of(some, first)
            if cells:
                yield checked_rows(cells, numbers, self.place)
            if not some:
                return
        raise BatchError("file-damaged", file_number=self.file.number, detail="a sheet of too many rows")

    def _cells_of(self, rows: Sequence[Sequence[Any]], first: int) -> tuple[list[list[str]], list[int]]:
        """Return the cells of those rows below the names that are not blank, and their numbers."""
        cells: list[list[str]] = []
        numbers: list[int] = []
        for number, row in enumerate(rows, first):
            if number > self.mapping.csv.header_row and (texts := self._texts(row, self._signs)):
                cells.append(texts + [""] * (len(self._signs) - len(texts)))
                numbers.append(number)
            elif number == self.mapping.csv.header_row and self.names is None:
                self.names = self._texts(row, ())
                signs = decimal_signs(self.mapping)
                self._signs = [signs.get(name.strip(), ".") for name in self.names]
        return cells, numbers

    def _open(self) -> None:
        number = self.file.number
        library("defusedxml", "xlsx", number)  # openpyxl reads XML by it, and by others if it is not there
        openpyxl = library("openpyxl", "xlsx", number)
        self._is_datetime = library("openpyxl.styles.numbers", "xlsx", number).is_datetime
        self._stack.close()
        copy = self._stack.enter_context(self.file.seekable())
        self._check_archive(copy)
        with self.reading():
            self._check_parts(copy)
            book = openpyxl.load_workbook(copy, read_only=True, data_only=True, keep_links=False)
        self._stack.callback(_close, book)
        with self.reading():
            sheets = {sheet.title: sheet for sheet in book.worksheets if sheet.sheet_state == "visible"}
        wanted = self.mapping.sheet
        if wanted is None and len(sheets) != 1:
            detail = f"it has {len(sheets)} visible ones, and the mapping names none"
            raise BatchError("table-sheet", file_number=number, detail=detail)
        if wanted is not None and wanted not in sheets:
            detail = f"none of its {len(sheets)} visible ones has the name that the mapping says"
            raise BatchError("table-sheet", file_number=number, detail=detail)
        self._sheet = sheets[wanted] if wanted is not None else next(iter(sheets.values()))
        # The size that a sheet states of itself may be wrong, or meant to fill memory.
        self._sheet.reset_dimensions()

    def _check_archive(self, copy: IO[bytes]) -> None:
        """Make sure that it is a workbook, of a size that one has, before anything is expanded."""
        number = self.file.number
        size = copy.seek(0, 2)
        try:
            with zipfile.ZipFile(copy) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError):
            copy.seek(0)
            if b"xl/" in copy.read(_START_BYTES):
                raise BatchError("file-truncated", file_number=number) from None
            members = []
        if _WORKBOOK not in {member.filename for member in members}:
            detail = "it is a zip archive and no Excel workbook: unpack it"
            raise BatchError("file-not-records", file_number=number, detail=detail)
        expanded = sum(member.file_size for member in members)
        held = max(member.file_size for member in members if not member.filename.startswith(_SHEETS))
        if (
            len(members) > MAX_MEMBERS
            or held > MAX_HELD_BYTES
            or expanded > min(MAX_EXPANDED_BYTES, max(RATIO_FROM_BYTES, size * MAX_RATIO))
        ):
            detail = f"{expanded} bytes in {len(members)} parts of a workbook of {size}"
            raise BatchError("file-bomb", file_number=number, detail=detail)

    def _check_parts(self, copy: IO[bytes]) -> None:
        """Make sure that no part declares entities or has a DTD, which no workbook has.

        openpyxl reads most parts by lxml if that is installed, and lxml takes both.

        :raises Exception: one does, or is no XML although it is called so.
        """
        trees = library("defusedxml.ElementTree", "xlsx", self.file.number)
        with zipfile.ZipFile(copy) as archive:
            for member in archive.infolist():
                is_xml = member.filename.endswith((".xml", ".rels")) and not member.filename.startswith(
                    _CUSTOM
                )
                with archive.open(member) as part:
                    try:
                        next(iter(trees.iterparse(part, events=("start",), forbid_dtd=True)), None)
                    except trees.ParseError:
                        if is_xml:
                            raise

    def _texts(self, row: Sequence[Any], signs: Sequence[str]) -> list[str]:
        """Return the texts of a row up to its last cell that is not empty."""
        texts = [self._text(cell) for cell in row]
        while texts and not texts[-1].strip():
            texts.pop()
        for at, (cell, sign) in enumerate(zip(row, signs, strict=False)):
            if sign != "." and isinstance(cell.value, float):
                texts[at] = texts[at].replace(".", sign)
        return texts

    def _text(self, cell: Any) -> str:
        value = cell.value
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float):
            is_whole = value.is_integer() and abs(value) < _WHOLE_UP_TO
            return str(int(value)) if is_whole else repr(value)
        if isinstance(value, datetime):
            is_day = value.time() == time() and self._is_datetime(cell.number_format) == "date"
            return value.date().isoformat() if is_day else plain_stamp(value)
        if isinstance(value, time):
            return plain_stamp(datetime.combine(date.min, value)).partition("T")[2]
        if isinstance(value, timedelta):
            return _length(value)
        return str(value)


def _length(length: timedelta) -> str:
    """Return a length of time as ``h:mm:ss``, with as many hours as it has."""
    sign, length = ("-", -length) if length < timedelta() else ("", length)
    minutes, seconds = divmod(length // timedelta(seconds=1), 60)
    fraction = f".{length.microseconds:06}".rstrip("0") if length.microseconds else ""
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{fraction}"


def _close(book: Any) -> None:
    with suppress(Exception):
        book.close()

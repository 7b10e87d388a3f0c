"""Tables as they lie in files: text, Parquet or a workbook; whatever it is, its rows are cells of text.

A value that is no text becomes the text that a CSV would have of it, so that one mapping says the same of
the same table in every kind of file.
"""

from __future__ import annotations

import csv
import importlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Final

from tidepool_ingest.formats.delimited import (
    CELL_MAX,
    DELIMITERS,
    NOT_UTF8,
    NUL,
    ROW_BROKEN,
    DelimitedText,
    Rows,
)
from tidepool_ingest.formats.reader import MAX_RECORD_BYTES, TOO_LARGE
from tidepool_ingest.formats.table.mapping import Cell, TableMapping
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile

if TYPE_CHECKING:
    from tidepool_ingest.formats.table.columns import ColumnRows

_LINE_END: Final = b"\r\n"
_NO_UTF8: Final = frozenset(map(chr, range(0xDC80, 0xDD00)))


class TableFile(ABC):
    """One table, from its beginning as often as needed.

    :param file: the file.
    :param mapping: what its columns mean, and how it is cut into cells.
    """

    place: ClassVar[str]
    """What a person calls the number of a row."""

    ending: ClassVar[str]
    """How the name of such a file ends."""

    damaged: ClassVar[str] = ""
    """What it is called if the library that reads it cannot."""

    def __init__(self, file: SourceFile, mapping: TableMapping) -> None:
        self.file = file
        self.mapping = mapping
        self.names: list[str] | None = None
        """Names of the columns, once the first rows were asked for."""
        self.nested: frozenset[str] = frozenset()
        """Names of columns whose values no cell can show."""

    @property
    def delimiter(self) -> str:
        """What stands between two cells in the text of a row."""
        return ","

    @property
    def header_text(self) -> bytes:
        """The names of the columns as a row of text."""
        return texts_of([self.names or []])[0]

    @abstractmethod
    def rows(self) -> Iterator[Rows]:
        """Yield the rows below the names of the columns.

        :raises BatchError: the file cannot be read.
        """

    def batches(self) -> Iterator[Rows | ColumnRows]:
        """Yield the same, by columns where the file lies so.

        :raises BatchError: as for :meth:`rows`.
        """
        return self.rows()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn whatever a library says of a damaged file, quoting it or not, into our own error."""
        try:
            yield
        except BatchError:
            raise
        except Exception:
            raise BatchError("file-damaged", file_number=self.file.number, detail=self.damaged) from None

    def close(self) -> None:  # noqa: B027 - text needs nothing
        """Remove what was kept while reading."""


class DelimitedTable(TableFile):
    """CSV, TSV and their like."""

    place = "line"
    ending = "csv"

    def __init__(self, file: SourceFile, mapping: TableMapping) -> None:
        super().__init__(file, mapping)
        self._text: DelimitedText | None = None
        self._header = b""

    @property
    def delimiter(self) -> str:
        """What stands between two cells in the text of a row."""
        return self._opened().delimiter

    @property
    def header_text(self) -> bytes:
        """The names of the columns as a row of text."""
        return self._header

    def rows(self) -> Iterator[Rows]:
        """Yield the rows below the header.

        :raises BatchError: the file cannot be read, or its header cannot.
        """
        is_below = False
        for rows in self._opened().rows():
            below = rows if is_below else self._below_header(rows)
            if below is not None:
                is_below = True
                if len(below):
                    yield below

    def _opened(self) -> DelimitedText:
        if self._text is None:
            layout = self.mapping.csv
            delimiter = layout.delimiter or self._delimiter_of_header()
            self._text = DelimitedText(self.file, delimiter=delimiter, encoding=layout.encoding)
        return self._text

    def _delimiter_of_header(self) -> str | None:
        """Return what stands between the columns that the mapping names, ``None`` if none of them is seen.

        It is surer than what the rows show: where there is a decimal comma, they may have as many commas.
        """
        layout = self.mapping.csv
        start = next(self.file.text(encoding=layout.encoding, is_table=True), b"")
        lines = start.decode(errors="replace").splitlines()[: layout.header_row]
        if len(lines) < layout.header_row:
            return None
        wanted = {column for _, column in self.mapping.columns()}
        found = {sign: len(wanted.intersection(_cells_of(lines[-1], sign))) for sign in DELIMITERS}
        best = max(DELIMITERS, key=lambda sign: found[sign])
        return best if found[best] else None

    def _below_header(self, rows: Rows) -> Rows | None:
        """Return the rows below the header, ``None`` if it has not come yet."""
        header_row = self.mapping.csv.header_row
        at = next((at for at, line in enumerate(rows.lines) if line >= header_row), None)
        broken = min((line for line, *_ in rows.rejected if line >= header_row), default=None)
        if broken is not None and (at is None or broken < rows.lines[at]):
            detail = f"line {broken}, where the header should be, cannot be read"
            raise BatchError("table-header", file_number=self.file.number, detail=detail)
        if at is None:
            return None
        if self.names is None:
            self.names, self._header = rows.cells[at], rows.texts[at]
        header_line = rows.lines[at]
        rejected = [entry for entry in rows.rejected if entry[0] > header_line]
        return Rows(rows.cells[at + 1 :], rows.texts[at + 1 :], rows.lines[at + 1 :], rejected)


def library(module: str, extra: str, number: int | None) -> ModuleType:
    """Import what reads one kind of table; only for such a file, for it may not be installed.

    :param module: its name.
    :param extra: the extra of this project that has it.
    :param number: which file, for the error.
    :raises BatchError: ``table-library``.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        detail = f"install it with pip install 'tidepool-airflow[{extra}]'"
        raise BatchError("table-library", file_number=number, detail=detail) from None


def decimal_signs(mapping: TableMapping) -> dict[str, str]:
    """Return the sign before tenths by column, where it is no point.

    So a mapping for CSV with a decimal comma means the same in a file whose numbers are numbers.

    :param mapping: the mapping.
    """
    signs: dict[str, str] = {}
    for rule in mapping.rules:
        for _, leaf in rule.leaves():
            if isinstance(leaf, Cell) and leaf.decimal is not None:
                signs[leaf.column] = leaf.decimal
    for _, column in mapping.columns():
        signs.setdefault(column, mapping.csv.decimal)
    for column in mapping.time.names:
        signs.pop(column, None)  # a count of seconds always has a point
    return {column: sign for column, sign in signs.items() if sign != "."}


def plain_stamp(at: datetime) -> str:
    """Return a time as ISO text, with as much of a fraction as it has.

    :param at: the time, with or without an offset.
    """
    text = at.replace(tzinfo=None).isoformat()
    if at.microsecond:
        text = text.rstrip("0")
    offset = at.utcoffset()
    return text if offset is None else text + offset_text(offset)


def offset_text(offset: timedelta) -> str:
    """Return an offset from UTC as ISO text: ``Z`` or ``+hh:mm``.

    :param offset: whole minutes.
    """
    minutes = offset // timedelta(minutes=1)
    if not minutes:
        return "Z"
    hours, rest = divmod(abs(minutes), 60)
    return f"{'-' if minutes < 0 else '+'}{hours:02}:{rest:02}"


def texts_of(cells: Sequence[Sequence[str]]) -> list[bytes]:
    """Return each row as a line of CSV, with quotes where they are needed.

    :param cells: of each row.
    """
    # Only what ends its lines is put in quotes: so each of the two signs has to be a part of that.
    text = io.StringIO()
    csv.writer(text, lineterminator=_LINE_END.decode()).writerows(cells)
    lines = text.getvalue().encode(errors="surrogateescape").split(_LINE_END)[:-1]
    if len(lines) == len(cells):
        return lines
    return [_LINE_END.join(lines)] if len(cells) == 1 else [texts_of([row])[0] for row in cells]


def checked_rows(cells: list[list[str]], numbers: Sequence[int], place: str) -> Rows:
    """Return rows of a file that is no text, those that a CSV could not hold rejected as there.

    :param cells: of each row; what is no UTF-8 has surrogates in its place.
    :param numbers: of each row.
    :param place: what a person calls the number.
    """
    rows = Rows(place=place)
    for row, text, number in zip(cells, texts_of(cells), numbers, strict=True):
        code = _damage(row, text)
        if code:
            rows.rejected.append((number, code, None if code == TOO_LARGE else text))
        else:
            rows.add(row, text, number)
    return rows


def _damage(row: Sequence[str], text: bytes) -> str:
    if len(text) > MAX_RECORD_BYTES:
        return TOO_LARGE
    if b"\0" in text:
        return NUL
    if not text.isascii() and any(not _NO_UTF8.isdisjoint(cell) for cell in row):
        return NOT_UTF8
    if len(text) > CELL_MAX and any(len(cell) > CELL_MAX for cell in row):
        return ROW_BROKEN
    return ""


def _cells_of(line: str, delimiter: str) -> set[str]:
    try:
        return {cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])}
    except csv.Error:
        return set()

"""Rows of cells in text (CSV, TSV): what every format of a vendor's table is cut into.

The standard library's ``csv`` reads the cells, a block of lines at a time. Each row keeps its text as staged
and the number of its line, so that a person finds it again. What is damaged stays the matter of its own row:
a line too long to hold, a quote that never ends, U+0000.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from tidepool_ingest.formats.lines import Lines
from tidepool_ingest.formats.reader import Block, RejectedRow
from tidepool_ingest.staging.source_file import SourceFile

DELIMITERS: Final = ",;\t|"
"""What may stand between two cells, the most usual first."""

LINES_LOOKED_AT: Final = 20
"""First lines in which the delimiter shows."""

ROW_LINES_MAX: Final = 100
"""Most lines of one row: a note in quotes may have some; more mean that a quote was never closed."""

SHORT_CELL: Final = 40
"""Characters up to which a cell is remembered with its meaning: what is longer is no number, word or time."""

CELL_MAX: Final = 131_072
"""Characters of a cell: what ``csv`` takes unless somebody has told it otherwise, for the whole process."""

ROW_BROKEN: Final = "staged-row-broken"
"""Code of a line whose cells cannot be told apart: a quote that is never closed, a cell longer than any, a
carriage return inside."""

NUL: Final = "staged-nul"
"""Code of a row that holds U+0000: something has damaged it."""

NOT_UTF8: Final = "staged-not-utf8"

# Codes of rows whose cells say too little, or something else than their column holds. Each format has some.
TIME_UNREADABLE: Final = "staged-time-unreadable"
NOT_A_NUMBER: Final = "staged-not-a-number"
NO_AMOUNT: Final = "staged-no-amount"
SPLIT_DECIMAL: Final = "staged-split-decimal"
EVENT_UNKNOWN: Final = "staged-event-unknown"
ROW_RAGGED: Final = "staged-row-ragged"

# Reasons why a row is no reading, likewise.
METADATA: Final = "metadata"
NOTE: Final = "note"
EMPTY_EVENT: Final = "empty-event"
DUPLICATE_ROW: Final = "duplicate-row"

_DAMAGED: Final = re.compile("[\0\udc80-\udcff]")
"""U+0000, and what stands for a byte that is not UTF-8."""
_MARKS: Final = ("\ufeff", "\u00ef\u00bb\u00bf")
"""A byte order mark, and one that somebody has taken for Latin-1 and encoded again."""


@dataclass(slots=True)
class Rows:
    """Some consecutive rows.

    :param cells: of each row.
    :param texts: each row as staged.
    :param lines: for each row, the number of its first line in the file, from 1.
    :param rejected: lines that are no rows, each with its number, code and text.
    :param place: what a person calls those numbers.
    """

    cells: list[list[str]] = field(default_factory=list, repr=False)
    texts: list[bytes] = field(default_factory=list, repr=False)
    lines: list[int] = field(default_factory=list)
    rejected: list[tuple[int, str, bytes | None]] = field(default_factory=list, repr=False)
    place: str = "line"

    def add(self, cells: list[str], text: bytes, line: int) -> None:
        """Append a row."""
        self.cells.append(cells)
        self.texts.append(text)
        self.lines.append(line)

    def positions(self, first: int) -> tuple[Sequence[int], list[RejectedRow]]:
        """Return the position of each row in its file, and what is rejected with its own.

        :param first: position of the first of them all; there are as many as rows and rejected lines.
        """
        if not self.rejected:
            return range(first, first + len(self.lines)), []
        order = sorted([*self.lines, *(line for line, _code, _text in self.rejected)])
        position_of = {line: first + number for number, line in enumerate(order)}
        rejected = [
            RejectedRow(position_of[line], code, text, f"{self.place} {line}")
            for line, code, text in self.rejected
        ]
        return [position_of[line] for line in self.lines], rejected

    def __len__(self) -> int:
        """Return how many there are, rejected lines included."""
        return len(self.lines) + len(self.rejected)


class DelimitedText:
    """Reads the rows of one file, from its beginning as often as needed.

    :param file: the file.
    :param delimiter: what stands between two cells; found out if left out.
    :param encoding: what the file is written in, if not UTF-8.
    """

    def __init__(
        self, file: SourceFile, *, delimiter: str | None = None, encoding: str | None = None
    ) -> None:
        self._file = file
        self._encoding = encoding
        self._delimiter = delimiter

    @property
    def delimiter(self) -> str:
        """What stands between two cells.

        :raises BatchError: the file cannot be read.
        """
        if self._delimiter is None:
            start = next(self._file.text(encoding=self._encoding, is_table=True), b"")
            self._delimiter = delimiter_of(start)
        return self._delimiter

    def rows(self) -> Iterator[Rows]:
        """Yield all rows but blank ones, in blocks that fit into a processor's cache.

        :raises BatchError: the file cannot be read, or is no text.
        """
        lines, reader, ended = Lines(blank=True), _RowReader(self.delimiter), 0
        for block in self._blocks(lines):
            ended = block.first_position + len(block)
            yield reader.read(block)
        yield reader.end(ended)

    def _blocks(self, lines: Lines) -> Iterator[Block]:
        for piece in self._file.text(encoding=self._encoding, is_table=True):
            yield from lines.take(piece)
        yield from lines.end()


class _RowReader:
    """Makes rows of blocks of lines; a row may go on in the next block."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._open: list[bytes] = []  # lines of a row whose quotes are not closed yet
        self._is_end = False

    def read(self, block: Block) -> Rows:
        """Return the rows that end in a block of lines."""
        texts, first = [*self._open, *block.lines], block.first_position - len(self._open)
        self._open = []
        rows = self._read(texts, first + 1)
        rows.rejected += [(row.position + 1, row.code, None) for row in block.rejected]
        return rows

    def end(self, lines: int) -> Rows:
        """Return what remains of a file of so many lines: those of a row that has never ended."""
        texts, self._open, self._is_end = self._open, [], True
        return self._read(texts, lines - len(texts) + 1)

    def _read(self, texts: list[bytes], first_line: int) -> Rows:
        decoded = b"\n".join(texts).decode(errors="surrogateescape")
        lines = decoded.split("\n") if texts else []
        if _DAMAGED.search(decoded) is None:
            try:
                cells = list(csv.reader(lines, delimiter=self._delimiter))
            except csv.Error:
                return self._read_each(lines, texts, first_line)
            is_short = len(decoded) <= CELL_MAX or max(map(len, lines)) <= CELL_MAX
            is_closed = len(cells) == len(lines) and not (lines and _is_open(lines[-1], self._delimiter))
            if is_short and is_closed:
                return self._kept(Rows(cells, texts, list(range(first_line, first_line + len(texts)))))
        return self._read_each(lines, texts, first_line)

    def _read_each(self, lines: list[str], texts: list[bytes], first_line: int) -> Rows:
        """Read lines of which some are damaged, or belong together, one row after the other."""
        rows = Rows()
        at = 0
        while at < len(lines):
            end = self._end_of_row(lines, at)
            if end > len(lines) and not self._is_end and len(lines) - at <= ROW_LINES_MAX:
                self._open = texts[at:]  # it may end in the next block
                break
            is_closed = end <= len(lines)
            text = "\n".join(lines[at:end]) if is_closed else lines[at]
            staged = b"\n".join(texts[at:end]) if is_closed else texts[at]
            code = (self._damage(text) if is_closed else "") or ("" if is_closed else ROW_BROKEN)
            if code:
                rows.rejected.append((first_line + at, code, staged))
            else:
                rows.add(next(csv.reader([text], delimiter=self._delimiter), []), staged, first_line + at)
            at = end if is_closed else at + 1
        return self._kept(rows)

    def _end_of_row(self, lines: list[str], at: int) -> int:
        """Return the index after the last line of a row; beyond the lines if its quotes are not closed."""
        for end in range(at + 1, min(at + ROW_LINES_MAX, len(lines)) + 1):
            if not _is_open("\n".join(lines[at:end]), self._delimiter):
                return end
        return len(lines) + 1

    def _damage(self, text: str) -> str:
        """Return the code of what makes a row unreadable, empty if nothing does."""
        if found := _DAMAGED.search(text):
            return NUL if found.group() == "\0" else NOT_UTF8
        try:
            cells = next(csv.reader([text], delimiter=self._delimiter), [])
        except csv.Error:
            return ROW_BROKEN
        return ROW_BROKEN if any(len(cell) > CELL_MAX for cell in cells) else ""

    def _kept(self, rows: Rows) -> Rows:
        """Return rows without blank ones, and those unwrapped that stand in quotes as a whole."""
        cells = rows.cells
        if rows.lines and rows.lines[0] == 1 and cells[0]:
            cells[0][0] = _without_marks(cells[0][0])
        narrow = [index for index, row in enumerate(cells) if len(row) <= 1]
        blank = set()
        for index in narrow:
            row = cells[index]
            if row and self._delimiter in row[0] and "\n" not in row[0]:
                cells[index] = next(csv.reader([row[0]], delimiter=self._delimiter), [])
            elif not row or not row[0].strip():
                blank.add(index)
        if not blank:
            return rows
        kept = [index for index in range(len(cells)) if index not in blank]
        return Rows(
            [cells[index] for index in kept],
            [rows.texts[index] for index in kept],
            [rows.lines[index] for index in kept],
            rows.rejected,
        )


def delimiter_of(start: bytes) -> str:
    """Return what stands between the cells of a text: what cuts its first lines into the most cells.

    :param start: the text from its beginning, as UTF-8; the last line may be cut off.
    """
    lines = start.decode(errors="replace").splitlines()[:LINES_LOOKED_AT]
    text = [_unwrapped(line.replace("\0", "")) for line in lines]
    return max(DELIMITERS, key=lambda delimiter: _most_cells(text, delimiter))


def first_rows(start: bytes) -> list[list[str]]:
    """Return the cells of the first lines of a text, to see what it is.

    :param start: as for :func:`delimiter_of`.
    """
    delimiter = delimiter_of(start)
    lines = start.decode(errors="replace").splitlines()[:LINES_LOOKED_AT]
    rows = []
    for line in lines:
        text = _without_marks(_unwrapped(line.replace("\0", "")))
        try:
            rows.append(next(csv.reader([text], delimiter=delimiter), []))
        except csv.Error:
            rows.append([])
    return rows


def _without_marks(text: str) -> str:
    for mark in _MARKS:
        text = text.removeprefix(mark)
    return text


def _is_open(text: str, delimiter: str) -> bool:
    """Return whether a text ends inside the quotes of a cell."""
    if '"' not in text:
        return False
    # What follows is joined to the last cell if, and only if, that is open.
    try:
        rows = list(csv.reader([*text.split("\n"), "", "."], delimiter=delimiter))
    except csv.Error:
        return False
    return rows[-2:] != [[], ["."]]


def _most_cells(lines: list[str], delimiter: str) -> int:
    try:
        return max((len(row) for row in csv.reader(lines, delimiter=delimiter)), default=0)
    except csv.Error:
        return 0


def _unwrapped(line: str) -> str:
    """Return a line without the quotes that are around all of it."""
    cells = next(csv.reader([line]), []) if line.startswith('"') and len(line) < CELL_MAX else []
    return cells[0] if len(cells) == 1 else line

"""How a LibreView file is laid out: its title lines, its header, and where each value stands.

Titles and headers are translated, so that nothing is found by its words. The header is found by its shape,
and a value by its column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tidepool_ingest.formats.delimited import NOT_UTF8, Rows, first_rows
from tidepool_ingest.formats.libreview.stamps import split
from tidepool_ingest.model.glucose import MMOL_PER_L
from tidepool_ingest.staging.errors import BatchError

MG_PER_DL: Final = "mg/dL"

COLUMNS: Final = 19
"""Columns that every file has; some have more at the end."""

(
    DEVICE,
    SERIAL,
    STAMP,
    KIND,
    HISTORIC,
    SCAN,
    RAPID_WORD,
    RAPID,
    FOOD_WORD,
    GRAMS,
    SERVINGS,
    LONG_WORD,
    LONG,
    NOTES,
    STRIP,
    KETONE,
    MEAL,
    CORRECTION,
    CHANGE,
) = range(COLUMNS)

GLUCOSE: Final = (HISTORIC, SCAN, STRIP)
"""Columns whose titles name the unit of glucose."""

ROWS_LOOKED_AT: Final = 10
"""First rows among which the header is: a title, perhaps one of the patient, and then it."""

_FILLED_MIN: Final = 16
"""Cells that a header fills at least, of the first 19; a row of data or a title fills far fewer."""

_MMOL: Final = re.compile("mmol|ммоль", re.IGNORECASE)
_MG: Final = re.compile("mg|мг", re.IGNORECASE)
_GENERATED: Final = re.compile(r"\s*([0-9].*[0-9M.])\s*UTC\s*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Heading:
    """What stands above the rows of data. The names in it are not kept.

    :param line: number of the header's line.
    :param columns: how many columns have a title.
    :param titles: their titles.
    :param units: of glucose; empty if the titles do not say it.
    :param generated: when the file says that it was generated, in UTC and in its own spelling; may be empty.
    """

    line: int
    columns: int
    titles: tuple[str, ...] = field(repr=False)
    units: str
    generated: str

    def is_repeated(self, cells: Sequence[str]) -> bool:
        """Return whether a row is no data but a header or title again, as where files were joined.

        :param cells: the row's.
        """
        return tuple(cells[:COLUMNS]) == self.titles[:COLUMNS] or any(
            _GENERATED.fullmatch(cell) for cell in cells[2:3]
        )


def heading_of(rows: Rows, file_number: int | None = None) -> Heading:
    """Find the header of a file, and read what stands there and above it.

    :param rows: the first rows of the file.
    :param file_number: number of the file in its manifest, for errors.
    :raises BatchError: ``file-other-format``: there is no such header, or it contradicts itself;
        ``file-encoding``: it may be one in another encoding.
    """
    above = rows.cells[:ROWS_LOOKED_AT]
    at = next((index for index, cells in enumerate(above) if _is_header(cells)), None)
    if at is None:
        if any(code == NOT_UTF8 and line <= ROWS_LOOKED_AT for line, code, _text in rows.rejected):
            raise BatchError("file-encoding", file_number=file_number, detail="its header is not UTF-8")
        detail = f"no header of {COLUMNS} columns or more is among its first lines, as LibreView writes it"
        raise BatchError("file-other-format", file_number=file_number, detail=detail)
    if any(_is_data(cells) for cells in above[:at]):
        detail = "rows of data stand above its header"
        raise BatchError("file-other-format", file_number=file_number, detail=detail)
    titles = tuple(above[at])
    units = units_in(titles)
    if units is None:
        detail = "its columns of glucose name two units, and a file has one"
        raise BatchError("file-other-format", file_number=file_number, detail=detail)
    if _MG.search(titles[KETONE]) and not _MMOL.search(titles[KETONE]):
        detail = "its ketones are not in mmol/L"
        raise BatchError("file-other-format", file_number=file_number, detail=detail)
    named = max(index for index, title in enumerate(titles) if title.strip()) + 1
    found = (_GENERATED.fullmatch(cell) for cells in above[:at] for cell in cells[2:3])
    generated = next((match.group(1).strip() for match in found if match), "")
    return Heading(rows.lines[at], named, titles, units, generated)


def units_in(titles: Sequence[str]) -> str | None:
    """Return the unit that the titles of the columns of glucose name.

    :param titles: of all columns.
    :return: empty if none of them names one, ``None`` if they name two.
    """
    named = {
        units
        for column in GLUCOSE
        for units, sign in ((MMOL_PER_L, _MMOL), (MG_PER_DL, _MG))
        if sign.search(titles[column])
    }
    return None if len(named) > 1 else next(iter(named), "")


def begins_as_libreview(start: bytes) -> bool:
    """Return whether a text is a LibreView file, as far as its beginning shows.

    :param start: the text from its beginning.
    """
    return any(
        _is_header(cells) and units_in(cells) and _MMOL.search(cells[KETONE])
        for cells in first_rows(start)[:ROWS_LOOKED_AT]
    )


def _is_header(cells: Sequence[str]) -> bool:
    first = [cell.strip() for cell in cells[:COLUMNS]]
    return len(first) == COLUMNS and sum(map(bool, first)) >= _FILLED_MIN and not first[KIND].isdigit()


def _is_data(cells: Sequence[str]) -> bool:
    return len(cells) > KIND and cells[KIND].strip().isdigit() and split(cells[STAMP]) != ("", "")


class UnitSigns:
    """Sees glucose values of which no title says the unit, and tells it where they leave no doubt."""

    def __init__(self) -> None:
        self._least, self._most = float("inf"), 0.0
        self._is_fractional = False

    def see(self, value: str) -> None:
        """Take a value as JSON has it."""
        self._least = min(self._least, float(value))
        self._most = max(self._most, float(value))
        self._is_fractional = self._is_fractional or "." in value

    def units(self) -> str:
        """Return the unit: empty if the values may be in either, or are in both."""
        if not self._most:
            return MMOL_PER_L  # there is no value that it would concern
        if self._is_fractional and self._most <= _MMOL_MOST:
            return MMOL_PER_L
        if not self._is_fractional and self._least >= _MG_LEAST and self._most > _MMOL_MOST:
            return MG_PER_DL
        return ""


_MMOL_MOST: Final = 28.0
"""Above what any device shows in mmol/L."""
_MG_LEAST: Final = 20.0
"""The least that any device shows in mg/dL."""

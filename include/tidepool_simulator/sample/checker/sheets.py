"""Tables that are no text, as the cells that a CSV of them would have: Parquet, and a workbook of Excel.

A workbook is read here as what it is, XML in a zip archive, and Parquet by Arrow's own scalars.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from tidepool_simulator.sample.checker.files import UnreadableError

PARQUET, WORKBOOK = b"PAR1", b"PK\x03\x04"
"""What such files begin with."""

_CELL = re.compile(r"([A-Z]+)(\d+)", re.ASCII)
_IN_QUOTES = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]')
_DAYS, _TIMES, _LENGTHS = {14, 15, 16, 17, 27, 30, 31, 36, 50, 57}, {18, 19, 20, 21, 45, 47}, {46}
_MOMENTS = {22}
"""Formats of numbers that every workbook has: days, times of day, lengths of time, both in one."""

_SYSTEMS = {"1": datetime(1904, 1, 1)}
_USUAL_SYSTEM = datetime(1899, 12, 30)
"""When a workbook's count of days begins, by what it says of that."""


def cells_of(content: bytes, mapping: Mapping[str, Any], decimal: str) -> list[list[str]]:
    """Return the rows of such a table, the names of its columns first.

    :param content: the file's bytes, expanded.
    :param mapping: what its rows mean, and which sheet has them.
    :param decimal: the sign before tenths.
    :raises UnreadableError: it is none, or has no such sheet.
    """
    if content.startswith(PARQUET):
        return list(_of_parquet(content, decimal))
    above = mapping.get("csv", {}).get("headerRow", 1) - 1
    try:
        rows = list(_Workbook(content).rows(mapping.get("sheet"), decimal))
    except (zipfile.BadZipFile, KeyError, StopIteration) as error:
        raise UnreadableError from error
    return [cells for number, cells in rows if number > above]


def _of_parquet(content: bytes, decimal: str) -> Iterator[list[str]]:
    import pyarrow.parquet  # type: ignore[import-untyped]  # it is large, and most stagings have none

    table = pyarrow.parquet.read_table(io.BytesIO(content), use_threads=False)
    yield list(table.column_names)
    columns = [
        [_value(value, column.type, decimal) for value in column.to_pylist()] for column in table.columns
    ]
    yield from map(list, zip(*columns, strict=True))


def _value(value: Any, kind: Any, decimal: str) -> str:
    """Return a value as text."""
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value if str(kind) == "double" else _shortened(value)).replace(".", decimal)
    if isinstance(value, Decimal):
        return f"{value:f}".replace(".", decimal)
    if isinstance(value, datetime):
        text = value.replace(tzinfo=None).isoformat()
        text = text.rstrip("0") if "." in text else text
        if value.tzinfo is None:
            return text
        offset = value.strftime("%z")
        return text + ("Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}")
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"PT{Decimal(value // timedelta(microseconds=1)) / 10**6:f}S"
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)


def _shortened(value: float) -> float:
    """Return the shortest number that four bytes keep as the same one."""
    rounded = (float(f"{value:.{digits}g}") for digits in range(6, 10))
    return next(number for number in rounded if struct.pack("f", number) == struct.pack("f", value))


class _Workbook:
    def __init__(self, content: bytes) -> None:
        self._archive = zipfile.ZipFile(io.BytesIO(content))
        book = self._read("xl/workbook.xml")
        properties = book.find("{*}workbookPr")
        system = "" if properties is None else properties.get("date1904", "")
        self._epoch = _SYSTEMS.get(system.replace("true", "1"), _USUAL_SYSTEM)
        targets = {
            entry.get("Id"): entry.get("Target").removeprefix("/xl/")
            for entry in self._read("xl/_rels/workbook.xml.rels")
        }
        self._sheets = {
            sheet.get("name"): targets[next(v for k, v in sheet.items() if k.endswith("}id"))]
            for sheet in book.find("{*}sheets")
            if sheet.get("state", "visible") == "visible"
        }
        shared = "xl/sharedStrings.xml" in self._archive.namelist()
        self._texts = [_text_in(entry) for entry in self._read("xl/sharedStrings.xml")] if shared else []
        styles = self._read("xl/styles.xml")
        formats = styles.iterfind("{*}numFmts/{*}numFmt")
        own = {entry.get("numFmtId"): entry.get("formatCode") for entry in formats}
        used = [entry.get("numFmtId", "0") for entry in styles.iterfind("{*}cellXfs/{*}xf")]
        self._shows = [_shown(int(number), own.get(number)) for number in used]

    def _read(self, name: str) -> Any:
        from defusedxml import ElementTree  # type: ignore[import-untyped]

        return ElementTree.fromstring(self._archive.read(name))

    def rows(self, wanted: str | None, decimal: str) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows of a sheet that are not blank, with their numbers."""
        if wanted is None and len(self._sheets) != 1:
            raise UnreadableError
        sheet = self._read(f"xl/{self._sheets[wanted or next(iter(self._sheets))]}")
        for row in sheet.iterfind("{*}sheetData/{*}row"):
            cells: dict[int, str] = {}
            for cell in row.iterfind("{*}c"):
                cells[_column_of(cell.get("r"))] = self._text(cell, decimal)
            texts = [cells.get(column, "") for column in range(max(cells, default=-1) + 1)]
            if any(text.strip() for text in texts):
                yield int(row.get("r")), texts

    def _text(self, cell: Any, decimal: str) -> str:
        kind, stored = cell.get("t", "n"), cell.find("{*}v")
        if kind == "inlineStr":
            return _text_in(cell)
        if stored is None or not stored.text:
            return ""
        if kind == "s":
            return self._texts[int(stored.text)]
        if kind == "b":
            return "true" if stored.text == "1" else "false"
        if kind != "n":
            return str(stored.text)
        number = Decimal(stored.text)
        shows = self._shows[int(cell.get("s", "0"))]
        if shows:
            return self._moment(number, shows)
        is_whole = number == number.to_integral_value()
        return str(int(number)) if is_whole else repr(float(number)).replace(".", decimal)

    def _moment(self, days: Decimal, shows: str) -> str:
        length = timedelta(milliseconds=round(days * 86_400_000))
        if shows == "length":
            minutes, seconds = divmod(length // timedelta(seconds=1), 60)
            return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
        at = self._epoch + length
        if shows == "time" and days < 1:
            return at.time().isoformat()
        return at.date().isoformat() if shows == "day" and at.time() == time() else at.isoformat()


def _text_in(element: Any) -> str:
    return "".join(part.text or "" for part in element.iter() if part.tag.endswith("}t"))


def _column_of(reference: str) -> int:
    letters = _CELL.fullmatch(reference)
    if letters is None:
        raise UnreadableError
    number = 0
    for letter in letters[1]:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _shown(number: int, code: str | None) -> str:
    """Return what a format shows: a ``day``, a ``time``, a ``moment``, a ``length``, or nothing."""
    if code is None:
        known = (("day", _DAYS), ("time", _TIMES), ("moment", _MOMENTS), ("length", _LENGTHS))
        return next((name for name, numbers in known if number in numbers), "")
    if "[h" in code.lower():
        return "length"
    letters = set(_IN_QUOTES.sub("", code.lower()))
    if letters & set("dy"):
        return "moment" if letters & set("hs") else "day"
    return "time" if letters & set("hs") else ""

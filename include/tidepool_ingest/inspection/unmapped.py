"""Tables of no format that is told by its headings: their columns, and a first draft of a mapping.

The draft is a proposal for somebody who knows the table. Nothing is ever read by it unasked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any, Final, Literal, TypeAlias

from tidepool_ingest.formats.delimited import SHORT_CELL, delimiter_of, first_rows
from tidepool_ingest.formats.holds import FileHeldError
from tidepool_ingest.formats.table import TableReader, kind_of_table, mapping_of, open_table
from tidepool_ingest.formats.table.files import DelimitedTable
from tidepool_ingest.formats.table.stamps import ReadStamp, is_time_of_day, stamp_reader
from tidepool_ingest.inspection.findings import ColumnFound, InspectedFile, Inspection, UnmappedTable
from tidepool_ingest.inspection.inspecting import hold_of, kind_of
from tidepool_ingest.staging.compression import compression_of
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import UNKNOWN_TABLE, SourceFile, other_encoding, other_kind
from tidepool_ingest.staging.storage import GIVEN, StoragePath

FIRST_ROWS: Final = 300
"""Rows of which each cell is looked at; of those after them, one in :data:`THEN_ONE_IN`."""

THEN_ONE_IN: Final = 17

WORDS_NAMED: Final = 3
MOST_GLUCOSE_COLUMNS: Final = 3

_Holds: TypeAlias = Literal["times", "dates", "times of day", "numbers", "text", "nothing"]
_Meaning: TypeAlias = Literal["", "time", "glucose", "carbs", "insulin", "device"]

_DATES: Final = (
    *("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d %b %Y", "%b %d %Y", "%d %B %Y"),
)
_TIMES: Final = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
_STAMPS: Final = ("iso", *(f"{day} {time}" for day in _DATES[1:] for time in _TIMES))
"""How times may be written; where several fit, the first of them is drafted."""

_DAY_FIRST: Final = re.compile("%d[./-]%m")

_NUMBER: Final = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?")
_COUNTS: Final = {"epoch-s": (1e9, 4.2e9), "epoch-ms": (1e12, 4.2e12)}

_TIME_NAMES: Final = re.compile("time|date|stamp|zeit|datum|fecha|hora|heure|tijd|data|when", re.I)
_GLUCOSE_NAMES: Final = re.compile(
    r"gluc|gluk|glyc|glicem|sgv|egv|cgm|blutzucker|\bbg\b|readings? ?\(mg|mg/dl|mmol", re.I
)
_NOT_GLUCOSE: Final = re.compile(
    r"\brate|ratio|change|trend|target|limit|alert|threshold|sensitiv|keto|input|verhältnis|änderung|eingabe"
    r"|\bid\b|isig",
    re.I,
)
_METER_NAMES: Final = re.compile(r"meter|strip|finger|smbg|blutzucker|\bbg\b|blood", re.I)
_CARB_NAMES: Final = re.compile(r"carb|kohlenh|glucid|hidratos|koolhydr", re.I)
_INSULIN_NAMES: Final = re.compile(r"bolus|insulin", re.I)
_NOT_AMOUNTS: Final = re.compile(
    r"ratio|\brate|verhältnis|type|typ\b|select|duration|dauer|basal|target|sensitiv|board|active|estimate|/h|\bid\b"
    r"|anfänglich|verzögert|initial|extended",
    re.I,
)
_SERIAL_NAMES: Final = re.compile(r"serial|seriennummer|numéro de série|número de serie", re.I)

_MG_FROM: Final = 30
"""A median from this on is in mg/dL: 30 mmol/L is beyond what sensors and meters show, 30 mg/dL too low."""


def table_in(file: SourceFile) -> UnmappedTable | None:
    """Return what a table holds that no mapping explains; ``None`` for what is no table.

    :param file: the file.
    :raises BatchError: it cannot be read.
    """
    layout: dict[str, Any] = {}
    delimiter = None
    if kind_of_table(file) is DelimitedTable:
        layout, text = _layout_of(file)
        if other_kind(text.lstrip()) != UNKNOWN_TABLE:
            return None
        delimiter = delimiter_of(text)
    table = open_table(file, mapping_of(_probe(layout, delimiter), file.number))
    columns: list[_Column] = []
    seen = 0
    try:
        for rows in table.rows():
            columns = columns or [_Column(name) for name in table.names or []]
            for cells in rows.cells:
                if seen < FIRST_ROWS or seen % THEN_ONE_IN == 0:
                    for column, cell in zip(columns, cells, strict=False):
                        column.see(cell.strip())
                seen += 1
            seen += len(rows.rejected)
        columns = columns or [_Column(name) for name in table.names or []]
    finally:
        table.close()
    return _Drafting(layout, columns).table(seen)


def _layout_of(file: SourceFile) -> tuple[dict[str, Any], bytes]:
    """Return how a text is laid out, as a mapping says it where it is not as usual; and how it begins."""
    start = file.start()
    layout: dict[str, Any] = {}
    other = other_encoding(start, is_table=True)
    if "UTF-16" in other:
        layout["encoding"] = "utf-16"
    elif other:
        layout["encoding"] = "cp1252"
    text = next(file.text(encoding=layout.get("encoding"), is_table=True), b"")
    header = _header_row(first_rows(text))
    if header > 1:
        layout["headerRow"] = header
    return layout, text


def _header_row(rows: Sequence[Sequence[str]]) -> int:
    """Return the number of the line that seems to have the names: the fullest one without a number."""
    filled = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    names = [0 if any(map(_NUMBER.fullmatch, cells)) else len(cells) for cells in filled]
    return names.index(max(names)) + 1 if names else 1


def _probe(layout: dict[str, Any], delimiter: str | None) -> dict[str, Any]:
    """Return a mapping by which a table can be opened: of its columns, nothing is known yet."""
    record = {"type": "cbg", "units": "mg/dL", "value": {"column": "?"}}
    return {
        "csv": layout | ({} if delimiter is None else {"delimiter": delimiter}),
        "time": {"column": "?", "format": "iso"},
        "records": [{"record": record}],
    }


@cache
def _reader(written: str) -> ReadStamp:
    return stamp_reader(written).read


def _is_stamp(text: str, written: str) -> bool:
    stamp = _reader(written)(text)
    if stamp is None:
        return False
    try:
        date.fromisoformat((stamp.local or stamp.utc)[:10])
    except ValueError:
        return False
    return True


@dataclass
class _Column:
    """What cells of a column are."""

    name: str
    cells: int = 0
    values: list[float] = field(default_factory=list, repr=False)
    words: Counter[str] = field(default_factory=Counter, repr=False)
    commas: int = 0
    has_offset: bool = True
    stamps: list[str] | None = None
    days: list[str] | None = None
    times: list[str] | None = None

    def see(self, cell: str) -> None:
        """Look at a cell, if it is not empty."""
        if not cell:
            return
        self.cells += 1
        self.stamps = self._still(self.stamps, _STAMPS, cell)
        self.days = self._still(self.days, _DATES, f"{cell} 00:00", " %H:%M")
        if self.times is None or self.times:
            is_time = is_time_of_day(cell)
            self.times = self._still(self.times, _TIMES, f"2020-02-02 {cell}", before="%Y-%m-%d ")
            self.times = self.times if is_time else []
        if self.stamps == ["iso"]:
            stamp = _reader("iso")(cell)
            self.has_offset = self.has_offset and stamp is not None and stamp.offset is not None
        if _NUMBER.fullmatch(cell):
            self.commas += "," in cell
            self.values.append(float(cell.replace(",", ".")))
        elif len(cell) <= SHORT_CELL:
            self.words[cell] += 1

    @staticmethod
    def _still(
        fits: list[str] | None, known: Sequence[str], cell: str, after: str = "", before: str = ""
    ) -> list[str]:
        if fits is not None and not fits:
            return fits
        return [written for written in fits or known if _is_stamp(cell, f"{before}{written}{after}")]

    @property
    def epoch(self) -> str:
        """The count since 1970 that its numbers may be, if any."""
        if len(self.values) < self.cells or not self.values:
            return ""
        low, high = min(self.values), max(self.values)
        return next((name for name, (least, most) in _COUNTS.items() if least <= low and high < most), "")

    @property
    def holds(self) -> _Holds:
        if not self.cells:
            return "nothing"
        if self.stamps:
            return "times"
        if self.days:
            return "dates"
        if self.times:
            return "times of day"
        return "numbers" if 10 * len(self.values) >= 9 * self.cells else "text"

    @property
    def median(self) -> float:
        """Of its numbers that are not 0."""
        values = sorted(value for value in self.values if value > 0)
        return values[len(values) // 2] if values else 0.0

    def is_named(self, names: re.Pattern[str], but: re.Pattern[str] | None = None) -> bool:
        return bool(names.search(self.name)) and not (but and but.search(self.name))


class _Drafting:
    """Makes a mapping of columns."""

    def __init__(self, layout: dict[str, Any], columns: Sequence[_Column]) -> None:
        self._layout = dict(layout)
        self._columns = columns
        self._names = Counter(column.name.strip() for column in columns)
        self._meanings: dict[int, _Meaning] = {}
        self._questions: list[str] = []
        self._needs_zone = False

    def table(self, rows: int) -> UnmappedTable:
        """Return what was found.

        :param rows: how many rows there are.
        """
        time = self._time()
        records = [*self._glucose(), *self._carbs(), *self._insulin()]
        device = self._device()
        draft: dict[str, Any] | None = None
        if time is not None and records:
            if any(column.commas for column in self._columns if id(column) in self._meanings):
                self._layout["decimal"] = ","
            draft = {
                **({"csv": self._layout} if self._layout else {}),
                "time": time,
                **({"deviceId": device} if device else {}),
                "records": records,
            }
        elif time is None:
            self._questions.insert(0, self._why_no_time())
        else:
            self._questions.insert(0, "No column of values was recognized by its name.")
        return UnmappedTable(
            columns=tuple(
                ColumnFound(name=column.name, holds=column.holds, meaning=self._meanings.get(id(column), ""))
                for column in self._columns
            ),
            rows=rows,
            draft=draft,
            needs_zone=self._needs_zone,
            questions=tuple(self._questions),
        )

    def _why_no_time(self) -> str:
        if any(column.holds == "times of day" for column in self._columns):
            return "Times of day without a date cannot be uploaded: no column has a date."
        return "No column of times was recognized."

    def _named(self, holds: _Holds) -> Iterator[_Column]:
        """Yield columns that hold something, those first whose names speak of time."""
        found = [
            column
            for column in self._columns
            if column.holds == holds and self._names[column.name.strip()] == 1 and column.name.strip()
        ]
        yield from sorted(found, key=lambda column: (not column.is_named(_TIME_NAMES), -column.cells))

    def _time(self) -> dict[str, Any] | None:
        for column in self._named("times"):
            self._meanings[id(column)] = "time"
            written = self._day_or_month_first(column.name, column.stamps or [])
            if not (written == "iso" and column.has_offset):
                self._needs_zone = True
            return {"column": column.name.strip(), "format": written}
        for column in self._named("numbers"):
            if column.is_named(_TIME_NAMES) and (written := column.epoch):
                self._meanings[id(column)] = "time"
                return {"column": column.name.strip(), "format": written}
        day, hour = next(self._named("dates"), None), next(self._named("times of day"), None)
        if day is None or hour is None:
            return None
        self._meanings[id(day)] = self._meanings[id(hour)] = "time"
        written = self._day_or_month_first(day.name, day.days or [])
        self._needs_zone = True
        return {
            "columns": [day.name.strip(), hour.name.strip()],
            "format": f"{written} {(hour.times or _TIMES)[0]}",
        }

    def _day_or_month_first(self, name: str, fits: Sequence[str]) -> str:
        first = fits[0]
        if _DAY_FIRST.search(first) and any(written.startswith("%m") for written in fits):
            other = next(written for written in fits if written.startswith("%m"))
            self._questions.append(
                f"Dates in {name.strip()} may begin with the day or with the month: {first} or {other}."
            )
        return first

    def _values(self, names: re.Pattern[str], but: re.Pattern[str], meaning: _Meaning) -> Iterator[_Column]:
        for column in self._columns:
            is_free = id(column) not in self._meanings and self._names[column.name.strip()] == 1
            if is_free and column.holds == "numbers" and column.is_named(names, but):
                self._meanings[id(column)] = meaning
                yield column

    def _glucose(self) -> Iterator[dict[str, Any]]:
        for number, column in enumerate(self._values(_GLUCOSE_NAMES, _NOT_GLUCOSE, "glucose")):
            if number >= MOST_GLUCOSE_COLUMNS:
                self._meanings.pop(id(column))
                continue
            name = column.name.strip()
            lower = name.lower()
            units = "mmol/L" if "mmol" in lower else "mg/dL"
            if "mmol" not in lower and not re.search("mg.?/?dl", lower):
                units = "mg/dL" if column.median >= _MG_FROM else "mmol/L"
                self._questions.append(f"The unit of {name} is not named; its values look like {units}.")
            if column.words:
                words = ", ".join(word for word, _ in column.words.most_common(WORDS_NAMED))
                self._questions.append(
                    f"Some cells of {name} are words ({words}): say as `low`, `high` or `missing` what for."
                )
            is_meter = column.is_named(_METER_NAMES)
            kind = {"type": "smbg", "subType": "manual"} if is_meter else {"type": "cbg"}
            yield _rule(column, {**kind, "units": units, "value": {"column": name}})

    def _carbs(self) -> Iterator[dict[str, Any]]:
        for column in self._values(_CARB_NAMES, _NOT_AMOUNTS, "carbs"):
            net = {"units": "grams", "net": {"column": column.name.strip()}}
            yield _rule(column, {"type": "food", "nutrition": {"carbohydrate": net}}, is_amount=True)

    def _insulin(self) -> Iterator[dict[str, Any]]:
        for column in self._values(_INSULIN_NAMES, _NOT_AMOUNTS, "insulin"):
            dose = {"units": "Units", "total": {"column": column.name.strip()}}
            record = {"type": "insulin", "dose": dose}
            if column.is_named(re.compile("bolus", re.I)):
                record = {"type": "bolus", "subType": "normal", "normal": dose["total"]}
            yield _rule(column, record, is_amount=True)

    def _device(self) -> dict[str, Any] | None:
        for column in self._columns:
            if column.cells and column.is_named(_SERIAL_NAMES) and self._names[column.name.strip()] == 1:
                self._meanings[id(column)] = "device"
                return {"column": column.name.strip()}
        return None


def _rule(column: _Column, record: dict[str, Any], *, is_amount: bool = False) -> dict[str, Any]:
    """Return a rule; of a column in which 0 stands for nothing, only what is above it counts."""
    if is_amount or (column.values and min(column.values) <= 0):
        return {"when": {"column": column.name.strip(), "above": 0}, "record": record}
    return {"record": record}


def inspect_unrecognized(path: StoragePath, name: str, error: BatchError | FileHeldError) -> Inspection:
    """Inspect a file of no format that is recognized: it may be a table, or it is said what else it is.

    :param path: the file, the ending of which shows the compression.
    :param name: what it is called by whoever asked.
    :param error: why no format was recognized.
    """
    file = SourceFile(path, TableReader.name, below_root=GIVEN)
    table = None
    if error.code in ("file-not-records", "file-encoding", "table-mapping"):
        with suppress(BatchError):
            table = table_in(file)
    told = TableReader.name if table is not None else ""
    inspected = InspectedFile(
        name=name,
        format=told,
        kind=kind_of(file, told),
        compression=compression_of(path.name),
        rows=0 if table is None else table.rows,
    )
    return Inspection(
        files=(inspected,),
        format=told,
        holds=(hold_of(error),),
        is_readable=False,
        rows=inspected.rows,
        table=table,
    )

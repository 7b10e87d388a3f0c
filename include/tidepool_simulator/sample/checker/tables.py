"""Read a table by its manifest's mapping: a record as Tidepool documents it, with cells in it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from tidepool_simulator.sample.checker.cells import (
    MISSING,
    Clock,
    Moment,
    Record,
    RowError,
    decoded,
    in_order,
    is_damaged,
    table_of,
)
from tidepool_simulator.sample.checker.files import UnreadableError
from tidepool_simulator.sample.checker.sheets import PARQUET, WORKBOOK, cells_of

Row = Mapping[str, str]

LONGEST_NAME = 100
"""Characters of an ``origin.id``; a longer one is hashed."""

_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?", re.ASCII)

_EPOCH = {"epoch-s": 1000, "epoch-ms": 1}
"""Milliseconds in what such times count."""

_UNITS = {"ms": 1000.0, "s": 1.0, "min": 1 / 60}


_USABLE, _REFUSED, _SKIPPED = "usable", "refused", "skipped"


class _Filling(NamedTuple):
    """What a record is made of: a row, the annotations so far, and how long it is until the next one."""

    row: Row
    annotations: list[Record]
    lasting: timedelta | None


class _NoValueError(Exception):
    """A cell is empty, so that the record is not there."""


def table_rows(
    content: bytes,
    file: Mapping[str, Any],
    mapping: Mapping[str, Any],
    device_id: str | None,
    meant_as: Sequence[str],
) -> Iterator[list[Record | None]]:
    """Yield the records of each data row of a table; None for one that belongs into quarantine.

    :param content: its bytes, expanded.
    :param file: the file's entry in the manifest.
    :param mapping: what its rows mean.
    :param device_id: of the data set; None when it names none.
    :param meant_as: what is odd about the file and right all the same.
    :raises UnreadableError: it is not such a table, or not to be taken as it is.
    """
    try:
        yield from _Table(content, file, mapping, device_id, meant_as).rows()
    except (KeyError, StopIteration, IndexError) as error:
        raise UnreadableError from error


class _Table:
    def __init__(
        self,
        content: bytes,
        file: Mapping[str, Any],
        mapping: Mapping[str, Any],
        device_id: str | None,
        meant_as: Sequence[str],
    ) -> None:
        described = mapping.get("csv", {})
        self._decimal = described.get("decimal", ".")
        if content.startswith((PARQUET, WORKBOOK)):
            heading, *self._lines = cells_of(content, mapping, self._decimal)
        else:
            text = decoded(content, described.get("encoding", "utf-8"))
            heading, *self._lines = table_of(
                text, described.get("delimiter"), skipped=described.get("headerRow", 1) - 1
            )
        self._columns = [cell.strip() for cell in heading]
        self._needed = set(_columns_in(mapping, self._columns)) - set(mapping.get("rowNumber", ()))
        self._mapping = mapping
        self._clock = Clock(file["timezone"]) if file.get("timezone") else None
        self._device_id = device_id
        self._serial = file.get("serial")
        self._meant_as = meant_as
        self._moments: list[Moment | None] = []
        self._lasting: dict[tuple[int, int], timedelta] = {}

    def rows(self) -> Iterator[list[Record | None]]:
        rows = [
            {name: cell.strip() for name, cell in zip(self._columns, line, strict=False)}
            for line in self._lines
        ]
        self._check_device(rows)
        self._moments = list(self._times(rows))
        if rows and not any(self._moments):
            raise UnreadableError
        verdicts = list(self._verdicts(rows))
        usable = [number for number, verdict in enumerate(verdicts) if verdict == _USABLE]
        for rule in self._mapping["records"]:
            if _lasts(rule["record"]):
                self._follow(rule, usable, rows)
        for number, verdict in enumerate(verdicts):
            if verdict != _USABLE:
                yield [None] if verdict == _REFUSED else []
                continue
            try:
                yield list(self._records(rows[number], number))
            except RowError:
                yield [None]

    def _verdicts(self, rows: Sequence[Row]) -> Iterator[str]:
        left_out = set(self._mapping.get("rowNumber", ()))
        seen: set[tuple[str, ...]] = set()
        for line, row in zip(self._lines, rows, strict=True):
            cells = tuple(cell for name, cell in row.items() if name not in left_out)
            if cells in seen:
                yield _SKIPPED
            elif is_damaged(line) or len(line) > len(self._columns) or not self._needed <= row.keys():
                yield _REFUSED
            elif not self._holds(self._mapping.get("where", ()), row) or self._is_other(row):
                yield _SKIPPED
            else:
                yield _USABLE
            seen.add(cells)

    def _follow(self, rule: Mapping[str, Any], usable: Sequence[int], rows: Sequence[Row]) -> None:
        """Find for each row that gives a record of a rule how long it is until the next one.

        Until one that cannot be read, too: what was true then is not known.
        """
        giving: list[tuple[datetime, int]] = []
        for number in usable:
            moment = self._moments[number]
            if moment is None or not self._holds(rule.get("when", ()), rows[number]):
                continue
            try:
                self._filled(rule["record"], _Filling(rows[number], [], timedelta()))
            except _NoValueError:
                continue
            except RowError:
                pass
            giving.append((moment.at, number))
        for (at, number), (following, _) in pairwise(sorted(giving)):
            self._lasting[id(rule), number] = following - at

    def _check_device(self, rows: Sequence[Row]) -> None:
        if "deviceId" not in self._mapping or self._serial is not None:
            return
        column = self._mapping["deviceId"]["column"]
        if len({row.get(column) for row in rows} - {None, ""}) > 1:
            raise UnreadableError

    def _is_other(self, row: Row) -> bool:
        if "deviceId" not in self._mapping or self._serial is None:
            return False
        cell = row[self._mapping["deviceId"]["column"]]
        return cell != "" and cell != self._serial

    def _times(self, rows: Sequence[Row]) -> Iterator[Moment | None]:
        """Yield the moment of each row; None where it cannot be read."""
        order = self._mapping["time"].get("order")
        found = [self._when(row) for row in (reversed(rows) if order == "newest-first" else rows)]
        if order is not None and self._clock is not None:
            found = in_order(found, self._clock)
        yield from (reversed(found) if order == "newest-first" else found)

    def _when(self, row: Row) -> Moment | None:
        time = self._mapping["time"]
        names = time["columns"] if "columns" in time else [time["column"]]
        try:
            return self._moment(" ".join(row.get(name, "") for name in names).strip(), time["format"])
        except RowError:
            return None

    def _moment(self, text: str, form: str) -> Moment:
        try:
            if form in _EPOCH:
                at = datetime(1970, 1, 1) + timedelta(milliseconds=float(text) * _EPOCH[form])
                return Moment(at, at)
            found = datetime.fromisoformat(text) if form == "iso" else datetime.strptime(text, form)
        except (ValueError, OverflowError) as error:
            raise RowError from error
        local = found.replace(tzinfo=None)
        if found.tzinfo is not None:
            return Moment(found.astimezone(UTC).replace(tzinfo=None), local)
        if self._clock is None:
            raise UnreadableError
        return self._clock.read(local)

    def _records(self, row: Row, number: int) -> Iterator[Record]:
        moment = self._moments[number]
        if moment is None:
            raise RowError
        if moment.doubt == MISSING and "clock-not-in-zone" not in self._meant_as:
            raise UnreadableError
        when = moment.fields()
        if self._mapping["time"]["format"] in _EPOCH:
            when = {"time": when["time"]}
        when |= self._device(row)
        for rule in self._mapping["records"]:
            if not self._holds(rule.get("when", ()), row):
                continue
            annotations = list(when.get("annotations", ()))
            try:
                lasting = self._lasting.get((id(rule), number))
                said = self._filled(rule["record"], _Filling(row, annotations, lasting))
            except _NoValueError:
                continue
            record = when | said | self._origin(row, said)
            yield record | ({"annotations": annotations} if annotations else {})

    def _holds(self, conditions: Any, row: Row) -> bool:
        listed = [conditions] if isinstance(conditions, Mapping) else conditions
        return all(self._is(condition, row[condition["column"]]) for condition in listed)

    def _is(self, condition: Mapping[str, Any], cell: str) -> bool:
        return all(
            _OPERATIONS[name](cell, wanted, self._decimal)
            for name, wanted in condition.items()
            if name != "column"
        )

    def _filled(self, template: Any, filling: _Filling) -> Any:
        if isinstance(template, list):
            return [self._filled(item, filling) for item in template]
        if not isinstance(template, Mapping):
            return template
        if "column" in template:
            return self._cell(template, filling)
        if "toNext" in template:
            if filling.lasting is None:
                raise _NoValueError
            most = timedelta(seconds=_seconds(template["toNext"]["max"], "iso-duration"))
            return min(filling.lasting, most).total_seconds() * _UNITS[template["toNext"]["to"]]
        return {name: self._filled(item, filling) for name, item in template.items()}

    def _cell(self, cell: Mapping[str, Any], filling: _Filling) -> Any:
        text, annotations = filling.row[cell["column"]], filling.annotations
        if text == "" or text in cell.get("missing", ()):
            if "default" in cell:
                return cell["default"]
            raise _NoValueError
        if "map" in cell:
            if text not in cell["map"]:
                raise RowError
            return cell["map"][text]
        for side in ("low", "high"):
            if text in cell.get(side, {}).get("words", ()):
                return _beyond(side, cell[side], annotations)
        form = cell.get("as", "number")
        if form == "text":
            return text
        if form != "number":
            return _seconds(text, form) * _UNITS[cell["to"]]
        return self._scaled(cell, _number(text, cell.get("decimal", self._decimal)), annotations)

    def _scaled(self, cell: Mapping[str, Any], value: Decimal, annotations: list[Record]) -> float:
        number = float(value * Decimal(str(cell.get("times", 1))))
        for side, bound, sign in (("low", "below", 1), ("high", "above", -1)):
            limit = cell.get(side, {}).get(bound)
            if limit is not None and number * sign < limit * sign:
                return _beyond(side, cell[side], annotations, number)
        return number

    def _device(self, row: Row) -> Record:
        said = self._mapping.get("deviceId")
        if said is not None and not row[said["column"]]:
            raise RowError
        if self._device_id is not None:
            return {"deviceId": self._device_id}
        return {} if said is None else {"deviceId": said.get("prefix", "") + row[said["column"]]}

    def _origin(self, row: Row, said: Record) -> Record:
        cells = [row[column] for column in self._mapping.get("id", ())]
        if not cells:
            return {}
        if not all(cells):
            raise RowError
        kind = [said[name] for name in ("type", "subType", "deliveryType") if name in said]
        name = ":".join(map(str, (*kind, *cells)))
        if len(name) > LONGEST_NAME:
            name = hashlib.sha256(name.encode()).hexdigest()
        return {"origin": {"id": name}}


def _lasts(template: Any) -> bool:
    """Return whether a record lasts until the next one."""
    if isinstance(template, Mapping):
        return "toNext" in template or any(_lasts(item) for item in template.values())
    return isinstance(template, list) and any(_lasts(item) for item in template)


def _columns_in(mapping: Any, columns: Sequence[str]) -> Iterator[str]:
    """Yield each column that a mapping names.

    :raises UnreadableError: one is not there, or there twice.
    """
    if isinstance(mapping, Mapping):
        named = [mapping["column"]] if isinstance(mapping.get("column"), str) else []
        for key in ("columns", "id", "rowNumber"):
            if isinstance(mapping.get(key), list):
                named += mapping[key]
        if any(columns.count(name) != 1 for name in named):
            raise UnreadableError
        yield from named
        for item in mapping.values():
            yield from _columns_in(item, columns)
    elif isinstance(mapping, list):
        for item in mapping:
            yield from _columns_in(item, columns)


def _beyond(
    side: str, said: Mapping[str, Any], annotations: list[Record], number: float | None = None
) -> float:
    annotations.append({"code": "bg/out-of-range", "value": side, "threshold": said["threshold"]})
    value: float = said.get("value", number)
    return value


def _number(text: str, decimal: str) -> Decimal:
    if re.fullmatch(rf"[+-]?\d+(?:{re.escape(decimal)}\d+)?(?:[eE][+-]?\d+)?", text, re.ASCII) is None:
        raise RowError
    return Decimal(text.replace(decimal, "."))


def _seconds(text: str, form: str) -> int:
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d)", text) if form == "hh:mm:ss" else _DURATION.fullmatch(text)
    if found is None:
        raise RowError
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _compares(text: str, limit: float, decimal: str, sign: int) -> bool:
    try:
        return float(_number(text, decimal)) * sign > limit * sign
    except RowError:
        return False


_OPERATIONS: dict[str, Callable[[str, Any, str], bool]] = {
    "is": lambda cell, wanted, _: cell == wanted,
    "in": lambda cell, wanted, _: cell in wanted,
    "notIn": lambda cell, wanted, _: cell not in wanted,
    "present": lambda cell, wanted, _: bool(cell) == wanted,
    "above": lambda cell, wanted, decimal: _compares(cell, wanted, decimal, 1),
    "below": lambda cell, wanted, decimal: _compares(cell, wanted, decimal, -1),
}

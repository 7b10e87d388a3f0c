"""Read a LibreView export by itself: by the position of its columns, for their titles are translated."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median

from tidepool_simulator.sample.checker.cells import (
    MISSING,
    Clock,
    Moment,
    Record,
    RowError,
    decoded,
    in_order,
    is_damaged,
    is_number,
    note,
    number_of,
    table_of,
)
from tidepool_simulator.sample.checker.files import UnreadableError

SERIAL, STAMP, KIND = 1, 2, 3
HISTORY, SCAN, RAPID, GRAMS, LONG, NOTES, STRIP, KETONE, MEAL, CORRECTION = 4, 5, 7, 9, 12, 13, 14, 15, 16, 17
COLUMNS = 19

VIEW_MINUTES = 6
"""A sensor with so little time between two readings sends them by itself: what a person scans is a view."""

BACKWARDS = timedelta(hours=25)
"""Rows of one kind stand in order, but for a clock set back; by more, days and months are swapped."""

CLOCK_AHEAD = timedelta(minutes=10)
"""By so much a device's clock may be fast."""

_STAMP = re.compile(r"(\d+)[-/.](\d+)[-/.](\d+) +(\d+):(\d\d)(?::\d\d)? *([AP]M)?", re.ASCII | re.IGNORECASE)

_ORDERS = {"dmy": (2, 1, 0), "mdy": (2, 0, 1), "ymd": (0, 1, 2)}
"""Where year, month and day stand."""

_SENSOR = {"mg/dL": (40, 41, 500, 499), "mmol/L": (2.2, 2.3, 27.8, 27.7)}
_METER = {"mg/dL": (20, 20, 500, 500), "mmol/L": (1.1, 1.1, 27.8, 27.8)}
"""What stands for all lower values and the threshold of that; the same for higher ones."""

_KETONE_HIGHEST = 8.0


def libreview_rows(
    content: bytes, file: Mapping[str, object], device_id: str | None, meant_as: Sequence[str]
) -> Iterator[list[Record | None]]:
    """Yield the records of each data row of an export; None for one that belongs into quarantine.

    :param content: its bytes, expanded.
    :param file: the file's entry in the manifest.
    :param device_id: of the data set; None when it names none.
    :param meant_as: what is odd about the file and right all the same.
    :raises UnreadableError: it is no LibreView export, or not to be taken as it is.
    """
    lines = table_of(decoded(content))
    heading = next((at for at, line in enumerate(lines[:4]) if sum(map(bool, line)) >= COLUMNS - 4), None)
    if heading is None or len(lines[heading]) < COLUMNS:
        raise UnreadableError
    rows = [line + [""] * (COLUMNS - len(line)) for line in lines[heading + 1 :]]
    serials = list(dict.fromkeys(row[SERIAL].strip() for row in rows))
    serial = file.get("serial") or serials[0]
    if serial not in serials or (len(serials) > 1 and not file.get("serial")):
        raise UnreadableError
    title = lines[0][2] if heading else ""
    order = file.get("dateOrder") or _order([*(row[STAMP] for row in rows), title])
    stamps = [_local(row[STAMP], str(order)) for row in rows]
    clock = Clock(file.get("timezone"))
    generated = _local(title.replace("UTC", ""), str(order))
    shown = [
        stamp for row, stamp in zip(rows, stamps, strict=True) if stamp and row[SERIAL].strip() == serial
    ]
    odd = {*_odd_times([clock.read(stamp) for stamp in shown], generated), *_odd_order(rows, stamps)}
    if odd - set(meant_as):
        raise UnreadableError
    views = _views(rows, stamps)
    units = _units(lines[heading][HISTORY], rows)
    moments = _moments(rows, stamps, clock)
    seen: set[tuple[str, ...]] = set()
    under: dict[tuple[str, ...], str] = {}
    for row, moment in zip(rows, moments, strict=True):
        own, cells = row[SERIAL].strip(), tuple(row)
        holder = under.setdefault(tuple(row[STAMP:]), own)
        if own != serial or cells in seen or holder != own or (own in views and row[KIND].strip() == "1"):
            yield []
            continue
        seen.add(cells)
        try:
            if moment is None or is_damaged(row):
                raise RowError
            said = list(_said(row, units, keeps_notes=bool(file.get("keepNotes"))))
        except RowError:
            yield [None]
            continue
        when = moment.fields() | {"deviceId": device_id or f"LibreView-{serial}"}
        yield [_whole(when, one) for one in said]


def _whole(when: Record, said: Record) -> Record:
    annotations = [*said.get("annotations", ()), *when.get("annotations", ())]
    return when | said | ({"annotations": annotations} if annotations else {})


def _moments(
    rows: Sequence[Sequence[str]], stamps: Sequence[datetime | None], clock: Clock
) -> list[Moment | None]:
    """Return when each row was; those of one device and kind follow each other."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        groups[row[SERIAL].strip(), row[KIND].strip()].append(number)
    found: list[Moment | None] = [None] * len(rows)
    for numbers in groups.values():
        read = [None if (stamp := stamps[number]) is None else clock.read(stamp) for number in numbers]
        for number, moment in zip(numbers, in_order(read, clock), strict=True):
            found[number] = moment
    return found


def _said(row: Sequence[str], units: str, *, keeps_notes: bool) -> Iterator[Record]:
    """Yield what a row says, without its time; nothing where it is empty or a note that is not asked for."""
    kind = row[KIND].strip()
    if kind == "4":
        columns = {RAPID: "rapid", LONG: "long"}
        filled = [column for column in columns if row[column].strip()]
        if not filled:
            raise RowError
        yield from (_insulin(row, column, columns[column]) for column in filled)
    elif kind == "6":
        if row[NOTES].strip() and keeps_notes:
            yield note(row[NOTES].strip())
    else:
        yield _measured(row, kind, units)


def _insulin(row: Sequence[str], column: int, acting: str) -> Record:
    dose = {"units": "Units", "total": number_of(_value(row, column))}
    if column == RAPID:
        parts = (("food", MEAL), ("correction", CORRECTION))
        dose |= {name: number_of(row[part]) for name, part in parts if row[part].strip()}
    return {"type": "insulin", "dose": dose, "formulation": {"simple": {"actingType": acting}}}


def _measured(row: Sequence[str], kind: str, units: str) -> Record:
    if kind == "0":
        return {"type": "cbg", "units": units, **_glucose(_value(row, HISTORY), _SENSOR[units])}
    if kind == "1":
        glucose = _glucose(_value(row, SCAN), _SENSOR[units])
        return {"type": "smbg", "subType": "scanned", "units": units, **glucose}
    if kind == "2":
        return {
            "type": "smbg",
            "subType": "manual",
            "units": units,
            **_glucose(_value(row, STRIP), _METER[units]),
        }
    if kind == "3":
        return {"type": "bloodKetone", "units": "mmol/L", **_ketone(_value(row, KETONE))}
    if kind == "5":
        carbohydrate = {"units": "grams", "net": number_of(_value(row, GRAMS))}
        return {"type": "food", "nutrition": {"carbohydrate": carbohydrate}}
    raise RowError


def _value(row: Sequence[str], column: int) -> str:
    """Return a cell, unless what stands right of it may be the rest of its number."""
    if is_number(row[column + 1]):
        raise RowError
    return row[column]


def _glucose(cell: str, limits: tuple[float, float, float, float]) -> Record:
    low, low_threshold, high, high_threshold = limits
    word = cell.strip().lower()
    value = low if word == "lo" else high if word == "hi" else number_of(cell)
    if low < value < high:
        return {"value": value}
    side, threshold = ("low", low_threshold) if value <= low else ("high", high_threshold)
    return {
        "value": value,
        "annotations": [{"code": "bg/out-of-range", "value": side, "threshold": threshold}],
    }


def _ketone(cell: str) -> Record:
    value = number_of(cell)
    if value < _KETONE_HIGHEST:
        return {"value": value}
    annotation = {"code": "ketone/out-of-range", "value": "high", "threshold": _KETONE_HIGHEST}
    return {"value": _KETONE_HIGHEST, "annotations": [annotation]}


def _units(title: str, rows: Sequence[Sequence[str]]) -> str:
    """Return the unit of glucose: the title names it, in whatever language; else the values tell."""
    if "mmol" in title.lower() or "mg" in title.lower():
        return "mmol/L" if "mmol" in title.lower() else "mg/dL"
    values = [number_of(row[at]) for row in rows for at in (HISTORY, SCAN, STRIP) if is_number(row[at])]
    return "mg/dL" if any(value >= 40 for value in values) else "mmol/L"


def _local(cell: str, order: str) -> datetime | None:
    found = _STAMP.search(cell)
    if found is None:
        return None
    year, month, day = (int(found[1 + at]) for at in _ORDERS[order])
    hour = int(found[4])
    if found[6]:
        hour = hour % 12 + (12 if found[6].upper() == "PM" else 0)
    try:
        return datetime(year, month, day, hour, int(found[5]))
    except ValueError:
        return None


def _order(stamps: Sequence[str]) -> str:
    """Return the order of dates in which most can be read and which leaves the smallest hole.

    :raises UnreadableError: two orders do that alike.
    """

    def holes(order: str) -> tuple[int, timedelta]:
        read = [_local(stamp, order) for stamp in stamps]
        found = sorted(stamp for stamp in read if stamp is not None)
        gaps = (later - earlier for earlier, later in pairwise(found))
        return read.count(None), max(gaps, default=timedelta())

    best, next_best, _ = sorted(_ORDERS, key=holes)
    if holes(best) == holes(next_best) and any(
        _local(stamp, best) != _local(stamp, next_best) for stamp in stamps
    ):
        raise UnreadableError
    return best


def _odd_times(moments: Sequence[Moment], generated: datetime | None) -> Iterator[str]:
    """Yield the codes of what is odd about the times of one device."""
    if any(moment.doubt == MISSING for moment in moments):
        yield "clock-not-in-zone"
    if generated is not None and any(moment.at > generated + CLOCK_AHEAD for moment in moments):
        yield "zone-implausible"


def _odd_order(rows: Sequence[Sequence[str]], stamps: Sequence[datetime | None]) -> Iterator[str]:
    """Yield the code of what is odd where a spreadsheet has changed the file, whichever device shows it."""
    last: dict[tuple[str, str], datetime] = {}
    for row, stamp in zip(rows, stamps, strict=True):
        if stamp is not None:
            group = (row[SERIAL], row[KIND])
            if stamp < last.get(group, stamp) - BACKWARDS:
                yield "dates-swapped"
            last[group] = stamp


def _views(rows: Sequence[Sequence[str]], stamps: Sequence[datetime | None]) -> set[str]:
    """Return the serials whose sensors send by themselves, told by how close their readings stand."""
    history: dict[str, list[datetime]] = defaultdict(list)
    for row, stamp in zip(rows, stamps, strict=True):
        if row[KIND].strip() == "0" and stamp is not None:
            history[row[SERIAL].strip()].append(stamp)
    close = set()
    for serial in {row[SERIAL].strip() for row in rows}:
        own = history.get(serial) or [stamp for found in history.values() for stamp in found]
        gaps = [(later - earlier).total_seconds() / 60 for earlier, later in pairwise(sorted(set(own)))]
        if gaps and median(gaps) <= VIEW_MINUTES:
            close.add(serial)
    return close

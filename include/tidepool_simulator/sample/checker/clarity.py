"""Read a Clarity export by itself: what each row says, and when, by the transmitter's own clock.

A phone's stamps stand still, jump and repeat with journeys and with summer time; the transmitter counts
seconds. Where a stamp moves on by other than what was counted, by a quarter of an hour or more, the phone's
clock was set. What differs from the zone by then goes on differing, from one transmitter to the next one too.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from tidepool_simulator.sample.checker.cells import (
    DOUBLED,
    MISSING,
    Clock,
    Moment,
    Record,
    RowError,
    decoded,
    is_damaged,
    is_number,
    note,
    number_of,
    table_of,
)
from tidepool_simulator.sample.checker.files import UnreadableError

DEVICE_ID = "Dexcom-Clarity"

STAMP, KIND, SUB_KIND = 1, 2, 3
GLUCOSE, INSULIN, CARBS, DURATION, TICKS, TRANSMITTER = 7, 8, 9, 10, 12, 13

FEWEST_COLUMNS, COLUMNS = 12, 14

QUARTER = 900
"""Seconds: clocks are set by whole quarters of an hour, all else is a transmitter's own drift."""

INTERVAL_MS = 300_000
"""Milliseconds between two readings of all these sensors."""

BESIDE = timedelta(hours=1)
"""How far from a reading the phone is known to have been there, though sensors lose some readings."""

_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d{1,2}):(\d\d):(\d\d)", re.ASCII)

_LOW, _HIGH = ("low", "niedrig"), ("high", "hoch")
_BEYOND = {
    ("mg/dL", "low"): (39, 40),
    ("mg/dL", "high"): (401, 400),
    ("mmol/L", "low"): (2.2, 2.2),
    ("mmol/L", "high"): (22.3, 22.2),
}
"""Value and threshold of what the display cannot show."""

_ACTING = {"Fast-Acting": "rapid", "Long-Acting": "long"}
_INTENSITIES = {"Light": "low", "Medium": "medium", "Heavy": "high"}
_STATES = {
    "Alcohol": "alcohol",
    "Cycle": "cycle",
    "Illness": "illness",
    "Stress": "stress",
    "Low Symptoms": "hypoglycemiaSymptoms",
    "High Symptoms": "hyperglycemiaSymptoms",
}


def clarity_rows(
    content: bytes, file: Mapping[str, object], device_id: str | None, meant_as: Sequence[str]
) -> Iterator[Record | None]:
    """Yield the record of each data row of an export.

    It is empty for a row that is no reading, and None for one that belongs into quarantine.

    :param content: its bytes, expanded.
    :param file: the file's entry in the manifest, with its time zone.
    :param device_id: of the data set; None when it names none.
    :param meant_as: what is odd about the file and right all the same.
    :raises UnreadableError: it is no Clarity export, or not to be taken as it is.
    """
    lines = table_of(decoded(content))
    if not lines or len(lines[0]) < FEWEST_COLUMNS:
        raise UnreadableError
    title = lines[0][GLUCOSE].lower()
    units = "mmol/L" if "mmol/l" in title else "mg/dL" if "mg/dl" in title else None
    if units is None:
        raise UnreadableError
    rows = [line + [""] * (COLUMNS - len(line)) for line in lines[1:]]
    times = _times(rows, Clock(file.get("timezone")))
    if "clock-not-in-zone" not in meant_as and any(moment and moment.doubt == MISSING for moment in times):
        raise UnreadableError
    seen: set[tuple[str, ...]] = set()
    named: Counter[str] = Counter()
    for row, moment in zip(rows, times, strict=True):
        cells = tuple(row[STAMP:])
        is_left_out = row[KIND] == "Notes" and not (file.get("keepNotes") and row[SUB_KIND].strip())
        if not row[STAMP].strip() or is_left_out or cells in seen:
            yield {}
            continue
        seen.add(cells)
        try:
            if moment is None or is_damaged(row) or len(row) > COLUMNS:
                raise RowError
            record = moment.fields() | {"deviceId": device_id or DEVICE_ID}
            said = _said(row, units)
        except RowError:
            yield None
            continue
        annotations = [*said.pop("annotations", ()), *record.get("annotations", ())]
        record |= said | ({"annotations": annotations} if annotations else {})
        yield record | {"origin": {"id": _name(row, record, named)}}


def _said(row: Sequence[str], units: str) -> Record:
    """Return what a row says, without its time."""
    kind, sub_kind = row[KIND].strip(), row[SUB_KIND].strip()
    if kind == "EGV":
        glucose = _glucose(_value(row, GLUCOSE), units)
        return {"type": "cbg", "units": units, "sampleInterval": INTERVAL_MS, **glucose}
    if kind == "Calibration":
        return {
            "type": "deviceEvent",
            "subType": "calibration",
            "units": units,
            **_glucose(_value(row, GLUCOSE), units),
        }
    if kind == "Fasting Glucose":
        return {"type": "smbg", "subType": "manual", "units": units, **_glucose(_value(row, GLUCOSE), units)}
    if kind == "Insulin" and sub_kind in _ACTING:
        dose = {"units": "Units", "total": number_of(_value(row, INSULIN))}
        return {"type": "insulin", "dose": dose, "formulation": {"simple": {"actingType": _ACTING[sub_kind]}}}
    if kind == "Carbs":
        carbohydrate = {"units": "grams", "net": number_of(_value(row, CARBS))}
        return {"type": "food", "nutrition": {"carbohydrate": carbohydrate}}
    if kind in ("Exercise", "Activity") and sub_kind in _INTENSITIES:
        duration = {"units": "seconds", "value": _seconds(row[DURATION])}
        return {"type": "physicalActivity", "reportedIntensity": _INTENSITIES[sub_kind], "duration": duration}
    if kind == "Health" and sub_kind in _STATES:
        return {"type": "reportedState", "states": [{"state": _STATES[sub_kind]}]}
    if kind == "Notes":
        return note(sub_kind)
    raise RowError


def _value(row: Sequence[str], column: int) -> str:
    """Return a cell, unless what stands right of it may be the rest of its number."""
    if row[column + 1].strip():
        raise RowError
    return row[column]


def _glucose(cell: str, units: str) -> Record:
    word = cell.strip().lower()
    side = "low" if word in _LOW else "high" if word in _HIGH else None
    if side is None:
        return {"value": number_of(cell)}
    value, threshold = _BEYOND[units, side]
    return {
        "value": value,
        "annotations": [{"code": "bg/out-of-range", "value": side, "threshold": threshold}],
    }


def _seconds(cell: str) -> int:
    parts = cell.strip().split(":")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise RowError
    hours, minutes, seconds = map(int, parts)
    return hours * 3600 + minutes * 60 + seconds


def _name(row: Sequence[str], record: Record, named: Counter[str]) -> str:
    """Return a name for a row that another export of the same days gives it too."""
    if row[KIND] == "EGV" and row[TRANSMITTER] and is_number(row[TICKS]):
        return f"cbg:{row[TRANSMITTER]}:{int(number_of(row[TICKS]))}"
    key = f"{record['type']}:{record.get('subType', '')}:{row[SUB_KIND]}:{record['deviceTime']}"
    named[key] += 1
    return f"{key}:{named[key] - 1}"


def _times(rows: Sequence[Sequence[str]], zone: Clock) -> list[Moment | None]:
    """Return the moment of each row; None where it has no stamp that can be read."""
    stamps = [_local(row[STAMP]) for row in rows]
    readings: dict[str, list[tuple[int, datetime, int]]] = defaultdict(list)
    for number, (row, stamp) in enumerate(zip(rows, stamps, strict=True)):
        if stamp is not None and row[KIND] == "EGV" and is_number(row[TICKS]):
            readings[row[TRANSMITTER]].append((int(number_of(row[TICKS])), stamp, number))
    offsets = _offsets(readings, zone)
    if not offsets:
        return [None if stamp is None else zone.read(stamp) for stamp in stamps]
    shown = {number: stamp for number, stamp in enumerate(stamps) if stamp is not None and number in offsets}
    phone = _Phone(zone, sorted((stamp - offsets[number], stamp) for number, stamp in shown.items()))
    return [
        None
        if stamp is None
        else Moment(stamp - offsets[number], stamp)
        if number in offsets
        else phone.read(stamp)
        for number, stamp in enumerate(stamps)
    ]


def _local(cell: str) -> datetime | None:
    found = _STAMP.fullmatch(cell.strip())
    if found is None:
        return None
    try:
        return datetime.fromisoformat(f"{found[1]}T{int(found[2]):02}:{found[3]}:{found[4]}")
    except ValueError:
        return None


def _offsets(readings: Mapping[str, list[tuple[int, datetime, int]]], zone: Clock) -> dict[int, timedelta]:
    """Return by how much the phone was ahead of UTC at each counted row.

    Up to one number, which the same clock adds to all of them, the counting tells it; that number is the one
    with which most rows agree with the zone.
    """
    relative: dict[int, timedelta] = {}
    before: list[tuple[int, datetime, int]] = []
    for entries in sorted((sorted(entries) for entries in readings.values()), key=lambda some: some[0][1]):
        own = _shifts(entries)
        if before:
            # What the earlier transmitter counted last before this one began.
            first = entries[0][1]
            _, stamp, last = next((entry for entry in reversed(before) if entry[1] <= first), before[0])
            alone = _agreeing(entries, own, zone)
            starts = [first - at for at in zone.passes(first)] or [first - zone.read(first).at]
            start = max(starts, key=lambda start: alone[start])
            on = start + relative[last] - (stamp - zone.read(stamp).at)
            own = {number: on + shift for number, shift in own.items()}
        relative |= own
        before = entries
    agreeing = _agreeing([entry for entries in readings.values() for entry in entries], relative, zone)
    if not agreeing:
        return {}
    ahead, _ = agreeing.most_common(1)[0]
    return {number: ahead + shift for number, shift in relative.items()}


def _shifts(entries: Sequence[tuple[int, datetime, int]]) -> dict[int, timedelta]:
    """Return by how much the phone was set since a transmitter's first row, at each of its rows."""
    shift = timedelta()
    shifts = {entries[0][2]: shift}
    for (ticks_before, before, _), (ticks, stamp, number) in pairwise(entries):
        passed = (stamp - before).total_seconds() - (ticks - ticks_before)
        shift += timedelta(seconds=QUARTER * round(passed / QUARTER))
        shifts[number] = shift
    return shifts


def _agreeing(
    entries: Sequence[tuple[int, datetime, int]], shifts: Mapping[int, timedelta], zone: Clock
) -> Counter[timedelta]:
    """Return with how many rows the zone agrees if the phone was ahead of UTC by this and their shifts."""
    return Counter(
        ahead
        for _, stamp, number in entries
        for ahead in {stamp - at - shifts[number] for at in zone.passes(stamp)}
    )


class _Phone:
    """The clock that showed the stamps: the zone's, and by how much it differed from it from when to when.

    :param shown: moments and what the phone showed then, in order.
    """

    def __init__(self, zone: Clock, shown: Sequence[tuple[datetime, datetime]]) -> None:
        self._zone = zone
        self._shown = shown
        differing = [(at, local - at - zone.offset_at(at, local)) for at, local in shown]
        # When it was set is known as far as that it was between two readings.
        self._periods: list[tuple[datetime, datetime, timedelta]] = []
        since = datetime.min
        for (before, by), (at, now) in pairwise(differing):
            if now != by:
                self._periods.append((since, at, by))
                since = before
        self._periods.append((since, datetime.max, differing[-1][1]))

    def read(self, local: datetime) -> Moment:
        """Return when the phone showed a time: beside a reading, if that is possible; the first of several.

        If it never did, what it showed next to that tells.
        """
        found = {
            at
            for since, until, by in self._periods
            for at in self._zone.passes(local - by)
            if since <= at <= until
        }
        found = {at for at in found if self._is_beside(at)} or found
        if found:
            return Moment(min(found), local, DOUBLED if len(found) > 1 else "")
        nearest = min(self._shown, key=lambda shown: abs(shown[1] - local))
        return Moment(local - (nearest[1] - nearest[0]), local, "left out by a journey")

    def _is_beside(self, at: datetime) -> bool:
        """Return whether there is a reading next to a moment: the phone is known to have been there then."""
        index = bisect_left(self._shown, (at, datetime.min))
        return any(abs(shown - at) <= BESIDE for shown, _ in self._shown[max(index - 1, 0) : index + 1])

"""What Tidepool's two exports show, made records that can be compared: what the server added is left out.

Links are left out rather than followed: a calculation and the bolus that it links to are two rows, whether
one is sent inside of the other or not.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tidepool_simulator.sample.checker.edits import labelled
from tidepool_simulator.sample.checker.files import UnreadableError

Record = dict[str, Any]
Rows = list[list[Record | None]]
"""The records of each row of a file; None for one that belongs into quarantine."""

_SERVERS = {
    *("archivedDatasetId", "archivedTime", "byUser", "createdTime", "createdUserId", "deduplicator"),
    *(
        "deletedTime",
        "deletedUserId",
        "groupId",
        "guid",
        "id",
        "modifiedTime",
        "modifiedUserId",
        "provenance",
    ),
    *("revision", "uploadId", "userId", "displayOffset", "localTime", "normalEnd", "normalTime"),
    "joinKey",
}
"""What the server, its viewer or an old uploader adds to a record."""

_LINKS = {
    ("wizard", None): "bolus",
    ("deviceEvent", "alarm"): "status",
    ("deviceEvent", "reservoirChange"): "status",
}

_LEAST_MEDIAN = 25.0
"""mg/dL: nobody's readings have a median below; what is labelled so and has one is mmol/L."""

_PAGE_OBJECTS = {"annotations", "payload", "nutrition", "energy", "distance", "from", "to", "manufacturers"}
_PAGE_OBJECTS |= {"display", "basal", "bolus", "deviceManufacturers", "deviceTags"}
"""Fields that the web page writes as JSON in a string."""

_PAGE_KEEPS_NOTHING_OF = {
    *("alert", "cgmSettings", "controllerSettings", "controllerStatus", "dosingDecision", "insulin"),
    *("pumpStatus", "reportedState", "water"),
}
"""Types of which the web page has no sheet."""

_SCHEDULES = {
    "basalSchedules": "basalSchedule",
    "bgTarget": "bgTarget",
    "bgTargets": "bgTarget",
    "carbRatio": "carbRatio",
    "carbRatios": "carbRatio",
    "insulinSensitivity": "insulinSensitivity",
    "insulinSensitivities": "insulinSensitivity",
}
"""Schedules of pump settings, and what the names of an entry's fields begin with."""

_OF_ENTRY = {"type", "scheduleName", "localTime", "displayOffset", "normalTime", "normalEnd"}
_MINUTE = 60_000
_ACTIVITY_UNITS = (("hours", 60 * _MINUTE), ("minutes", _MINUTE), ("seconds", 1000))


def export_rows(files: Sequence[Sequence[object]]) -> list[Rows]:
    """Return what the rows of each file become that Tidepool's data API has given.

    :param files: the values of each file of a batch.
    :raises UnreadableError: one is cut off, or from the web page.
    """
    for row in (row for values in files for row in values if isinstance(row, dict)):
        if "exportError" in row or any("." in name for name in row):
            raise UnreadableError
    wrong = _mislabelled([row for values in files for row in values if isinstance(row, dict)])
    return [[_as_record(row, wrong) for row in values] for values in files]


def web_export_rows(files: Sequence[Sequence[object]]) -> list[Rows]:
    """Return what the rows of each file become that the Export button of Tidepool's web page has given.

    Pump settings stand where the last of their rows does.

    :param files: the values of each file of a batch.
    :raises UnreadableError: one is not from there.
    """
    return [[_as_record(row, set()) for row in _joined(values)] for values in files]


def _as_record(row: object, wrong: set[object]) -> list[Record | None]:
    if row == _NOTHING:
        return []
    if not isinstance(row, dict):
        return [None]
    if row.get("type") == "upload":
        return []
    record = {name: value for name, value in row.items() if name not in _SERVERS and name[:1] != "_"}
    if record.get("source") != "carelink":
        record.pop("source", None)
    if isinstance(record.get(_LINKS.get(_kind(record), "")), str):
        del record[_LINKS[_kind(record)]]
    return [labelled(record, "mmol/L") if _kind(row) in wrong and _claims_mg(row) else record]


def _kind(row: Mapping[str, Any]) -> tuple[str, str | None]:
    kind = str(row.get("type"))
    return kind, str(row.get("subType")) if kind == "deviceEvent" else None


def _claims_mg(row: Mapping[str, Any]) -> bool:
    units = row.get("units")
    label = units.get("bg") if isinstance(units, Mapping) else units
    return str(label).lower() == "mg/dl"


def _mislabelled(rows: Sequence[Mapping[str, Any]]) -> set[object]:
    """Return the kinds of records whose values in mg/dL are really in mmol/L."""
    found: dict[object, list[float]] = defaultdict(list)
    kinds = {_kind(row) for row in rows if _claims_mg(row)}
    for row in rows:
        if _claims_mg(row):
            found[_kind(row)] += _levels(row)
    readings = [("cbg", None), ("smbg", None), ("deviceEvent", "calibration")]
    overall = [value for kind in readings for value in found[kind]]
    values = {kind: found[kind] or overall for kind in kinds}
    return {kind for kind in kinds if values[kind] and statistics.median(values[kind]) < _LEAST_MEDIAN}


def _levels(row: Mapping[str, Any]) -> Iterator[float]:
    holders: list[Any] = [row]
    for name in ("bgTarget", "bgTargets", "lowAlerts", "highAlerts"):
        holders += _objects_in(row.get(name))
    for holder in holders:
        for name in ("value", "bgInput", "target", "low", "high", "level"):
            value = holder.get(name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                yield value


def _objects_in(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _objects_in(item)
    elif isinstance(value, Mapping):
        yield value
        for item in value.values():
            yield from _objects_in(item)


_NOTHING: Mapping[str, Any] = {"": ""}
"""Stands for a row that is part of what a later one gives."""


def _joined(values: Sequence[object]) -> Iterator[object]:
    """Yield what each row was before the page wrote it."""
    left: dict[str, int] = defaultdict(int)
    for row in values:
        if isinstance(row, dict) and _is_piece(row):
            left[_shared(row)] += 1
    settings: dict[str, Record] = {}
    for row in values:
        if not isinstance(row, dict):
            yield None
        elif any(name[:1] == "_" for name in row):
            raise UnreadableError
        elif not _is_piece(row):
            yield None if row.get("type") in _PAGE_KEEPS_NOTHING_OF else _restored(row)
        else:
            key = _shared(row)
            _add_entry(settings.setdefault(key, {}), row)
            left[key] -= 1
            yield _NOTHING if left[key] else settings.pop(key)


def _is_piece(row: Mapping[str, Any]) -> bool:
    return str(row.get("type")).partition(".")[::2] in {("pumpSettings", name) for name in _SCHEDULES}


def _shared(row: Mapping[str, Any]) -> str:
    """Return what all rows of the same settings have in common."""
    same = {name: value for name, value in row.items() if "." not in name and name not in _OF_ENTRY}
    return json.dumps(same, sort_keys=True)


def _add_entry(settings: Record, row: Mapping[str, Any]) -> None:
    schedules = row["type"].partition(".")[2]
    said = _restored(row)
    entry = said.pop(_SCHEDULES[schedules])
    start = datetime.fromisoformat(entry["start"])
    entry["start"] = round(start.timestamp() * 1000)
    name = said.pop("scheduleName", None)
    kept = {field: settings[field] for field in _SCHEDULES if field in settings}
    settings.update(said | {"type": "pumpSettings"} | kept)
    if schedules in ("bgTarget", "carbRatio", "insulinSensitivity"):
        entries = settings.setdefault(schedules, [])
    else:
        entries = settings.setdefault(schedules, {}).setdefault(name, [])
    entries.append(entry)


def _restored(row: Mapping[str, Any]) -> Record:
    record: Record = {}
    for name, value in row.items():
        outer, dot, inner = name.partition(".")
        if dot:
            record.setdefault(outer, {})[inner] = value
        elif name in _PAGE_OBJECTS and isinstance(value, str) and value[:1] in ("{", "["):
            record[name] = json.loads(value)
        else:
            record[name] = value
    for name in ("duration", "expectedDuration"):
        if name in record and record.get("type") in ("basal", "bolus", "deviceEvent"):
            record[name] = round(record[name] * _MINUTE)
    if record.get("type") == "physicalActivity" and "duration" in record:
        length = round(record["duration"] * 24 * 60 * _MINUTE)
        units, size = next((unit for unit in _ACTIVITY_UNITS if length % unit[1] == 0), _ACTIVITY_UNITS[-1])
        record["duration"] = {"units": units, "value": length / size}
    return record

"""What Tidepool's web page makes of records when somebody exports them: written a second time, without Node.

``test_data_tools.py`` compares it with the npm package that the page uses.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from upath import UPath

from tests.model.examples import EXAMPLES
from tidepool_ingest.formats import SourceReader
from tidepool_ingest.formats.reader import RejectedRow
from tidepool_ingest.formats.tidepool_export.cleaning import LINK_FIELDS, is_dropped
from tidepool_ingest.formats.tidepool_export.units import kind_of
from tidepool_ingest.formats.tidepool_export.web_fields import IN_STRINGS, KEPT, PIECES
from tidepool_ingest.staging.source_file import SourceFile

Record = dict[str, Any]

FORMAT = {"format": "tidepool-web-export"}
MG_PER_MMOL = 18.01559
_UNIT_MS = {"hours": 3_600_000, "minutes": 60_000, "seconds": 1_000}
_LEVELS = ("high", "low", "target", "range")
_SCHEDULES = {piece.schedules: piece for piece in PIECES.values()}


def exported(records: Iterable[Record], units: str = "mmol/L") -> list[Record]:
    """Return the rows that the page writes of some records of the data API.

    :param records: as the data API shows them: glucose in mmol/L.
    :param units: the unit that the person chose on the page.
    """
    return [_row(piece, units) for record in records for piece in _split(copy.deepcopy(record))]


def _split(record: Record) -> Iterator[Record]:
    if record.get("type") != "pumpSettings":
        yield record
        return
    shared = {name: value for name, value in record.items() if name not in (*_SCHEDULES, "units")}
    for name, piece in _SCHEDULES.items():
        schedules = record.get(name) or ({} if piece.is_named else [])
        for schedule, entries in schedules.items() if piece.is_named else [(None, schedules)]:
            for entry in entries:
                row: Record = {"type": f"pumpSettings.{name}", piece.entry: entry}
                row |= {"scheduleName": schedule} if piece.is_named else {}
                row |= {"units": copy.deepcopy(record.get("units"))} if name != "basalSchedules" else {}
                yield {field: value for field, value in (shared | row).items() if value is not None}


def _row(record: Record, units: str) -> Record:
    kind = record.get("type")
    _convert(record, units)
    for name in IN_STRINGS.get(str(kind), frozenset()) & record.keys():
        record[name] = json.dumps(_numbers(record[name]), separators=(",", ":"), ensure_ascii=False)
    for name in ("duration", "expectedDuration"):
        if kind in ("basal", "bolus", "deviceEvent") and name in record:
            record[name] = record[name] / 1000 / 60
    if kind == "physicalActivity" and "duration" in record:
        duration = record["duration"]
        record["duration"] = duration["value"] * _UNIT_MS[duration["units"]] / 86_400_000
    if kind in PIECES:
        entry = record[PIECES[kind].entry]
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=entry["start"])
        entry["start"] = start.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    flat: Record = {}
    for name, value in record.items():
        if isinstance(value, (dict, list)) and value:
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            flat.update({f"{name}.{step}": part for step, part in inner})
        else:
            flat[name] = value
    return {name: _numbers(flat[name]) for name in sorted(KEPT & flat.keys())}


def _convert(record: Record, units: str) -> None:
    """Convert glucose values, and write the unit on the label."""
    factor = MG_PER_MMOL if units == "mg/dL" else 1
    kind = record.get("type")
    label = record.get("units")
    if isinstance(label, str) and kind != "bloodKetone":
        record["units"] = units
    elif isinstance(label, dict) and label.get("bg"):
        label["bg"] = units
    if kind in ("cbg", "smbg", "deviceEvent") and record.get("value"):
        record["value"] *= factor
    if kind == "wizard":
        for name in ("bgInput", "insulinSensitivity"):
            if record.get(name):
                record[name] *= factor
    if kind in ("wizard", "pumpSettings.bgTarget", "pumpSettings.bgTargets") and record.get("bgTarget"):
        target = record["bgTarget"]
        record["bgTarget"] = {
            name: value * factor if name in _LEVELS else value for name, value in target.items()
        }
    if str(kind).startswith("pumpSettings.insulinSens") and record["insulinSensitivity"].get("amount"):
        record["insulinSensitivity"]["amount"] *= factor


def _numbers(value: Any) -> Any:
    """Return a value with its numbers as JavaScript writes them: 30.0 is 30."""
    if isinstance(value, dict):
        return {name: _numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    return value


def kept(record: Record) -> Record:
    """Return what of a record comes back, after the cleaning that every export gets."""
    kind = str(record["type"])
    strings = IN_STRINGS.get("pumpSettings.bgTarget" if kind == "pumpSettings" else kind, frozenset())
    found: Record = {}
    for name, value in record.items():
        if is_dropped(name, value) or (name == LINK_FIELDS.get(kind_of(record)) and isinstance(value, str)):
            continue
        if kind == "pumpSettings" and name in _SCHEDULES:
            found |= _kept_schedules(name, value)
        elif (
            name in strings
            or (name in KEPT and not isinstance(value, (dict, list)))
            or (kind == "physicalActivity" and name == "duration")
        ):
            found[name] = value
        elif isinstance(value, dict):
            inner = {step: part for step, part in value.items() if f"{name}.{step}" in KEPT}
            found |= {name: inner} if inner else {}
    if kind == "pumpSettings" and not found.keys() & (_SCHEDULES.keys() - {"basalSchedules"}):
        found.pop("units", None)
    return found


def _kept_schedules(name: str, value: Any) -> Record:
    def entries(schedule: list[Record]) -> list[Record]:
        entry = _SCHEDULES[name].entry
        return [{step: part for step, part in one.items() if f"{entry}.{step}" in KEPT} for one in schedule]

    if not _SCHEDULES[name].is_named:
        return {name: entries(value)} if value else {}
    schedules = {schedule: entries(inner) for schedule, inner in value.items() if inner}
    return {name: schedules} if schedules else {}


_GLUCOSE = {
    "cbg": ["value"],
    "smbg": ["value"],
    "deviceEvent": ["value"],
    "wizard": ["bgInput", "insulinSensitivity", *(f"bgTarget {level}" for level in _LEVELS)],
    "pumpSettings": [
        *(f"bgTarget * {level}" for level in _LEVELS),
        *(f"bgTargets * * {level}" for level in _LEVELS),
        "insulinSensitivity * amount",
        "insulinSensitivities * * amount",
    ],
}
"""Where records have glucose values that the page converts; * stands for each of several."""


def in_mmol(record: Record) -> Record:
    """Return a record that was read with its glucose in mmol/L, to five decimals, as Tidepool stores it."""
    record = copy.deepcopy(record)
    label = record.get("units")
    unit = label.get("bg") if isinstance(label, dict) else label
    for path in _GLUCOSE.get(record["type"], ()):
        _round(record, path.split(), MG_PER_MMOL if unit == "mg/dL" else 1)
    if record["type"] in _GLUCOSE and isinstance(label, str):
        record["units"] = "mmol/L"
    elif isinstance(label, dict) and "bg" in label:
        label["bg"] = "mmol/L"
    return record


def _round(holder: Any, path: list[str], factor: float) -> None:
    name, *rest = path
    if not isinstance(holder, (dict, list)) or (name != "*" and name not in holder):
        return
    for key in (list(holder) if isinstance(holder, dict) else range(len(holder))) if name == "*" else [name]:
        if rest:
            _round(holder[key], rest, factor)
        else:
            holder[key] = round(holder[key] / factor, 5)


def same_length(record: Record) -> Record:
    """Return a record with the duration of an activity in seconds: of its unit the export knows nothing."""
    if record["type"] != "physicalActivity" or "duration" not in record:
        return record
    duration = record["duration"]
    seconds = duration["value"] * _UNIT_MS[duration["units"]] / 1_000
    return {**record, "duration": {"units": "seconds", "value": round(seconds, 6)}}


def comparable(record: Record) -> Record:
    """Return what two records have in common if they say the same."""
    return same_length(in_mmol(record))


def read(folder: Path, rows: list[Record]) -> tuple[list[Record], list[RejectedRow]]:
    """Read rows as a web export; return the records, cleaned, and what was rejected."""
    file = UPath(folder / "export.json")
    file.write_text(json.dumps(rows))
    records, rejected = [], []
    with SourceReader([SourceFile(file, FORMAT["format"])]) as reader:
        for block in reader:
            records += [json.loads(line) for line in block.lines]
            rejected += block.rejected
        assert sum(reader.rows.values()) == len(rows)
    return records, rejected


def stored(name: str) -> Record:
    """Return one of the examples as the data API would show it: glucose in mmol/L."""
    record = in_mmol(copy.deepcopy(EXAMPLES[name]))
    if isinstance(record.get("bolus"), dict) and record["type"] == "wizard":
        record["bolus"] = "0" * 32
    if isinstance(record.get("status"), dict):
        record["status"] = "0" * 32
    return record

"""The edits that a manifest asks for, of one record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_LABELLED_AT_TOP = ("cbg", "smbg", "wizard", "cgmSettings")
_LABELLED_IN_BLOCK = ("pumpSettings", "dosingDecision")
_RATE = "/minute"


def edited(record: dict[str, Any], edits: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without the dropped fields, with the set ones, its glucose labelled as asked for."""
    if not edits:
        return record
    changed = {name: value for name, value in record.items() if name not in (edits.get("drop") or ())}
    changed |= edits.get("set") or {}
    units = edits.get("glucoseUnits")
    return changed if units is None else labelled(changed, units)


def labelled(record: dict[str, Any], units: str) -> dict[str, Any]:
    """Return a record whose glucose values are said to be in a unit."""
    kind, sub_kind = record.get("type"), record.get("subType")
    if kind in _LABELLED_AT_TOP or (kind, sub_kind) == ("deviceEvent", "calibration"):
        wrong = {str(record.get("units")).lower()} - {units.lower()}
        record = record | {"units": units} if kind != "cgmSettings" or "units" in record else record
        for holder in _alerts(record):
            label = str(holder.get("units"))
            if label and "level" in holder:
                wrong |= {label.lower()} - {units.lower()}
                holder["units"] = units
        for holder, name in ((record, "trendRateUnits"), *((alert, "units") for alert in _alerts(record))):
            if str(holder.get(name)).lower().removesuffix(_RATE) in wrong and "level" not in holder:
                holder[name] = units + _RATE
    elif kind in _LABELLED_IN_BLOCK or (kind, sub_kind) == ("deviceEvent", "pumpSettingsOverride"):
        block = record.get("units")
        if isinstance(block, dict) and "bg" in block:
            record = record | {"units": block | {"bg": units}}
    return record


def _alerts(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the alerts of sensor settings, which label their own values."""
    scheduled = record.get("scheduledAlerts")
    groups = [entry.get("alerts") for entry in scheduled or () if isinstance(entry, dict)]
    for group in (record.get("defaultAlerts"), *groups):
        if isinstance(group, dict):
            yield from (alert for alert in group.values() if isinstance(alert, dict) and "units" in alert)

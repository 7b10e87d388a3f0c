"""A good record of every kind, and the verdict on it after some changes."""

from __future__ import annotations

import copy
import json
from typing import Any, Final

from tidepool_ingest.model import validate_datum, validate_lines
from tidepool_ingest.model.fast_path import surely_valid

GONE: Final = object()
"""In place of a value: the field is taken out."""

TIME: Final = "2024-03-04T05:06:07.000Z"
BOLUS: Final = {"type": "bolus", "subType": "normal", "normal": 4.5, "time": TIME, "deviceId": "pump-1"}
STATUS: Final = {
    "type": "deviceEvent",
    "subType": "status",
    "status": "suspended",
    "reason": {"suspended": "manual"},
    "time": TIME,
    "deviceId": "pump-1",
}
SCHEDULED: Final = {"type": "basal", "deliveryType": "scheduled", "rate": 0.5, "scheduleName": "Weekday"}

_BODIES: Final[dict[str, dict[str, Any]]] = {
    "physicalActivity": {
        "activityType": "running",
        "aggregate": False,
        "distance": {"units": "miles", "value": 3},
        "duration": {"units": "minutes", "value": 30},
        "elevationChange": {"units": "feet", "value": 100},
        "energy": {"units": "kilocalories", "value": 250},
        "flight": {"count": 3},
        "lap": {"count": 4, "distance": {"units": "meters", "value": 400}},
        "name": "Morning run",
        "reportedIntensity": "medium",
        "step": {"count": 4000},
    },
    "alert": {"name": "low", "issuedTime": TIME, "trigger": "immediate", "sound": "vibrate"},
    "basal automated": {"duration": 300000, "rate": 0.8, "scheduleName": "Weekday"},
    "basal scheduled": {"duration": 3600000, "rate": 0.75, "scheduleName": "Weekday"},
    "basal suspend": {"duration": 600000},
    "basal temp": {"duration": 1800000, "rate": 0.4, "percent": 0.5},
    "cbg": {"units": "mg/dL", "value": 119},
    "smbg": {"units": "mmol/L", "value": 6.5, "subType": "linked"},
    "bloodKetone": {"units": "mmol/L", "value": 0.6},
    "bolus automated": {"normal": 0.3},
    "bolus dual/square": {"normal": 2, "duration": 3600000, "extended": 1.5},
    "bolus normal": {"normal": 3.5},
    "bolus square": {"duration": 3600000, "extended": 2.5},
    "wizard": {
        "units": "mg/dL",
        "bgInput": 150,
        "bgTarget": {"target": 110},
        "bolus": BOLUS,
        "carbInput": 45,
        "insulinCarbRatio": 10,
        "insulinOnBoard": 1.25,
        "insulinSensitivity": 40,
        "recommended": {"carb": 4.5, "correction": 1, "net": 4.25},
        "carbUnits": "grams",
    },
    "deviceEvent alarm": {"alarmType": "occlusion", "status": STATUS},
    "deviceEvent calibration": {"units": "mg/dL", "value": 100},
    "deviceEvent prime": {"primeTarget": "cannula", "volume": 0.5},
    "deviceEvent pumpSettingsOverride": {
        "overrideType": "preset",
        "overridePreset": "Running",
        "method": "manual",
        "duration": 3600000,
        "bgTarget": {"low": 140, "high": 160},
        "basalRateScaleFactor": 0.5,
        "carbRatioScaleFactor": 1.5,
        "insulinSensitivityScaleFactor": 2,
        "units": {"bg": "mg/dL"},
    },
    "deviceEvent reservoirChange": {"status": STATUS},
    "deviceEvent status": {"status": "resumed", "reason": {"resumed": "automatic"}, "duration": 60000},
    "deviceEvent timeChange": {
        "from": {"time": "2024-03-10T01:59:59", "timeZoneName": "US/Pacific"},
        "method": "manual",
        "to": {"time": "2024-03-10T03:00:00", "timeZoneName": "US/Pacific"},
    },
    "dosingDecision": {
        "reason": "normalBolus",
        "food": {"time": TIME, "nutrition": {"carbohydrate": {"net": 30, "units": "grams"}}},
        "smbg": {"time": TIME, "value": 140},
        "carbsOnBoard": {"amount": 20},
        "insulinOnBoard": {"amount": -1},
        "bgTargetSchedule": [{"start": 0, "low": 100, "high": 120}],
        "bgHistorical": [{"time": TIME, "value": 120}],
        "bgForecast": [{"time": TIME, "value": -20}],
        "recommendedBasal": {"rate": 1, "duration": 1800000},
        "recommendedBolus": {"normal": 2},
        "requestedBolus": {"amount": 2},
        "warnings": [{"id": "w", "metadata": {"a": 1}}],
        "errors": [{"id": "e"}],
        "scheduleTimeZoneOffset": -480,
        "units": {"bg": "mg/dL", "carb": "grams", "insulin": "Units"},
    },
    "food": {
        "amount": {"units": "slices", "value": 2},
        "brand": "Baker",
        "code": "123",
        "ingredients": [{"name": "Flour", "ingredients": [{"name": "Wheat"}]}],
        "meal": "lunch",
        "name": "Bread",
        "nutrition": {
            "estimatedAbsorptionDuration": 10800,
            "carbohydrate": {"net": 30, "units": "grams"},
            "energy": {"units": "kilojoules", "value": 600},
            "fat": {"total": 2, "units": "grams"},
            "protein": {"total": 6, "units": "grams"},
        },
    },
    "insulin": {
        "dose": {"total": 10, "correction": -1, "food": 11, "active": 2, "units": "Units"},
        "formulation": {
            "name": "Rapid",
            "simple": {
                "actingType": "rapid",
                "brand": "Maker",
                "concentration": {"units": "Units/mL", "value": 100},
            },
        },
        "site": "arm",
    },
    "cgmSettings": {
        "manufacturers": ["Maker"],
        "transmitterId": "ABC123",
        "units": "mg/dL",
        "defaultAlerts": {
            "enabled": True,
            "low": {
                "enabled": True,
                "level": 80,
                "units": "mg/dL",
                "snooze": {"duration": 30, "units": "minutes"},
            },
        },
        "scheduledAlerts": [
            {"name": "Night", "days": ["sunday"], "start": 0, "end": 172800000, "alerts": {"enabled": False}}
        ],
        "highAlerts": {"enabled": True, "level": 250, "snooze": 0},
        "lowAlerts": {"enabled": True, "level": 80, "snooze": 1800000},
        "outOfRangeAlerts": {"enabled": False, "snooze": 1200000},
        "rateOfChangeAlerts": {
            "fallRate": {"enabled": True, "rate": -2},
            "riseRate": {"enabled": True, "rate": 3},
        },
    },
    "controllerSettings": {
        "device": {"name": "Phone", "manufacturers": ["Maker"]},
        "notifications": {"authorization": "authorized", "alert": True, "alertStyle": "banner"},
    },
    "pumpSettings": {
        "activeSchedule": "Weekday",
        "automatedDelivery": True,
        "basal": {"rateMaximum": {"units": "Units/hour", "value": 5}, "temporary": {"type": "percent"}},
        "basalSchedules": {"Weekday": [{"rate": 0.5, "start": 0}, {"rate": 0.75, "start": 21600000}]},
        "bgSafetyLimit": 70,
        "bgTargetPreprandial": {"low": 80, "high": 90},
        "bgTargets": {"Weekday": [{"target": 110, "range": 10, "start": 0}]},
        "bolus": {
            "amountMaximum": {"units": "Units", "value": 20},
            "calculator": {"enabled": True, "insulin": {"duration": 4, "units": "hours"}},
            "extended": {"enabled": False},
        },
        "carbRatio": [{"amount": 10, "start": 0}],
        "display": {"bloodGlucose": {"units": "mg/dL"}},
        "insulinModel": {"modelType": "fiasp", "actionDuration": 21600, "actionPeakOffset": 3300},
        "insulinSensitivities": {"Weekday": [{"amount": 40, "start": 0}]},
        "manufacturers": ["Maker"],
        "overridePresets": {"Run": {"abbreviation": "R", "duration": 3600000, "bgTarget": {"target": 140}}},
        "scheduleTimeZoneOffset": 60,
        "units": {"bg": "mg/dL", "carb": "grams", "insulin": "Units"},
    },
    "reportedState": {"states": [{"severity": 3, "state": "stress"}]},
    "controllerStatus": {
        "battery": {"time": TIME, "state": "charging", "remaining": 0.5, "units": "percent"}
    },
    "pumpStatus": {
        "basalDelivery": {
            "state": "temporary",
            "dose": {"startTime": TIME, "endTime": TIME, "rate": 1.5, "amountDelivered": 0.25},
        },
        "battery": {"state": "full"},
        "bolusDelivery": {"state": "delivering", "dose": {"amount": 2, "amountDelivered": 1}},
        "deliveryIndeterminant": False,
        "reservoir": {"remaining": 120, "units": "Units"},
    },
    "water": {"amount": {"units": "ounces", "value": 8}},
}


def _example(name: str, body: dict[str, Any]) -> dict[str, Any]:
    type_name, _, kind = name.partition(" ")
    record = {"type": type_name, "time": TIME, "deviceId": "pump-1"}
    if kind:
        record["deliveryType" if type_name == "basal" else "subType"] = kind
    return {**record, **body}


EXAMPLES: Final = {name: _example(name, body) for name, body in _BODIES.items()}


def example(name: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Copy an example and change it; the keys are paths with dots, or single names."""
    record = copy.deepcopy(EXAMPLES[name])
    for path, value in (changes or {}).items():
        *outer, last = path.split(".")
        inside: Any = record
        for step in outer:
            inside = inside[int(step)] if isinstance(inside, list) else inside.setdefault(step, {})
        if value is GONE:
            del inside[last]
        elif isinstance(inside, list):
            inside[int(last)] = value
        else:
            inside[last] = value
    return record


def verdict(name: str, changes: dict[str, Any] | None = None) -> set[tuple[str, str]]:
    """Judge a changed example, both ways, and return what is wrong with it."""
    record = example(name, changes)
    problems = validate_datum(record)
    (judged,) = validate_lines([json.dumps(record).encode()])
    assert judged.problems == problems
    assert judged.datum == record
    return set(problems)


def passes(record: dict[str, Any], *, whole: bool = False) -> bool:
    """Return whether the fast path is sure that a record is valid."""
    (found,) = surely_valid([json.dumps(record).encode()], whole=whole)
    return found is not None

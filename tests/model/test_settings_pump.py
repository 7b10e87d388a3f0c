"""Pump settings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import (
    DUPLICATE,
    EMPTY,
    EXISTS,
    LENGTH,
    NOT_ALLOWED,
    NOT_EXISTS,
    RANGE,
    Case,
)
from tests.model.examples import GONE, verdict

CASES: list[Case] = [
    ("pumpSettings", {"activeSchedule": GONE}, {(NOT_EXISTS, "/activeSchedule")}),
    ("pumpSettings", {"activeSchedule": "not among the schedules"}, set()),
    ("pumpSettings", {"activeSchedule": ""}, {(EMPTY, "/activeSchedule")}),
    # One schedule or several, not both
    *(
        ("pumpSettings", {one: schedule, several: {"a": [{}]}}, {(EXISTS, f"/{several}")})
        for one, several, schedule in (
            ("basalSchedule", "basalSchedules", [{"rate": 1, "start": 0}]),
            ("bgTarget", "bgTargets", [{"target": 100, "start": 0}]),
            ("carbRatio", "carbRatios", [{"amount": 10, "start": 0}]),
            ("insulinSensitivity", "insulinSensitivities", [{"amount": 40, "start": 0}]),
        )
    ),
    *(
        ("pumpSettings", {several: {}}, set())
        for several in ("basalSchedules", "bgTargets", "insulinSensitivities")
    ),
    ("pumpSettings", {"basalSchedules": {"Weekday": []}}, set()),
    ("pumpSettings", {"basalSchedules": {"a/b~c": None}}, {(NOT_EXISTS, "/basalSchedules/a~1b~0c")}),
    ("pumpSettings", {"basalSchedules": {"a": {}}}, {("type-not-array", "/basalSchedules/a")}),
    ("pumpSettings", {"basalSchedules": {"a": [5]}}, {("type-not-object", "/basalSchedules/a/0")}),
    ("pumpSettings", {"basalSchedules": []}, {("type-not-object", "/basalSchedules")}),
    (
        "pumpSettings",
        {"basalSchedules": {"a": [{}, None]}},
        {
            (NOT_EXISTS, "/basalSchedules/a/0/rate"),
            (NOT_EXISTS, "/basalSchedules/a/0/start"),
            (NOT_EXISTS, "/basalSchedules/a/1"),
        },
    ),
    (
        "pumpSettings",
        {"basalSchedules": {"a": [{"rate": 101, "start": 0}]}},
        {(RANGE, "/basalSchedules/a/0/rate")},
    ),
    # Starts: 0 first, then rising, a day at most
    *(
        (
            "pumpSettings",
            {"carbRatio": [{"amount": 10, "start": start} for start in starts]},
            {(RANGE, f"/carbRatio/{index}/start") for index in wrong},
        )
        for starts, wrong in (
            ([0, 1, 86400000], []),
            ([1], [0]),
            ([0, 0], [1]),
            ([0, 5, 5], [2]),
            ([0, 86400001], [1]),
            ([5, 1], [0]),
            ([0, -1, 0], [1]),
            ([0, -1, 1], [1, 2]),
        )
    ),
    (
        "pumpSettings",
        {"carbRatio": [None, {"amount": 1, "start": 5}, {"amount": 1, "start": 6}]},
        {(NOT_EXISTS, "/carbRatio/0"), (RANGE, "/carbRatio/1/start")},
    ),
    ("pumpSettings", {"carbRatio": [{"amount": 251, "start": 0}]}, {(RANGE, "/carbRatio/0/amount")}),
    (
        "pumpSettings",
        {"insulinSensitivities.Weekday.0.amount": 1001},
        {(RANGE, "/insulinSensitivities/Weekday/0/amount")},
    ),
    ("pumpSettings", {"bgTargets.Weekday.0.range": 111}, {(RANGE, "/bgTargets/Weekday/0/range")}),
    ("pumpSettings", {"bgSafetyLimit": -1}, {(RANGE, "/bgSafetyLimit")}),
    ("pumpSettings", {"units": GONE, "bgSafetyLimit": -1, "bgTargets.Weekday.0.range": 111}, set()),
    ("pumpSettings", {"bgTargetPreprandial": {"low": 80}}, {(NOT_EXISTS, "/bgTargetPreprandial/high")}),
    ("pumpSettings", {"bgTargetPhysicalActivity": {}}, {(NOT_EXISTS, "/bgTargetPhysicalActivity/target")}),
    ("pumpSettings", {"basal": {}, "bolus": {}, "display": {}}, set()),
    (
        "pumpSettings",
        {"basal": {"rateMaximum": {"units": "Units/hour", "value": 101}, "temporary": {"type": "on"}}},
        {(RANGE, "/basal/rateMaximum/value"), (NOT_ALLOWED, "/basal/temporary/type")},
    ),
    (
        "pumpSettings",
        {"basal": {"rateMaximum": {}, "temporary": {}}},
        {
            (NOT_EXISTS, "/basal/rateMaximum/units"),
            (NOT_EXISTS, "/basal/rateMaximum/value"),
            (NOT_EXISTS, "/basal/temporary/type"),
        },
    ),
    (
        "pumpSettings",
        {"bolus": {"amountMaximum": {"units": "Units", "value": 101}, "calculator": {}, "extended": {}}},
        {
            (RANGE, "/bolus/amountMaximum/value"),
            (NOT_EXISTS, "/bolus/calculator/enabled"),
            (NOT_EXISTS, "/bolus/extended/enabled"),
        },
    ),
    *(
        ("pumpSettings", {"bolus.calculator.insulin": {"units": units, "duration": most}}, set())
        for units, most in (("hours", 10), ("minutes", 600), ("seconds", 36000))
    ),
    *(
        (
            "pumpSettings",
            {"bolus.calculator.insulin": {"units": units, "duration": most}},
            {(RANGE, "/bolus/calculator/insulin/duration")},
        )
        for units, most in (("hours", 11), ("minutes", 601), ("seconds", 36001))
    ),
    (
        "pumpSettings",
        {"display.bloodGlucose": {"units": "mg/dl"}},
        {(NOT_ALLOWED, "/display/bloodGlucose/units")},
    ),
    ("pumpSettings", {"insulinModel": {}}, set()),
    ("pumpSettings", {"insulinModel": {"modelType": "other", "modelTypeOther": "x"}}, set()),
    (
        "pumpSettings",
        {"insulinModel": {"modelType": "other"}},
        {(NOT_EXISTS, "/insulinModel/modelTypeOther")},
    ),
    (
        "pumpSettings",
        {"insulinModel": {"modelType": "walsh", "modelTypeOther": "x"}},
        {(EXISTS, "/insulinModel/modelTypeOther")},
    ),
    (
        "pumpSettings",
        {"insulinModel": {"actionDelay": 86401, "actionDuration": 86401, "actionPeakOffset": 86400}},
        {(RANGE, "/insulinModel/actionDelay"), (RANGE, "/insulinModel/actionDuration")},
    ),
    (
        "pumpSettings",
        {"insulinModel": {"actionDuration": 100, "actionPeakOffset": 101}},
        {(RANGE, "/insulinModel/actionPeakOffset")},
    ),
    ("pumpSettings", {"overridePresets": {"a": None}}, {(NOT_EXISTS, "/overridePresets/a")}),
    (
        "pumpSettings",
        {"overridePresets": {"a": {"abbreviation": "", "duration": -1, "basalRateScaleFactor": 11}}},
        {
            (EMPTY, "/overridePresets/a/abbreviation"),
            (RANGE, "/overridePresets/a/duration"),
            (RANGE, "/overridePresets/a/basalRateScaleFactor"),
        },
    ),
    (
        "pumpSettings",
        {"overridePresets.Run.bgTarget.target": 1001},
        {(RANGE, "/overridePresets/Run/bgTarget/target")},
    ),
    ("pumpSettings", {"manufacturers": []}, {(EMPTY, "/manufacturers")}),
    ("pumpSettings", {"manufacturers": ["a"] * 2}, {(DUPLICATE, "/manufacturers/1")}),
    ("pumpSettings", {"manufacturers": [str(n) for n in range(11)]}, {(LENGTH, "/manufacturers")}),
    *(
        ("pumpSettings", {field: "x" * 101}, {(LENGTH, f"/{field}")})
        for field in (
            "firmwareVersion",
            "hardwareVersion",
            "model",
            "name",
            "serialNumber",
            "softwareVersion",
        )
    ),
    ("pumpSettings", {"scheduleTimeZoneOffset": -10081}, {(RANGE, "/scheduleTimeZoneOffset")}),
    ("pumpSettings", {"units": {}}, {(NOT_EXISTS, "/units/bg"), (NOT_EXISTS, "/units/carb")}),
    ("pumpSettings", {"units.insulin": "u"}, {(NOT_ALLOWED, "/units/insulin")}),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_settings_pump(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

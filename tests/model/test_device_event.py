"""Events of a device."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import (
    EMPTY,
    EXISTS,
    LENGTH,
    NONE_OF_ANY,
    NONE_OF_ONE,
    NOT_ALLOWED,
    NOT_EXISTS,
    NOT_VALID,
    RANGE,
    Case,
)
from tests.model.examples import BOLUS, GONE, verdict

CASES: list[Case] = [
    *(
        ("deviceEvent alarm", {"alarmType": alarm}, set())
        for alarm in ("auto_off", "no_power", "over_limit", "other")
    ),
    ("deviceEvent alarm", {"alarmType": "noise"}, {(NOT_ALLOWED, "/alarmType")}),
    ("deviceEvent alarm", {"alarmType": GONE}, {(NOT_EXISTS, "/alarmType")}),
    *((f"deviceEvent {kind}", {"status": GONE}, set()) for kind in ("alarm", "reservoirChange")),
    *(
        (f"deviceEvent {kind}", {"status": "id"}, {("type-not-object", "/status")})
        for kind in ("alarm", "reservoirChange")
    ),
    *(
        (f"deviceEvent {kind}", {"status": BOLUS}, {(NOT_ALLOWED, "/status/type")})
        for kind in ("alarm", "reservoirChange")
    ),
    *(
        (f"deviceEvent {kind}", {"status.subType": "prime"}, {(NOT_ALLOWED, "/status/subType")})
        for kind in ("alarm", "reservoirChange")
    ),
    *(
        (
            f"deviceEvent {kind}",
            {"status.reason": GONE, "status.status": "off"},
            {(NOT_EXISTS, "/status/reason"), (NOT_ALLOWED, "/status/status")},
        )
        for kind in ("alarm", "reservoirChange")
    ),
    ("deviceEvent calibration", {"value": 1001}, {(RANGE, "/value")}),
    (
        "deviceEvent calibration",
        {"units": GONE, "value": GONE},
        {(NOT_EXISTS, "/units"), (NOT_EXISTS, "/value")},
    ),
    ("deviceEvent prime", {"volume": GONE}, set()),
    *(
        ("deviceEvent prime", {"primeTarget": target, "volume": 1000}, set())
        for target in ("cannula", "tubing")
    ),
    *(
        ("deviceEvent prime", {"primeTarget": target, "volume": 1001}, {(RANGE, "/volume")})
        for target in ("cannula", "tubing")
    ),
    ("deviceEvent prime", {"primeTarget": "pump", "volume": -1}, {(NOT_ALLOWED, "/primeTarget")}),
    ("deviceEvent prime", {"primeTarget": GONE, "volume": -1}, {(NOT_EXISTS, "/primeTarget")}),
    ("deviceEvent status", {"duration": GONE}, set()),
    ("deviceEvent status", {"duration": 10**12, "expectedDuration": 10**12}, set()),
    ("deviceEvent status", {"duration": -1}, {(RANGE, "/duration")}),
    ("deviceEvent status", {"expectedDuration": 59999}, {(RANGE, "/expectedDuration")}),
    (
        "deviceEvent status",
        {"duration": -5, "expectedDuration": -1},
        {(RANGE, "/duration"), (RANGE, "/expectedDuration")},
    ),
    ("deviceEvent status", {"duration": 1e300}, {(RANGE, "/duration")}),
    ("deviceEvent status", {"reason": {}}, {(EMPTY, "/reason")}),
    ("deviceEvent status", {"reason": "manual"}, {("type-not-object", "/reason")}),
    ("deviceEvent status", {"status": "paused"}, {(NOT_ALLOWED, "/status")}),
    # Overrides
    (
        "deviceEvent pumpSettingsOverride",
        {"overrideType": GONE, "overridePreset": GONE},
        {(NOT_EXISTS, "/overrideType")},
    ),
    ("deviceEvent pumpSettingsOverride", {"overrideType": "sleep"}, {(EXISTS, "/overridePreset")}),
    ("deviceEvent pumpSettingsOverride", {"overridePreset": GONE}, {(NOT_EXISTS, "/overridePreset")}),
    ("deviceEvent pumpSettingsOverride", {"overridePreset": "x" * 101}, {(LENGTH, "/overridePreset")}),
    ("deviceEvent pumpSettingsOverride", {"method": "remote"}, {(NOT_ALLOWED, "/method")}),
    ("deviceEvent pumpSettingsOverride", {"duration": 604800001}, {(RANGE, "/duration")}),
    ("deviceEvent pumpSettingsOverride", {"expectedDuration": 3599999}, {(RANGE, "/expectedDuration")}),
    ("deviceEvent pumpSettingsOverride", {"basalRateScaleFactor": 0.1, "carbRatioScaleFactor": 10}, set()),
    (
        "deviceEvent pumpSettingsOverride",
        {"basalRateScaleFactor": 0.09, "carbRatioScaleFactor": 10.1, "insulinSensitivityScaleFactor": 0},
        {
            (RANGE, "/basalRateScaleFactor"),
            (RANGE, "/carbRatioScaleFactor"),
            (RANGE, "/insulinSensitivityScaleFactor"),
        },
    ),
    ("deviceEvent pumpSettingsOverride", {"units": GONE, "bgTarget.high": 5}, {(NOT_EXISTS, "/units")}),
    ("deviceEvent pumpSettingsOverride", {"bgTarget": GONE}, {(EXISTS, "/units")}),
    ("deviceEvent pumpSettingsOverride", {"bgTarget": GONE, "units.bg": "x"}, {(EXISTS, "/units")}),
    ("deviceEvent pumpSettingsOverride", {"units.bg": "mmol/L"}, {(RANGE, "/bgTarget/low")}),
    ("deviceEvent pumpSettingsOverride", {"units.bg": GONE}, {(NOT_EXISTS, "/units/bg")}),
    # Time changes
    ("deviceEvent timeChange", {"from": GONE, "method": GONE}, set()),
    ("deviceEvent timeChange", {"to": GONE}, {(NOT_EXISTS, "/to")}),
    ("deviceEvent timeChange", {"to": {}}, {(NONE_OF_ANY, "/to")}),
    (
        "deviceEvent timeChange",
        {"to": {"time": "2024-03-10T03:00:00Z"}},
        {("value-not-parsable", "/to/time")},
    ),
    ("deviceEvent timeChange", {"to": {"time": "0001-01-01T00:00:00"}}, {(EMPTY, "/to/time")}),
    ("deviceEvent timeChange", {"to": {"time": 5}}, {("type-not-time", "/to/time")}),
    ("deviceEvent timeChange", {"from": {"timeZoneName": "PST"}}, {(NOT_VALID, "/from/timeZoneName")}),
    ("deviceEvent timeChange", {"method": "remote"}, {(NOT_ALLOWED, "/method")}),
    ("deviceEvent timeChange", {"change": {"agent": "bad"}}, {(EXISTS, "/change")}),
    ("deviceEvent timeChange", {"from": GONE, "method": GONE, "to": GONE}, {(NONE_OF_ONE, "")}),
    (
        "deviceEvent timeChange",
        {
            "from": GONE,
            "method": GONE,
            "to": GONE,
            "change": {"agent": "manual", "from": "2024-03-10T01:59:59", "to": "2024-03-10T03:00:00"},
        },
        set(),
    ),
    (
        "deviceEvent timeChange",
        {"from": GONE, "method": GONE, "to": GONE, "change": {"agent": "x", "from": "x"}},
        {(NOT_ALLOWED, "/change/agent"), (NOT_VALID, "/change/from"), (NOT_EXISTS, "/change/to")},
    ),
    (
        "deviceEvent timeChange",
        {"from": GONE, "method": GONE, "to": GONE, "change": []},
        {("type-not-object", "/change")},
    ),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_device_event(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

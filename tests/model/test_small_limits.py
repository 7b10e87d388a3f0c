"""Limits of single fields that the tests of their families do not come to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import EMPTY, LENGTH, NONE_OF_ANY, NOT_ALLOWED, NOT_EXISTS, NOT_VALID, Case
from tests.model.examples import GONE, TIME, verdict
from tidepool_ingest.model.problems import NOT_PARSABLE, SIZE

CHANGE = {"from": "2024-03-04T05:06:07", "to": "2024-03-04T06:06:07", "agent": "manual"}
AT_ONCE = {"state": "temporary", "dose": {"startTime": TIME, "rate": 1.5}}

CASES: list[Case] = [
    ("alert", {"acknowledgedTime": "soon"}, {(NOT_PARSABLE, "/acknowledgedTime")}),
    ("alert", {"retractedTime": ""}, {(NOT_PARSABLE, "/retractedTime")}),
    ("alert", {"sound": "name", "soundName": "x" * 101}, {(LENGTH, "/soundName")}),
    ("cbg", {"tags": [str(number) for number in range(100)]}, set()),
    ("cbg", {"tags": [str(number) for number in range(101)]}, {(LENGTH, "/tags")}),
    ("cbg", {"origin": {"version": ""}}, {(EMPTY, "/origin/version")}),
    ("cbg", {"origin": {"version": "x" * 101}}, {(LENGTH, "/origin/version")}),
    ("cbg", {"annotations": [{"code": "x" * 4100}]}, {(SIZE, "/annotations/0")}),
    ("controllerSettings", {"device.manufacturers": ["x" * 101]}, {(LENGTH, "/device/manufacturers/0")}),
    ("dosingDecision", {"units.carb": "ounces"}, {(NOT_ALLOWED, "/units/carb")}),
    ("dosingDecision", {"errors": []}, {(EMPTY, "/errors")}),
    ("dosingDecision", {"errors": [{"id": "a"}] * 101}, {(LENGTH, "/errors")}),
    (
        "dosingDecision",
        {"errors": [{"id": "a", "metadata": {"x": "x" * 4100}}]},
        {(SIZE, "/errors/0/metadata")},
    ),
    (
        "deviceEvent pumpSettingsOverride",
        {"overrideType": "", "overridePreset": GONE},
        {(NOT_ALLOWED, "/overrideType")},
    ),
    (
        "deviceEvent pumpSettingsOverride",
        {"overrideType": "preset", "overridePreset": ""},
        {(EMPTY, "/overridePreset")},
    ),
    ("deviceEvent status", {"status": GONE}, {(NOT_EXISTS, "/status")}),
    ("deviceEvent timeChange", {"from": {}}, {(NONE_OF_ANY, "/from")}),
    ("deviceEvent timeChange", {"to": {"timeZoneName": ""}}, {(EMPTY, "/to/timeZoneName")}),
    *(
        (
            "deviceEvent timeChange",
            {"from": GONE, "to": GONE, "method": GONE, "change": {**CHANGE, **changes}},
            {(code, f"/change/{name}") for name, code in wrong.items()},
        )
        for changes, wrong in (
            ({"agent": None}, {"agent": NOT_EXISTS}),
            ({"from": None}, {"from": NOT_EXISTS}),
            ({"to": ""}, {"to": NOT_VALID}),
        )
    ),
    (
        "pumpStatus",
        {"basalDelivery": {**AT_ONCE, "dose": {**AT_ONCE["dose"], "startTime": "x", "endTime": ""}}},
        {(NOT_PARSABLE, f"/basalDelivery/dose/{name}") for name in ("startTime", "endTime")},
    ),
    ("reportedState", {"states": [{"state": "other", "stateOther": ""}]}, {(EMPTY, "/states/0/stateOther")}),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_limits(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

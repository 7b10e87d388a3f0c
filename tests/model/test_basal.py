"""Basal insulin."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import EMPTY, LENGTH, NOT_ALLOWED, NOT_EXISTS, RANGE, Case
from tests.model.examples import GONE, SCHEDULED, verdict

CASES: list[Case] = [
    *(
        (f"basal {kind}", {"duration": 604800000, "expectedDuration": 604800000}, set())
        for kind in ("automated", "scheduled", "suspend", "temp")
    ),
    *(
        (f"basal {kind}", {"duration": 604800001}, {(RANGE, "/duration")})
        for kind in ("automated", "scheduled", "suspend", "temp")
    ),
    *(
        (f"basal {kind}", {"duration": GONE}, {(NOT_EXISTS, "/duration")})
        for kind in ("automated", "scheduled", "suspend", "temp")
    ),
    ("basal suspend", {"expectedDuration": 600000}, set()),
    ("basal suspend", {"expectedDuration": 599999}, {(RANGE, "/expectedDuration")}),
    ("basal suspend", {"duration": -1, "expectedDuration": 0}, {(RANGE, "/duration")}),
    (
        "basal suspend",
        {"duration": GONE, "expectedDuration": -1},
        {(NOT_EXISTS, "/duration"), (RANGE, "/expectedDuration")},
    ),
    *((f"basal {kind}", {"rate": 100}, set()) for kind in ("automated", "scheduled", "temp")),
    *((f"basal {kind}", {"rate": 100.1}, {(RANGE, "/rate")}) for kind in ("automated", "scheduled", "temp")),
    *(
        (f"basal {kind}", {"rate": GONE}, {(NOT_EXISTS, "/rate")})
        for kind in ("automated", "scheduled", "temp")
    ),
    ("basal suspend", {"rate": "ignored"}, set()),
    ("basal scheduled", {"scheduleName": "x" * 5000}, set()),
    ("basal scheduled", {"scheduleName": ""}, {(EMPTY, "/scheduleName")}),
    ("basal automated", {"scheduleName": "x" * 1001}, {(LENGTH, "/scheduleName")}),
    ("basal temp", {"scheduleName": 5}, set()),
    ("basal temp", {"percent": 10}, set()),
    ("basal temp", {"percent": 10.1}, {(RANGE, "/percent")}),
    ("basal scheduled", {"insulinFormulation": {"name": "x"}}, set()),
    ("basal scheduled", {"insulinFormulation": {}}, {(NOT_EXISTS, "/insulinFormulation/simple")}),
    # What is suppressed
    ("basal temp", {"suppressed": SCHEDULED}, set()),
    (
        "basal temp",
        {"suppressed": {**SCHEDULED, "deliveryType": "automated", "suppressed": SCHEDULED}},
        set(),
    ),
    ("basal suspend", {"suppressed": {**SCHEDULED, "deliveryType": "temp", "suppressed": SCHEDULED}}, set()),
    (
        "basal automated",
        {"suppressed": {**SCHEDULED, "deliveryType": "temp"}},
        {(NOT_ALLOWED, "/suppressed/deliveryType")},
    ),
    (
        "basal temp",
        {"suppressed": {**SCHEDULED, "deliveryType": "temp"}},
        {(NOT_ALLOWED, "/suppressed/deliveryType")},
    ),
    (
        "basal temp",
        {"suppressed": {**SCHEDULED, "rate": -1, "annotations": []}},
        {(RANGE, "/suppressed/rate"), (EMPTY, "/suppressed/annotations")},
    ),
    ("basal temp", {"suppressed": {}}, {(NOT_EXISTS, "/suppressed/type")}),
    ("basal temp", {"suppressed": {"type": "bolus"}}, {(NOT_ALLOWED, "/suppressed/type")}),
    ("basal temp", {"suppressed": {"type": "basal"}}, {(NOT_EXISTS, "/suppressed/deliveryType")}),
    ("basal temp", {"suppressed": "scheduled"}, {("type-not-object", "/suppressed")}),
    ("basal scheduled", {"suppressed": "ignored"}, set()),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_basal(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

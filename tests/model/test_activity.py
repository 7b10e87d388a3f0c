"""Physical activity."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import EMPTY, EXISTS, LENGTH, NOT_ALLOWED, NOT_EXISTS, RANGE, Case
from tests.model.examples import verdict

CASES: list[Case] = [
    ("physicalActivity", {"activityType": "other", "activityTypeOther": "Parkour"}, set()),
    ("physicalActivity", {"activityType": "other"}, set()),
    ("physicalActivity", {"activityType": "other", "activityTypeOther": ""}, {(EMPTY, "/activityTypeOther")}),
    (
        "physicalActivity",
        {"activityType": "other", "activityTypeOther": "x" * 101},
        {(LENGTH, "/activityTypeOther")},
    ),
    ("physicalActivity", {"activityTypeOther": "Parkour"}, {(EXISTS, "/activityTypeOther")}),
    ("physicalActivity", {"activityType": "sleeping"}, {(NOT_ALLOWED, "/activityType")}),
    ("physicalActivity", {"reportedIntensity": "max"}, {(NOT_ALLOWED, "/reportedIntensity")}),
    ("physicalActivity", {"name": ""}, {(EMPTY, "/name")}),
    ("physicalActivity", {"aggregate": "yes"}, {("type-not-bool", "/aggregate")}),
    *(
        ("physicalActivity", {"distance": {"units": units, "value": most}}, set())
        for units, most in (
            ("feet", 528000),
            ("kilometers", 160.9344),
            ("meters", 160934.4),
            ("miles", 100),
            ("yards", 176000),
        )
    ),
    *(
        ("physicalActivity", {"distance": {"units": units, "value": most}}, {(RANGE, "/distance/value")})
        for units, most in (
            ("feet", 528001),
            ("kilometers", 161),
            ("meters", 160935),
            ("miles", 101),
            ("yards", -1),
        )
    ),
    *(
        ("physicalActivity", {"duration": {"units": units, "value": most}}, set())
        for units, most in (("hours", 168), ("minutes", 10080), ("seconds", 604800))
    ),
    *(
        ("physicalActivity", {"duration": {"units": units, "value": most}}, {(RANGE, "/duration/value")})
        for units, most in (("hours", 169), ("minutes", 10081), ("seconds", 604801))
    ),
    ("physicalActivity", {"elevationChange": {"units": "feet", "value": 52800}}, set()),
    (
        "physicalActivity",
        {"elevationChange": {"units": "meters", "value": 16093.5}},
        {(RANGE, "/elevationChange/value")},
    ),
    ("physicalActivity", {"energy": {"units": "joules", "value": -1}}, {(RANGE, "/energy/value")}),
    ("physicalActivity", {"energy": {"units": "watts", "value": -1}}, {(NOT_ALLOWED, "/energy/units")}),
    *(
        ("physicalActivity", {field: {}}, {(NOT_EXISTS, f"/{field}/units"), (NOT_EXISTS, f"/{field}/value")})
        for field in ("distance", "duration", "elevationChange", "energy")
    ),
    ("physicalActivity", {"flight": {"count": 10001}}, {(RANGE, "/flight/count")}),
    (
        "physicalActivity",
        {"flight": {}, "step": {}},
        {(NOT_EXISTS, "/flight/count"), (NOT_EXISTS, "/step/count")},
    ),
    ("physicalActivity", {"step": {"count": 100001}}, {(RANGE, "/step/count")}),
    ("physicalActivity", {"lap": {"count": -1}}, {(RANGE, "/lap/count"), (NOT_EXISTS, "/lap/distance")}),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_activity(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

"""Boluses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import EXISTS, NOT_ALLOWED, NOT_EXISTS, RANGE, Case
from tests.model.examples import GONE, verdict

CASES: list[Case] = [
    *(
        (f"bolus {kind}", {"deliveryContext": "oneButton"}, set())
        for kind in ("normal", "square", "dual/square", "automated")
    ),
    *(
        (f"bolus {kind}", {"deliveryContext": "phone"}, {(NOT_ALLOWED, "/deliveryContext")})
        for kind in ("normal", "square", "dual/square", "automated")
    ),
    ("bolus normal", {"normal": 100, "expectedNormal": 100}, set()),
    ("bolus normal", {"normal": 0}, set()),
    ("bolus normal", {"normal": 100.1}, {(RANGE, "/normal")}),
    ("bolus normal", {"normal": GONE}, {(NOT_EXISTS, "/normal")}),
    ("bolus normal", {"normal": 4, "expectedNormal": 3}, {(RANGE, "/normal")}),
    ("bolus normal", {"normal": 4, "expectedNormal": 101}, {(RANGE, "/expectedNormal")}),
    ("bolus normal", {"normal": 4, "expectedNormal": -1}, {(RANGE, "/expectedNormal")}),
    (
        "bolus normal",
        {"insulinFormulation": {"simple": {"actingType": "slow"}}},
        {(NOT_ALLOWED, "/insulinFormulation/simple/actingType")},
    ),
    ("bolus square", {"duration": 86400000, "extended": 100}, set()),
    ("bolus square", {"duration": 86400001, "extended": 101}, {(RANGE, "/duration"), (RANGE, "/extended")}),
    (
        "bolus square",
        {"duration": GONE, "extended": GONE},
        {(NOT_EXISTS, "/duration"), (NOT_EXISTS, "/extended")},
    ),
    ("bolus square", {"expectedDuration": 3600000, "expectedExtended": 2.5}, set()),
    (
        "bolus square",
        {"expectedDuration": 3599999, "expectedExtended": 2.4},
        {(RANGE, "/duration"), (RANGE, "/extended")},
    ),
    ("bolus square", {"expectedDuration": 7200000}, {(EXISTS, "/expectedDuration")}),
    ("bolus square", {"expectedDuration": -1}, {(EXISTS, "/expectedDuration"), (RANGE, "/expectedDuration")}),
    ("bolus square", {"expectedExtended": 3}, {(NOT_EXISTS, "/expectedDuration")}),
    (
        "bolus square",
        {"expectedExtended": 101},
        {(NOT_EXISTS, "/expectedDuration"), (RANGE, "/expectedExtended")},
    ),
    (
        "bolus dual/square",
        {"normal": GONE, "extended": GONE},
        {(NOT_EXISTS, "/normal"), (NOT_EXISTS, "/extended")},
    ),
    (
        "bolus dual/square",
        {"expectedNormal": 1, "expectedDuration": 1},
        {(RANGE, "/normal"), (RANGE, "/duration"), (EXISTS, "/expectedDuration")},
    ),
    ("bolus automated", {"normal": 0}, {(NOT_EXISTS, "/expectedNormal")}),
    ("bolus automated", {"normal": 0, "expectedNormal": 0}, set()),
    ("bolus automated", {"normal": 2, "expectedNormal": 1.9}, {(RANGE, "/expectedNormal")}),
    (
        "bolus automated",
        {"normal": -1, "expectedNormal": 101},
        {(RANGE, "/normal"), (RANGE, "/expectedNormal")},
    ),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_bolus(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

"""Bolus calculations."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import NOT_ALLOWED, NOT_EXISTS, RANGE, Case
from tests.model.examples import GONE, STATUS, verdict

CASES: list[Case] = [
    ("wizard", {"units": GONE}, {(NOT_EXISTS, "/units")}),
    ("wizard", {"carbInput": 1000, "insulinCarbRatio": 250, "insulinOnBoard": 250}, set()),
    (
        "wizard",
        {"carbInput": 1000.1, "insulinCarbRatio": 251, "insulinOnBoard": -1},
        {(RANGE, "/carbInput"), (RANGE, "/insulinCarbRatio"), (RANGE, "/insulinOnBoard")},
    ),
    (
        "wizard",
        {"bgInput": 1001, "insulinSensitivity": -1},
        {(RANGE, "/bgInput"), (RANGE, "/insulinSensitivity")},
    ),
    ("wizard", {"units": "mmol/L"}, {(RANGE, "/bgInput"), (RANGE, "/bgTarget/target")}),
    ("wizard", {"units": "mmol/l", "bgInput": 55, "bgTarget.target": 5.5}, set()),
    ("wizard", {"recommended": {}}, set()),
    ("wizard", {"recommended": {"carb": 100, "correction": -100, "net": -100}}, set()),
    (
        "wizard",
        {"recommended": {"carb": -1, "correction": -101, "net": 101}},
        {(RANGE, "/recommended/carb"), (RANGE, "/recommended/correction"), (RANGE, "/recommended/net")},
    ),
    ("wizard", {"carbUnits": "exchanges"}, set()),
    ("wizard", {"carbUnits": "slices"}, {(NOT_ALLOWED, "/carbUnits")}),
    ("wizard", {"bolusId": "ignored"}, set()),
    ("wizard", {"bolus": GONE}, set()),
    ("wizard", {"bolus": "0123456789abcdefghijklmnopqrstuv"}, {("type-not-object", "/bolus")}),
    ("wizard", {"bolus": {}}, {(NOT_EXISTS, "/bolus/type")}),
    ("wizard", {"bolus": STATUS}, {(NOT_ALLOWED, "/bolus/type")}),
    ("wizard", {"bolus.subType": "injected"}, {(NOT_ALLOWED, "/bolus/subType")}),
    (
        "wizard",
        {"bolus.time": GONE, "bolus.normal": 101, "carbInput": -1},
        {(NOT_EXISTS, "/bolus/time"), (RANGE, "/bolus/normal"), (RANGE, "/carbInput")},
    ),
    ("wizard", {"bolus.normal": "4", "carbInput": -1}, {("type-not-float64", "/bolus/normal")}),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_calculator(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

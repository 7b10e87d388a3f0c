"""Insulin."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import EMPTY, EXISTS, LENGTH, NOT_ALLOWED, NOT_EXISTS, RANGE, Case
from tests.model.examples import GONE, verdict

CASES: list[Case] = [
    *(("insulin", {f"dose.{part}": 250}, set()) for part in ("active", "correction", "food", "total")),
    *(
        ("insulin", {f"dose.{part}": 251}, {(RANGE, f"/dose/{part}")})
        for part in ("active", "correction", "food", "total")
    ),
    *(("insulin", {f"dose.{part}": -1}, {(RANGE, f"/dose/{part}")}) for part in ("active", "food", "total")),
    ("insulin", {"dose.correction": -250}, set()),
    ("insulin", {"dose": {}}, {(NOT_EXISTS, "/dose/total"), (NOT_EXISTS, "/dose/units")}),
    ("insulin", {"dose.units": "units"}, {(NOT_ALLOWED, "/dose/units")}),
    ("insulin", {"dose": GONE, "formulation": GONE, "site": GONE}, set()),
    ("insulin", {"site": ""}, {(EMPTY, "/site")}),
    ("insulin", {"site": "x" * 101}, {(LENGTH, "/site")}),
    ("insulin", {"formulation": {}}, {(NOT_EXISTS, "/formulation/simple")}),
    ("insulin", {"formulation": {"name": "x" * 101}}, {(LENGTH, "/formulation/name")}),
    ("insulin", {"formulation.simple": {}}, {(NOT_EXISTS, "/formulation/simple/actingType")}),
    ("insulin", {"formulation.simple.brand": ""}, {(EMPTY, "/formulation/simple/brand")}),
    (
        "insulin",
        {"formulation.simple.concentration": {"units": "Units/mL", "value": 10001}},
        {(RANGE, "/formulation/simple/concentration/value")},
    ),
    ("insulin", {"formulation.compounds": []}, {(EXISTS, "/formulation/compounds")}),
    ("insulin", {"formulation": {"compounds": []}}, {(EMPTY, "/formulation/compounds")}),
    ("insulin", {"formulation": {"compounds": [{"amount": 0, "formulation": {"name": "a"}}] * 100}}, set()),
    (
        "insulin",
        {"formulation": {"compounds": [{"amount": 0, "formulation": {"name": "a"}}] * 101}},
        {(LENGTH, "/formulation/compounds")},
    ),
    (
        "insulin",
        {"formulation": {"compounds": [None, {}, {"amount": -1, "formulation": {}}]}},
        {
            (NOT_EXISTS, "/formulation/compounds/0"),
            (NOT_EXISTS, "/formulation/compounds/1/amount"),
            (NOT_EXISTS, "/formulation/compounds/1/formulation"),
            (RANGE, "/formulation/compounds/2/amount"),
            (NOT_EXISTS, "/formulation/compounds/2/formulation/simple"),
        },
    ),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_insulin(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

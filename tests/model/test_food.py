"""Food."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import EMPTY, EXISTS, LENGTH, NOT_ALLOWED, NOT_EXISTS, RANGE, Case
from tests.model.examples import GONE, verdict

CASES: list[Case] = [
    ("food", {"meal": "other", "mealOther": "brunch"}, set()),
    ("food", {"meal": "other"}, {(NOT_EXISTS, "/mealOther")}),
    ("food", {"meal": "other", "mealOther": ""}, {(EMPTY, "/mealOther")}),
    ("food", {"mealOther": "brunch"}, {(EXISTS, "/mealOther")}),
    ("food", {"meal": GONE, "mealOther": "x" * 101}, {(EXISTS, "/mealOther")}),
    ("food", {"meal": "tea"}, {(NOT_ALLOWED, "/meal")}),
    ("food", {"amount": {}}, {(NOT_EXISTS, "/amount/units"), (NOT_EXISTS, "/amount/value")}),
    ("food", {"amount.value": -1}, {(RANGE, "/amount/value")}),
    ("food", {"amount.value": 1e12, "amount.units": "x" * 101}, {(LENGTH, "/amount/units")}),
    *(("food", {field: ""}, {(EMPTY, f"/{field}")}) for field in ("brand", "code", "name")),
    *(("food", {field: "x" * 101}, {(LENGTH, f"/{field}")}) for field in ("brand", "code", "name")),
    ("food", {"ingredients": []}, {(EMPTY, "/ingredients")}),
    ("food", {"ingredients": [{}] * 101}, {(LENGTH, "/ingredients")}),
    (
        "food",
        {"ingredients": [None, {"ingredients": [{"code": "", "amount": {"units": "g"}}]}]},
        {
            (NOT_EXISTS, "/ingredients/0"),
            (EMPTY, "/ingredients/1/ingredients/0/code"),
            (NOT_EXISTS, "/ingredients/1/ingredients/0/amount/value"),
        },
    ),
    ("food", {"ingredients": [[]]}, {("type-not-object", "/ingredients/0")}),
    (
        "food",
        {"nutrition.estimatedAbsorptionDuration": 86401},
        {(RANGE, "/nutrition/estimatedAbsorptionDuration")},
    ),
    (
        "food",
        {
            "nutrition.carbohydrate": {
                "net": 1000,
                "dietaryFiber": 0,
                "sugars": 1,
                "total": 1000,
                "units": "grams",
            }
        },
        set(),
    ),
    (
        "food",
        {"nutrition.carbohydrate": {"dietaryFiber": -1, "sugars": 1001, "total": -1}},
        {
            (NOT_EXISTS, "/nutrition/carbohydrate/net"),
            (NOT_EXISTS, "/nutrition/carbohydrate/units"),
            (RANGE, "/nutrition/carbohydrate/dietaryFiber"),
            (RANGE, "/nutrition/carbohydrate/sugars"),
            (RANGE, "/nutrition/carbohydrate/total"),
        },
    ),
    *(
        ("food", {"nutrition.energy": {"units": units, "value": most}}, set())
        for units, most in (
            ("calories", 1e7),
            ("joules", 41858000),
            ("kilocalories", 1e4),
            ("kilojoules", 41858),
        )
    ),
    *(
        ("food", {"nutrition.energy": {"units": units, "value": most}}, {(RANGE, "/nutrition/energy/value")})
        for units, most in (
            ("calories", 1.1e7),
            ("joules", 41858001),
            ("kilocalories", 10001),
            ("kilojoules", -1),
        )
    ),
    *(
        (
            "food",
            {f"nutrition.{part}": {"total": 1001, "units": "g"}},
            {(RANGE, f"/nutrition/{part}/total"), (NOT_ALLOWED, f"/nutrition/{part}/units")},
        )
        for part in ("fat", "protein")
    ),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_food(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

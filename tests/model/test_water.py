"""Water."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import NOT_ALLOWED, NOT_EXISTS, RANGE, Case
from tests.model.examples import GONE, verdict

CASES: list[Case] = [
    ("water", {"amount": GONE}, {(NOT_EXISTS, "/amount")}),
    ("water", {"amount": {}}, {(NOT_EXISTS, "/amount/units"), (NOT_EXISTS, "/amount/value")}),
    *(
        ("water", {"amount": {"units": units, "value": most}}, set())
        for units, most in (
            ("gallons", 10),
            ("liters", 37.854118),
            ("milliliters", 37854.118),
            ("ounces", 1280),
            ("ounces", 0),
        )
    ),
    *(
        ("water", {"amount": {"units": units, "value": most}}, {(RANGE, "/amount/value")})
        for units, most in (
            ("gallons", 10.1),
            ("liters", 37.86),
            ("milliliters", 37855),
            ("ounces", 1281),
            ("ounces", -1),
        )
    ),
    ("water", {"amount.units": "cups"}, {(NOT_ALLOWED, "/amount/units")}),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_water(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

"""Dosing decisions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import (
    EMPTY,
    EXISTS,
    LENGTH,
    NONE_OF_ANY,
    NOT_ALLOWED,
    NOT_EXISTS,
    RANGE,
    Case,
)
from tests.model.examples import GONE, TIME, verdict

CASES: list[Case] = [
    ("dosingDecision", {"reason": GONE, "units": GONE}, {(NOT_EXISTS, "/reason"), (NOT_EXISTS, "/units")}),
    ("dosingDecision", {"reason": "x" * 101}, {(LENGTH, "/reason")}),
    (
        "dosingDecision",
        {"units": {}},
        {(NOT_EXISTS, "/units/bg"), (NOT_EXISTS, "/units/carb"), (NOT_EXISTS, "/units/insulin")},
    ),
    ("dosingDecision", {"units.insulin": "u"}, {(NOT_ALLOWED, "/units/insulin")}),
    ("dosingDecision", {"originalFood": {}}, {(NOT_EXISTS, "/originalFood/nutrition")}),
    (
        "dosingDecision",
        {"food.nutrition.carbohydrate.net": -1},
        {(RANGE, "/food/nutrition/carbohydrate/net")},
    ),
    ("dosingDecision", {"smbg": {}}, {(NOT_EXISTS, "/smbg/time"), (NOT_EXISTS, "/smbg/value")}),
    ("dosingDecision", {"smbg.value": 1001}, {(RANGE, "/smbg/value")}),
    ("dosingDecision", {"units.bg": "g", "smbg.value": 1001}, {(NOT_ALLOWED, "/units/bg")}),
    (
        "dosingDecision",
        {"carbsOnBoard.amount": 1001, "insulinOnBoard.amount": -1001},
        {(RANGE, "/carbsOnBoard/amount"), (RANGE, "/insulinOnBoard/amount")},
    ),
    (
        "dosingDecision",
        {"carbsOnBoard": {}, "insulinOnBoard": {}},
        {(NOT_EXISTS, "/carbsOnBoard/amount"), (NOT_EXISTS, "/insulinOnBoard/amount")},
    ),
    ("dosingDecision", {"bgTargetSchedule": []}, set()),
    ("dosingDecision", {"bgTargetSchedule.0.start": 1}, {(RANGE, "/bgTargetSchedule/0/start")}),
    (
        "dosingDecision",
        {"bgHistorical": [], "bgForecast": []},
        {(EMPTY, "/bgHistorical"), (EMPTY, "/bgForecast")},
    ),
    ("dosingDecision", {"bgHistorical": [{"time": TIME, "value": 100}] * 1440}, set()),
    ("dosingDecision", {"bgHistorical": [{"time": TIME, "value": 100}] * 1441}, {(LENGTH, "/bgHistorical")}),
    (
        "dosingDecision",
        {"bgHistorical": [None, {"time": TIME, "value": -1}]},
        {(NOT_EXISTS, "/bgHistorical/0"), (RANGE, "/bgHistorical/1/value")},
    ),
    ("dosingDecision", {"bgForecast": [{"value": 1e9}, {}]}, {(NOT_EXISTS, "/bgForecast/1/value")}),
    (
        "dosingDecision",
        {"recommendedBasal": {"rate": 101, "duration": 86400001}},
        {(RANGE, "/recommendedBasal/rate"), (RANGE, "/recommendedBasal/duration")},
    ),
    ("dosingDecision", {"recommendedBasal": {}}, {(NOT_EXISTS, "/recommendedBasal/rate")}),
    *(
        ("dosingDecision", {field: {}}, {(NONE_OF_ANY, f"/{field}")})
        for field in ("recommendedBolus", "requestedBolus")
    ),
    (
        "dosingDecision",
        {"requestedBolus": {"amount": 101, "duration": 1, "extended": 101, "normal": 101}},
        {
            (RANGE, "/requestedBolus/amount"),
            (EXISTS, "/requestedBolus/duration"),
            (EXISTS, "/requestedBolus/extended"),
            (EXISTS, "/requestedBolus/normal"),
        },
    ),
    ("dosingDecision", {"requestedBolus": {"normal": 1, "extended": 1, "duration": 86400000}}, set()),
    (
        "dosingDecision",
        {"requestedBolus": {"extended": 101}},
        {(NOT_EXISTS, "/requestedBolus/duration"), (RANGE, "/requestedBolus/extended")},
    ),
    (
        "dosingDecision",
        {"requestedBolus": {"normal": 1, "duration": -1}},
        {(EXISTS, "/requestedBolus/duration")},
    ),
    (
        "dosingDecision",
        {"requestedBolus": {"normal": -1, "extended": 1, "duration": -1}},
        {(RANGE, "/requestedBolus/normal"), (RANGE, "/requestedBolus/duration")},
    ),
    ("dosingDecision", {"warnings": [], "errors": [None]}, {(EMPTY, "/warnings"), (NOT_EXISTS, "/errors/0")}),
    ("dosingDecision", {"warnings": [{"id": "a"}] * 101}, {(LENGTH, "/warnings")}),
    (
        "dosingDecision",
        {"errors": [{"id": "", "metadata": {}}, {}]},
        {(EMPTY, "/errors/0/id"), (EMPTY, "/errors/0/metadata"), (NOT_EXISTS, "/errors/1/id")},
    ),
    ("dosingDecision", {"scheduleTimeZoneOffset": 10081}, {(RANGE, "/scheduleTimeZoneOffset")}),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_dosing_decision(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

"""Glucose readings, their units and targets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import EXISTS, NOT_ALLOWED, NOT_EXISTS, RANGE, Case
from tests.model.examples import GONE, example, verdict
from tidepool_ingest.model import glucose_reading, to_mmol_per_l

CASES: list[Case] = [
    *(
        ("cbg", {"units": units, "value": value}, set())
        for units, value in (("mg/dL", 0), ("mg/dl", 1000), ("mmol/L", 55), ("mmol/l", 0.0), ("mg/dL", 119.5))
    ),
    *(
        ("cbg", {"units": units, "value": value}, {(RANGE, "/value")})
        for units, value in (
            ("mg/dL", 1000.1),
            ("mg/dl", -1),
            ("mmol/L", 55.1),
            ("mmol/l", -0.1),
            ("mg/dL", 10**40),
        )
    ),
    ("cbg", {"units": "MG/DL", "value": 5000}, {(NOT_ALLOWED, "/units")}),
    ("cbg", {"units": GONE, "value": 5000}, {(NOT_EXISTS, "/units")}),
    ("cbg", {"value": GONE}, {(NOT_EXISTS, "/value")}),
    ("cbg", {"value": "119"}, {("type-not-float64", "/value")}),
    ("cbg", {"value": True}, {("type-not-float64", "/value")}),
    ("cbg", {"trend": "rapidRise"}, set()),
    ("cbg", {"trend": "up"}, {(NOT_ALLOWED, "/trend")}),
    ("cbg", {"trendRate": 1e9}, set()),
    ("cbg", {"trendRate": 5.5, "trendRateUnits": "mmol/L/minute"}, set()),
    ("cbg", {"trendRate": -5.6, "trendRateUnits": "mmol/L/minute"}, {(RANGE, "/trendRate")}),
    ("cbg", {"trendRate": -100, "trendRateUnits": "mg/dL/minute"}, set()),
    ("cbg", {"trendRate": 101, "trendRateUnits": "mg/dL/minute"}, {(RANGE, "/trendRate")}),
    ("cbg", {"trendRate": 9e9, "trendRateUnits": "mg/dL"}, {(NOT_ALLOWED, "/trendRateUnits")}),
    ("cbg", {"trendRateUnits": "mg/dL"}, {(EXISTS, "/trendRateUnits")}),
    ("cbg", {"sampleInterval": 86400000, "backfilled": True}, set()),
    ("cbg", {"sampleInterval": -1}, {(RANGE, "/sampleInterval")}),
    ("cbg", {"sampleInterval": 86400001}, {(RANGE, "/sampleInterval")}),
    ("cbg", {"backfilled": 1}, {("type-not-bool", "/backfilled")}),
    ("smbg", {"subType": "manual"}, set()),
    ("smbg", {"subType": "other"}, {(NOT_ALLOWED, "/subType")}),
    ("smbg", {"subType": GONE}, set()),
    ("bloodKetone", {"value": 10, "units": "mmol/l"}, set()),
    ("bloodKetone", {"value": 10.1}, {(RANGE, "/value")}),
    ("bloodKetone", {"value": 99, "units": "mg/dL"}, {(NOT_ALLOWED, "/units")}),
    # The shapes of a target: alone, with range, with high; low with high
    *(
        ("wizard", {"bgTarget": target}, set())
        for target in (
            {"target": 110},
            {"target": 110, "range": 110},
            {"target": 900, "range": 100},
            {"target": 110, "high": 110},
            {"low": 70, "high": 70},
            {"low": 0, "high": 1000},
        )
    ),
    ("wizard", {"bgTarget": {}}, {(NOT_EXISTS, "/bgTarget/target")}),
    ("wizard", {"bgTarget": {"high": 5000}}, {(NOT_EXISTS, "/bgTarget/target")}),
    ("wizard", {"bgTarget": {"range": -1}}, {(NOT_EXISTS, "/bgTarget/target")}),
    ("wizard", {"bgTarget": {"low": -5, "range": 1}}, {(NOT_EXISTS, "/bgTarget/high")}),
    ("wizard", {"bgTarget": {"target": 1001}}, {(RANGE, "/bgTarget/target")}),
    ("wizard", {"bgTarget": {"target": 110, "low": 5000}}, {(EXISTS, "/bgTarget/low")}),
    ("wizard", {"bgTarget": {"target": 110, "range": 111}}, {(RANGE, "/bgTarget/range")}),
    ("wizard", {"bgTarget": {"target": 110, "range": -1}}, {(RANGE, "/bgTarget/range")}),
    ("wizard", {"bgTarget": {"target": 110, "high": 109}}, {(RANGE, "/bgTarget/high")}),
    ("wizard", {"bgTarget": {"target": -1, "range": 5000}}, {(RANGE, "/bgTarget/target")}),
    (
        "wizard",
        {"bgTarget": {"target": 110, "range": 1, "high": 1, "low": 1}},
        {(EXISTS, "/bgTarget/high"), (EXISTS, "/bgTarget/low")},
    ),
    ("wizard", {"bgTarget": {"low": 80, "high": 79}}, {(RANGE, "/bgTarget/high")}),
    ("wizard", {"bgTarget": {"low": -1, "high": 5000}}, {(RANGE, "/bgTarget/low")}),
    ("wizard", {"bgTarget": {"low": 80, "high": 90, "range": 1}}, {(EXISTS, "/bgTarget/range")}),
    ("wizard", {"bgTarget": {"low": "80"}}, {("type-not-float64", "/bgTarget/low")}),
    ("wizard", {"units": "g", "bgTarget": {"low": -80, "high": -90}}, {(NOT_ALLOWED, "/units")}),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_glucose(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected


@pytest.mark.parametrize(
    ("mg_per_dl", "mmol_per_l"),
    [(119, 6.60539), (120, 6.6609), (40, 2.2203), (180, 9.99135), (100, 5.55075), (0, 0)],
)
def test_conversion_rounds_as_the_platform_does(mg_per_dl: float, mmol_per_l: float) -> None:
    assert to_mmol_per_l(mg_per_dl) == mmol_per_l
    assert to_mmol_per_l(-mg_per_dl) == -mmol_per_l


def test_readings_of_a_datum() -> None:
    assert glucose_reading(example("cbg")) == ("mg/dL", 119)
    assert glucose_reading(example("smbg")) == ("mmol/L", 6.5)
    assert glucose_reading(example("deviceEvent calibration")) == ("mg/dL", 100)


@pytest.mark.parametrize(
    "datum",
    [
        {},
        {"type": "wizard", "units": "mg/dL", "value": 5},
        {"type": "cbg", "units": 5, "value": 5},
        {"type": "cbg", "units": "mg/dL", "value": True},
        {"type": ["cbg"]},
        {"type": "deviceEvent", "value": 1},
    ],
)
def test_what_has_no_reading(datum: dict[str, Any]) -> None:
    assert glucose_reading(datum) is None

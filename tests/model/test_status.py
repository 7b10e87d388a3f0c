"""Status of pumps and controllers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import EXISTS, NONE_OF_ANY, NOT_AFTER, NOT_ALLOWED, NOT_EXISTS, RANGE, Case
from tests.model.examples import GONE, TIME, verdict

CASES: list[Case] = [
    ("controllerStatus", {"battery": GONE}, {(NOT_EXISTS, "/battery")}),
    ("controllerStatus", {"battery": {}}, {(NONE_OF_ANY, "/battery")}),
    ("controllerStatus", {"battery": {"state": "empty"}}, {(NOT_ALLOWED, "/battery/state")}),
    ("controllerStatus", {"battery.remaining": 1.1}, {(RANGE, "/battery/remaining")}),
    ("controllerStatus", {"battery.remaining": GONE}, {(EXISTS, "/battery/units")}),
    ("controllerStatus", {"battery.units": GONE, "battery.remaining": 50}, {(NOT_EXISTS, "/battery/units")}),
    (
        "controllerStatus",
        {"battery.units": "volt", "battery.remaining": 50},
        {(NOT_ALLOWED, "/battery/units")},
    ),
    ("controllerStatus", {"battery.time": "now"}, {("value-not-parsable", "/battery/time")}),
    ("pumpStatus", {"battery": {"remaining": -1, "units": "percent"}}, {(RANGE, "/battery/remaining")}),
    (
        "pumpStatus",
        dict.fromkeys(
            ("basalDelivery", "battery", "bolusDelivery", "deliveryIndeterminant", "reservoir"), GONE
        ),
        {(NONE_OF_ANY, "")},
    ),
    ("pumpStatus", dict.fromkeys(("basalDelivery", "battery", "bolusDelivery", "reservoir"), GONE), set()),
    ("pumpStatus", {"basalDelivery": {}}, {(NOT_EXISTS, "/basalDelivery/state")}),
    *(
        ("pumpStatus", {"basalDelivery": {"state": state, "time": TIME}}, set())
        for state in ("scheduled", "suspended")
    ),
    *(
        ("pumpStatus", {"basalDelivery": {"state": state}}, {(NOT_EXISTS, "/basalDelivery/time")})
        for state in ("scheduled", "suspended")
    ),
    (
        "pumpStatus",
        {"basalDelivery": {"state": "resuming", "time": TIME, "dose": {}}},
        {(EXISTS, "/basalDelivery/time"), (EXISTS, "/basalDelivery/dose")},
    ),
    ("pumpStatus", {"basalDelivery": {"state": "temporary"}}, {(NOT_EXISTS, "/basalDelivery/dose")}),
    (
        "pumpStatus",
        {"basalDelivery.dose": {"rate": 101, "amountDelivered": 1001, "endTime": TIME}},
        {
            (RANGE, "/basalDelivery/dose/rate"),
            (RANGE, "/basalDelivery/dose/amountDelivered"),
            (EXISTS, "/basalDelivery/dose/endTime"),
        },
    ),
    (
        "pumpStatus",
        {"basalDelivery.dose.endTime": "2024-03-04T05:06:06Z"},
        {(NOT_AFTER, "/basalDelivery/dose/endTime")},
    ),
    ("pumpStatus", {"basalDelivery.dose.rate": GONE}, {(NOT_EXISTS, "/basalDelivery/dose/rate")}),
    ("pumpStatus", {"bolusDelivery": {"state": "none"}}, set()),
    ("pumpStatus", {"bolusDelivery": {"state": "delivering"}}, {(NOT_EXISTS, "/bolusDelivery/dose")}),
    ("pumpStatus", {"bolusDelivery": {"state": "none", "dose": {}}}, {(EXISTS, "/bolusDelivery/dose")}),
    (
        "pumpStatus",
        {"bolusDelivery.dose": {"amountDelivered": 1001}},
        {(NOT_EXISTS, "/bolusDelivery/dose/amount"), (RANGE, "/bolusDelivery/dose/amountDelivered")},
    ),
    ("pumpStatus", {"bolusDelivery.dose.amount": 1001}, {(RANGE, "/bolusDelivery/dose/amount")}),
    (
        "pumpStatus",
        {"reservoir": {}},
        {(NOT_EXISTS, "/reservoir/remaining"), (NOT_EXISTS, "/reservoir/units")},
    ),
    (
        "pumpStatus",
        {"reservoir.remaining": 10001, "reservoir.units": "mL"},
        {(RANGE, "/reservoir/remaining"), (NOT_ALLOWED, "/reservoir/units")},
    ),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_status(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

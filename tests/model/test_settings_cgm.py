"""Settings of a continuous glucose monitor."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import (
    DUPLICATE,
    EMPTY,
    EXISTS,
    LENGTH,
    NOT_ALLOWED,
    NOT_EXISTS,
    NOT_VALID,
    RANGE,
    Case,
)
from tests.model.examples import GONE, verdict

CASES: list[Case] = [
    *(("cgmSettings", {"transmitterId": good}, set()) for good in ("", "abcde", "A" * 64)),
    *(
        ("cgmSettings", {"transmitterId": bad}, {(NOT_VALID, "/transmitterId")})
        for bad in ("abcd", "a" * 65, "ab-de")
    ),
    ("cgmSettings", {"units": "mg"}, {(NOT_ALLOWED, "/units")}),
    ("cgmSettings", {"name": "", "manufacturers": [""]}, {(EMPTY, "/name"), (EMPTY, "/manufacturers/0")}),
    ("cgmSettings", {"defaultAlerts": {}}, {(NOT_EXISTS, "/defaultAlerts/enabled")}),
    *(
        (
            "cgmSettings",
            {"defaultAlerts": {"enabled": True, name: {"enabled": True, "level": level, "units": units}}},
            set() if good else {(RANGE, f"/defaultAlerts/{name}/level")},
        )
        for name, units, level, good in (
            ("urgentLow", "mg/dL", 40, True),
            ("urgentLow", "mg/dL", 81, False),
            ("urgentLow", "mmol/L", 2.2, False),
            ("urgentLowPredicted", "mmol/L", 4.4406, True),
            ("low", "mg/dL", 150, True),
            ("low", "mg/dL", 49, False),
            ("lowPredicted", "mmol/L", 8.33, False),
            ("high", "mg/dL", 400, True),
            ("high", "mg/dL", 99, False),
            ("highPredicted", "mmol/L", 22.20299, True),
            ("highPredicted", "mmol/L", 5.55, False),
        )
    ),
    *(
        (
            "cgmSettings",
            {"defaultAlerts": {"enabled": True, name: {"enabled": True, "rate": rate, "units": units}}},
            set() if good else {(RANGE, f"/defaultAlerts/{name}/rate")},
        )
        for name, units, rate, good in (
            ("fall", "mg/dL/minute", 0, True),
            ("rise", "mg/dL/minute", 10.1, False),
            ("fall", "mmol/L/minute", 0.05551, True),
            ("rise", "mmol/L/minute", 0.05, False),
        )
    ),
    *(
        (
            "cgmSettings",
            {"defaultAlerts": {"enabled": True, name: {"enabled": True, "duration": span, "units": units}}},
            set() if good else {(RANGE, f"/defaultAlerts/{name}/duration")},
        )
        for name, units, span, good in (
            ("noData", "hours", 6, True),
            ("noData", "minutes", 361, False),
            ("outOfRange", "seconds", 21600, True),
            ("outOfRange", "seconds", 21601, False),
        )
    ),
    ("cgmSettings", {"defaultAlerts.low": {}}, {(NOT_EXISTS, "/defaultAlerts/low/enabled")}),
    (
        "cgmSettings",
        {"defaultAlerts.low": {"enabled": True, "units": "mg/dl"}},
        {(EXISTS, "/defaultAlerts/low/units")},
    ),
    (
        "cgmSettings",
        {"defaultAlerts.low": {"enabled": True, "level": -1}},
        {(NOT_EXISTS, "/defaultAlerts/low/units")},
    ),
    (
        "cgmSettings",
        {"defaultAlerts.low": {"enabled": True, "level": -1, "units": "mg/dl"}},
        {(NOT_ALLOWED, "/defaultAlerts/low/units")},
    ),
    (
        "cgmSettings",
        {"defaultAlerts.low.snooze": {"duration": 601, "units": "minutes"}},
        {(RANGE, "/defaultAlerts/low/snooze/duration")},
    ),
    (
        "cgmSettings",
        {"defaultAlerts.low.snooze": {}},
        {(NOT_EXISTS, "/defaultAlerts/low/snooze/duration"), (NOT_EXISTS, "/defaultAlerts/low/snooze/units")},
    ),
    ("cgmSettings", {"scheduledAlerts": []}, {(EMPTY, "/scheduledAlerts")}),
    (
        "cgmSettings",
        {"scheduledAlerts": [{"days": [], "start": 0, "end": 0, "alerts": {"enabled": True}}] * 11},
        {(LENGTH, "/scheduledAlerts")},
    ),
    (
        "cgmSettings",
        {"scheduledAlerts": [None, {}]},
        {
            (NOT_EXISTS, "/scheduledAlerts/0"),
            *((NOT_EXISTS, f"/scheduledAlerts/1/{f}") for f in ("days", "start", "end", "alerts")),
        },
    ),
    (
        "cgmSettings",
        {"scheduledAlerts.0.days": ["sunday", "Monday", "sunday"]},
        {(NOT_ALLOWED, "/scheduledAlerts/0/days/1"), (DUPLICATE, "/scheduledAlerts/0/days/2")},
    ),
    (
        "cgmSettings",
        {
            "scheduledAlerts.0.start": 86400001,
            "scheduledAlerts.0.end": 172800001,
            "scheduledAlerts.0.name": "x" * 101,
        },
        {
            (RANGE, "/scheduledAlerts/0/start"),
            (RANGE, "/scheduledAlerts/0/end"),
            (LENGTH, "/scheduledAlerts/0/name"),
        },
    ),
    # The older alerts
    (
        "cgmSettings",
        {"highAlerts": {}, "lowAlerts": {}, "outOfRangeAlerts": {}},
        {
            *(
                (NOT_EXISTS, f"/{alert}/{field}")
                for alert in ("highAlerts", "lowAlerts")
                for field in ("enabled", "level", "snooze")
            ),
            (NOT_EXISTS, "/outOfRangeAlerts/enabled"),
            (NOT_EXISTS, "/outOfRangeAlerts/snooze"),
        },
    ),
    (
        "cgmSettings",
        {"highAlerts.level": 99, "lowAlerts.level": 58},
        {(RANGE, "/highAlerts/level"), (RANGE, "/lowAlerts/level")},
    ),
    (
        "cgmSettings",
        {"highAlerts.snooze": 900000.0, "lowAlerts.snooze": 1},
        {(NOT_ALLOWED, "/lowAlerts/snooze")},
    ),
    ("cgmSettings", {"outOfRangeAlerts.snooze": 900000}, {(NOT_ALLOWED, "/outOfRangeAlerts/snooze")}),
    (
        "cgmSettings",
        {"rateOfChangeAlerts": {}},
        {(NOT_EXISTS, "/rateOfChangeAlerts/fallRate"), (NOT_EXISTS, "/rateOfChangeAlerts/riseRate")},
    ),
    (
        "cgmSettings",
        {"rateOfChangeAlerts.fallRate.rate": 2, "rateOfChangeAlerts.riseRate.rate": 2.5},
        {
            (NOT_ALLOWED, "/rateOfChangeAlerts/fallRate/rate"),
            (NOT_ALLOWED, "/rateOfChangeAlerts/riseRate/rate"),
        },
    ),
    ("cgmSettings", {"units": GONE, "rateOfChangeAlerts.fallRate.rate": 7, "highAlerts.level": -1}, set()),
    ("cgmSettings", {"rateOfChangeAlert": "ignored"}, set()),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_settings_cgm(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

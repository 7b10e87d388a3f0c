"""Settings of a controller."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import DUPLICATE, EMPTY, NONE_OF_ANY, NOT_ALLOWED, Case
from tests.model.examples import GONE, verdict

CASES: list[Case] = [
    ("controllerSettings", {"device": GONE, "notifications": GONE}, {(NONE_OF_ANY, "")}),
    ("controllerSettings", {"device": GONE}, set()),
    ("controllerSettings", {"device": {}}, {(NONE_OF_ANY, "/device")}),
    ("controllerSettings", {"notifications": {}}, {(NONE_OF_ANY, "/notifications")}),
    *(
        ("controllerSettings", {"notifications": {flag: False}}, set())
        for flag in (
            "alert",
            "criticalAlert",
            "badge",
            "sound",
            "announcement",
            "notificationCenter",
            "lockScreen",
        )
    ),
    ("controllerSettings", {"notifications": {"alert": 0}}, {("type-not-bool", "/notifications/alert")}),
    (
        "controllerSettings",
        {"notifications": {"authorization": "yes", "alertStyle": "big"}},
        {(NOT_ALLOWED, "/notifications/authorization"), (NOT_ALLOWED, "/notifications/alertStyle")},
    ),
    *(
        ("controllerSettings", {"device": {field: ""}}, {(EMPTY, f"/device/{field}")})
        for field in (
            "firmwareVersion",
            "hardwareVersion",
            "model",
            "name",
            "serialNumber",
            "softwareVersion",
        )
    ),
    (
        "controllerSettings",
        {"device": {"manufacturers": ["a", "a"]}},
        {(DUPLICATE, "/device/manufacturers/1")},
    ),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_settings_controller(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

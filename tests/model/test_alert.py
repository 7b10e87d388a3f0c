"""Alerts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import (
    EMPTY,
    EXISTS,
    LENGTH,
    NOT_AFTER,
    NOT_ALLOWED,
    NOT_EXISTS,
    RANGE,
    Case,
)
from tests.model.examples import GONE, TIME, verdict

CASES: list[Case] = [
    ("alert", {"name": GONE, "issuedTime": GONE}, {(NOT_EXISTS, "/name"), (NOT_EXISTS, "/issuedTime")}),
    ("alert", {"name": "x" * 101}, {(LENGTH, "/name")}),
    ("alert", {"priority": "timeSensitive"}, set()),
    ("alert", {"priority": "low"}, {(NOT_ALLOWED, "/priority")}),
    *(("alert", {"trigger": trigger, "triggerDelay": 86400}, set()) for trigger in ("delayed", "repeating")),
    *(
        ("alert", {"trigger": trigger, "triggerDelay": 86401}, {(RANGE, "/triggerDelay")})
        for trigger in ("delayed", "repeating")
    ),
    *(
        ("alert", {"trigger": trigger}, {(NOT_EXISTS, "/triggerDelay")})
        for trigger in ("delayed", "repeating")
    ),
    ("alert", {"trigger": "immediate", "triggerDelay": -1}, {(EXISTS, "/triggerDelay")}),
    ("alert", {"trigger": GONE, "triggerDelay": 5}, {(EXISTS, "/triggerDelay")}),
    ("alert", {"trigger": "never"}, {(NOT_ALLOWED, "/trigger")}),
    ("alert", {"sound": "name", "soundName": "bell"}, set()),
    ("alert", {"sound": "name"}, {(NOT_EXISTS, "/soundName")}),
    ("alert", {"sound": "name", "soundName": ""}, {(EMPTY, "/soundName")}),
    ("alert", {"sound": "silence", "soundName": "bell"}, {(EXISTS, "/soundName")}),
    ("alert", {"sound": "loud"}, {(NOT_ALLOWED, "/sound")}),
    ("alert", {"issuedTime": "0001-01-01T00:00:00Z"}, {(EMPTY, "/issuedTime")}),
    ("alert", {"issuedTime": "yesterday"}, {("value-not-parsable", "/issuedTime")}),
    ("alert", {"acknowledgedTime": TIME, "retractedTime": "2024-03-04T06:06:07+01:00"}, set()),
    (
        "alert",
        {"acknowledgedTime": "2024-03-04T05:06:06.999999999Z", "retractedTime": "2024-03-04T06:06:06+01:00"},
        {(NOT_AFTER, "/acknowledgedTime"), (NOT_AFTER, "/retractedTime")},
    ),
    (
        "alert",
        {"issuedTime": GONE, "acknowledgedTime": "0001-01-01T00:00:00Z"},
        {(NOT_EXISTS, "/issuedTime")},
    ),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_alert(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

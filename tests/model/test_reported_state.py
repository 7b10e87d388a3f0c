"""Reported states."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import EXISTS, LENGTH, NOT_ALLOWED, NOT_EXISTS, RANGE, Case
from tests.model.examples import GONE, verdict

CASES: list[Case] = [
    ("reportedState", {"states": GONE}, set()),
    ("reportedState", {"states": []}, set()),
    ("reportedState", {"states": [{"state": "stress", "severity": 10}] * 200}, set()),
    ("reportedState", {"states": [None, {}]}, {(NOT_EXISTS, "/states/0"), (NOT_EXISTS, "/states/1/state")}),
    (
        "reportedState",
        {"states": [{"state": "happy", "severity": 11}]},
        {(NOT_ALLOWED, "/states/0/state"), (RANGE, "/states/0/severity")},
    ),
    ("reportedState", {"states": [{"state": "other", "stateOther": "tired"}]}, set()),
    ("reportedState", {"states": [{"state": "other"}]}, {(NOT_EXISTS, "/states/0/stateOther")}),
    (
        "reportedState",
        {"states": [{"state": "other", "stateOther": "x" * 101}]},
        {(LENGTH, "/states/0/stateOther")},
    ),
    (
        "reportedState",
        {"states": [{"state": "cycle", "stateOther": "x"}]},
        {(EXISTS, "/states/0/stateOther")},
    ),
]


@pytest.mark.parametrize(("name", "changes", "expected"), CASES)
def test_reported_state(name: str, changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict(name, changes) == expected

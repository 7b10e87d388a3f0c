"""What the Platform's validators let pass and its storage cannot take or show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tidepool_ingest.model import (
    STAGED_NUL_IN_NAME,
    STAGED_TIME_NOT_SHOWN,
    data_set_problems,
    stored_form,
    validate_data_set,
    validate_datum,
    validate_lines,
)

BASE = {"type": "cbg", "time": "2026-03-05T00:00:00Z", "deviceId": "d", "units": "mmol/L", "value": 5.5}
BOLUS = {"type": "bolus", "subType": "normal", "normal": 1.0, "time": BASE["time"], "deviceId": "d"}
SETTINGS = {"type": "pumpSettings", "time": BASE["time"], "deviceId": "d", "activeSchedule": "a"}
BAD = "a\0b"
MANY = {f"name{number}": number for number in range(100)}

UNSTORABLE: dict[str, tuple[dict[str, Any], str]] = {
    "payload": (BASE | {"payload": {"x": 1, BAD: 2}}, f"/payload/{BAD}"),
    "deep in a payload": (BASE | {"payload": {"x": [{"y": {BAD: 2}}]}}, f"/payload/x/0/y/{BAD}"),
    "a large payload": (BASE | {"payload": MANY | {BAD: 2}}, f"/payload/{BAD}"),
    "annotation": (BASE | {"annotations": [{"x": 1}, {BAD: 1}]}, f"/annotations/1/{BAD}"),
    "origin": (BASE | {"origin": {"payload": {BAD: 1}}}, f"/origin/payload/{BAD}"),
    "schedule": (
        SETTINGS | {"basalSchedules": {BAD: [{"start": 0, "rate": 1.0}]}},
        f"/basalSchedules/{BAD}",
    ),
    "what is embedded": (
        BASE | {"type": "wizard", "units": "mmol/L", "bolus": BOLUS | {"payload": {BAD: 1}}},
        f"/bolus/payload/{BAD}",
    ),
}

STORABLE: dict[str, dict[str, Any]] = {
    "in a value": BASE | {"payload": {"x": BAD}, "deviceId": BAD},
    "in an unknown field, which is dropped": BASE | {BAD: 1, "other": {BAD: 1}},
    "in a field that is null, which is dropped": BASE | {"payload": {"x": 1, BAD: None}},
    "the escape itself": BASE | {"payload": {"\\u0000": 1}},
}


@pytest.mark.parametrize(("datum", "pointer"), UNSTORABLE.values(), ids=UNSTORABLE.keys())
def test_a_name_that_cannot_be_stored_is_a_problem_of_ours(datum: dict[str, Any], pointer: str) -> None:
    assert validate_datum(datum) == ()

    (validated,) = validate_lines([json.dumps(datum).encode()])

    assert validated.problems == ((STAGED_NUL_IN_NAME, pointer),)
    assert validated.datum == datum


@pytest.mark.parametrize("datum", STORABLE.values(), ids=STORABLE.keys())
def test_what_can_be_stored_is_none(datum: dict[str, Any]) -> None:
    (validated,) = validate_lines([json.dumps(datum).encode()])

    assert validated.problems == ()


def test_the_platforms_own_problems_come_first() -> None:
    datum = BASE | {"value": 90, "payload": {BAD: 1}}

    (validated,) = validate_lines([json.dumps(datum).encode()])

    assert [code for code, _pointer in validated.problems] == ["value-out-of-range"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"payload": {BAD: 1}}, f"/payload/{BAD}"),
        ({"client": {"private": {"x": {BAD: None}}}}, f"/client/private/x/{BAD}"),
        ({"annotations": [{BAD: 1}]}, f"/annotations/0/{BAD}"),
    ],
)
def test_the_body_of_a_data_set_has_them_too(body: dict[str, Any], pointer: str) -> None:
    assert validate_data_set(body) == ()
    assert data_set_problems(body) == ((STAGED_NUL_IN_NAME, pointer),)


def test_an_ordinary_body_has_none() -> None:
    assert data_set_problems({"deviceId": BAD, "client": {"private": {"x": BAD}}}) == ()
    assert data_set_problems(None) == ()
    assert [code for code, _pointer in data_set_problems({"deviceId": ""})] == ["value-empty"]


@pytest.mark.parametrize(
    ("time", "is_shown"),
    [
        ("9999-12-31T23:59:59.999999999Z", True),
        ("9999-12-31T23:59:59-00:01", False),
        ("9999-12-31T00:00:00-24:00", False),
        ("9999-12-31T23:59:59+01:00", True),
        ("0000-01-01T00:00:00Z", True),
        ("0000-01-01T00:00:00+00:01", False),
        ("0000-01-01T00:59:59,5+01:00", False),
        ("0000-01-01T00:00:00-01:00", True),
        ("2026-03-05T00:00:00+14:00", True),
    ],
)
def test_a_time_that_is_never_shown_is_a_problem_of_ours(time: str, is_shown: bool) -> None:
    embedding = BASE | {"type": "wizard", "bolus": BOLUS | {"time": time}}
    for datum, pointer in ((BASE | {"time": time}, "/time"), (embedding, "/bolus/time")):
        assert validate_datum(datum) == ()

        (validated,) = validate_lines([json.dumps(datum).encode()])

        assert validated.problems == (() if is_shown else ((STAGED_TIME_NOT_SHOWN, pointer),))


def test_a_nested_time_may_be_any() -> None:
    battery = BASE | {
        "type": "pumpStatus",
        "battery": {"state": "charging", "time": "9999-12-31T23:59:59-01:00"},
    }

    assert validate_lines([json.dumps(battery).encode()])[0].problems == ()


@pytest.mark.parametrize("zero", ["0001-01-01T00:00:00Z", "0001-01-01T01:00:00.0+01:00"])
def test_a_nested_zero_time_is_not_stored(zero: str) -> None:
    battery = {"state": "charging"}
    status = {"type": "controllerStatus", "time": BASE["time"], "battery": battery | {"time": zero}}
    assert validate_datum(status) == ()

    (stored,) = stored_form(status)

    assert stored["battery"] == battery

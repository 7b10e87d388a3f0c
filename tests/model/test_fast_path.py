"""The fast path accepts nothing that the exact validation rejects, and accepts what is common."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.examples import BOLUS, EXAMPLES, SCHEDULED, TIME, example
from tidepool_ingest.model import validate_datum, validate_lines
from tidepool_ingest.model.fast_path import FAST_PATH_BYTES_MAX, surely_valid

SHARED = Path(__file__).parents[2] / ".." / "shared"

FAST_EXAMPLES = [
    ("cbg", {}),
    ("cbg", {"trend": "slowRise", "trendRate": 1.5, "trendRateUnits": "mg/dL/minute", "backfilled": False}),
    ("cbg", {"trendRate": 1.5}),
    ("cbg", {"units": "mmol/l", "value": 5, "sampleInterval": 300000}),
    (
        "smbg",
        {
            "payload": {"logIndices": [0]},
            "timezoneOffset": -480,
            "conversionOffset": 0,
            "clockDriftOffset": 0,
        },
    ),
    ("smbg", {"deviceTime": "2024-03-03T21:06:07", "annotations": [{"code": "x"}], "timezone": "US/Pacific"}),
    (
        "smbg",
        {
            "origin": {"id": "a", "name": "n", "type": "service"},
            "id": "0" * 32,
            "guid": "dropped",
            "notes": [],
        },
    ),
    ("bloodKetone", {}),
    ("basal scheduled", {}),
    ("basal automated", {}),
    ("basal temp", {"suppressed": SCHEDULED}),
    ("basal temp", {"suppressed": {**SCHEDULED, "deliveryType": "automated", "suppressed": SCHEDULED}}),
    ("basal suspend", {"suppressed": SCHEDULED}),
    ("bolus normal", {}),
    ("bolus square", {}),
    ("bolus dual/square", {}),
    ("bolus automated", {}),
    ("bolus normal", {"insulinFormulation": None, "deliveryContext": "device"}),
    ("wizard", {}),
    ("wizard", {"bolus": {**BOLUS, "subType": "square", "duration": 1, "extended": 1}}),
    ("deviceEvent alarm", {}),
    ("deviceEvent calibration", {}),
    ("deviceEvent prime", {}),
    ("deviceEvent reservoirChange", {}),
    ("deviceEvent status", {}),
    ("insulin", {"formulation": None}),
    ("physicalActivity", {}),
    ("reportedState", {}),
    ("water", {}),
    ("controllerStatus", {}),
]
"""What sources send all day, which must not take the slow way."""

NASTY: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    1e9,
    60.0,
    10**20,
    -(10**20),
    56,
    1001,
    "",
    "x",
    " ",
    "mg/dL",
    "mmol/L",
    "Mg/dL",
    "\n",
    "x" * 101,
    TIME,
    TIME + "\n",
    "2024-02-30T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "2024-03-04T05:06:07",
    "0" * 32,
    "0" * 32 + "\n",
    "US/Pacific",
    "PST",
    [],
    {},
    [None],
    [{}],
    [""],
    ["a", "a"],
    {"a": None},
    {"a": 1},
    {"type": "basal"},
    BOLUS,
    SCHEDULED,
    {"target": 100, "high": 50},
    {"low": 1, "high": 0},
    "other",
    "preset",
]
NAMES = sorted(
    {name for record in EXAMPLES.values() for name in record}
    | {
        "expectedDuration",
        "expectedNormal",
        "expectedExtended",
        "trendRate",
        "trendRateUnits",
        "suppressed",
        "subType",
        "mealOther",
        "soundName",
        "triggerDelay",
        "activityTypeOther",
        "origin",
        "location",
        "associations",
        "tags",
        "notes",
        "payload",
        "annotations",
        "source",
        "id",
        "timezone",
        "insulinFormulation",
        "deliveryContext",
        "change",
        "compounds",
        "sampleInterval",
        "stateOther",
        "endTime",
    }
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths to all values inside a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in inside for found in [(*path, key), *places(item, (*path, key))]]


def change(record: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    """Put a value into a place, if the place is still there."""
    inside: Any = record
    for key in path[:-1]:
        inside = inside[key] if isinstance(inside, dict) and key in inside else None
        if inside is None:
            return
    if isinstance(inside, dict):
        inside[path[-1]] = value


@st.composite
def changed_records(draw: st.DrawFn) -> dict[str, Any]:
    record = copy.deepcopy(EXAMPLES[draw(st.sampled_from(sorted(EXAMPLES)))])
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(places(record)))
        where = draw(st.sampled_from(["value", "field", "base"]))
        if where == "field":
            path = (*path[:-1], draw(st.sampled_from(NAMES)))
        elif where == "base":
            path = (draw(st.sampled_from(NAMES)),)
        change(record, path, copy.deepcopy(draw(st.sampled_from(NASTY))))
    return record


def is_small(record: Any) -> bool:
    return len(json.dumps(record, ensure_ascii=False).encode()) <= FAST_PATH_BYTES_MAX


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(changed_records())
def test_it_passes_only_what_is_accepted(record: dict[str, Any]) -> None:
    if is_small(record) and surely_valid(record):
        assert validate_datum(record) == ()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_each_single_change_of_each_field(name: str) -> None:
    for path in places(EXAMPLES[name]):
        for value in NASTY:
            record = copy.deepcopy(EXAMPLES[name])
            change(record, path, value)
            if is_small(record) and surely_valid(record):
                assert validate_datum(record) == (), (path, value)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder `shared` beside the checkout")
def test_it_passes_no_recorded_case_that_was_refused() -> None:
    passed = 0
    with gzip.open(SHARED / "conformance" / "datum-verdicts.ndjson.gz") as cases:
        for case in map(json.loads, cases):
            if is_small(case["datum"]) and surely_valid(case["datum"]):
                passed += 1
                assert case["accepted"], case["id"]
    assert passed > 400


@pytest.mark.parametrize(("name", "changes"), FAST_EXAMPLES)
def test_what_is_common_passes(name: str, changes: dict[str, Any]) -> None:
    record = example(name, changes)
    assert is_small(record)
    assert surely_valid(record)
    assert validate_datum(record) == ()


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"cbg","time":"2024-03-04T05:06:07Z","units":"mg/dL","value":119,"x":' + b"1" * 400 + b"}",
        b'{"type":"cbg","time":"2024-03-04T05:06:07Z","units":"mg/dL","value":119,"x":NaN}',
        b'{"type":"cbg","time":"2024-03-04T05:06:07Z","units":"mg/dL","value":119,"x":1e400}',
        b'{"type":"cbg","time":"2024-03-04T05:06:07Z","units":"mg/dL","value":119},{"type":"cbg"}',
    ],
)
def test_no_line_that_is_not_json_passes(line: bytes) -> None:
    assert [judged.problems for judged in validate_lines([line])] == [(("staged-not-json", ""),)]


def test_a_payload_that_go_would_write_too_large_does_not_pass_by_its_line() -> None:
    room = FAST_PATH_BYTES_MAX - len(json.dumps(example("smbg", {"payload": {"a": ""}})))
    accepted = example("smbg", {"payload": {"a": "<" * room}})
    assert surely_valid(accepted)
    assert validate_datum(accepted) == ()
    line = json.dumps(example("smbg", {"payload": {"a": "<" * (room + 400)}})).encode()
    assert validate_lines([line])[0].problems == (("size-out-of-range", "/payload"),)

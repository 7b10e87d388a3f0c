"""The checker's idea of a record's content agrees with what the Platform keeps."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from typing import Any

import pytest

from tests import SHARED
from tidepool_simulator.sample.checker.content import row_of, rows_of

CONFORMANCE = SHARED / "conformance"

BEYOND_64_BITS = "cbg/conversionOffset/int64-overflow"
"""The one case left aside: a whole number of more than 64 bits, which Go cuts to its smallest integer."""


def test_a_nested_zero_time_is_none() -> None:
    battery = {"state": "charging"}
    staged = {"type": "controllerStatus", "time": "2026-11-19T08:00:00Z", "battery": battery}
    zero, other = (battery | {"time": f"0001-01-01T00:00:0{second}Z"} for second in (0, 1))

    assert row_of(staged) == row_of(staged | {"battery": zero}) != row_of(staged | {"battery": other})


@pytest.mark.parametrize(
    ("mg_dl", "mmol_l"),
    [(119, 6.60539), (120, 6.6609), (40, 2.2203), (180, 9.99135), (100, 5.55075), (0, 0)],
)
def test_glucose_is_converted_as_the_platform_does(mg_dl: float, mmol_l: float) -> None:
    staged = {"type": "cbg", "time": "2026-11-19T08:00:00Z", "units": "mg/dL", "value": mg_dl}
    assert row_of(staged) == row_of(staged | {"units": "mmol/L", "value": mmol_l})
    assert row_of(staged) != row_of(staged | {"units": "mmol/L", "value": mmol_l + 0.00001})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2026-11-19T08:00:00Z", "2026-11-19T08:00:00.000Z", True),
        ("2026-11-19T08:00:00.1239Z", "2026-11-19T08:00:00.123Z", True),
        ("2026-11-19T08:00:00Z", "2026-11-18T21:00:00-11:00", True),
        ("2024-03-01T00:30:00+01:00", "2024-02-29T23:30:00Z", True),
        ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z", True),
        ("2026-11-19T08:00:00Z", "2026-11-19T08:00:00.001Z", False),
        ("2026-11-19T08:00:00Z", "2026-11-19T08:00:00+00:01", False),
    ],
)
def test_times_are_compared_as_instants(one: str, other: str, same: bool) -> None:
    record = {"type": "food", "time": one}
    assert (row_of(record) == row_of(record | {"time": other})) is same


def test_lone_surrogates_become_the_replacement_character() -> None:
    staged = {"type": "food", "time": "2026-11-19T08:00:00Z", "name": "a\ud800b"}
    assert row_of(staged) == row_of(staged | {"name": "a\ufffdb"})


def test_truth_values_are_no_numbers() -> None:
    record = {
        "type": "cbg",
        "time": "2026-11-19T08:00:00Z",
        "units": "mmol/L",
        "value": 1,
        "payload": {"a": 1},
    }
    assert row_of(record) != row_of(record | {"payload": {"a": True}})
    assert row_of(record) == row_of(record | {"payload": {"a": 1.0}})


@pytest.mark.skipif(not CONFORMANCE.is_dir(), reason="the shared reference data are not here")
def test_staged_and_stored_form_agree_for_every_reference_case() -> None:
    normalized: dict[str, Any] = {}
    with gzip.open(CONFORMANCE / "datum-normalized.ndjson.gz") as lines:
        for line in lines:
            case = json.loads(line)
            normalized[case["id"]] = case
    differing = []
    with gzip.open(CONFORMANCE / "datum-verdicts.ndjson.gz") as lines:
        for case in map(json.loads, lines):
            if case["id"] in normalized:
                stored = normalized.pop(case["id"])
                kept = Counter(map(row_of, [stored["normalized"], *(stored.get("extra") or [])]))
                if Counter(rows_of(case["datum"])) != kept:
                    differing.append(case["id"])
    assert not normalized
    assert differing == [BEYOND_64_BITS]

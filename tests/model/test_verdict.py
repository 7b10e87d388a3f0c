"""Judging lines: what is handed back, and that no line harms another."""

from __future__ import annotations

import gc
import json

import pytest

from tests.model.examples import EXAMPLES, example
from tidepool_ingest.model import (
    STAGED_NOT_JSON,
    STAGED_NOT_UTF8,
    Problem,
    validate_datum,
    validate_lines,
)

GOOD = json.dumps(example("cbg")).encode()


def test_each_line_is_judged_by_itself() -> None:
    lines = [
        GOOD,
        b'{"type":"cbg"',
        GOOD + b"\r\n",
        b'"unterminated',
        b'"string"',
        b"\xff",
        b"null",
        b"[]",
        b"",
        GOOD + GOOD,
        b'{"type":"cbg","a":[',
        b"]}",
        json.dumps(example("cbg", {"value": -1})).encode(),
        GOOD,
    ]
    not_json, not_object = (Problem(STAGED_NOT_JSON, ""),), (Problem("type-not-object", ""),)
    good = (example("cbg"), ())
    assert [(judged.datum, judged.problems) for judged in validate_lines(lines)] == [
        good,
        (None, not_json),
        good,
        (None, not_json),
        (None, not_object),
        (None, (Problem(STAGED_NOT_UTF8, ""),)),
        (None, ()),
        (None, not_object),
        (None, not_json),
        (None, not_json),
        (None, not_json),
        (None, not_json),
        (example("cbg", {"value": -1}), (Problem("value-out-of-range", "/value"),)),
        good,
    ]


def test_no_lines() -> None:
    assert validate_lines([]) == []


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_record_comes_back_whole(name: str) -> None:
    record = example(name, {"guid": "dropped by the Platform", "payload": {"a": None, "b": [1.5]}})
    for line in (json.dumps(record), json.dumps(record, indent=200)):
        (judged,) = validate_lines([line.encode()])
        assert (judged.datum, judged.problems) == (record, ())


def test_the_last_of_duplicate_keys_counts() -> None:
    line = (
        b'{"value":-1,"units":"mg/dL","type":"water","type":"cbg","time":"2024-03-04T05:06:07Z","value":100}'
    )
    (judged,) = validate_lines([line])
    assert judged.problems == ()
    assert judged.datum is not None
    assert judged.datum["value"] == 100


def test_lone_surrogates_become_what_the_platform_makes_of_them() -> None:
    line = GOOD[:-1] + b',"tags":["\\ud800","\\udfff"],"payload":{"\\udead":"\\ud83c\\udf55"}}'
    (judged,) = validate_lines([line])
    assert judged.problems == (("value-duplicate", "/tags/1"),)
    assert judged.datum is not None
    assert judged.datum["payload"] == {"\ufffd": "\U0001f355"}


def test_judging_deep_values_is_no_crash() -> None:
    deep: object = {}
    for _ in range(100_000):
        deep = {"type": "food", "ingredients": [deep]}
    assert validate_datum(deep)
    for _ in range(100_000):
        deep = deep["ingredients"][0]  # type: ignore[index]  # even to be thrown away it is too deep


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(enabled: bool) -> None:
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        validate_lines([GOOD, b"\xff"])
        assert gc.isenabled() is enabled
        with pytest.raises(TypeError):
            validate_lines([5])  # type: ignore[list-item]
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()

"""Whatever is staged gets a verdict, in little time and memory."""

from __future__ import annotations

import gzip
import json
import random
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import SHARED
from tests.model.examples import EXAMPLES, example
from tidepool_ingest.model import (
    masked_pointer,
    stored_form,
    validate_data_set,
    validate_datum,
    validate_lines,
)
from tidepool_ingest.model.decode import VALUES_MAX
from tidepool_ingest.model.problems import STAGED_NOT_JSON, STAGED_TOO_MANY_VALUES

FIELDS = sorted({name for record in EXAMPLES.values() for name in record})
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just(10**300)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=20,
)
DATA = st.builds(
    lambda name, more: {**EXAMPLES[name], **more},
    st.sampled_from(sorted(EXAMPLES)),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
)


PIECES = [b"", b'"', b"\\ud800", b"\xff", b"{", b"]", b"1e999", b"NaN", b"9" * 400, b"\x00", b",", b"[" * 300]


def check(line: bytes) -> None:
    (judged,) = validate_lines([line])
    for code, pointer in judged.problems:
        assert code
        assert pointer == "" or pointer.startswith("/")
        assert masked_pointer(pointer).count("/") == pointer.count("/")
    if judged.datum is not None and not judged.problems:
        assert stored_form(judged.datum)


@settings(max_examples=500, deadline=None)
@given(JSON | DATA)
def test_any_json(value: Any) -> None:
    line = json.dumps(value).encode()
    check(line)
    assert validate_lines([line])[0].problems == validate_datum(value) or 10**300 in [value]
    validate_data_set(value)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(line: bytes) -> None:
    check(line)


@settings(max_examples=500, deadline=None)
@given(DATA, st.randoms(use_true_random=False), st.integers(1, 4))
def test_spoilt_lines(record: dict[str, Any], chance: random.Random, times: int) -> None:
    line = bytearray(json.dumps(record, ensure_ascii=chance.random() < 0.5).encode())
    for _ in range(times):
        start = chance.randrange(len(line) + 1)
        piece = chance.choice(PIECES)
        line[start : start + chance.randrange(3)] = piece
    check(bytes(line))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder `shared` beside the checkout")
def test_spoilt_recorded_cases() -> None:
    chance = random.Random(0)
    data = recorded_cases()
    for datum, other in zip(data, chance.sample(data, len(data)), strict=True):
        if isinstance(datum, dict) and isinstance(other, dict):
            mixed = {**datum, **{name: other[name] for name in other if chance.random() < 0.2}}
            check(json.dumps(mixed).encode())


def recorded_cases() -> list[Any]:
    with gzip.open(SHARED / "conformance" / "datum-verdicts.ndjson.gz") as cases:
        return [json.loads(line)["datum"] for line in cases]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder `shared` beside the checkout")
def test_recorded_cases_with_spoilt_bytes() -> None:
    chance = random.Random(1)
    for datum in recorded_cases():
        line = bytearray(json.dumps(datum).encode())
        for _ in range(chance.randint(1, 3)):
            start = chance.randrange(len(line) + 1)
            line[start : start + chance.randrange(4)] = chance.choice(PIECES)
        check(bytes(line))


@settings(max_examples=300, deadline=None)
@given(DATA, DATA, st.sampled_from(FIELDS), JSON)
def test_of_a_repeated_name_the_last_counts(record: Any, other: Any, name: str, value: Any) -> None:
    members = [*record.items(), *other.items(), (name, value)]
    line = "{" + ",".join(f"{json.dumps(key)}:{json.dumps(item)}" for key, item in members) + "}"
    check(line.encode())
    once = json.dumps({**record, **other, name: value}).encode()
    ((several, told), (single, expected)) = (
        (one.datum, one.problems) for one in validate_lines([line.encode(), once])
    )
    assert (several, told) == (single, expected)


HUGE = {
    "text": lambda: json.dumps(example("smbg", {"name": "x" * 10_000_000})).encode(),
    "id": lambda: json.dumps(example("smbg", {"id": "x" * 10_000_000})).encode(),
    "escapes": lambda: json.dumps(example("smbg", {"payload": {"a": "\u0e01" * 1_600_000}})).encode(),
    "surrogates": lambda: json.dumps(example("smbg", {"notes": ["\ud800" * 1_600_000]})).encode(),
    "integer": lambda: b'{"type":"cbg","value":' + b"7" * 10_000_000 + b"}",
    "fraction": lambda: b'{"type":"cbg","value":0.' + b"7" * 10_000_000 + b"}",
    "exponent": lambda: b'{"type":"cbg","value":1e' + b"7" * 10_000_000 + b"}",
    "nesting": lambda: b'{"type":"food","ingredients":' + b"[" * 5_000_000 + b"]" * 5_000_000 + b"}",
    "objects": lambda: b'{"type":"food","ingredients":' * 300_000 + b"1" + b"}" * 300_000,
    "open": lambda: b"[" * 10_000_000,
    "tags": lambda: json.dumps(example("smbg", {"tags": ["x"] * 300_000})).encode(),
    "lists": lambda: b'{"x":[' + b"[]," * 3_300_000 + b"[]]}",
    "numbers": lambda: b'{"x":[' + b"0.5," * 2_500_000 + b"0]}",
    "repeated": lambda: b'{"type":"food"' + b',"a":{}' * 1_400_000 + b"}",
    "names": lambda: b'{"type":"food"' + b"".join(b',"%d":1' % name for name in range(850_000)) + b"}",
    "problems": lambda: json.dumps(example("food", {"annotations": [{}] * 2_500_000})).encode(),
    "white": lambda: b" " * 10_000_000 + json.dumps(example("smbg")).encode(),
    "time": lambda: json.dumps(
        example("smbg", {"time": "2024-03-04T05:06:07." + "1" * 10_000_000 + "Z"})
    ).encode(),
}


@pytest.mark.parametrize("kind", sorted(HUGE))
def test_ten_megabytes(kind: str) -> None:
    line = HUGE[kind]()
    started = time.process_time()
    validate_lines([line])
    assert time.process_time() - started < 5


@pytest.mark.parametrize("kind", sorted(HUGE))
def test_memory_is_a_few_times_the_line(kind: str) -> None:
    line = HUGE[kind]()
    tracemalloc.start()
    try:
        validate_lines([line])
        assert tracemalloc.get_traced_memory()[1] < 5 * len(line) + 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("field", ["annotations", "ingredients", "tags"])
def test_memory_for_as_many_values_as_are_taken(field: str) -> None:
    item = "x" if field == "tags" else {}
    line = json.dumps(example("food", {field: [item] * (VALUES_MAX // 2 - 100)})).encode()
    tracemalloc.start()
    try:
        (judged,) = validate_lines([line])
        assert judged.problems
        assert judged.problems[0].code != STAGED_TOO_MANY_VALUES
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_many_problems_take_no_more_than_linear_time() -> None:
    # The Platform itself takes quadratic time here.
    took = []
    for count in (10_000, 40_000):
        line = json.dumps(example("food", {"ingredients": [{"name": ""}] * count})).encode()
        started = time.process_time()
        (judged,) = validate_lines([line])
        took.append(time.process_time() - started)
        assert len(judged.problems) == count + 1
    assert took[1] < 16 * took[0] + 0.5


def test_long_integers_are_not_json() -> None:
    (judged,) = validate_lines([HUGE["integer"]()])
    assert judged.problems == ((STAGED_NOT_JSON, ""),)

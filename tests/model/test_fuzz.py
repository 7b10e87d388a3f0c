"""Whatever is staged gets a verdict, in little time and memory."""

from __future__ import annotations

import gzip
import json
import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.examples import EXAMPLES, example
from tidepool_ingest.model import judge, judge_data_set, judge_lines, masked_pointer, stored_form
from tidepool_ingest.model.problems import STAGED_NOT_JSON

SHARED = Path(__file__).parents[2] / ".." / "shared"
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


def check(line: bytes) -> None:
    (judged,) = judge_lines([line])
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
    assert judge_lines([line])[0].problems == judge(value) or 10**300 in [value]
    judge_data_set(value)


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
        piece = chance.choice(
            [b"", b'"', b"\\ud800", b"\xff", b"{", b"]", b"1e999", b"NaN", b"9" * 400, b"\x00", b","]
        )
        line[start : start + chance.randrange(3)] = piece
    check(bytes(line))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder `shared` beside the checkout")
def test_spoilt_recorded_cases() -> None:
    chance = random.Random(0)
    with gzip.open(SHARED / "conformance" / "datum-verdicts.ndjson.gz") as cases:
        data = [json.loads(line)["datum"] for line in cases]
    for datum, other in zip(data, chance.sample(data, len(data)), strict=True):
        if isinstance(datum, dict) and isinstance(other, dict):
            mixed = {**datum, **{name: other[name] for name in other if chance.random() < 0.2}}
            check(json.dumps(mixed).encode())


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
    "white": lambda: b" " * 10_000_000 + json.dumps(example("smbg")).encode(),
    "time": lambda: json.dumps(
        example("smbg", {"time": "2024-03-04T05:06:07." + "1" * 10_000_000 + "Z"})
    ).encode(),
}


@pytest.mark.parametrize("kind", sorted(HUGE))
def test_ten_megabytes(kind: str) -> None:
    line = HUGE[kind]()
    started = time.process_time()
    judge_lines([line])
    assert time.process_time() - started < 5


@pytest.mark.parametrize("kind", ["text", "id", "integer", "nesting", "open"])
def test_memory_is_a_few_times_the_line(kind: str) -> None:
    line = HUGE[kind]()
    tracemalloc.start()
    try:
        judge_lines([line])
        assert tracemalloc.get_traced_memory()[1] < 5 * len(line) + 2_000_000
    finally:
        tracemalloc.stop()


def test_many_problems_take_no_more_than_linear_time() -> None:
    # The Platform itself takes quadratic time here.
    took = []
    for count in (20_000, 80_000):
        line = json.dumps(example("food", {"ingredients": [{"name": ""}] * count})).encode()
        started = time.process_time()
        (judged,) = judge_lines([line])
        took.append(time.process_time() - started)
        assert len(judged.problems) == count + 1
    assert took[1] < 16 * took[0] + 0.5


def test_long_integers_are_not_json() -> None:
    (judged,) = judge_lines([HUGE["integer"]()])
    assert judged.problems == ((STAGED_NOT_JSON, ""),)

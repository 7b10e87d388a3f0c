"""Sizes and numbers as Go writes them."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidepool_ingest.model.gojson import GROWTH_MAX, go_float, go_json_size

NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (100, "100"),
        (0.1, "0.1"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (123456789012345678, "123456789012345680"),
        (1e-6, "0.000001"),
        (1.5e-7, "1.5e-7"),
        (1e-10, "1e-10"),
        (1.5e300, "1.5e+300"),
        ("", '""'),
        ('a"\\\b\f\n\r\t', '"a\\"\\\\\\b\\f\\n\\r\\t"'),
        ("\x00\x1f\x7f", '"\\u0000\\u001f\x7f"'),
        ("<&>", '"\\u003c\\u0026\\u003e"'),
        ("\u2028\u2029", '"\\u2028\\u2029"'),
        ("é\U0001f355", '"é\U0001f355"'),
        ([], "[]"),
        ({}, "{}"),
        ([1, [None, "a"]], '[1,[null,"a"]]'),
        ({"a": 1, "<": [True]}, '{"a":1,"\\u003c":[true]}'),
    ],
)
def test_size(value: Any, written: str) -> None:
    assert go_json_size(value) == len(written.encode())


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (6.60539, "6.60539"),
        (5, "5"),
        (5.0, "5"),
        (-0.0, "-0"),
        (1e21, "1" + "0" * 21),
        (1.25e-9, "0.00000000125"),
    ],
)
def test_number_without_exponent(number: float, text: str) -> None:
    assert go_float(number) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_spelled_without_loss(number: float) -> None:
    text = go_float(number)
    assert "e" not in text
    assert float(text) == number
    assert math.copysign(1, float(text)) == math.copysign(1, number)
    assert Decimal(text) == Decimal(repr(number))


@given(JSON)
def test_nothing_grows_by_more_than_the_factor(value: Any) -> None:
    assert go_json_size(value) <= GROWTH_MAX * len(
        json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    )

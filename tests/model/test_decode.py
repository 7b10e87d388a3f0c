"""Which texts are JSON for the Platform."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from tidepool_ingest.deep_json import dumps
from tidepool_ingest.model import STAGED_NOT_JSON, STAGED_NOT_UTF8, NotDecodableError, decode
from tidepool_ingest.model.decode import (
    FLOAT_DIGITS_MAX,
    NESTING_MAX,
    VALUES_MAX,
    may_hold_huge_integer,
)
from tidepool_ingest.model.problems import STAGED_TOO_MANY_VALUES


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b' {"a": 1}\r\n', {"a": 1}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'"\\ud83c\\udf55"', "\U0001f355"),
        (b'"\\ud800"', "\ufffd"),
        (b'["\\udc00\\ud800x", {"\\uD83D": "\\\\ud800"}]', ["\ufffd\ufffdx", {"\ufffd": "\\ud800"}]),
        (b'"\\u0000\\/"', "\x00/"),
        ('"é\u2028"'.encode(), "é\u2028"),
        (b"1e5", 1e5),
        (b"1e-400", 0.0),
        (b"1" * 300, int("1" * 300)),
        (b"-" + b"1" * 309, -float("1" * 309)),
        (b'{"a":"\\ud800","b":' + b"1" * 309 + b"}", {"a": "\ufffd", "b": float("1" * 309)}),
        (b"null", None),
        (b'"' + b"[" * 1000 + b'"', "[" * 1000),
    ],
)
def test_what_can_be_decoded(text: bytes, value: Any) -> None:
    assert decode(text) == value


@pytest.mark.parametrize("surrogate", ["", '"\\ud800",'])
def test_as_many_levels_are_decoded_as_the_platform_reads(surrogate: str) -> None:
    """Around a record is the array of the request: together they may have 10,000 levels."""
    assert NESTING_MAX == 9_999
    text = f"[{surrogate}" * NESTING_MAX + "]" * NESTING_MAX
    replaced = text.replace("\\ud800", "\ufffd").replace(",]", "]")
    value = decode(text.replace(",]", "]").encode())
    assert dumps(value, ensure_ascii=False, separators=(",", ":")) == replaced


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"  ",
        b"{",
        b'{"a":1}}',
        b'{"a":1} {"a":1}',
        b"{'a':1}",
        b'{"a":1,}',
        b"[1,]",
        b"NaN",
        b'{"a":NaN}',
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b'{"a":-1e400,"b":"\\ud800"}',
        b"1" * 400,
        b'{"a":' + b"9" * 100000 + b"}",
        b"01",
        b"+1",
        b".5",
        b"1.",
        b'"a\nb"',
        b'"\x00"',
        b'"\\x41"',
        b"\xef\xbb\xbf{}",
        b"{}\x00",
        b"{} // yes",
        b"[" * (NESTING_MAX + 1) + b"]" * (NESTING_MAX + 1),
        b'{"a":' * (NESTING_MAX + 1) + b"1" + b"}" * (NESTING_MAX + 1),
        b"[" * 90000,
        b'["\\ud800",' + b"[" * 90000 + b"]" * 90001,
    ],
)
def test_what_is_not_json(text: bytes) -> None:
    with pytest.raises(NotDecodableError) as caught:
        decode(text)
    assert caught.value.code == STAGED_NOT_JSON


@pytest.mark.parametrize(
    ("item", "values"),
    [(b"1", 1), (b"[]", 2), (b"{}", 2), (b'"a"', 1), (b'"a,\\"[,{"', 1), (b'{"a":1}', 2), (b"[[[]]]", 4)],
)
def test_so_many_values_are_not_decoded(item: bytes, values: int) -> None:
    """A million tiny values would take a hundred times the size of their text."""
    count = VALUES_MAX // values
    assert len(decode(b"[" + b",".join([item] * count) + b"]")) == count
    for text in (b"[" + b",".join([item] * (count + 1)) + b"]", (item + b",") * 1_000_000):
        with pytest.raises(NotDecodableError) as caught:
            decode(text)
        assert caught.value.code == STAGED_TOO_MANY_VALUES


def test_what_stands_in_a_string_is_no_value() -> None:
    text = 'a,[{\\" ' * VALUES_MAX
    assert decode(f'{{"notes":"{text}"}}'.encode()) == {
        "notes": text.replace("\\\\", "\\").replace('\\"', '"')
    }


def test_a_huge_integer_is_seen_wherever_it_stands() -> None:
    for digits, is_huge in ((FLOAT_DIGITS_MAX, False), (FLOAT_DIGITS_MAX + 1, True)):
        for before in range(2 * FLOAT_DIGITS_MAX + 3):
            text = b"x" * before + b"7" * digits + b"y" * (2 * FLOAT_DIGITS_MAX)
            assert may_hold_huge_integer(text) is is_huge


@pytest.mark.parametrize(
    "text", [b'"\xff"', b'{"\xc3\x28":1}', b'"\xed\xa0\x80"', b"\x80", b'{"a":"\xf4\x90\x80\x80"}']
)
def test_what_is_not_utf8(text: bytes) -> None:
    with pytest.raises(NotDecodableError) as caught:
        decode(text)
    assert caught.value.code == STAGED_NOT_UTF8


def test_the_error_does_not_quote_the_text() -> None:
    with pytest.raises(NotDecodableError) as caught:
        decode(b'{"value": secret}')
    assert "secret" not in f"{caught.value!r} {caught.value}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert pickle.loads(pickle.dumps(caught.value)).code == STAGED_NOT_JSON

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidepool_ingest.formats import json_array
from tidepool_ingest.formats.reader import (
    BLOCK_BYTES,
    BLOCK_RECORDS,
    EMPTY_ELEMENT,
    MAX_RECORD_BYTES,
    TOO_LARGE,
    Block,
    RejectedRow,
)
from tidepool_ingest.staging.errors import BatchError


def cut(text: bytes, size: int) -> list[bytes]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def elements(text: bytes, size: int = 10**6) -> list[bytes]:
    """Check that positions are consecutive and return all elements."""
    position = 0
    found: list[bytes] = []
    for block in json_array.split(cut(text, size)):
        assert block.first_position == position
        assert len(block.lines) <= 1000
        found += block.lines
        position += len(block)
    return found


def refusal(text: bytes, size: int = 10**6) -> BatchError:
    with pytest.raises(BatchError) as caught:
        list(json_array.split(cut(text, size), 5))
    assert caught.value.file_number == 5
    return caught.value


@pytest.mark.parametrize("size", [1, 2, 3, 5, 11, 1000])
def test_elements_are_handed_on_as_they_stand(size: int) -> None:
    text = rb"""
    [ {"a": 1.50, "a":  1e3}  ,{"b":"],}\"\\"},
      [1, {"c": [[]]}], "text, [", 6.10, -0, true, null,NaN , {} , [] ]
    """
    assert elements(text, size) == [
        b'{"a": 1.50, "a":  1e3}',
        rb'{"b":"],}\"\\"}',
        b'[1, {"c": [[]]}]',
        b'"text, ["',
        b"6.10",
        b"-0",
        b"true",
        b"null",
        b"NaN",
        b"{}",
        b"[]",
    ]


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_only_line_breaks_between_tokens_become_spaces(size: int) -> None:
    text = b'[\n  {\r\n    "a": "x\\n y",\n\t"b": [\n1\n]\n  }\n]\n'
    assert elements(text, size) == [b'{      "a": "x\\n y", \t"b": [ 1 ]   }']


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_nesting_deeper_than_the_pattern(size: int) -> None:
    deep = b'{"a":[' * 30 + b'"]"' + b"]}" * 30
    assert elements(b"[" + deep + b"," + deep + b",1]", size) == [deep, deep, b"1"]


def test_very_deep_nesting() -> None:
    deep = b"[" * 300_000 + b"]" * 300_000
    assert elements(b"[1," + deep + b",2]") == [b"1", deep, b"2"]


@pytest.mark.parametrize("text", [b"", b" \n ", b"[]", b" [ \n ] "])
def test_an_array_of_nothing(text: bytes) -> None:
    assert elements(text) == elements(text, 1) == []


@pytest.mark.parametrize("text", [b'{"a":1}\n{"a":2}', b'"[', b"null", b"x[]"])
def test_what_is_no_array_is_refused(text: bytes) -> None:
    assert refusal(text).code == "file-not-array"


@pytest.mark.parametrize("size", [1, 1000])
def test_a_broken_element_between_certain_borders_is_handed_on_to_be_judged(size: int) -> None:
    text = b'[{"a":1},{"a" 1},{"a":NaN},{"a":1],{a:1},1 2,\xff,{"b":2}]'
    assert elements(text, size) == [
        b'{"a":1}',
        b'{"a" 1}',
        b'{"a":NaN}',
        b'{"a":1]',
        b"{a:1}",
        b"1 2",
        b"\xff",
        b'{"b":2}',
    ]


@pytest.mark.parametrize("size", [1, 1000])
def test_an_element_that_is_not_there_is_refused_with_its_position(size: int) -> None:
    assert list(json_array.split(cut(b"[1,,2,]", size))) == [
        Block(0, [b"1"], [RejectedRow(1, EMPTY_ELEMENT)]),
        Block(2, [b"2"], [RejectedRow(3, EMPTY_ELEMENT)]),
    ]


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("text", "code", "position"),
    [
        (b'[{"a":1},{"a":[1},{"b":2}]', "file-truncated", 1),
        (b'[{"a":1},{"a":"x},{"b":"y"},{"c":"z"}]', "file-truncated", 1),
        (b'[{"a":1},{"a":2', "file-truncated", 1),
        (b'[{"a":1},"x\\', "file-truncated", 1),
        (b'[{"a":1}', "file-truncated", 0),
        (b'[{"a":1},', "file-truncated", 1),
        (b"[", "file-truncated", 0),
        (b'[{"a":1}}]', "file-broken", 0),
        (b'[{"a":1}] {"b":2}', "file-broken", 1),
        (b'[{"a":1}][', "file-broken", 1),
        (b'[{"a":1},\n{"a":"x,\n"b":"y"}]', "file-truncated", 1),
        (b'[{"a":1},\n{"a":"x,\n"b":"y},\n{"a":2}]', "file-broken", 1),
        (b'[1,{"a":"x\\\n"}]', "file-broken", 1),
    ],
)
def test_where_borders_are_not_certain_the_file_is_refused(
    text: bytes, code: str, position: int, size: int
) -> None:
    error = refusal(text, size)
    assert (error.code, error.position) == (code, position)


def test_blocks_hold_so_many_elements() -> None:
    text = json.dumps(list(range(2 * BLOCK_RECORDS + 7))).encode()
    blocks = json_array.split(cut(text, 997))
    assert [len(block) for block in blocks] == [BLOCK_RECORDS, BLOCK_RECORDS, 7]
    assert elements(text) == [b"%d" % number for number in range(2 * BLOCK_RECORDS + 7)]


def test_long_elements_do_not_pile_up_in_a_block() -> None:
    element = b'"' + b"x" * 1_000_000 + b'"'
    blocks = list(json_array.split(cut(b"[" + b",".join([element] * 20) + b"]", 2**20)))
    assert [line for block in blocks for line in block.lines] == [element] * 20
    assert max(sum(map(len, block.lines)) for block in blocks) <= BLOCK_BYTES + len(element)


LONG_STRING = b'"' + b"x" * MAX_RECORD_BYTES + b'"'
LONG_OBJECT = b'{"a":[' + b'"],\\"{",' * (MAX_RECORD_BYTES // 8) + b"1]}"


@pytest.mark.slow
@pytest.mark.parametrize("size", [2**20, 10**9])
@pytest.mark.parametrize("long", [LONG_STRING, LONG_OBJECT, b"1" * (MAX_RECORD_BYTES + 1)])
def test_an_element_that_is_too_long_is_refused_alone(long: bytes, size: int) -> None:
    text = b'[{"b":1},' + long + b"," + long + b',{"c":2}]'
    assert list(json_array.split(cut(text, size))) == [
        Block(0, [b'{"b":1}'], [RejectedRow(1, TOO_LARGE), RejectedRow(2, TOO_LARGE)]),
        Block(3, [b'{"c":2}']),
    ]


def test_an_element_that_is_too_long_and_does_not_end() -> None:
    error = refusal(b"[1," + LONG_OBJECT[:-1] + b",2]", 2**20)
    assert (error.code, error.position) == ("file-truncated", 1)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    values=st.lists(VALUES, max_size=6),
    indent=st.sampled_from([None, 0, 2, "\t"]),
    ascii_only=st.booleans(),
    size=st.integers(1, 60),
)
def test_every_array_falls_into_its_elements(
    values: list[Any], indent: Any, ascii_only: bool, size: int
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    found = elements(text, size)
    assert not any(b"\n" in element for element in found)
    assert [json.loads(element) for element in found] == values


@settings(deadline=None)
@given(text=st.text(alphabet='[]{}",:\\ \n1ax', max_size=40), size=st.integers(1, 7))
def test_pieces_make_no_difference_and_no_text_breaks_it(text: str, size: int) -> None:
    content = b"[" + text.encode()
    outcomes: list[object] = []
    for pieces in ([content], cut(content, size)):
        try:
            outcomes.append(list(json_array.split(pieces)))
        except BatchError as error:
            outcomes.append((error.code, error.position))
    assert outcomes[0] == outcomes[1]

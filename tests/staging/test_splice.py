from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidepool_ingest.staging.splice import (
    EACH,
    Cut,
    cut_member,
    members,
    spliced,
    values_at,
    with_member,
    with_member_in,
)

DEEP = b'{"a":[' * 20 + b"1" + b"]}" * 20


def test_members_are_offsets_into_the_line() -> None:
    line = rb' { "a" : 6.10 ,"b\u0062":{"a":[1,"]"]} , "c":"x\"y"} '
    found = members(line)
    assert found is not None
    assert [(m.name, line[m.start : m.value_start], line[m.value_start : m.end]) for m in found] == [
        ("a", b'"a" : ', b"6.10"),
        ("bb", rb'"b\u0062":', b'{"a":[1,"]"]}'),
        ("c", b'"c":', rb'"x\"y"'),
    ]


def test_members_of_deeply_nested_objects() -> None:
    line = b'{"x": ' + DEEP + b' ,"y":2}'
    found = members(line)
    assert found is not None
    assert [(m.name, line[m.value_start : m.end]) for m in found] == [("x", DEEP), ("y", b"2")]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b'{"a"',
        b'{"a":',
        b'{"a":1',
        b'{"a":1,',
        b'{"a" 1}',
        b"{a:1}",
        b'{"a":1 2}',
        b'{"a":[}',
        b'{"\xff":1}',
        rb'{"\x":1}',
        b'{"a":' + b"[" * 20,
    ],
)
def test_what_is_no_whole_object_has_no_members(line: bytes) -> None:
    assert members(line) is None


def test_an_empty_object_has_none() -> None:
    assert members(b" { } ") == []


@pytest.mark.parametrize(
    ("line", "spliced_line"),
    [
        (b'{"a":1}', b'{"a":1,"id":"x"}'),
        (b"{}", b'{"id":"x"}'),
        (b" { } \t", b' { "id":"x"} \t'),
        (b'{"a":{}} ', b'{"a":{},"id":"x"} '),
        (b'{"a":"{" }', b'{"a":"{" ,"id":"x"}'),
        (b'{"id":null,"v":6.10}', b'{"id":null,"v":6.10,"id":"x"}'),
    ],
)
def test_a_member_is_put_at_the_end(line: bytes, spliced_line: bytes) -> None:
    assert with_member(line, "id", b'"x"') == spliced_line
    assert json.loads(spliced_line)["id"] == "x"


def test_the_name_is_written_as_json() -> None:
    assert with_member(b"{}", 'a"b', b"1") == b'{"a\\"b":1}'


@pytest.mark.parametrize("line", [b"", b"}", b"[]", b'{"a":1', b" ", b"1"])
def test_a_member_is_put_into_objects_only(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON object") as caught:
        with_member(line, "id", b"1")
    assert line.strip() == b"" or line.decode() not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "spliced_line"),
    [
        (b'{"bolus":{"a":1},"v":1e3}', b'{"bolus":{"a":1,"id":"x"},"v":1e3}'),
        (b'{"v":[{"bolus":{}}],"bolus": { } }', b'{"v":[{"bolus":{}}],"bolus": { "id":"x"} }'),
        (b'{"bolus":1,"bolus":{"b":{"c":{}}}}', b'{"bolus":1,"bolus":{"b":{"c":{}},"id":"x"}}'),
        (rb'{"b\u006flus":{"a":"}"}}', rb'{"b\u006flus":{"a":"}","id":"x"}}'),
        (b'{"bolus":' + DEEP + b"}", b'{"bolus":' + DEEP[:-1] + b',"id":"x"}}'),
    ],
)
def test_a_member_is_put_into_an_inner_object(line: bytes, spliced_line: bytes) -> None:
    assert with_member_in(line, ("bolus",), "id", b'"x"') == spliced_line
    assert json.loads(spliced_line)["bolus"]["id"] == "x"


def test_a_path_may_have_more_steps_or_none() -> None:
    assert with_member_in(b'{"a":{"b":{"c":1}}}', ("a", "b"), "d", b"2") == b'{"a":{"b":{"c":1,"d":2}}}'
    assert with_member_in(b'{"a":1}', (), "d", b"2") == b'{"a":1,"d":2}'


@pytest.mark.parametrize(
    "line", [b"{}", b'{"bolus":"x"}', b'{"bolus":{},"bolus":null}', b'{"bolus":[{}]}', b"[]", b'{"bolus":{']
)
def test_there_must_be_an_object_at_the_path(line: bytes) -> None:
    with pytest.raises(ValueError, match="no object at this path"):
        with_member_in(line, ("bolus",), "id", b"1")


def without(line: bytes, *names: str) -> bytes:
    found = members(line)
    assert found is not None
    cuts, kept = [], False
    for index, member in enumerate(found):
        if member.name in names:
            cuts.append(cut_member(found, index, kept))
        else:
            kept = True
    return spliced(line, cuts)


@pytest.mark.parametrize(
    ("names", "left"),
    [
        ("a", b'{ "b" : 2 , "c":3 }'),
        ("b", b'{ "a": 1 , "c":3 }'),
        ("c", b'{ "a": 1, "b" : 2 }'),
        ("ab", b'{ "c":3 }'),
        ("bc", b'{ "a": 1 }'),
        ("ac", b'{ "b" : 2 }'),
        ("abc", b"{  }"),
        ("x", b'{ "a": 1, "b" : 2 , "c":3 }'),
    ],
)
def test_members_are_cut_out_with_their_comma(names: str, left: bytes) -> None:
    assert without(b'{ "a": 1, "b" : 2 , "c":3 }', *names) == left


def test_cuts_may_come_in_any_order() -> None:
    assert spliced(b"abcdef", [Cut(4, 5, b"EEE"), Cut(0, 1, b""), Cut(2, 2, b"-")]) == b"b-cdEEEf"


def test_values_at_a_path() -> None:
    line = b'{"u":{"bg":1,"bg":"mg"},"s":[{"a":{"v":2}}, {"a":{}},3, {"a":{"v":[4]}}],"e":[],"x":"y"}'

    def at(*path: str) -> list[bytes]:
        return [line[start:end] for start, end in values_at(line, path)]

    assert at("u", "bg") == [b'"mg"']
    assert at("s", EACH, "a", "v") == [b"2", b"[4]"]
    assert at("e", EACH) == at("x", "y") == at("nowhere") == at("u", EACH) == []
    assert at("x") == [b'"y"']


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=4), VALUES, max_size=5)


@settings(deadline=None)
@given(
    record=OBJECTS, inner=OBJECTS, name=st.text(max_size=4), value=VALUES, indent=st.sampled_from([None, 1])
)
def test_splicing_means_what_it_says(
    record: dict[str, Any], inner: Any, name: str, value: Any, indent: Any
) -> None:
    line = json.dumps(record, indent=indent, ensure_ascii=False).encode()
    text = json.dumps(value).encode()
    assert json.loads(with_member(line, name, text)) == {**record, name: value}
    nested = {**record, "in": inner}
    line = json.dumps(nested, indent=indent).encode()
    assert json.loads(with_member_in(line, ("in",), name, text)) == {**nested, "in": {**inner, name: value}}


@settings(deadline=None)
@given(record=OBJECTS, dropped=st.sets(st.text(max_size=4), max_size=3), indent=st.sampled_from([None, 1]))
def test_cutting_means_what_it_says(record: dict[str, Any], dropped: set[str], indent: Any) -> None:
    dropped |= set(sorted(record)[::2])
    line = json.dumps(record, indent=indent).encode()
    assert json.loads(without(line, *dropped)) == {k: v for k, v in record.items() if k not in dropped}


@settings(deadline=None)
@given(line=st.text(alphabet='[]{}",:\\ 1a', max_size=30))
def test_no_text_breaks_it(line: str) -> None:
    found = members(line.encode())
    if found is None:
        with contextlib.suppress(json.JSONDecodeError):  # no JSON at all: nothing to find is right
            assert not isinstance(json.loads(line), dict)

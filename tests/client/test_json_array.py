from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidepool_ingest.client import json_stream
from tidepool_ingest.client.json_stream import MalformedArrayError, blocks_of, objects_of

from .wire import CANARY

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
arrays = st.lists(st.dictionaries(st.text(), values, max_size=4), max_size=5)


def pieces(text: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


def array_of(record: bytes, blocks: int) -> Iterator[bytes]:
    """An array of one record, and of so many blocks of 200 more."""
    block = b",".join([record] * 200)
    yield b"[" + record
    for _ in range(blocks):
        yield b"," + block
    yield b"]"


@settings(max_examples=150, deadline=None)
@given(array=arrays, size=st.integers(1, 40), ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_the_same_as_reading_it_whole(
    array: list[object], size: int, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(array, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    try:
        text.decode()
    except UnicodeDecodeError:
        with pytest.raises(MalformedArrayError):
            list(objects_of(pieces(text, size)))
        return
    assert list(objects_of(pieces(text, size))) == json.loads(text)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_cut_anywhere_it_is_an_error(size: int) -> None:
    text = json.dumps([{"a": 1.5, "b": [{"c": "]}é"}]}, {}, {"d": None}], ensure_ascii=False).encode()
    assert len(list(objects_of(pieces(text, size)))) == 3
    for end in range(len(text)):
        with pytest.raises(MalformedArrayError):
            list(objects_of(pieces(text[:end], size)))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"null",
        b"{}",
        b"<html>",
        b"[1]",
        b"[null]",
        b'["a"]',
        b"[[]]",
        b"[{}",
        b"[{},]",
        b"[,{}]",
        b"[{} {}]",
        b"[{}];",
        b"[{}][{}]",
        b"[{}]x",
        b'[{"a":NaN}]',
        b'[{"a":-Infinity}]',
        b'[{"a":\xff}]',
        b'[{"a":"\xff"}]',
        b'[{"a":1,}]',
        b"[" + b'{"a":[' * 20_000,
        b'[{"a":' + b"9" * 5000 + b"}]",
    ],
)
def test_anything_else_is_an_error_that_does_not_quote(text: bytes) -> None:
    canary = text + f'"{CANARY}'.encode()
    with pytest.raises(MalformedArrayError) as caught:
        list(objects_of([canary]))
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None
    with pytest.raises(MalformedArrayError):
        list(objects_of([text]))


def test_exact_values() -> None:
    text = b'[{"big":123456789012345678901234567890,"lone":"\\ud800","twice":1,"twice":2,"tiny":1e-310}]'
    assert list(objects_of([text])) == [
        {"big": 123456789012345678901234567890, "lone": "\ud800", "twice": 2, "tiny": 1e-310}
    ]


def test_objects_come_before_the_end_does() -> None:
    def endless() -> Iterator[bytes]:
        yield b"["
        while True:
            yield b'{"a":1},'

    stream = objects_of(endless())
    assert [next(stream) for _ in range(1000)] == [{"a": 1}] * 1000


def test_memory_does_not_grow_with_the_array() -> None:
    record = json.dumps({"type": "cbg", "value": 5.5, "payload": {"a": "x" * 300}}).encode()
    array = partial(array_of, record)

    tracemalloc.start()
    try:
        assert sum(1 for _ in objects_of(array(3))) == 601
        small = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert sum(1 for _ in objects_of(array(300))) == 60_001
        large = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert large < 1.5 * small


def test_a_huge_object_costs_no_quadratic_time() -> None:
    text = json.dumps([{"payload": {"a": ["x" * 50] * 200_000}}]).encode()
    (found,) = objects_of(pieces(text, 65536))
    assert len(found["payload"]["a"]) == 200_000


def test_an_object_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidepool_ingest.client.json_stream.RECORD_LIMIT_CHARACTERS", 100_000)

    def endless() -> Iterator[bytes]:
        yield b'[{"a":"'
        while True:
            yield b"x" * 1000

    with pytest.raises(MalformedArrayError, match="larger"):
        list(objects_of(endless()))


# ---------------------------------------------------------------- some fields only


class Some(msgspec.Struct):
    id: Any = None
    type: Any = None


names = st.sampled_from(["id", "type", "payload", "},{", "é", "\ud800"])
odd_values = values | st.sampled_from(
    ["},{", "}, {", '"},{"', "\\", "\ud800", 10**30, [{}, {"id": "inner"}, {}]]
)
odd_arrays = st.lists(st.dictionaries(names, odd_values, max_size=4), max_size=12)


def fields_in(text: bytes, size: int) -> list[tuple[Any, Any]] | str:
    try:
        return [(row.id, row.type) for block in blocks_of(pieces(text, size), Some) for row in block]
    except MalformedArrayError as error:
        return error.reason


def objects_in(text: bytes, size: int) -> list[tuple[Any, Any]] | str:
    try:
        return [(row.get("id"), row.get("type")) for row in objects_of(pieces(text, size))]
    except MalformedArrayError as error:
        return error.reason


@pytest.mark.parametrize(
    "text", [b'[{"a":1}\xff', b'[{"a":1} x\xff', b"\xff[", b'[{"a":"\xe2\x82', b'[{"a":1}]\xff']
)
def test_what_is_wrong_does_not_depend_on_how_the_text_is_divided(text: bytes) -> None:
    assert len({str(objects_in(text, size)) for size in range(1, len(text) + 1)}) == 1


@settings(max_examples=300, deadline=None)
@given(
    array=odd_arrays,
    size=st.integers(1, 60),
    block=st.integers(1, 80),
    most=st.integers(1, 3),
    ascii_only=st.booleans(),
    separators=st.sampled_from([(",", ":"), (" ,\n ", " : ")]),
    cut=st.none() | st.integers(0, 400),
    spoilt=st.none()
    | st.tuples(st.integers(0, 400), st.sampled_from([b",", b"}", b"]", b'"', b"\xff", b"0", b""])),
)
@example([{"\ud800": "},{"}], 1, 8, 2, False, (",", ":"), None, (0, b","))
def test_fields_are_those_of_the_objects_and_errors_the_same(
    array: list[object],
    size: int,
    block: int,
    most: int,
    ascii_only: bool,
    separators: tuple[str, str],
    cut: int | None,
    spoilt: tuple[int, bytes] | None,
) -> None:
    text = json.dumps(array, ensure_ascii=ascii_only, separators=separators).encode("utf-8", "surrogatepass")
    text = text[:cut]
    if spoilt is not None:
        text = text[: spoilt[0]] + spoilt[1] + text[spoilt[0] + 1 :]
    with (
        patch.object(json_stream, "BLOCK_BYTES", block),
        patch.object(json_stream, "MOST_BYTES", most * block),
        patch.object(json_stream, "_CUTS_TRIED", most),
    ):
        found = fields_in(text, size)

    assert found == objects_in(text, size)


def test_an_object_larger_than_a_block_does_not_slow_down_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    slowly: list[object] = []
    monkeypatch.setattr(json_stream, "objects_of", lambda pieces: slowly.append(pieces) or iter(()))
    rows = [{"id": f"{number:032x}", "type": "cbg", "payload": {"a": [{}, {}]}} for number in range(5_000)]
    rows[2_500]["payload"] = {"schedules": [{"start": number, "rate": 1} for number in range(20_000)]}

    assert fields_in(json.dumps(rows).encode(), 65_536) == [(row["id"], "cbg") for row in rows]
    assert not slowly


def test_fields_take_no_more_memory_for_a_longer_array() -> None:
    record = json.dumps({"id": "a" * 32, "type": "cbg", "payload": {"a": "x" * 300}}).encode()
    array = partial(array_of, record)

    tracemalloc.start()
    try:
        assert sum(map(len, blocks_of(array(30), Some))) == 6_001
        small = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert sum(map(len, blocks_of(array(300), Some))) == 60_001
        large = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert large < 1.5 * small

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidepool_ingest.client.json_stream import MalformedArrayError, objects_of

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
    block = b",".join([record] * 200)

    def array(blocks: int) -> Iterator[bytes]:
        yield b"[" + record
        for _ in range(blocks):
            yield b"," + block
        yield b"]"

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

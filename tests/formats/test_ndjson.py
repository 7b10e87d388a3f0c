from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidepool_ingest.formats import ndjson
from tidepool_ingest.formats.reader import (
    BLOCK_BYTES,
    BLOCK_RECORDS,
    MAX_RECORD_BYTES,
    TOO_LARGE,
    Block,
    RejectedRow,
)
from tidepool_ingest.staging.errors import BatchError


def cut(text: bytes, size: int) -> list[bytes]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def lines_of(blocks: list[Block]) -> list[bytes]:
    """Check that positions are consecutive and return all lines."""
    position = 0
    lines: list[bytes] = []
    for block in blocks:
        assert block.first_position == position
        assert len(block) >= 1
        assert len(block.lines) <= BLOCK_RECORDS
        lines += block.lines
        position += len(block.lines)
        for refused in block.rejected:
            assert refused.position == position
            position += 1
    return lines


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_whatever_the_pieces_are(size: int) -> None:
    text = b'{"a":1}\n\n{"b":2}\r\n   \n\r\n\t{"c":3} \nbroken\n{"d":4}'
    assert lines_of(list(ndjson.split(cut(text, size)))) == [
        b'{"a":1}',
        b'{"b":2}',
        b'\t{"c":3} ',
        b"broken",
        b'{"d":4}',
    ]


def test_blocks_hold_so_many_lines_over_the_borders_of_pieces() -> None:
    text = b"".join(b"%d\n" % number for number in range(2 * BLOCK_RECORDS + 7))
    for size in (100, 5000, 10**6):
        blocks = list(ndjson.split(cut(text, size)))
        assert [len(block) for block in blocks] == [BLOCK_RECORDS, BLOCK_RECORDS, 7]
        assert lines_of(blocks) == text.split()


def test_nothing_holds_no_line() -> None:
    assert list(ndjson.split([])) == []
    assert list(ndjson.split([b"\n", b" \r\n\t\n  "])) == []


def test_long_lines_do_not_pile_up_in_a_block() -> None:
    line = b"x" * 1_000_000
    blocks = list(ndjson.split([line + b"\n"] * 30))
    assert len(lines_of(blocks)) == 30
    assert max(sum(map(len, block.lines)) for block in blocks) <= BLOCK_BYTES + len(line)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b""])
def test_a_line_that_is_too_long_is_refused_alone(ending: bytes) -> None:
    long = cut(b"x" * (MAX_RECORD_BYTES + 1), 1024 * 1024)
    after = [b"y\nz\n"] if ending else []
    blocks = list(ndjson.split([b"a\nb\n", *long, ending, *after]))
    assert blocks[0] == Block(0, [b"a", b"b"], [RejectedRow(2, TOO_LARGE)])
    assert lines_of(blocks) == [b"a", b"b", *(after[0].split() if after else [])]


def test_the_longest_line_is_held() -> None:
    long = b"x" * MAX_RECORD_BYTES
    assert lines_of(list(ndjson.split([*cut(long, 10**6), b"\ny\n"]))) == [long, b"y"]


def test_several_long_lines_in_a_row_each_have_their_position() -> None:
    long = [b"x" * (MAX_RECORD_BYTES // 2)] * 3
    blocks = list(ndjson.split([*long, b"\n", *long, b"\na\n", *long]))
    assert lines_of(blocks) == [b"a"]
    assert [place for block in blocks for place in block.rejected] == [
        RejectedRow(0, TOO_LARGE),
        RejectedRow(1, TOO_LARGE),
        RejectedRow(3, TOO_LARGE),
    ]


@settings(deadline=None)
@given(
    lines=st.lists(
        st.binary(max_size=30).map(lambda line: line.translate(None, b"\r\n"))
        | st.sampled_from([b"{}", b'{"a": 1}', b'{"a": ', b" ", b"1"])
    ),
    cuts=st.lists(st.integers(1, 40), min_size=1),
    crlf=st.booleans(),
    ended=st.booleans(),
)
def test_every_line_is_there_once(lines: list[bytes], cuts: list[int], crlf: bool, ended: bool) -> None:
    ending = b"\r\n" if crlf else b"\n"
    text = ending.join(lines) + (ending if ended and lines else b"")
    pieces, at = [], 0
    while at < len(text):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(text[at : at + size])
        at += size
    expected = [line for line in lines if line.strip()]
    if ended or not lines or not lines[-1].strip() or is_json(lines[-1]):
        assert lines_of(list(ndjson.split(pieces))) == expected
    else:
        with pytest.raises(BatchError, match="file-truncated"):
            list(ndjson.split(pieces))


def test_a_last_line_with_a_number_of_any_length_is_whole() -> None:
    line = b'{"a":%s}' % (b"9" * 5_000)
    assert lines_of(list(ndjson.split([line]))) == [line]


def test_a_last_line_that_nests_deeply_is_whole_if_it_ends() -> None:
    line = b"[" * 9_000 + b"]" * 9_000
    assert lines_of(list(ndjson.split([line]))) == [line]
    with pytest.raises(BatchError, match="file-truncated"):
        list(ndjson.split([line[:-1]]))

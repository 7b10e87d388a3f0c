"""The quarantine file: what a person finds in it, and how what was corrected is read back."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from upath import UPath

from tidepool_ingest.formats import SourceReader, guess_format
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.quarantine import Place, QuarantineWriter, rewrite
from tidepool_ingest.staging.source_file import SourceFile

Put = Callable[[UPath, bytes], UPath]

RECORD = b'{"v": 6.10, "t":"\xc3\xa9", "v": 1e2}'
KEPT = {
    "an object": RECORD,
    "an array": b'[1, "2"]',
    "null": b"null",
    "broken JSON": b'{"v": 6.10',
    "a surrogate": b'{"v":"\\ud800"}',
    "bytes that are no text": b'{"v":"\xff\xfe"}',
    "a carriage return": b'{"v":\r1}',
    "nothing but quotes": b'"""',
}


def write(path: UPath, *records: bytes | None) -> UPath:
    path.fs.makedirs(path.parent.path, exist_ok=True)
    with QuarantineWriter(path) as quarantine:
        for position, record in enumerate(records):
            quarantine.add(Place(1, position), [("x", "/y")], record)
    return path


def content(path: UPath) -> bytes:
    return bytes(path.fs.cat_file(path.path))


def test_quarantine_is_for_people(root: UPath) -> None:
    path = root / "quarantine.ndjson"
    path.fs.makedirs(root.path, exist_ok=True)
    with QuarantineWriter(path) as quarantine:
        quarantine.add(Place(2, 7), [("type-not-int", "/a~1b"), ("x", "")], RECORD)
        quarantine.add(Place(1, 0), [("staged-too-large", "")], None)
        quarantine.add(Place(1, 1), [("json-malformed", "")], b"\xff\xfe")
        quarantine.add(Place(1, 2), [("json-malformed", "")], b'{"v": 1')
        assert quarantine.records == 4
    first, *others = content(path).split(b"\n")[:-1]
    assert first == (
        b'{"file":2,"position":7,"problems":[{"code":"type-not-int","pointer":"/a~1b"},'
        b'{"code":"x","pointer":""}],"record":' + RECORD + b"}"
    )
    assert [json.loads(line) for line in others] == [
        {"file": 1, "position": 0, "problems": [{"code": "staged-too-large", "pointer": ""}], "record": None},
        {
            "file": 1,
            "position": 1,
            "problems": [{"code": "json-malformed", "pointer": ""}],
            "recordBase64": "//4=",
        },
        {
            "file": 1,
            "position": 2,
            "problems": [{"code": "json-malformed", "pointer": ""}],
            "recordText": '{"v": 1',
        },
    ]


def test_a_very_long_record_is_kept_as_text_and_not_decoded(tmp_path: Path) -> None:
    record = b'{"x":[' + b"[]," * 1_000_000 + b"1]}"
    tracemalloc.start()
    try:
        path = write(UPath(tmp_path / "q"), record)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(record)
    finally:
        tracemalloc.stop()
    assert json.loads(content(path))["recordText"] == record.decode()
    (block,) = SourceReader([SourceFile(path, "quarantine")])
    assert block.lines == [record]


@pytest.mark.parametrize("record", KEPT.values(), ids=KEPT.keys())
def test_a_record_comes_back_as_it_was_staged(tmp_path: Path, record: bytes) -> None:
    path = write(UPath(tmp_path / "q"), record, b"{}")
    assert len(content(path).splitlines()) == 2
    (block,) = SourceReader([SourceFile(path, "quarantine")])
    assert block.lines == [record.strip(), b"{}"]


def test_a_pointer_with_a_lone_surrogate_can_be_written(tmp_path: Path) -> None:
    path = UPath(tmp_path / "q")
    with QuarantineWriter(path) as quarantine:
        quarantine.add(Place(1, 0), [("x", "/\ud800")], b"{}")
    assert json.loads(content(path))["problems"] == [{"code": "x", "pointer": "/\ud800"}]


def test_corrected_records_are_read_as_corrected(tmp_path: Path, put: Put) -> None:
    path = write(UPath(tmp_path / "q"), RECORD, b"{")
    corrected = content(path).replace(b"6.10", b"5.90").replace(b'"recordText":"{"', b'"record": {"w":1}')
    (block,) = SourceReader([SourceFile(put(path, corrected), "quarantine")])
    assert block.lines == [RECORD.replace(b"6.10", b"5.90"), b'{"w":1}']


@pytest.mark.parametrize(
    "line",
    [
        b'{"file":1,"position":0,"problems":[],"record":null}',
        b'{"file":1,"position":0,"problems":[]}',
        b'{"file":1,"position":0,"problems":[],"record":7}',
        b'{"file":1,"position":0,"problems":[],"recordBase64":"*"}',
        b'{"file":1,"position":0,"problems":[],"recordBase64":7}',
        b'{"file":1,"position":0,"problems":[],"recordText":"\\ud800"}',
        b'{"file":1,"position":0,"problems":[],"record":{"v":1}',
        b'{"type":"cbg"}',
        b"record",
    ],
)
def test_a_line_that_holds_no_record_is_named(tmp_path: Path, put: Put, line: bytes) -> None:
    good = content(write(UPath(tmp_path / "q"), b"{}"))
    with pytest.raises(BatchError) as caught:
        list(SourceReader([SourceFile(put(UPath(tmp_path / "q"), good + line + b"\n"), "quarantine")]))
    assert (caught.value.code, caught.value.position) == ("file-not-quarantine", 1)


def test_a_quarantine_file_is_seen_as_one(tmp_path: Path, put: Put) -> None:
    assert guess_format(write(UPath(tmp_path / "q"), RECORD)) == "quarantine"
    assert guess_format(write(UPath(tmp_path / "q"), b"{")) == "quarantine"
    for other in (RECORD, b'{"type":"cbg","position":1}', b"{"):
        assert guess_format(put(UPath(tmp_path / "o"), other)) == "ndjson"


def test_entries_are_added_and_the_others_stay_byte_for_byte(root: UPath) -> None:
    large = b'{"v":"' + b"x" * 400_000 + b'"}'
    path = write(root / "quarantine.ndjson", b'{"v": 1}', large, None, b"[1]")
    before = content(path).splitlines(keepends=True)

    rewrite(
        path, {Place(1, 1): ([("value-out-of-range", "/v")], b'{"v": 2}'), Place(2, 0): ([("x", "")], RECORD)}
    )

    after = content(path).splitlines(keepends=True)
    assert after[:3] == [before[0], before[2], before[3]]
    assert [(json.loads(line)["file"], json.loads(line)["position"]) for line in after[3:]] == [
        (1, 1),
        (2, 0),
    ]
    assert b'"record":' + RECORD in after[4]


def test_adding_the_same_entries_again_changes_nothing(root: UPath) -> None:
    path = write(root / "quarantine.ndjson", b'{"v": 1}')
    added = {Place(1, 5): ([("value-out-of-range", "/v")], b'{"v": 2}')}
    rewrite(path, added)
    before = content(path)

    rewrite(path, added)

    assert content(path) == before


def test_nothing_can_be_added_to_a_file_that_is_not_there(root: UPath) -> None:
    with pytest.raises(BatchError) as caught:
        rewrite(root / "quarantine.ndjson", {})

    assert caught.value.code == "work-area-damaged"

"""Files of another kind than was named: what holds records is read, what holds none is called what it is."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.commands import USER, Run, cbg
from tests.factories import readings
from tests.world import World
from tidepool_ingest.formats import json_array, ndjson
from tidepool_ingest.formats.reader import Block
from tidepool_ingest.staging.errors import BatchError

RECORDS = readings(4)


def packed(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return file.getvalue()


def lines_of(records: Iterable[Any], encoding: str = "utf-8", end: str = "\n") -> bytes:
    return "".join(json.dumps(each, ensure_ascii=False) + end for each in records).encode(encoding)


WITH_TEXT = [record | {"payload": {"note": "Größe é"}} for record in RECORDS]
OTHERS = {
    "zip": (packed("records.ndjson"), "file-not-records", "unpack it"),
    "xlsx": (packed("[Content_Types].xml", "xl/workbook.xml"), "file-not-records", "Excel workbook"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1" + bytes(500), "file-not-records", "old Office document"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\n", "file-not-records", "PDF"),
    "parquet": (b"PAR1" + bytes(50), "file-not-records", "Parquet"),
    "sqlite": (b"SQLite format 3\0" + bytes(50), "file-not-records", "SQLite"),
    "html": (b"\r\n<!DOCTYPE html>\n<html><h1>502 Bad Gateway</h1></html>\n", "file-not-records", "web page"),
    "csv": (b"Index,Timestamp,Value\n1,2026-03-01T00:00:00,120\n", "file-not-records", "a table (CSV)"),
    "csv with a mark": (b"\xef\xbb\xbfTime;Value\r\n1;2\r\n", "file-not-records", "a table (CSV)"),
    "quoted csv": (b'"Time","Value"\n"1","2"\n', "file-not-records", "a table (CSV)"),
    "tsv": (b"ID\tTime\n1\t2\n", "file-not-records", "a table (CSV)"),
    "CR alone": (lines_of(RECORDS, end="\r"), "file-not-records", "end in CR alone"),
    "Windows-1252": (lines_of(WITH_TEXT, "cp1252"), "file-encoding", "Windows-1252 or Latin-1"),
    "UTF-16": (lines_of(RECORDS, "utf-16"), "file-encoding", "UTF-16"),
    "UTF-16 without a mark": (lines_of(RECORDS, "utf-16-le"), "file-encoding", "UTF-16"),
}


@pytest.mark.parametrize(
    ("kind", "file_format"),
    [*((kind, "ndjson") for kind in OTHERS), *(("csv", other) for other in ("json", "tidepool-export"))],
)
def test_a_batch_says_what_its_file_is(world: World, kind: str, file_format: str) -> None:
    content, code, what = OTHERS[kind]
    world.stage(content=content, name="data.json", file={"format": file_format})

    outcome = world.run()

    assert outcome.codes == [code]
    assert what in str(next(iter(outcome.errors.values())))
    assert world.visible() == []


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("command", ["stage", "validate"])
def test_a_command_says_so_and_refuses_it(run: Run, tmp_path: Path, kind: str, command: str) -> None:
    content, code, what = OTHERS[kind]
    (tmp_path / "file").write_bytes(content)
    more = ["--user", USER, "--root", tmp_path / "staging"] if command == "stage" else []

    error = run(command, *more, "file").refusal

    assert what in error
    assert f"[{code}]" in error
    assert not list((tmp_path / "staging").glob("*/*/*"))


@pytest.mark.parametrize(
    "content",
    [
        lines_of(WITH_TEXT),
        lines_of(RECORDS, end="\r\n"),
        lines_of([cbg(payload={"note": "\ufffd"})]).replace("\ufffd".encode(), b"\xff") + lines_of(WITH_TEXT),
        b'nonsense, and more\n{"a": 1}\n',
        lines_of(RECORDS) + b'{"a": "\xff\xfe\xfd"}\n' * 3,
        b'[{"a": "\xff"}, {"a": "\xfe"}, {"a": "\xfd"}, {"a": 1}]',
        b'"one, two"\n',
        b"1,2\n[3]\n",
        b'{"note": "\xff\xfe\xfd"}\n' + lines_of(RECORDS),
        '{"note": "\U0001f600"}'.encode(),
        lines_of(RECORDS) + '{"note": "\U0001f600'.encode()[:-1],
    ],
)
def test_odd_lines_are_the_matter_of_their_records(content: bytes) -> None:
    from tidepool_ingest.staging.source_file import other_encoding, other_kind

    assert other_encoding(content) == other_kind(content) == ""


# ---------------------------------------------------------------- one text over many lines


SHAPES: dict[str, Callable[[list[Any]], str]] = {
    "array": json.dumps,
    "array over lines": lambda records: json.dumps(records, indent=2),
    "in an object": lambda records: json.dumps({"data": records}),
    "in an object over lines": lambda records: json.dumps({"data": records, "meta": {}}, indent=1),
    "behind others": lambda records: json.dumps({"status": 200, "meta": {"a": [1]}, "data": records}),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("file_format", ["ndjson", "json"])
def test_records_arrive_whatever_they_are_wrapped_in(world: World, shape: str, file_format: str) -> None:
    content = SHAPES[shape](RECORDS).encode()
    world.stage(content=content, name="data.json", file={"format": file_format, "records": len(RECORDS)})

    assert world.run().codes == []
    assert len(world.visible()) == len(RECORDS)


@pytest.mark.parametrize("file_format", ["ndjson", "json"])
@pytest.mark.parametrize("indent", [1, 4])
def test_one_object_over_many_lines_is_one_record(world: World, file_format: str, indent: int) -> None:
    content = json.dumps(WITH_TEXT[0], indent=indent).encode()
    world.stage(content=content, name="data.json", file={"format": file_format, "records": 1})

    assert world.run().codes == []
    (row,) = world.visible()
    assert row["payload"] == {"note": "Größe é"}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_command_recognizes_them(run: Run, tmp_path: Path, shape: str) -> None:
    (tmp_path / "file").write_text(SHAPES[shape]([cbg(), cbg(value=7)]))

    assert "2 records: 2 accepted" in run("validate", "file").out


def rows_of(blocks: Iterable[Block]) -> list[Any]:
    return [json.loads(line) for block in blocks for line in block.lines]


def pieces_of(text: bytes, cuts: set[int]) -> list[bytes]:
    ends = [0, *sorted(cut % len(text) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(ends) if end > start]


@given(
    records=st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3)),
    shape=st.sampled_from(sorted(SHAPES)),
    cuts=st.sets(st.integers(0, 10_000), max_size=8),
)
def test_any_cut_gives_the_same_records(records: list[Any], shape: str, cuts: set[int]) -> None:
    text = SHAPES[shape](records).encode()
    start, *rest = [text] if "object" in shape or "others" in shape else pieces_of(text, cuts)
    behind = start.rindex(b"]") if b"]" in start else len(start)
    pieces = [start[:behind], *pieces_of(start[behind:], cuts), *rest] if start[behind:] else [start, *rest]
    assert rows_of(json_array.split(pieces)) == records
    assert rows_of(ndjson.split_as_it_begins(pieces)) == records


@given(cuts=st.sets(st.integers(0, 10_000), max_size=8), indent=st.sampled_from([None, 1]))
def test_any_cut_gives_the_same_record(cuts: set[int], indent: int | None) -> None:
    text = json.dumps(WITH_TEXT[0], indent=indent).encode() + b"\n"
    assert rows_of(json_array.split(pieces_of(text, cuts))) == [WITH_TEXT[0]]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"data": [{"a": 1}, {"a"', "file-truncated"),
        (b'{"data": [{"a": 1}]', "file-broken"),
        (b'{"data": [{"a": 1}], "meta"}', "file-broken"),
        (b'{"data": [{"a": 1}]} more', "file-broken"),
        (b'{"data": [{"a": 1}], "exportError": "cut"}', "export-cut-off"),
        (b'{"exportError": "cut", "data": [{"a": 1}]}', "export-cut-off"),
        (b'{"data": [{"a": 1}], "data": [{"a": 2}]}', "file-broken"),
        (b'{"data": [{"a": 1}], "more": [{"type": "cbg"}]}', "file-broken"),
        (b'{"data": [1], "type": "cbg"}', "file-broken"),
        (b'{\n "a": 1\n}\n{\n "a": 2\n}\n', "file-not-array"),
        (b'{"a": 1}\n{"a": 2}\n', "file-not-array"),
        (b'{"a": 1},\n{"a": 2}\n', "file-not-array"),
        (b'{\n "a": {\n', "file-truncated"),
        (b'{\n "a": "b', "file-truncated"),
    ],
)
def test_what_is_not_whole_or_not_one_is_refused(text: bytes, code: str) -> None:
    with pytest.raises(BatchError) as caught:
        list(json_array.split([text]))
    assert caught.value.code == code


def test_what_is_around_an_array_may_have_numbers_of_any_length() -> None:
    text = b'{"page": 1%s, "data": [{"a": 1}]}' % bytes(b"0" * 5_000)
    assert rows_of(json_array.split([text])) == [{"a": 1}]


def test_a_record_may_have_a_field_called_data(world: World) -> None:
    record = b'{"type": "cbg", "data": [1], "value": 6.5}'
    assert rows_of(ndjson.split_as_it_begins([record + b"\n" + record])) == [json.loads(record)] * 2

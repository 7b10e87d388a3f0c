"""Tables in Parquet and in workbooks give what a CSV of the same rows gives, or one error of our own."""

from __future__ import annotations

import csv
import io
import json
import random
import sys
import zipfile
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from tests.cli.commands import USER, Run
from tests.formats.tables import (
    CBG,
    STUDY,
    Columns,
    Converted,
    convert,
    error_of,
    examples,
    mapping,
    parquet,
    study,
    workbook,
)
from tidepool_ingest.formats.holds import FileHeldError
from tidepool_ingest.formats.reader import ReadingContext
from tidepool_ingest.formats.table import TableColumnError
from tidepool_ingest.formats.table.files import texts_of
from tidepool_ingest.staging.errors import BatchError


def columns_of(text: str, delimiter: str = ",") -> Columns:
    """Return the columns of a CSV as texts."""
    names, *rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    return {name: pyarrow.array([row[at] for row in rows]) for at, name in enumerate(names)}


def same(found: Converted, expected: Converted) -> None:
    assert found.lines == expected.lines
    assert [code for _, code in found.rejected] == [code for _, code in expected.rejected]
    assert found.skipped == expected.skipped


AT = datetime(2026, 3, 5, 7, 5)


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        pytest.param(pyarrow.array([5, 120, None], pyarrow.int16()), ["5", "120", ""], id="whole numbers"),
        pytest.param(
            pyarrow.array([5.0, 120.5, None, float("nan"), 1e-7]),
            ["5.0", "120.5", "", "", "1e-07"],
            id="doubles",
        ),
        pytest.param(pyarrow.array([5.4, None, 6.0], pyarrow.float32()), ["5.4", "", "6.0"], id="floats"),
        pytest.param(
            pyarrow.array([Decimal("5.40"), None, Decimal("0.00")], pyarrow.decimal128(5, 2)),
            ["5.40", "", "0.00"],
            id="decimals",
        ),
        pytest.param(
            pyarrow.array(["7", None, "8", "7"]).dictionary_encode(), ["7", "", "8", "7"], id="dictionary"
        ),
        pytest.param(pyarrow.array([b"7", None, b"8"]), ["7", "", "8"], id="bytes"),
        pytest.param(pyarrow.array([b"7", b"8"], pyarrow.binary(1)), ["7", "8"], id="fixed bytes"),
        pytest.param(pyarrow.nulls(2), ["", ""], id="nothing"),
        pytest.param(pyarrow.array(["1,5", 'a"b', "x\ny", "5"]), ["1,5", 'a"b', "x\ny", "5"], id="quotes"),
        pytest.param(pyarrow.array(["ä", "Ω"]), ["ä", "Ω"], id="letters"),
        pytest.param(pyarrow.array([float("inf")]), ["inf"], id="infinite"),
    ],
)
def test_values_become_the_texts_of_a_csv(tmp_path: Path, values: Any, cells: list[str]) -> None:
    text = io.StringIO()
    stamps = [f"2026-03-05T07:{minute:02}:00" for minute in range(len(cells))]
    csv.writer(text).writerows([["t", "v"], *zip(stamps, cells, strict=True)])

    found = convert(tmp_path, parquet({"t": stamps, "v": values}), mapping())

    same(found, convert(tmp_path, text.getvalue(), mapping()))
    assert found.rows == len(cells)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(
    ("zone", "end"),
    [(None, ""), ("UTC", "Z"), ("Europe/Berlin", "+01:00"), ("Asia/Kolkata", "+05:30"), ("-03:00", "-03:00")],
)
def test_timestamps(tmp_path: Path, unit: str, zone: str | None, end: str) -> None:
    at = [AT, AT + timedelta(hours=1, seconds=9, milliseconds=0 if unit == "s" else 250)]
    stamps = [stamp.isoformat().removesuffix("000") + end for stamp in at]
    offset = datetime.fromisoformat(stamps[0]).utcoffset() or timedelta()
    values = pyarrow.array([stamp - offset for stamp in at], pyarrow.timestamp(unit, zone))

    found = convert(tmp_path, parquet({"t": values, "v": [100, 101]}), mapping())

    same(found, convert(tmp_path, f"t,v\n{stamps[0]},100\n{stamps[1]},101\n", mapping()))
    assert len(found.lines) == 2


def test_a_timestamp_keeps_its_instant_through_both_passes_of_an_hour(tmp_path: Path) -> None:
    start = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    at = [start + timedelta(minutes=20 * number) for number in range(9)]
    values = pyarrow.array(at, pyarrow.timestamp("ms", "Europe/Berlin"))

    found = convert(tmp_path, parquet({"t": values, "v": [100] * 9}), mapping())

    assert found.times == [stamp.isoformat()[:19] + "Z" for stamp in at]
    assert [record["timezoneOffset"] for record in found.records] == [120] * 3 + [60] * 6
    assert not any("annotations" in record for record in found.records)


@pytest.mark.parametrize("value", [2**62, -(2**62)])
def test_a_timestamp_that_no_calendar_has_refuses_its_row(tmp_path: Path, value: int) -> None:
    values = pyarrow.array([value, 0], pyarrow.timestamp("us"))

    found = convert(tmp_path, parquet({"t": values, "v": [1, 100]}, coerce_timestamps=None), mapping())

    assert found.rejected == [("row 1", "staged-time-unreadable")]
    assert len(found.lines) == 1


def test_days_and_times_of_day_and_lengths_of_time(tmp_path: Path) -> None:
    table = mapping(
        {
            "record": {
                "type": "physicalActivity",
                "duration": {
                    "units": "minutes",
                    "value": {"column": "l", "as": "iso-duration", "to": "min"},
                },
            }
        },
        time={"columns": ["d", "t"], "format": "iso"},
        where={"column": "b", "is": "true"},
    )
    columns = {
        "d": pyarrow.array([date(2026, 3, 5)] * 2),
        "t": pyarrow.array([time(7, 5), time(7, 6, 1, 500_000)]),
        "l": pyarrow.array([timedelta(minutes=90), None], pyarrow.duration("ms")),
        "b": pyarrow.array([True, False]),
    }

    found = convert(tmp_path, parquet(columns), table)

    assert found.times == ["2026-03-05T06:05:00Z"]
    assert found.records[0]["duration"] == {"units": "minutes", "value": 90}
    assert found.skipped == {"filtered": 1}


@pytest.mark.parametrize("place", ["csv", "column"])
def test_a_mapping_for_a_decimal_comma_reads_numbers_too(tmp_path: Path, place: str) -> None:
    value = {"column": "v"} | ({"decimal": ","} if place == "column" else {})
    table = mapping({"record": CBG["record"] | {"value": value}})
    table |= {"csv": {"decimal": ",", "delimiter": ";"}} if place == "csv" else {"csv": {"delimiter": ";"}}

    found = convert(tmp_path, parquet({"t": ["2026-03-05T07:05:00"], "v": [5.5]}), table)

    same(found, convert(tmp_path, "t;v\n2026-03-05T07:05:00;5,5\n", table))
    assert found.records[0]["value"] == 5.5


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
def test_any_compression_and_row_groups(tmp_path: Path, compression: str) -> None:
    text = "\n".join(["t,v,r,k,n", *study(900, random.Random(6))])

    found = convert(tmp_path, parquet(columns_of(text), compression=compression, row_group_size=137), STUDY)

    same(found, convert(tmp_path, text, STUDY))
    assert found.where[0] == "row 1"


@pytest.mark.parametrize(("entry", "table", "records"), examples())
def test_examples_of_the_documentation_as_parquet(
    tmp_path: Path, entry: dict[str, Any], table: str, records: str
) -> None:
    lines = table.splitlines()[entry["table"].get("csv", {}).get("headerRow", 1) - 1 :]
    content = parquet(columns_of("\n".join(lines), max(",;\t", key=lines[0].count)))

    found = convert(
        tmp_path, content, entry["table"], context=ReadingContext(), timezone=entry.get("timezone")
    )

    assert found.lines == records.encode().splitlines()


NESTED = {
    "list": pyarrow.array([[1], [2]]),
    "object": pyarrow.array([{"v": 1}, {"v": 2}]),
    "map": pyarrow.array([[("v", 1)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
}


@pytest.mark.parametrize("kind", NESTED)
def test_a_nested_column_is_refused_where_it_is_named_and_ignored_elsewhere(
    tmp_path: Path, kind: str
) -> None:
    columns = {"t": ["2026-03-05T07:05:00", "2026-03-05T07:10:00"], "w": NESTED[kind], "v": [100, 110]}

    with pytest.raises(TableColumnError) as caught:
        convert(tmp_path, parquet(columns), mapping({"record": CBG["record"] | {"value": {"column": "w"}}}))
    found = convert(tmp_path, parquet(columns), mapping())

    assert "/records/0/record/value/column is in it, and nested" in str(caught.value)
    assert [value for _, value in found.values] == [100, 110]


def test_rows_that_a_csv_could_not_hold_are_refused_each_by_itself(tmp_path: Path) -> None:
    columns = {
        "t": pyarrow.array(["2026-03-05T07:05:00"] * 5),
        "v": pyarrow.array([b"100", b"1\0", b"\xff1", b"9" * 200_000, b"101"]),
    }

    found = convert(tmp_path, parquet(columns), mapping())

    assert found.rejected == [
        ("row 2", "staged-nul"),
        ("row 3", "staged-not-utf8"),
        ("row 4", "staged-row-broken"),
    ]
    assert found.texts[0] == b"2026-03-05T07:05:00,1\0"
    assert [value for _, value in found.values] == [100, 101]


def test_identical_rows_are_one(tmp_path: Path) -> None:
    columns = {"t": ["2026-03-05T07:05:00"] * 3, "v": [100] * 3, "n": [1, 1, 2]}

    assert convert(tmp_path, parquet(columns), mapping()).skipped == {"duplicate-row": 1}
    assert len(convert(tmp_path, parquet(columns), mapping(rowNumber=["n"])).lines) == 1


def test_no_rows_and_no_columns(tmp_path: Path) -> None:
    empty = {"t": pyarrow.array([], pyarrow.string()), "v": pyarrow.array([], pyarrow.int64())}

    assert error_of(tmp_path, parquet(empty), mapping()).code == "file-empty"
    assert error_of(tmp_path, parquet({"w": NESTED["list"]}), mapping()).code == "table-column"


def test_without_its_library_a_file_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = parquet({"t": ["2026-03-05T07:05:00"], "v": [1]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    error = error_of(tmp_path, content, mapping())

    assert error.code == "table-library"
    assert "pip install 'tidepool-airflow[parquet]'" in str(error)


def test_what_is_cut_off_or_said_to_be_larger_than_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = parquet({"t": ["2026-03-05T07:05:00"], "v": [1]})
    metadata = int.from_bytes(content[-8:-4], "little")
    empty = content[: -8 - metadata] + bytes(metadata) + content[-8:]
    bomb = parquet({"t": ["2026-03-05T07:05:00" * 3000] * 100, "v": [1] * 100}, use_dictionary=False)
    monkeypatch.setattr("tidepool_ingest.formats.table.parquet.RATIO_FROM_BYTES", 1024**2)
    monkeypatch.setattr("tidepool_ingest.formats.table.parquet.MAX_RATIO", 20)

    assert error_of(tmp_path, content[:-9], mapping()).code == "file-truncated"
    assert error_of(tmp_path, content[:6], mapping()).code == "file-truncated"
    assert error_of(tmp_path, empty, mapping()).code == "file-damaged"
    assert error_of(tmp_path, bomb, mapping()).code == "file-bomb"


def ends_well(folder: Path, content: bytes, table: dict[str, Any]) -> str:
    """Convert bytes, of which nobody knows what they are, and return how that ended."""
    context = ReadingContext(device_id="d", meant_as=("clock-not-in-zone", "dates-swapped"))
    ended = "converted"
    try:
        convert(folder, content, table, context=context)
    except (BatchError, FileHeldError) as error:
        ended = "quoting" if "Canary" in str(error) else error.code
    return ended


def mutations(content: bytes, count: int, seed: int) -> Iterable[bytes]:
    chance = random.Random(seed)
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(chance.choice([1, 1, 3, 20])):
            changed[chance.randrange(4, len(changed))] = chance.randrange(256)
        cut = chance.randrange(len(changed)) if not chance.randrange(4) else 0
        yield bytes(changed[:-cut] if cut else changed)


@pytest.mark.parametrize("options", [{"compression": "snappy"}, {"compression": "none"}])
def test_damaged_parquet_ends_in_an_error_of_our_own(tmp_path: Path, options: dict[str, Any]) -> None:
    text = "\n".join(["t,v,r,k,n", *(f"{row}" for row in study(60, random.Random(7)))])
    columns = columns_of(text) | {"n": [f"Canary{number}" for number in range(60)], "r": [1.5] * 60}

    ends = {ends_well(tmp_path, one, STUDY) for one in mutations(parquet(columns, **options), 60, 8)}

    assert {"converted", "file-truncated", "file-damaged"} <= ends
    assert "quoting" not in ends


def test_a_command_says_what_reads_such_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(parquet({"t": ["2026-03-05T07:05:00"], "v": [1]}))

    error = run("stage", "--user", USER, "--root", tmp_path / "staging", "file").refusal

    assert "it is a Parquet file, which format table reads" in error
    assert "--mapping" in error


def test_parquet_is_staged_as_it_is(run: Run, tmp_path: Path) -> None:
    content = parquet({"t": ["2026-03-05T07:05:00"], "v": [100]})
    (tmp_path / "person.parquet").write_bytes(content)
    (tmp_path / "map.json").write_text(json.dumps(mapping()))

    done = run(
        "stage", "--user", USER, "--root", tmp_path / "staging", "--mapping", "map.json",
        "--timezone", "Europe/Berlin", "--device-id", "d", "person.parquet",
    )  # fmt: skip

    (staged,) = (tmp_path / "staging").glob("*/*/*/export.parquet")
    assert staged.read_bytes() == content
    assert str(staged.parent) in done.out


# ---------------------------------------------------------------- workbooks


def sheet_of(text: str, delimiter: str = ",") -> bytes:
    return workbook(csv.reader(io.StringIO(text), delimiter=delimiter))


def test_a_study_as_a_workbook(tmp_path: Path) -> None:
    text = "\n".join(["t,v,r,k,n", *study(700, random.Random(6))])

    found = convert(tmp_path, sheet_of(text), STUDY)

    same(found, convert(tmp_path, text, STUDY))
    assert found.where[0] == "sheet row 2"


@pytest.mark.parametrize(("entry", "table", "records"), examples())
def test_examples_of_the_documentation_as_a_workbook(
    tmp_path: Path, entry: dict[str, Any], table: str, records: str
) -> None:
    row = entry["table"].get("csv", {}).get("headerRow", 1)
    content = sheet_of(table, max(",;\t", key=table.splitlines()[row - 1].count))

    found = convert(
        tmp_path, content, entry["table"], context=ReadingContext(), timezone=entry.get("timezone")
    )

    assert found.lines == records.encode().splitlines()


@pytest.mark.parametrize("epoch", [openpyxl.utils.datetime.WINDOWS_EPOCH, openpyxl.utils.datetime.MAC_EPOCH])
def test_dates_numbers_and_words_of_a_workbook(tmp_path: Path, epoch: datetime) -> None:
    def prepare(book: Any) -> None:
        book.epoch = epoch

    rows = [["t", "v", "w"], [AT, 120, "x"], [AT + timedelta(seconds=1), 5.5, None], [], [AT, 100.0, True]]

    found = convert(tmp_path, workbook(rows, prepare=prepare), mapping())

    text = "t,v,w\n2026-03-05T07:05:00,120,x\n2026-03-05T07:05:01,5.5,\n\n2026-03-05T07:05:00,100,true\n"
    same(found, convert(tmp_path, text, mapping()))
    assert found.where == ["sheet row 2", "sheet row 3", "sheet row 5"]


def test_days_times_of_day_lengths_and_a_decimal_comma_of_a_workbook(tmp_path: Path) -> None:
    record = CBG["record"] | {"value": {"column": "v", "decimal": ","}}
    length = {"column": "l", "as": "hh:mm:ss", "to": "min"}
    activity = {"type": "physicalActivity", "duration": {"units": "minutes", "value": length}}
    table = mapping({"record": record}, {"record": activity}, time={"columns": ["d", "t"], "format": "iso"})
    rows = [["d", "t", "v", "l"], [date(2026, 3, 5), time(7, 5), 5.5, timedelta(hours=25, minutes=30)]]

    found = convert(tmp_path, workbook(rows), table)

    assert [one["time"] for one in found.records] == ["2026-03-05T06:05:00Z"] * 2
    assert found.records[0]["value"] == 5.5
    assert found.records[1]["duration"]["value"] == 1530


@pytest.mark.parametrize(
    ("names", "hidden", "sheet", "said"),
    [
        (["A", "B"], [], None, "it has 2 visible ones, and the mapping names none"),
        (["A", "B"], ["B"], None, None),
        (["A", "B"], [], "A", None),
        (["A", "B"], ["A"], "A", "none of its 1 visible ones has the name"),
        (["A", "B"], [], "C", "none of its 2 visible ones has the name"),
    ],
)
def test_sheets(
    tmp_path: Path, names: list[str], hidden: list[str], sheet: str | None, said: str | None
) -> None:
    def prepare(book: Any) -> None:
        book.active.title = names[0]
        book.create_sheet(names[1])
        for name in hidden:
            book[name].sheet_state = "hidden"

    content = workbook([["t", "v"], ["2026-03-05T07:05:00", 100]], prepare=prepare)
    table = mapping() if sheet is None else mapping(sheet=sheet)

    if said is None:
        assert len(convert(tmp_path, content, table).lines) == 1
    else:
        error = error_of(tmp_path, content, table)
        assert error.code == "table-sheet"
        assert said in str(error)


def changed(content: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """Return a workbook with another content in one of its parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            data = old.read(member)
            new.writestr(member, change(data) if member == name else data)
    return file.getvalue()


def test_formulas_by_their_stored_value(tmp_path: Path) -> None:
    content = workbook([["t", "v"], ["2026-03-05T07:05:00", 100]])
    formula = b"<f>SUM('[1]Sheet1'!A1)</f><v>120</v>"

    found = convert(
        tmp_path,
        changed(content, "xl/worksheets/sheet1.xml", lambda data: data.replace(b"<v>100</v>", formula)),
        mapping(),
    )

    assert [value for _, value in found.values] == [120]


LAUGHS = b'<!DOCTYPE x [<!ENTITY a "Canary"><!ENTITY b "&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("part", "old", "new", "code"),
    [
        ("xl/worksheets/sheet1.xml", b"<worksheet", LAUGHS + b"<worksheet", "file-damaged"),
        ("xl/worksheets/sheet1.xml", b'<row r="2"', b'<row r="99999999999"', "file-damaged"),
        ("xl/worksheets/sheet1.xml", b"<v>100</v>", b"<v>" + b"9" * 9000 + b"</v>", "file-damaged"),
        ("xl/worksheets/sheet1.xml", b"</sheetData>", b"", "file-damaged"),
        ("xl/workbook.xml", b"<workbook", LAUGHS + b"<workbook", "file-damaged"),
        ("xl/workbook.xml", b"<workbook", b"<!DOCTYPE workbook><workbook", "file-damaged"),
        ("xl/styles.xml", b"<styleSheet", LAUGHS + b"<styleSheet", "file-damaged"),
        ("docProps/core.xml", b"<cp:", LAUGHS + b"<cp:", "file-damaged"),
        ("[Content_Types].xml", b"<Types", LAUGHS + b"<Types", "file-damaged"),
        ("docProps/app.xml", b"<", b"<" + bytes(70 * 1024 * 1024), "file-bomb"),
    ],
)
def test_workbooks_that_mean_no_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, old: bytes, new: bytes, code: str
) -> None:
    monkeypatch.setattr("tidepool_ingest.formats.table.workbook.MAX_ROWS", 20_000)
    content = workbook([["t", "v"], ["2026-03-05T07:05:00", 100]])

    error = error_of(tmp_path, changed(content, part, lambda data: data.replace(old, new, 1)), mapping())

    assert error.code == code
    assert "Canary" not in str(error)


def test_other_archives_and_a_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", "x")
    assert error_of(tmp_path, file.getvalue(), mapping()).code == "file-not-records"
    content = workbook([["t", "v"], ["2026-03-05T07:05:00", 100]])
    assert error_of(tmp_path, content[:-30], mapping()).code == "file-truncated"

    monkeypatch.setitem(sys.modules, "openpyxl", None)

    assert "pip install 'tidepool-airflow[xlsx]'" in str(error_of(tmp_path, content, mapping()))


@pytest.mark.filterwarnings("ignore")
def test_damaged_workbooks_end_in_an_error_of_our_own(tmp_path: Path) -> None:
    text = "\n".join(["t,v,r,k,n", *(f"{row}Canary" for row in study(40, random.Random(7)))])
    content = sheet_of(text)
    parts = ["xl/worksheets/sheet1.xml", "xl/workbook.xml", "xl/styles.xml", "[Content_Types].xml"]

    ends = {ends_well(tmp_path, one, STUDY) for one in mutations(content, 60, 8)}
    for number, part in enumerate(parts * 8):
        one = changed(content, part, lambda data, number=number: next(iter(mutations(data, 1, number))))  # type: ignore[misc]
        ends.add(ends_well(tmp_path, one, STUDY))

    assert {"converted", "file-truncated", "file-damaged"} <= ends
    assert "quoting" not in ends


def test_the_text_of_a_row_is_the_row_again_whatever_breaks_its_cells() -> None:
    rows = [["1", "a\nb", "x"], ["2", "c\rd", "y"], ["3", "e\r\nf", 'say "z"'], ["4", "plain", ""]]

    for together in (rows, rows[:1], rows[2:3], rows[3:]):
        assert [
            next(csv.reader(io.StringIO(text.decode(), newline=""))) for text in texts_of(together)
        ] == together

"""Rows of cells, their text as staged and the lines where a person finds them."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from upath import UPath

from tests import PROJECT
from tidepool_ingest.formats.delimited import (
    CELL_MAX,
    NOT_UTF8,
    NUL,
    ROW_BROKEN,
    DelimitedText,
    Rows,
    delimiter_of,
)
from tidepool_ingest.formats.reader import MAX_RECORD_BYTES, TOO_LARGE
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import GIVEN


def read(folder: Path, content: bytes, *, encoding: str | None = None, delimiter: str | None = None) -> Rows:
    (folder / "table.csv").write_bytes(content)
    file = SourceFile(UPath(folder / "table.csv"), "table", below_root=GIVEN)
    all_rows = Rows()
    for rows in DelimitedText(file, encoding=encoding, delimiter=delimiter).rows():
        all_rows.cells += rows.cells
        all_rows.texts += rows.texts
        all_rows.lines += rows.lines
        all_rows.rejected += rows.rejected
    return all_rows


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_rows_keep_their_text_and_line(tmp_path: Path, delimiter: str) -> None:
    lines = ['a,"b,1",c', "", '1,"say ""hi""",3', "   ", "x,y,z"]
    content = "\r\n".join(line.replace(",", delimiter) for line in lines).encode()

    rows = read(tmp_path, content)

    assert rows.cells == [
        ["a", f"b{delimiter}1", "c"],
        ["1", 'say "hi"', "3"],
        ["x", "y", "z"],
    ]
    assert rows.lines == [1, 3, 5]
    assert rows.texts == [lines[i].replace(",", delimiter).encode() for i in (0, 2, 4)]
    assert not rows.rejected


def test_decimal_commas_are_not_taken_for_delimiters() -> None:
    assert delimiter_of(b"Datum;Uhrzeit;Wert\n05.03.2026;10:00;5,4\n05.03.2026;10:05;5,5\n") == ";"


@pytest.mark.parametrize(
    "start", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\xc3\xaf\xc2\xbb\xc2\xbf", b"\xc3\xaf\xc2\xbb\xc2\xbf"]
)
def test_a_mark_before_the_text_is_no_part_of_it(tmp_path: Path, start: bytes) -> None:
    assert read(tmp_path, start + b"Index,b\n1,2\n").cells == [["Index", "b"], ["1", "2"]]


def test_rows_that_stand_in_quotes_as_a_whole_are_unwrapped(tmp_path: Path) -> None:
    rows = read(tmp_path, b'"Device,Serial,When"\n"a,""b, or c"",1"\n')

    assert rows.cells == [["Device", "Serial", "When"], ["a", "b, or c", "1"]]


def test_a_row_may_have_several_lines(tmp_path: Path) -> None:
    content = b'a,b\n1,"two\nlines"\n2,x\n3,"and\nthree\nmore"\n4,y'

    rows = read(tmp_path, content)

    assert rows.cells == [["a", "b"], ["1", "two\nlines"], ["2", "x"], ["3", "and\nthree\nmore"], ["4", "y"]]
    assert rows.lines == [1, 2, 4, 5, 8]
    assert rows.texts[1] == b'1,"two\nlines"'


def test_a_row_goes_on_in_the_next_block(tmp_path: Path) -> None:
    lines = [f"{n},x" for n in range(499)]
    content = "\n".join([*lines, '499,"begins', 'and ends"', "500,y"]).encode()

    rows = read(tmp_path, content)

    assert [row[0] for row in rows.cells] == [str(n) for n in range(501)]
    assert rows.cells[499] == ["499", "begins\nand ends"]
    assert rows.lines[-2:] == [500, 502]


@pytest.mark.parametrize("lines_after", [3, 150, 1_200])
def test_a_quote_that_never_ends_costs_its_own_line_only(tmp_path: Path, lines_after: int) -> None:
    good = [f"{n},x" for n in range(lines_after)]
    content = "\n".join(["a,b", '1,"never closed', *good]).encode()

    rows = read(tmp_path, content)

    assert rows.rejected == [(2, ROW_BROKEN, b'1,"never closed')]
    assert rows.cells == [["a", "b"], *([str(n), "x"] for n in range(lines_after))]
    assert rows.lines == [1, *range(3, lines_after + 3)]


def test_a_stray_quote_inside_a_cell_is_text(tmp_path: Path) -> None:
    rows = read(tmp_path, b'a,b\n1,5\'10" tall\n2,"open\nclosed"\n')

    assert rows.cells == [["a", "b"], ["1", "5'10\" tall"], ["2", "open\nclosed"]]


@pytest.mark.parametrize("limit", [CELL_MAX, 1 << 30])
def test_damage_stays_the_matter_of_its_row(tmp_path: Path, limit: int) -> None:
    long = b"x" * (CELL_MAX + 1)
    content = b'a,b\n1,\xff\n2,\0\n3,"it\nis good"\n4,' + long + b"\n5,a\rb\n6,y\n"

    usual = csv.field_size_limit(limit)  # of the whole process: anybody may have set it
    try:
        rows = read(tmp_path, content)
    finally:
        csv.field_size_limit(usual)

    assert rows.cells == [["a", "b"], ["3", "it\nis good"], ["6", "y"]]
    assert [(line, code) for line, code, _text in rows.rejected] == [
        (2, NOT_UTF8),
        (3, NUL),
        (6, ROW_BROKEN),
        (7, ROW_BROKEN),
    ]
    positions, rejected = rows.positions(10)
    assert list(positions) == [10, 13, 16]
    assert [(row.position, row.where) for row in rejected] == [
        (11, "line 2"), (12, "line 3"), (14, "line 6"), (15, "line 7"),
    ]  # fmt: skip


def test_a_cell_that_is_too_long_is_found_where_the_limit_is_wider(tmp_path: Path) -> None:
    content = b"a,b\n1," + b"x" * (CELL_MAX + 1) + b"\n2," + b"y" * CELL_MAX + b"\n"

    usual = csv.field_size_limit(1 << 30)
    try:
        rows = read(tmp_path, content)
    finally:
        csv.field_size_limit(usual)

    assert [row[0] for row in rows.cells] == ["a", "2"]
    assert [(line, code) for line, code, _text in rows.rejected] == [(2, ROW_BROKEN)]


def test_a_gigabyte_in_one_line_is_not_held(tmp_path: Path) -> None:
    content = b"a,b\n1," + b"x" * (MAX_RECORD_BYTES + 1) + b"\n2,y\n"

    rows = read(tmp_path, content)

    assert rows.cells == [["a", "b"], ["2", "y"]]
    assert rows.rejected == [(2, TOO_LARGE, None)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252", "utf-8-sig"])
def test_an_encoding_that_is_said_is_read(tmp_path: Path, encoding: str) -> None:
    content = "Größe;b\n1;é\n".encode(encoding)

    assert read(tmp_path, content, encoding=encoding).cells == [["Größe", "b"], ["1", "é"]]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("Größe;b\n1;é\nä;ö\n".encode("utf-16"), "file-encoding"),
        ("Größe;b\n1;é\nä;ö\n".encode("cp1252"), "file-encoding"),
        ("Größe;b\n1;e\n2;o\n3;u\n".encode("cp1252"), "file-encoding"),
        ("title;1.2.2026\nGröße;b\n1;e\n2;o\n".encode("cp1252"), "file-encoding"),
        (b"a,b\r1,2\r3,4", "file-not-records"),
        (b"PK\x03\x04 something", "file-not-records"),
        (b"<html><body>Please sign in</body></html>", "file-not-records"),
    ],
)
def test_what_is_no_table_is_one_clear_error(tmp_path: Path, content: bytes, code: str) -> None:
    with pytest.raises(BatchError) as caught:
        read(tmp_path, content)

    assert caught.value.code == code


def test_any_rows_come_back_as_csv_wrote_them(tmp_path: Path) -> None:
    rng = random.Random(5)
    letters = ["a", "1", '"', ",", ";", "\n", " ", "é", "\t", "'"]
    for _ in range(100):
        table = [
            ["".join(rng.choices(letters, k=rng.randrange(6))) or "x" for _ in range(3)]
            for _ in range(rng.choice([1, 5, 700]))
        ]
        path = tmp_path / "written.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(table)

        assert read(tmp_path, path.read_bytes(), delimiter=",").cells == table


def test_a_code_of_rows_has_one_home() -> None:
    folder = PROJECT / "include" / "tidepool_ingest" / "formats"
    codes = Counter(
        code for path in folder.rglob("*.py") for code in re.findall(r'"staged-[a-z0-9-]+"', path.read_text())
    )

    assert [code for code, count in codes.items() if count > 1] == []

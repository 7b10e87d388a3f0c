"""What real people have exported, where it is at hand: no row of it is in this project."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from upath import UPath

from tests import SHARED
from tests.formats.tables import convert, parquet, workbook
from tidepool_ingest.formats import SourceReader
from tidepool_ingest.formats.nightscout import NightscoutReader
from tidepool_ingest.formats.reader import ReadingContext
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import GIVEN

EXPORTS = SHARED / "exports"
pytestmark = pytest.mark.skipif(
    not EXPORTS.exists(), reason="tables of real people are not part of this project"
)

PLAIN = {
    "time": {"column": "timestamp", "format": "iso", "zone": "America/Phoenix"},
    "records": [
        {"record": {"type": "cbg", "units": "mg/dL", "value": {"column": "glucose_value_mg_dl"}}},
    ],
}
TABLES: dict[str, str | dict[str, Any]] = {
    "d1namo-001.csv": "d1namo.json",
    "loop_1082_chronological.csv.gz": "loop.json",
    "lingo-glucose.csv.gz": "lingo.json",
    "cgmpy-dm.csv.gz": "epoch.json",
    "gml-AZT1D.csv.gz": PLAIN,
}
Rows = list[list[str]]


def _number(text: str) -> Any:
    """Return a cell as a number where a number is written so and in no other way, else as it is."""
    if re.fullmatch(r"-?(0|[1-9]\d{0,14})", text):
        return int(text)
    if re.fullmatch(r"-?(0|[1-9]\d{0,6})\.\d{1,6}", text) and repr(float(text)) == text:
        return float(text)
    return text


def _moment(text: str) -> Any:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return date.fromisoformat(text)
    if re.fullmatch(r"\d\d:\d\d:\d\d", text):
        return time.fromisoformat(text)
    # What has an offset stays text: no column has one for each cell.
    if re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", text):
        return datetime.fromisoformat(text)
    return text


def _typed(cells: list[str]) -> Any:
    """Return a column with a type of its own if all of its cells are of it; empty ones are null then."""
    for typed in (_number, _moment):
        found = [typed(cell) if cell else None for cell in cells]
        kinds = {type(cell) for cell in found if cell is not None}
        if len(kinds) == 1 and str not in kinds:
            return (
                pyarrow.array(found, pyarrow.timestamp("ms")) if kinds == {datetime} else pyarrow.array(found)
            )
    return pyarrow.array(cells)


def texts_in_parquet(header: list[str], rows: Rows) -> bytes:
    columns = {name: pyarrow.array([row[at] for row in rows]) for at, name in enumerate(header)}
    return parquet(columns, row_group_size=5_000)


def types_in_parquet(header: list[str], rows: Rows) -> bytes:
    columns = {name: _typed([row[at] for row in rows]) for at, name in enumerate(header)}
    assert not all(pyarrow.types.is_string(column.type) for column in columns.values())
    return parquet(columns, row_group_size=5_000)


def texts_in_a_workbook(header: list[str], rows: Rows) -> bytes:
    return workbook([header, *rows])


def types_in_a_workbook(header: list[str], rows: Rows) -> bytes:
    """A workbook has numbers without the zeros at their end."""

    def cell(text: str) -> Any:
        number = _number(text)
        if isinstance(number, str):
            return _moment(text)
        return text if isinstance(number, float) and number.is_integer() else number

    return workbook([header, *([cell(text) for text in row] for row in rows)])


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(
    "write", [texts_in_parquet, types_in_parquet, texts_in_a_workbook, types_in_a_workbook]
)
@pytest.mark.parametrize("most", [400, pytest.param(None, marks=pytest.mark.slow)])
def test_a_real_table_is_the_same_in_every_kind_of_file(
    tmp_path: Path, name: str, write: Callable[[list[str], Rows], bytes], most: int | None
) -> None:
    content = (EXPORTS / "tabular" / name).read_bytes()
    text = (gzip.decompress(content) if name.endswith(".gz") else content).decode()
    header, *rows = csv.reader(io.StringIO("".join(text.splitlines(keepends=True)[: most and most + 1])))
    said = TABLES[name]
    stated = json.loads(
        (EXPORTS / "mappings" / said).read_text() if isinstance(said, str) else json.dumps(said)
    )
    zone = stated["time"].pop("zone", "UTC")
    written = io.StringIO()
    csv.writer(written).writerows([header, *rows])
    expected = convert(tmp_path, written.getvalue(), stated, timezone=zone)

    found = convert(tmp_path, write(header, rows), stated, timezone=zone)

    assert found.lines == expected.lines
    assert [code for _, code in found.rejected] == [code for _, code in expected.rejected]
    assert found.skipped == expected.skipped
    assert found.rows == expected.rows == len(rows)
    if most is None:
        entries = json.loads((EXPORTS / "tabular-expected.json").read_text())
        entry = next(one for one in entries if one["file"] == name.removesuffix(".gz"))
        assert (len(found.lines), found.rows) == (entry["total"], entry["rows"])


def test_the_basal_of_a_site_that_is_read_together_has_neither_holes_nor_overlaps() -> None:
    names = ("entries", "treatments", "profile")
    paths = [EXPORTS / "nightscout" / f"ns01-nightscout_{name}.json.gz" for name in names]
    files = [
        SourceFile(UPath(path), NightscoutReader.name, number, below_root=GIVEN)
        for number, path in enumerate(paths, 1)
    ]
    with SourceReader(files, ReadingContext(device_id="d")) as reader:
        records = [json.loads(line) for block in reader for line in block.lines]

    basal = sorted((one for one in records if one["type"] == "basal"), key=lambda one: str(one["time"]))

    begins = [datetime.fromisoformat(one["time"]) for one in basal]
    ends = [at + timedelta(milliseconds=one["duration"]) for at, one in zip(begins, basal, strict=True)]
    assert ends[:-1] == begins[1:]
    assert Counter(one["deliveryType"] for one in basal) == {"automated": 342, "scheduled": 11}
    hours = Counter[str]()
    for one in basal:
        hours[one["deliveryType"]] += one["duration"]
    in_hours = {kind: round(length / 3_600_000, 2) for kind, length in hours.items()}
    assert in_hours == {"automated": 60.32, "scheduled": 16.98}

"""Tables and mappings that tests make up, and what becomes of them."""

from __future__ import annotations

import io
import json
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import openpyxl
import pyarrow.parquet
import pytest
from upath import UPath

from tests import PROJECT
from tidepool_ingest.formats import SourceReader
from tidepool_ingest.formats.reader import Device, ReadingContext
from tidepool_ingest.formats.table import TableReader
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import FileOptions
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import GIVEN

ISO: dict[str, Any] = {"column": "t", "format": "iso"}
CBG: dict[str, Any] = {"record": {"type": "cbg", "units": "mg/dL", "value": {"column": "v"}}}


def mapping(*records: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a mapping of columns ``t``, the time, and ``v``, by default of a sensor."""
    return {"time": ISO, "records": list(records) or [CBG]} | more


@dataclass
class Converted:
    """What became of a table."""

    lines: list[bytes] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    texts: list[bytes | None] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    devices: list[Device] = field(default_factory=list)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def times(self) -> list[str]:
        return [record["time"] for record in self.records]

    @property
    def values(self) -> list[tuple[str, Any]]:
        """Time and value of each record."""
        return [(record["time"], record["value"]) for record in self.records]


def source(folder: Path, content: str | bytes, table: dict[str, Any], **options: Any) -> SourceFile:
    path = folder / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    stated = FileOptions.model_validate_json(json.dumps({"table": table} | options))
    return SourceFile(UPath(path), TableReader.name, 1, below_root=GIVEN, options=stated)


def convert(
    folder: Path,
    content: str | bytes,
    table: dict[str, Any],
    *,
    context: ReadingContext | None = None,
    **options: Any,
) -> Converted:
    """Convert a table; it is checked that every row is accounted for."""
    file = source(folder, content, table, **{"timezone": "Europe/Berlin"} | options)
    found = Converted()
    with SourceReader([file], context or ReadingContext(device_id="d")) as reader:
        for block in reader:
            found.lines += block.lines
            found.where += block.where or []
            found.rejected += [(row.where, row.code) for row in block.rejected]
            found.texts += [row.text for row in block.rejected]
            found.skipped.update(block.skipped)
            found.rows += block.rows
    return found


def devices(folder: Path, content: str | bytes, table: dict[str, Any], **options: Any) -> list[Device]:
    file = source(folder, content, table, **{"timezone": "Europe/Berlin"} | options)
    reader = TableReader([file], ReadingContext())
    reader.survey()
    return reader.devices()


Columns = dict[str, Any]


def parquet(columns: Columns, **options: Any) -> bytes:
    """Return a Parquet file; a column is a list, or an array with a type of its own."""
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file, **options)
    return file.getvalue()


def workbook(rows: Iterable[Iterable[Any]], **more: Any) -> bytes:
    """Return a workbook with one sheet of these rows; ``prepare`` may change it."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(list(row))
    if prepare := more.get("prepare"):
        prepare(book)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def error_of(folder: Path, content: str | bytes, table: dict[str, Any], **options: Any) -> BatchError:
    with pytest.raises(BatchError) as caught:
        convert(folder, content, table, **options)
    return caught.value


_BLOCKS = re.compile(r"```(json|csv|ndjson)\n(.*?)```", re.DOTALL)


def examples() -> list[tuple[dict[str, Any], str, str]]:
    """Return the examples of the documentation: entry of the manifest, table and records."""
    page = (PROJECT / "docs" / "formats.md").read_text()
    section = page.partition("\n### Examples\n")[2].partition("\n### ")[0]
    blocks = _BLOCKS.findall(section)
    assert [kind for kind, _ in blocks] == ["json", "csv", "ndjson"] * 3
    return [
        (json.loads(blocks[at][1]), blocks[at + 1][1], blocks[at + 2][1]) for at in range(0, len(blocks), 3)
    ]


def study(rows: int, chance: random.Random) -> list[str]:
    """Return rows of a study over the night in which clocks go back, each with a number of its own."""
    start, lines = datetime(2026, 10, 24, 22, tzinfo=UTC), []
    for number in range(rows):
        shown = (start + timedelta(minutes=5 * number)).astimezone(ZoneInfo("Europe/Berlin"))
        cells = [chance.choice(["", "5.5", "LO"]), chance.choice(["", "0.8", "0.75"]), chance.choice("RL-")]
        lines.append(f"{shown:%Y-%m-%d %H:%M:%S},{','.join(cells)},{number}")
    return lines


STUDY = mapping(
    {
        "record": CBG["record"]
        | {"units": "mmol/L", "value": {"column": "v", "low": {"words": ["LO"], "value": 2.2}}}
    },
    {
        "when": {"column": "k", "in": ["R", "L"]},
        "record": {
            "type": "insulin",
            "dose": {"units": "Units", "total": {"column": "r"}},
            "formulation": {"simple": {"actingType": {"column": "k", "map": {"R": "rapid", "L": "long"}}}},
        },
    },
    {
        "record": {
            "type": "basal",
            "deliveryType": "automated",
            "rate": {"column": "r"},
            "duration": {"toNext": {"max": "PT12M", "to": "ms"}},
        }
    },
    time={"column": "t", "format": "iso", "order": "oldest-first"},
)

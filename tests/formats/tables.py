"""Tables and mappings that tests make up, and what becomes of them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upath import UPath

from tidepool_ingest.formats import SourceReader
from tidepool_ingest.formats.reader import Device, ReadingContext
from tidepool_ingest.formats.table import TableReader
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

"""What lies in a vendor's file, counted without the converters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tidepool_simulator.sample.checker.clarity import clarity_rows
from tidepool_simulator.sample.checker.libreview import libreview_rows
from tidepool_simulator.sample.checker.tables import table_rows
from tidepool_simulator.sample.vendor_files import VendorFile

Row = list[dict[str, Any] | None]


def rows_of(file: VendorFile, **further: Any) -> Iterator[Row]:
    """Yield the records of each row, as the checker reads them."""
    entry = file.manifest_entry() | further
    if file.format == "table":
        yield from table_rows(file.content, entry, entry["table"], "Meter-1", ())
    elif file.format == "clarity":
        yield from ([row] if row != {} else [] for row in clarity_rows(file.content, entry, None, ()))
    else:
        yield from libreview_rows(file.content, entry, None, ())


def records(rows: Iterator[Row]) -> list[dict[str, Any]]:
    return [record for row in rows for record in row if record is not None]

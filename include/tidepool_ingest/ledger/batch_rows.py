"""A staged batch as it is found, and as the ledger keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from tidepool_ingest.ledger.states import BatchState, Tidied


@dataclass(frozen=True, kw_only=True)
class FoundBatch:
    """A ready batch as ``plan`` found it, before the ledger knows it."""

    api_host: str
    content_key: str
    user_id: str = field(repr=False)
    batch_id: str = field(repr=False)
    day: date
    folder: str = field(repr=False)
    label: str
    connection: str | None = None
    device_id: str | None = field(default=None, repr=False)
    data_set_type: str = "normal"


@dataclass(frozen=True, kw_only=True)
class BatchRow(FoundBatch):
    """One row of the table ``batches``. Counts are ``None`` until ``prepare`` has made them."""

    id: int
    state: BatchState
    reason: str | None
    replaces: int | None
    part_of: int | None
    part: int | None
    part_records: int | None
    staged: int | None
    accepted: int | None
    quarantined: int | None
    identical: int | None
    expected_rows: int | None
    chunks: int | None
    tidied: Tidied | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class KnownBatch:
    """Where a batch stands, and where it lies: all that a plan needs to know of one that is done.

    :param id: its number.
    """

    id: int
    state: BatchState
    reason: str | None
    folder: str = field(repr=False)


def batch_row(row: Any) -> BatchRow:
    """Return a row of the table as the database gives it."""
    values = dict(row._mapping)
    tidied = values["tidied"] and Tidied(values["tidied"])
    return BatchRow(**{**values, "state": BatchState(values["state"]), "tidied": tidied})

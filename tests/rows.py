"""Rows of the ledger as tests need them that have no ledger."""

from __future__ import annotations

from datetime import date
from typing import Any

from tests.world import DAY
from tidepool_ingest.ledger import BatchRow, BatchState


def row(number: int, *, user: str = "u", device: str | None = None, day: date = DAY, **more: Any) -> BatchRow:
    values: dict[str, Any] = dict.fromkeys(BatchRow.__dataclass_fields__)
    values |= {
        "id": number,
        "api_host": "api",
        "user_id": user,
        "device_id": device or f"device-{number}",
        "day": day,
        "label": f"batch {number}",
        "data_set_type": "normal",
        "state": BatchState.PLANNED,
    }
    return BatchRow(**(values | more))

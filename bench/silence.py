"""What it takes to find the inactive devices in a ledger of many batches."""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import insert

from tidepool_ingest.ledger import BatchState, Ledger
from tidepool_ingest.ledger.schema import batch_days, batches
from tidepool_ingest.reports.inactive_devices import inactive_devices

HEADINGS = ("batches", "devices", "silent", "best seconds")

DEVICES = 1_000
BATCHES_A_DEVICE = 100
TYPES = ("cbg", "bolus", "basal")
TODAY = date(2026, 3, 31)
ROUNDS = 3
ROWS_AT_ONCE = 20_000


def measure_silence() -> list[tuple[Any, ...]]:
    """Fill a ledger on SQLite with daily batches of three types, one device in ten inactive; find them."""
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as folder:
        ledger = Ledger(f"sqlite:///{folder}/ledger.db")
        ledger.migrate()
        _fill(ledger)
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            found = inactive_devices(ledger, TODAY)
            seconds.append(time.perf_counter() - started)
        ledger.close()
    return [(DEVICES * BATCHES_A_DEVICE, DEVICES, len(found), round(min(seconds), 2))]


def _fill(ledger: Ledger) -> None:
    numbers = count(1)
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    days: list[dict[str, Any]] = []
    for device in range(DEVICES):
        stopped = 10 if device % 10 == 0 else 0
        for ago in range(stopped, stopped + BATCHES_A_DEVICE):
            number, day = next(numbers), TODAY - timedelta(days=ago)
            rows.append(
                {
                    "id": number,
                    "api_host": "api.example.org",
                    "content_key": f"{number:064}",
                    "user_id": f"{device // 2:010}",
                    "batch_id": f"batch-{number}",
                    "day": day,
                    "folder": f"/staging/{day}/{device // 2:010}/batch-{number}",
                    "label": f"{day} Dexcom G6 {number:010x}",
                    "device_id": f"device-{device}",
                    "state": BatchState.VERIFIED,
                    "created_at": now,
                    "updated_at": now,
                }
            )
            days += [{"batch": number, "day": day, "type": kind, "records": 288} for kind in TYPES]
    with ledger.database.writing() as connection:
        for table, values in ((batches, rows), (batch_days, days)):
            for start in range(0, len(values), ROWS_AT_ONCE):
                connection.execute(insert(table), values[start : start + ROWS_AT_ONCE])

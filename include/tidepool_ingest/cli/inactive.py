"""``tidepool-ingest inactive``: devices that have stopped sending, as a table or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import Any

from tidepool_ingest.cli.arguments import add_ledger, day, table
from tidepool_ingest.cli.ledgers import NO_LEDGER, opened
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.reports.inactive_devices import (
    FACTOR,
    FEWEST_DAYS,
    InactiveDevice,
    inactive_devices,
)

COLUMNS = ("model", "device", "user", "last record", "silent days", "usual days")


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Show devices that used to send data and have sent none for longer than is usual for them: for more "
        f"than {FACTOR} times the usual time between their batches, and more than {FEWEST_DAYS} days. "
        "Users and devices appear as short hashes; their ids are shown only with --full."
    )
    add_ledger(command)
    command.add_argument("--today", type=day, metavar="DAY", help="count up to this day (default: today)")
    command.add_argument("--full", action="store_true", help="show ids instead of short hashes")
    command.add_argument("--json", action="store_true", help="print a JSON array, one device per line")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the inactive devices."""
    with opened(options.ledger) as ledger:
        if ledger is None:
            print(NO_LEDGER, file=sys.stderr)
        found = [] if ledger is None else inactive_devices(ledger, options.today or datetime.now(UTC).date())
    rows = [_row(device, full=options.full) for device in found]
    if options.json:
        shown = (json.dumps(dict(zip(COLUMNS, row, strict=True)), default=str) for row in rows)
        print("[" + ",\n ".join(shown) + "]")
    else:
        print(table(COLUMNS, rows))
    return 0


def _row(device: InactiveDevice, *, full: bool) -> tuple[Any, ...]:
    ids = (device.device_id, device.user_id)
    shown = ids if full else map(short_hash, ids)
    return (device.model, *shown, device.last_day, device.inactive_days, device.usual_days)

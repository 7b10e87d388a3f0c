"""What a giant batch costs: split into parts, and uploaded part by part, beside a small one.

Each step runs in a process of its own, whose CPU time and most memory are counted; start-up (imports) counts
in the memory and not in the time. The upload goes to a simulated Tidepool, in a process of its own too, which
answers at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.preparing import DAY, peak_mb, stage
from bench.sending import running_simulator, settings_of
from upath import UPath

from tidepool_ingest.client import connect, host_of
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.options import PART_RECORDS, RunOptions
from tidepool_ingest.plan import plan_run
from tidepool_ingest.prepare.step import prepare_batch
from tidepool_ingest.upload import UploadContext, upload_batch
from tidepool_ingest.window import Window

HEADINGS = ("step", "records", "parts", "CPU s", "records/s", "peak MB")

SMALL, GIANT, QUICK_GIANT = 50_000, 5_000_000, 600_000
"""Records that are prepared."""
SENT_SMALL, SENT, SENT_PART = 20_000, 400_000, 100_000
"""Records that are uploaded, and how many of them a part holds."""


def measure_giant(lines: list[bytes], *, quick: bool) -> Iterator[tuple[object, ...]]:
    """Prepare a small and a giant batch, then upload a small and a split one; yield the rows of a table.

    :param lines: records as from an uploader.
    :param quick: whether to leave out what takes minutes.
    """
    for records in (SMALL, QUICK_GIANT if quick else GIANT):
        with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as name:
            folder = Path(name)
            stage(folder / "staging", lines, records)
            prepared = _in_own_process("prepare", folder, PART_RECORDS, {})
            yield _row("prepare and cut", records, prepared)
    for records in (SENT_SMALL, SENT // 4 if quick else SENT):
        with (
            tempfile.TemporaryDirectory(prefix="tidepool-bench-") as name,
            running_simulator(Path(name), 0) as roles,
        ):
            folder = Path(name)
            stage(folder / "staging", lines, records, user=roles["owner"]["id"])
            limit = SENT_PART // 4 if quick else SENT_PART
            _in_own_process("prepare", folder, limit, roles)
            yield _row("upload and read back", records, _in_own_process("upload", folder, limit, roles))


def _row(step: str, records: int, outcome: dict[str, Any]) -> tuple[object, ...]:
    per_second = round(records / outcome["wall"])
    return step, records, outcome["parts"], round(outcome["cpu"], 1), per_second, round(outcome["peak_mb"], 1)


def _in_own_process(step: str, folder: Path, limit: int, roles: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.giant", step, str(folder), str(limit), json.dumps(roles)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def main(arguments: Sequence[str]) -> None:
    """Prepare or upload the one batch of a staging root; print what that took.

    :param arguments: ``prepare`` or ``upload``, the folder with ``staging``, records a part, and the
        simulator's address and accounts as JSON.
    """
    step, folder, limit, roles = arguments[0], Path(arguments[1]), int(arguments[2]), json.loads(arguments[3])
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
    ledger.migrate()
    root = UPath(folder / "staging")
    host = host_of(roles["base_url"]) if roles else "bench.example"
    options = RunOptions(part_records=limit)
    plan = plan_run(
        root, Window(DAY, DAY), ledger=ledger, options=options, api_host_of=lambda _connection: host
    )
    (number,) = plan.batches
    cpu, wall = time.process_time(), time.monotonic()
    row = ledger.batches.get(number)
    if step == "prepare":
        prepare_batch(root, row, ledger=ledger, options=options, api_host_of=lambda _connection: host)
    else:
        settings = settings_of(roles)
        with connect(settings) as client:
            upload_batch(UploadContext(client=client, ledger=ledger, settings=settings, root=root), row)
    outcome = {
        "cpu": time.process_time() - cpu,
        "wall": time.monotonic() - wall,
        "parts": len(ledger.parts.of_batch(number)) or 1,
        "peak_mb": peak_mb(),
    }
    ledger.close()
    print(json.dumps(outcome))


if __name__ == "__main__":
    main(sys.argv[1:])

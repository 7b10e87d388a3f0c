"""What the whole step ``prepare`` costs beside parsing, and how much memory it takes.

A batch of one ``.gz`` file is staged, and prepared by a process of its own: manifest read, file read,
expanded, split, digested and checked, records judged and filed, accepted records written and chunked,
ledger kept.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from bench.records import ONE_BAD_IN, spoilt
from bench.result import Result
from bench.validation import json_microseconds
from cryptography.fernet import Fernet
from upath import UPath

from tidepool_ingest.ledger import Ledger
from tidepool_ingest.options import PART_RECORDS, PART_RECORDS_MAX, RunOptions
from tidepool_ingest.plan import plan_run
from tidepool_ingest.prepare.step import prepare_batch
from tidepool_ingest.staging.encryption import KEYS_VARIABLE
from tidepool_ingest.staging.work_area import WORK_FOLDER
from tidepool_ingest.window import Window

ROUNDS = 5
AROUND = 3
"""Rounds of ``json.loads`` before and after each round of preparing."""
FEW, MANY = 50_000, 5_000_000
USER = "0123456789"
DAY = date(2026, 1, 1)
FIRST_CENTURY = 20
"""Two digits that years of the records begin with; others make other records of the same lines."""


def measure_preparing(lines: list[bytes], *, memory: bool) -> Iterator[Result]:
    """Measure a clean file, one with some spoilt records, one that is cut; on request a small and a huge one.

    :param lines: records as from an uploader.
    :param memory: whether to measure memory too, which takes minutes and some GB of temporary files.
    """
    yield _measured("prepare, as from an uploader", lines, lines, len(lines))
    yield _measured(f"prepare, 1 bad in {ONE_BAD_IN}", spoilt(lines), lines, len(lines))
    yield _measured("prepare, work area sealed", lines, lines, len(lines), encrypted=True)
    # They make more rows than a part has, with what is embedded in them.
    yield _measured("prepare, cut into parts", lines, lines, len(lines), part_records=PART_RECORDS)
    if memory:
        yield _measured("prepare, small file", lines, lines, FEW)
        yield _measured("prepare, huge file", lines, lines, MANY, rounds=1)


def _measured(
    what: str,
    lines: list[bytes],
    parsed: list[bytes],
    records: int,
    *,
    rounds: int = ROUNDS,
    encrypted: bool = False,
    part_records: int = PART_RECORDS_MAX,
) -> Result:
    """Prepare in several rounds, with ``json.loads`` around each: what else loads the machine slows both."""
    outcomes = []
    parsing = [json_microseconds(parsed, rounds=AROUND)]
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as folder:
        root = Path(folder) / "staging"
        stage(root, lines, records)
        for number in range(rounds):
            ledger = Path(folder) / f"ledger-{number}.db"
            outcomes.append(_in_own_process(root, ledger, part_records, encrypted=encrypted))
            parsing.append(json_microseconds(parsed, rounds=AROUND))
            shutil.rmtree(root / WORK_FOLDER)
    return Result(
        what=what,
        records=records,
        rejected=outcomes[0]["rejected"],
        json_microseconds=min(parsing),
        microseconds=min(outcome["seconds"] for outcome in outcomes) * 1e6 / records,
        peak_mb=max(outcome["peak_mb"] for outcome in outcomes),
    )


def stage(root: Path, lines: list[bytes], records: int, *, user: str = USER) -> None:
    """Write a batch of so many different records, each round of the lines in a century of its own."""
    batch = root / DAY.isoformat() / user / "bench"
    batch.mkdir(parents=True)
    with (batch / "records.ndjson.gz").open("wb") as file:
        for done in range(0, records, len(lines)):
            text = b"\n".join(lines[: records - done]) + b"\n"
            century = FIRST_CENTURY + done // len(lines)
            text = text.replace(b'"time":"%d' % FIRST_CENTURY, b'"time":"%d' % century)
            file.write(gzip.compress(text, 1))
    device = json.loads(lines[1])["deviceId"]
    manifest = {
        "userId": user,
        "dataSet": {"deviceId": device},
        "files": [{"name": "records.ndjson.gz", "format": "ndjson"}],
    }
    (batch / "manifest.json").write_text(json.dumps(manifest))


def _in_own_process(root: Path, ledger: Path, part_records: int, *, encrypted: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.preparing", str(root), str(ledger), str(part_records)]
    keys = {KEYS_VARIABLE: Fernet.generate_key().decode() if encrypted else ""}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | keys)
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def main(arguments: Sequence[str]) -> None:
    """Prepare the one batch of a staging root; print what that took.

    :param arguments: the staging root, where to put a ledger, and how many rows a part may have.
    """
    root = UPath(arguments[0])
    options = RunOptions(max_quarantined_percent=100, force=True, part_records=int(arguments[2]))
    ledger = Ledger(f"sqlite:///{arguments[1]}")
    ledger.migrate()

    def api_host_of(_connection: str | None) -> str:
        return "https://bench.example"

    started = time.process_time()
    plan = plan_run(root, Window(DAY, DAY), ledger=ledger, options=options, api_host_of=api_host_of)
    row = ledger.batches.get(plan.batches[0])
    summary = prepare_batch(root, row, ledger=ledger, options=options, api_host_of=api_host_of)
    seconds = time.process_time() - started
    ledger.close()
    print(json.dumps({"seconds": seconds, "rejected": summary.quarantined, "peak_mb": peak_mb()}))


def peak_mb() -> float:
    """Return the most memory that this process has held, and not its parent at the fork."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found.group(1)) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024**2


if __name__ == "__main__":
    main(sys.argv[1:])

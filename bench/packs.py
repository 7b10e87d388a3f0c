"""What working on several data sets of a pack at once gains when Tidepool is far away.

A simulated Tidepool, in a process of its own, takes 200 ms for every request. Packs of as many small batches
are prepared and uploaded, one data set at a time, four, and eight. Counted is the wall time of the uploads,
from the first request to the last batch verified, the CPU time of preparing and uploading here, and the
transactions of the ledger, reading ones included.

A batch of one chunk is the same with a simulated Tidepool that answers at once, so that our own work remains.
"""

from __future__ import annotations

import gc
import resource
import tempfile
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from bench.fleet import RECORDS, stage
from bench.sending import ROUND_TRIP_SECONDS, running_simulator, settings_of
from sqlalchemy import event
from upath import UPath

from tidepool_ingest.client import connect, host_of
from tidepool_ingest.ledger import BatchRow, BatchState, Ledger
from tidepool_ingest.options import RunOptions
from tidepool_ingest.packs import PackWork
from tidepool_ingest.plan import plan_run
from tidepool_ingest.prepare.step import prepare_batch
from tidepool_ingest.upload import UploadContext, UploadOptions, upload_batch
from tidepool_ingest.window import Window

AT_ONCE = (1, 4, 8)
BATCHES = 80
DAY = date(2026, 1, 1)

HEADINGS = (
    "data sets at once", "batches", "records each", "batches/min", "ratio", "CPU ms/batch",
    "ledger transactions/batch", "peak MB",
)  # fmt: skip


def measure_packs() -> list[tuple[object, ...]]:
    """Process a pack with each number of data sets at once; return the rows of a table."""
    with (
        tempfile.TemporaryDirectory(prefix="tidepool-bench-") as name,
        running_simulator(Path(name), ROUND_TRIP_SECONDS) as roles,
    ):
        measured = [_measured(Path(name), roles, at_once) for at_once in AT_ONCE]
    first = measured[0][0]
    return [
        (at_once, BATCHES, RECORDS, round(per_minute), round(per_minute / first, 2), *map(round, more))
        for at_once, (per_minute, *more) in zip(AT_ONCE, measured, strict=True)
    ]


ONE_CHUNK_HEADINGS = ("measured", "batches", "records each", "transactions", "cpu ms")
ROUNDS = 3


def measure_one_chunk() -> list[tuple[object, ...]]:
    """Process packs of batches of one chunk, one at a time; return the row of the best round."""
    rounds = []
    for _ in range(ROUNDS):
        with (
            tempfile.TemporaryDirectory(prefix="tidepool-bench-") as name,
            running_simulator(Path(name), 0) as roles,
        ):
            _per_minute, milliseconds, transactions, _peak = _measured(Path(name), roles, 1)
            rounds.append((round(milliseconds, 1), round(transactions, 1)))
    milliseconds, transactions = min(rounds)
    return [("batch of one chunk", BATCHES, RECORDS, transactions, milliseconds)]


def _measured(folder: Path, roles: dict[str, Any], at_once: int) -> tuple[float, float, float, float]:
    """Return batches a minute; of each batch CPU milliseconds and transactions; and the peak memory in MB."""
    root, user = folder / f"staging-{at_once}", roles["owner"]["id"]
    for number in range(BATCHES):
        stage(root, DAY, user, f"meter-{at_once}-{number}")
    settings = settings_of(roles)
    host, options = host_of(roles["base_url"]), RunOptions()
    ledger = Ledger(f"sqlite:///{folder / f'ledger-{at_once}.db'}")
    ledger.migrate()
    transactions = 0

    def count(_connection: object) -> None:
        nonlocal transactions
        transactions += 1

    event.listen(ledger.database.engine, "begin", count)
    plan = plan_run(UPath(root), Window(DAY, DAY), ledger=ledger, options=options, api_host_of=lambda _: host)
    gc.collect()  # what was loaded and done before is not looked through at the expense of what is measured
    cpu = time.process_time()

    def prepare(row: BatchRow, _share: int) -> None:
        prepare_batch(UPath(root), row, ledger=ledger, options=options, api_host_of=lambda _: host)

    PackWork(ledger.batches.get_all(plan.batches)).run(prepare)
    with connect(settings) as client:
        context = UploadContext(client=client, ledger=ledger, settings=settings, root=UPath(root))

        def upload(row: BatchRow, share: int) -> None:
            upload_batch(replace(context, options=UploadOptions(at_once=share)), row)

        started = time.monotonic()
        PackWork(ledger.batches.get_all(plan.batches), at_once=at_once).run(upload)
        seconds = time.monotonic() - started
    cpu = time.process_time() - cpu
    states = {row.state for row in ledger.batches.get_all(plan.batches)}
    ledger.close()
    assert states == {BatchState.VERIFIED}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return 60 * BATCHES / seconds, 1_000 * cpu / BATCHES, transactions / BATCHES, peak

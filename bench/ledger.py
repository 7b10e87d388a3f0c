"""How long a plan waits for a ledger of 1,000,000 batches, and how writers at the same time get along.

A ledger of its own is filled on each database, and 10,000 ready batches are staged in a folder of this
machine. Then the ledger is asked which of 10,000 contents are done, and whole plans are made of the 10,000:
when none of them is known, when their manifests are, and when they are done. At the end several processes
record states.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

from bench.uploads_page import FIRST_DAY, fill
from dev.home import LocalRunError
from dev.postgresql import postgresql
from sqlalchemy import select, update
from upath import UPath

from tidepool_ingest.ledger import BatchState, Ledger
from tidepool_ingest.ledger.schema import batches
from tidepool_ingest.options import RunOptions
from tidepool_ingest.plan import plan_run
from tidepool_ingest.window import Window

BATCHES = 1_000_000
READY = 10_000
DAYS = 10
USERS = 100
WRITERS = 8
WRITES = 250
"""How often each writer records a state of its own, and something that all of them write."""
HOST = "api.example.org"
FIRST = FIRST_DAY + timedelta(days=4_000)

HEADINGS = ("measured", "database", "seconds", "rows", "rows a second")

Row = tuple[object, ...]


def measure_ledger() -> Iterator[Row]:
    """Yield the rows of a table."""
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as name, ExitStack() as stack:
        addresses = {"SQLite": f"sqlite:///{name}/ledger.db"}
        try:
            addresses["PostgreSQL"] = stack.enter_context(postgresql(Path(name) / "pg")).ledger
        except LocalRunError as error:
            print(f"PostgreSQL is left out: {error}", file=sys.stderr)
        root = Path(name) / "staging"
        _stage(root)
        for database, address in addresses.items():
            ledger = Ledger(address)
            ledger.migrate()
            for what, seconds, rows in _measured(ledger, address, UPath(root)):
                yield what, database, round(seconds, 2), rows, round(rows / seconds)
            ledger.close()


def _measured(ledger: Ledger, address: str, root: UPath) -> Iterator[tuple[str, float, int]]:
    seconds = _timed(lambda: fill(ledger, BATCHES, details=False))
    yield "fill the ledger", seconds, 2 * BATCHES
    keys = [f"{1 + number * (BATCHES // READY):064x}" for number in range(READY)]
    for what in ("which of 10,000 are done, the first time", "which of 10,000 are done, again"):
        yield what, _timed(lambda: ledger.batches.of_contents(HOST, keys)), READY
    for what in ("plan: none is known", "plan: all are known, none is done"):
        yield what, _timed(lambda: _plan(ledger, root)), READY
    with ledger.database.writing() as connection:
        connection.execute(update(batches).where(batches.c.day >= FIRST).values(state=BatchState.VERIFIED))
    yield "plan: all are done", _timed(lambda: _plan(ledger, root)), READY
    ready = ledger.batches.get_all(range(1, 3_001))
    ledger.batches.register_all(ready[:300])
    yield "note 3,000 batches again", _timed(lambda: ledger.batches.register_all(ready)), len(ready)
    yield f"{WRITERS} processes note states", _write_at_once(ledger, address), WRITERS * WRITES * 2


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _plan(ledger: Ledger, root: UPath) -> None:
    days = Window(FIRST, FIRST + timedelta(days=DAYS))
    plan_run(root, days, ledger=ledger, options=RunOptions(), api_host_of=lambda _connection: HOST)


def _write_at_once(ledger: Ledger, address: str) -> float:
    """Let processes write at the same time; return the seconds from when all were ready."""
    ledger.data_sets.begin_chunk(1, 0, digest="0" * 64, records=1)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(WRITERS + 1)
    writers = [context.Process(target=write, args=(address, number, ready)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    ready.wait()
    started = time.perf_counter()
    for writer in writers:
        writer.join()
    seconds = time.perf_counter() - started
    attempts = ledger.data_sets.chunks_of(1)[0].attempts - 1
    with ledger.database.reading() as connection:
        recorded = connection.scalars(select(batches.c.reason).where(batches.c.id <= WRITERS)).all()
    if attempts != WRITERS * WRITES or set(recorded) != {f"note-{WRITES - 1}"}:
        raise RuntimeError(f"{attempts} of {WRITERS * WRITES} shared writes are kept; last ones: {recorded}")
    return seconds


def write(address: str, writer: int, ready: Barrier) -> None:
    """Record states as one process among several.

    :param address: the ledger's.
    :param writer: its number, from 0.
    :param ready: is waited for before the first write.
    """
    ledger = Ledger(address)
    ledger.data_sets.of_batch(1)
    ready.wait()
    for number in range(WRITES):
        ledger.batches.hold(writer + 1, f"note-{number}")
        ledger.data_sets.begin_chunk(1, 0, digest="0" * 64, records=1)
    ledger.close()


def _stage(root: Path) -> None:
    """Stage ready batches as `tidepool-ingest stage` does: their manifests name the digest of each file."""
    for number in range(READY):
        day = FIRST + timedelta(days=number * DAYS // READY)
        folder = root / day.isoformat() / f"{number % USERS:010x}" / f"ready-{number}"
        folder.mkdir(parents=True)
        content = b'{"type":"cbg","value":%d}\n' % number
        (folder / "data.ndjson").write_bytes(content)
        file = {"name": "data.ndjson", "format": "ndjson", "sha256": hashlib.sha256(content).hexdigest()}
        manifest = {
            "userId": f"{number % USERS:010x}",
            "dataSet": {"deviceId": f"device-{number % USERS}", "deviceModel": "Model 5"},
            "files": [file],
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))

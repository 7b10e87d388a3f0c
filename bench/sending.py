"""What sending several chunks at once gains when Tidepool is far away.

A simulated Tidepool, in a process of its own, takes 200 ms for every request. Batches of equal size are
uploaded to it with chunks of 100 records, one, four and eight at a time. Counted is the time from the moment
the data set was open to the moment its last chunk was stored, both as the ledger has them; the ratio is to
the first run, so that it holds whatever the machine.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from bench.records import BATCH
from bench.result import Result
from bench.validation import json_microseconds
from upath import UPath

from tidepool_ingest.client import ClientSettings, connect, host_of
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.options import RunOptions
from tidepool_ingest.plan import plan_run
from tidepool_ingest.prepare.step import prepare_batch
from tidepool_ingest.upload import UploadContext, UploadOptions, upload_batch
from tidepool_ingest.window import Window
from tidepool_simulator.accounts import CLIENT_ID, CLIENT_SECRET

ROUND_TRIP_SECONDS = 0.2
CHUNK_RECORDS = 100
CHUNKS = 160
AT_ONCE = (1, 4, 8)
READ_BACK_RECORDS = 100_000
READ_BACK_ROUNDS = 3
DAY = date(2026, 1, 1)
START_SECONDS = 60.0

HEADINGS = ("chunks at once", "records", "records/s", "ratio", "CPU µs a record")


@dataclass(frozen=True)
class Sent:
    """The result of one upload.

    :param at_once: chunks in progress at the same time.
    :param records: records sent.
    :param seconds: wall time of sending them.
    :param cpu_seconds: CPU time of the whole upload in this process, read-back and all.
    """

    at_once: int
    records: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Records a second."""
        return self.records / self.seconds

    def row(self, first: Sent) -> tuple[object, ...]:
        """Return a row of the table, with the ratio to the first run."""
        microseconds = self.cpu_seconds * 1e6 / self.records
        ratio = self.per_second / first.per_second
        return self.at_once, self.records, round(self.per_second), round(ratio, 2), round(microseconds)


def measure_sending(lines: Sequence[bytes]) -> list[tuple[object, ...]]:
    """Upload as many records with each parallelism; return the rows of a table.

    :param lines: records of one device, at least as many as are sent.
    """
    with (
        tempfile.TemporaryDirectory(prefix="tidepool-bench-") as name,
        running_simulator(Path(name), ROUND_TRIP_SECONDS) as roles,
    ):
        chosen = lines[: CHUNKS * CHUNK_RECORDS]
        sent = [
            _uploaded(Path(name), roles, chosen, at_once, chunk_records=CHUNK_RECORDS) for at_once in AT_ONCE
        ]
    return [upload.row(sent[0]) for upload in sent]


@contextmanager
def running_simulator(folder: Path, latency: float) -> Iterator[dict[str, Any]]:
    """Run a simulated Tidepool for the length of a ``with`` block.

    :param folder: for its store.
    :param latency: seconds that it takes for every request.
    :return: its address and accounts.
    """
    roles = folder / "roles.json"
    command = [sys.executable, "-m", "tidepool_ingest", "simulate", "--store", str(folder / "store.db")]
    command += ["--latency", str(latency), "--write-roles", str(roles)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + START_SECONDS
        while not roles.exists():
            if process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError("the simulator did not start")
            time.sleep(0.05)
        yield json.loads(roles.read_text())
    finally:
        process.terminate()
        process.wait()


def settings_of(roles: dict[str, Any]) -> ClientSettings:
    """Return the settings of a client that talks to a simulated Tidepool."""
    return ClientSettings.of(
        {
            "environment": roles["base_url"],
            "auth_mode": "client_credentials",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
        }
    )


def _uploaded(
    folder: Path, roles: dict[str, Any], lines: Sequence[bytes], at_once: int, *, chunk_records: int
) -> Sent:
    root = folder / f"staging-{at_once}"
    user, device = roles["owner"]["id"], json.loads(lines[0])["deviceId"]
    _stage(root, user, device, lines)
    settings = settings_of(roles)
    host = host_of(roles["base_url"])
    options = RunOptions(chunk_records=chunk_records)
    ledger = Ledger(f"sqlite:///{folder / f'ledger-{at_once}.db'}")
    ledger.migrate()
    window = Window(DAY, DAY)
    plan = plan_run(UPath(root), window, ledger=ledger, options=options, api_host_of=lambda _: host)
    (number,) = plan.batches
    row = ledger.batches.get(number)
    prepare_batch(UPath(root), row, ledger=ledger, options=options, api_host_of=lambda _: host)
    gc.collect()  # what was loaded and done before is not looked through at the expense of what is measured
    started = time.process_time()
    with connect(settings) as client:
        options = UploadOptions(at_once=at_once)
        context = UploadContext(
            client=client, ledger=ledger, settings=settings, root=UPath(root), options=options
        )
        upload_batch(context, ledger.batches.get(number))
    cpu_seconds = time.process_time() - started
    (data_set,) = ledger.data_sets.of_batch(number)
    chunks = ledger.data_sets.chunks_of(data_set.id).values()
    ledger.close()
    assert data_set.opened_at is not None
    seconds = (max(chunk.updated_at for chunk in chunks) - data_set.opened_at).total_seconds()
    return Sent(at_once, sum(chunk.records for chunk in chunks), seconds, cpu_seconds)


def measure_read_back(lines: Sequence[bytes]) -> list[Result]:
    """Upload records into one data set and read them back, beside parsing them; return the rows of a table.

    The simulated Tidepool answers at once, and is in a process of its own. As with parsing, the best of
    several rounds counts.

    :param lines: records of one device; as many as a data set may have are sent.
    """
    sent = list(lines[:READ_BACK_RECORDS])
    rounds = []
    for _ in range(READ_BACK_ROUNDS):
        with (
            tempfile.TemporaryDirectory(prefix="tidepool-bench-") as name,
            running_simulator(Path(name), 0) as roles,
        ):
            rounds.append(_uploaded(Path(name), roles, sent, 1, chunk_records=BATCH))
    assert all(done.records == len(sent) for done in rounds)
    cpu_seconds = min(done.cpu_seconds for done in rounds)
    return [
        Result(
            what="send and read back",
            records=len(sent),
            rejected=0,
            json_microseconds=json_microseconds(sent),
            microseconds=cpu_seconds / len(sent) * 1e6,
        )
    ]


def _stage(root: Path, user: str, device: str, lines: Sequence[bytes]) -> None:
    batch = root / DAY.isoformat() / user / "bench"
    batch.mkdir(parents=True)
    (batch / "records.ndjson").write_bytes(b"\n".join(lines) + b"\n")
    manifest = {
        "userId": user,
        "dataSet": {"deviceId": device},
        "files": [{"name": "records.ndjson", "format": "ndjson"}],
    }
    (batch / "manifest.json").write_text(json.dumps(manifest))

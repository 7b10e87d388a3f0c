"""A fleet of small batches through a running Airflow: in packs, and one per task. ``make bench-fleet``.

Airflow runs here with all its components on an embedded PostgreSQL, which holds the ledger too; a simulated
Tidepool runs beside it. Batches of 100 records are staged, each of a device of its own, and one run of the
upload DAG takes them all. Counted are batches a minute from the start of that run to its end, as Airflow
has both, so that plan and report are in it. Each kind starts with an empty ledger and a fresh Airflow. At the
end the checker, which knows neither the upload nor the ledger, compares what was staged and what is visible.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psutil
from bench.result import print_rows
from dev.components import LocalAirflow
from dev.home import LocalHome
from dev.postgresql import postgresql
from dev.simulator import simulator, simulator_connection

from tidepool_ingest.ledger import Ledger
from tidepool_simulator.sample import SAMPLE_USERS
from tidepool_simulator.sample.checker.check import check

DAG_ID = "tidepool_normal_upload"
BATCHES = 2_000
BASELINE = 200
RECORDS = 100
LOOK_SECONDS = 1.0

HEADINGS = (
    "what", "batches", "mapped tasks", "seconds", "batches/min", "CPU s/batch", "scheduler MB", "at its end"
)  # fmt: skip


@dataclass(frozen=True)
class Fleet:
    """The result of one run of many batches.

    :param tasks: mapped tasks that prepared and uploaded.
    :param seconds: from the start of the run to its end.
    :param cpu_seconds: of all processors of the machine, meanwhile.
    :param peak_mb: memory of the scheduler's process at its most.
    :param end_mb: the same at the end of the run.
    """

    what: str
    batches: int
    tasks: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    end_mb: float

    @property
    def per_minute(self) -> float:
        """Batches a minute."""
        return 60 * self.batches / self.seconds

    def row(self) -> tuple[object, ...]:
        """Return a row of the table."""
        return (
            self.what,
            self.batches,
            self.tasks,
            round(self.seconds, 1),
            round(self.per_minute),
            round(self.cpu_seconds / self.batches, 2),
            round(self.peak_mb),
            round(self.end_mb),
        )


def main() -> int:
    """Measure both kinds; the last line sums up."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--batches", type=int, default=BATCHES, help="how many travel in packs")
    parser.add_argument("--baseline", type=int, default=BASELINE, help="how many travel one per task")
    arguments = parser.parse_args()
    # Airflow and its database end with this process, whichever signal ends it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    single = _measured(
        "one per task", arguments.baseline, {"TIDEPOOL_BATCHES_ALONE": str(arguments.baseline)}
    )
    packs = _measured("packs", arguments.batches, {})
    print_rows(HEADINGS, [single.row(), packs.row()])
    print(
        f"fleet: {arguments.batches} batches, packs {packs.per_minute:.0f}/min, "
        f"one per task {single.per_minute:.0f}/min, ratio {packs.per_minute / single.per_minute:.1f}"
    )
    return 0


def _measured(what: str, batches: int, settings: dict[str, str]) -> Fleet:
    print(f"bench-fleet: {batches} batches, {what} …", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="tidepool-fleet-") as name, ExitStack() as stack:
        home = LocalHome(Path(name))
        today = datetime.now(UTC).date()
        for number in range(batches):
            stage(home.staging, today, SAMPLE_USERS[number % len(SAMPLE_USERS)], f"meter-{number}")
        databases = stack.enter_context(postgresql(home.postgresql))
        roles = stack.enter_context(simulator(home))
        environment = home.environment(tidepool=simulator_connection(roles["base_url"]), databases=databases)
        airflow = LocalAirflow({**environment, **settings}, home.folder / "logs", _free_port())
        stack.enter_context(airflow.running())
        airflow.unpause(DAG_ID)
        found = _run(airflow, what, batches)
        with closing(Ledger(databases.ledger)) as ledger:
            states = ledger.uploads.by_state()
        result = check(home.staging, home.simulator_store)
        if not result.ok or set(states) != {"verified"}:
            raise SystemExit(f"bench-fleet: not everything came through: {states}")
    return found


def _run(airflow: LocalAirflow, what: str, batches: int) -> Fleet:
    """Run the DAG once and watch it."""
    runs = f"/api/v2/dags/{DAG_ID}/dagRuns"
    scheduler = psutil.Process(airflow.components["scheduler"].members()[0])
    memory: list[float] = []
    cpu = _cpu_seconds()
    run_id = airflow.request("POST", runs, {"logical_date": None}).json()["dag_run_id"]
    while True:
        airflow.check()
        memory.append(scheduler.memory_info().rss / 2**20)
        run = airflow.request("GET", f"{runs}/{run_id}").json()
        if run["state"] not in ("queued", "running"):
            break
        time.sleep(LOOK_SECONDS)
    cpu = _cpu_seconds() - cpu
    if run["state"] != "success":
        raise SystemExit(f"bench-fleet: the run ended as {run['state']}")
    seconds = (_moment(run["end_date"]) - _moment(run["start_date"])).total_seconds()
    tasks = airflow.request("GET", f"{runs}/{run_id}/taskInstances?limit=1&task_id=batch.prepare").json()
    mapped = 2 * tasks["total_entries"]
    return Fleet(what, batches, mapped, seconds, cpu, max(memory), memory[-1])


def _cpu_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def stage(root: Path, day: date, user: str, device: str) -> None:
    """Stage one small batch.

    :param root: the staging root.
    :param day: its day folder, and the day of its records.
    :param user: its Tidepool user.
    :param device: its device, after which its folder is named.
    """
    folder = root / day.isoformat() / user / device
    folder.mkdir(parents=True)
    lines = [json.dumps(_reading(day, device, minute)) for minute in range(RECORDS)]
    (folder / "records.ndjson").write_text("\n".join(lines) + "\n")
    manifest = {
        "userId": user,
        "dataSet": {"deviceId": device, "deviceModel": "Meter", "deviceTags": ["bgm"]},
        "files": [{"name": "records.ndjson", "format": "ndjson"}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _reading(day: date, device: str, minute: int) -> dict[str, Any]:
    time_of_day = f"{minute // 60:02}:{minute % 60:02}:00"
    common = {"type": "smbg", "time": f"{day}T{time_of_day}Z", "deviceId": device}
    return common | {"units": "mg/dL", "value": 80 + minute}


if __name__ == "__main__":
    sys.exit(main())

"""Runs of one day's batches that something happens to while they upload.

Time constants of the upload are shortened in the processes of such an Airflow, by a ``sitecustomize`` module
that every Python on its path imports first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import requests

from tests.integration.airflow.deployment import RUN_SECONDS, Deployment
from tidepool_simulator import Fault

UPLOAD = "batch.upload"
CHUNK_RECORDS = 10
SLOW_POST_SECONDS = 0.6
"""How long each chunk takes, so that something can happen to an upload meanwhile."""

SHORT = """
from tidepool_ingest.upload import UploadContext
from tidepool_ingest.upload.guarded_requests import Timeouts

UploadContext.default_timeouts = Timeouts(
    request=6.0, doubt=3.0, lease=12.0, close_turn=30.0, visible_wait=5.0, visible_poll=0.5
)
"""
"""What each Python of this Airflow runs first."""

QUICK = {
    "TIDEPOOL_RETRIES": "4",
    "TIDEPOOL_RETRY_SECONDS": "2",
    # A worker that is lost is noticed after seconds, not after five minutes.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "12",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
}


def quick(environment: Mapping[str, str], first: Path) -> dict[str, str]:
    """Return an Airflow's environment with its times shortened.

    :param first: folder for modules that each of its processes finds before all others.
    """
    first.mkdir()
    (first / "sitecustomize.py").write_text(SHORT)
    path = os.pathsep.join(filter(None, [str(first), environment.get("PYTHONPATH", "")]))
    return {**environment, **QUICK, "PYTHONPATH": path}


def install(deployment: Deployment, *faults: Fault) -> None:
    """Install faults in the simulated Tidepool."""
    url = f"{deployment.roles['base_url']}/simulator/faults"
    given = [fault.model_dump(mode="json") for fault in faults]
    requests.post(url, json=given, timeout=30).raise_for_status()


def slow_posts() -> Fault:
    return Fault.slow(SLOW_POST_SECONDS, "post")


class RunsOfADay:
    """The runs that take what is staged for one day."""

    def __init__(self, deployment: Deployment, day: date) -> None:
        self.deployment = deployment
        self.day = day

    def trigger(self, **body: Any) -> str:
        conf = {"first_day": str(self.day), "chunk_records": CHUNK_RECORDS, **body.pop("conf", {})}
        run = self.deployment.post("/dagRuns", {"logical_date": None, "conf": conf, **body})
        return str(run["dag_run_id"])

    def until_uploading(self, run_id: str) -> dict[str, Any]:
        """Wait until some chunks of the day are at Tidepool; return the task instance of an upload."""
        give_up = time.monotonic() + RUN_SECONDS
        while True:
            self.deployment.airflow.check()
            running = [
                task_instance
                for task_instance in self.deployment.task_instances(run_id, UPLOAD)
                if task_instance["state"] == "running"
            ]
            if running and self._chunks() >= 4:
                return running[0]
            assert time.monotonic() < give_up, self.deployment.states(run_id)
            time.sleep(0.1)

    def _chunks(self) -> int:
        mine = {upload.batch for upload in self.deployment.uploads() if upload.day == self.day}
        with self.deployment.ledger() as ledger:
            return sum(
                len(ledger.data_sets.chunks_of(data_set.id))
                for data_set in ledger.data_sets.of_batches(sorted(mine))
            )

    def ended(self, run_id: str) -> str:
        give_up = time.monotonic() + RUN_SECONDS
        while (state := self.deployment.get(f"/dagRuns/{run_id}")["state"]) in ("queued", "running"):
            self.deployment.airflow.check()
            assert time.monotonic() < give_up, self.deployment.states(run_id)
            time.sleep(0.5)
        return str(state)

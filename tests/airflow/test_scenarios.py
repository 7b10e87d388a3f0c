"""What may happen to an upload under a real scheduler on PostgreSQL: each record is visible once after all.

Time constants of the upload are shortened in the processes of this Airflow, by a ``sitecustomize`` module
that every Python on its path imports first; nothing else differs from ``make up``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.airflow.conftest import readings, stage
from tests.airflow.deployment import DAG_ID, RUN_SECONDS, Deployment
from tests.airflow.ports import free_port
from tidepool_airflow.local.airflow_parts import LocalAirflow
from tidepool_airflow.local.connection import simulator_connection
from tidepool_airflow.local.home import LocalHome
from tidepool_airflow.local.postgresql import postgresql
from tidepool_airflow.local.simulator import simulator
from tidepool_ingest.sample.checker.check import check
from tidepool_ingest.simulator import Fault

UPLOAD = "batch.upload"
RECORDS = 400
CHUNK_RECORDS = 10
FIRST_DAY = date(2024, 5, 1)

SHORT = """
from tidepool_ingest.upload import timing

timing.USUAL = timing.Timing(
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


class Scene:
    """One batch of one day, and what is done to its run."""

    def __init__(self, deployment: Deployment, number: int) -> None:
        self.deployment = deployment
        self.day = FIRST_DAY + timedelta(days=number)
        self.device = f"device-{number}"
        records = readings(RECORDS, device=self.device, day=self.day)
        stage(deployment.home.staging, records, day=self.day, batch=f"scene-{number}", device=self.device)

    def install(self, *faults: Fault) -> None:
        url = f"{self.deployment.roles['base_url']}/simulator/faults"
        given = [fault.model_dump(mode="json") for fault in faults]
        requests.post(url, json=given, timeout=30).raise_for_status()

    def trigger(self, **more: Any) -> str:
        conf = {"first_day": str(self.day), "chunk_records": CHUNK_RECORDS, **more.pop("conf", {})}
        run = self.deployment.post("/dagRuns", {"logical_date": None, "conf": conf, **more})
        return str(run["dag_run_id"])

    def until_uploading(self, run_id: str) -> dict[str, Any]:
        """Wait until some chunks of the run's batch are at Tidepool; return its upload's task instance."""
        give_up = time.monotonic() + RUN_SECONDS
        while True:
            self.deployment.airflow.check()
            running = [
                one for one in self.deployment.task_instances(run_id, UPLOAD) if one["state"] == "running"
            ]
            if running and self._chunks() >= 4:
                return running[0]
            assert time.monotonic() < give_up, self.deployment.states(run_id)
            time.sleep(0.1)

    def _chunks(self) -> int:
        mine = {one.batch for one in self.deployment.sessions() if one.day == self.day}
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

    def clear(self, run_id: str) -> None:
        self.deployment.post(
            "/clearTaskInstances",
            {
                "dry_run": False,
                "dag_run_id": run_id,
                "task_ids": [[UPLOAD, 0]],
                "only_failed": False,
                "include_downstream": True,
                "reset_dag_runs": True,
            },
        )

    def is_there_once(self) -> bool:
        """Tell whether everything staged so far is visible once, and the ledger says the same."""
        home = self.deployment.home
        result = check(home.staging, home.simulator_store)
        assert result.ok, [vars(entry) for entry in result.sets if not entry.ok]
        assert (result.lost, result.double, result.foreign, result.left_open) == (0,) * 4
        (session,) = (one for one in self.deployment.sessions() if one.day == self.day)
        assert (session.state, session.data_set_state) == ("verified", "verified")
        assert session.visible_rows == RECORDS
        return True


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with tempfile.TemporaryDirectory(prefix="tidepool-scenes-") as made, ExitStack() as stack:
        home = LocalHome(Path(made))
        home.staging.mkdir(parents=True, exist_ok=True)
        first = home.folder / "first"
        first.mkdir()
        (first / "sitecustomize.py").write_text(SHORT)
        databases = stack.enter_context(postgresql(home.postgresql))
        roles = stack.enter_context(simulator(home))
        environment = home.environment(tidepool=simulator_connection(roles["base_url"]), databases=databases)
        path = os.pathsep.join(filter(None, [str(first), environment.get("PYTHONPATH", "")]))
        settings = {**environment, **QUICK, "PYTHONPATH": path}
        port = free_port()
        airflow = LocalAirflow(settings, home.folder / "logs", port)
        stack.enter_context(airflow.running())
        airflow.unpause(DAG_ID)
        yield Deployment(home, airflow, roles, port, stack)


@pytest.fixture
def slow_posts(deployment: Deployment) -> Iterator[None]:
    """Let each chunk take long enough that something can happen to the upload meanwhile."""
    url = f"{deployment.roles['base_url']}/simulator/faults"
    fault = Fault.slow(0.6, "post").model_dump(mode="json")
    requests.post(url, json=fault, timeout=30).raise_for_status()
    yield
    requests.delete(url, timeout=30).raise_for_status()


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slow_posts")]


def test_a_worker_is_lost(deployment: Deployment) -> None:
    scene = Scene(deployment, 1)
    run_id = scene.trigger()
    task = psutil.Process(scene.until_uploading(run_id)["pid"])
    worker = task.parent()
    assert worker is not None

    worker.kill()
    task.kill()

    assert scene.ended(run_id) == "success"
    (instance,) = deployment.task_instances(run_id, UPLOAD)
    assert instance["try_number"] > 1
    assert scene.is_there_once()


def test_a_task_is_killed(deployment: Deployment) -> None:
    scene = Scene(deployment, 2)
    scene.install(Fault.lost_answer("post", skip=3))
    run_id = scene.trigger()

    psutil.Process(scene.until_uploading(run_id)["pid"]).send_signal(signal.SIGKILL)

    assert scene.ended(run_id) == "success"
    assert scene.is_there_once()


def test_the_same_batch_is_started_twice(deployment: Deployment) -> None:
    scene = Scene(deployment, 3)

    runs = [scene.trigger(), scene.trigger()]

    assert [scene.ended(run_id) for run_id in runs] == ["success", "success"]
    assert scene.is_there_once()
    assert len([one for one in deployment.sessions() if one.day == scene.day]) == 1


def test_an_upload_is_cleared_while_it_runs(deployment: Deployment) -> None:
    scene = Scene(deployment, 4)
    run_id = scene.trigger()
    scene.until_uploading(run_id)

    scene.clear(run_id)

    assert scene.ended(run_id) == "success"
    assert scene.is_there_once()
    (session,) = (one for one in deployment.sessions() if one.day == scene.day)
    assert (session.try_number or 0) > 1


def test_an_upload_is_marked_failed_and_cleared_later(deployment: Deployment) -> None:
    scene = Scene(deployment, 5)
    run_id = scene.trigger()
    instance = scene.until_uploading(run_id)
    pid = instance["pid"]

    answer = deployment.airflow.request(
        "PATCH",
        f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{UPLOAD}/0",
        {"new_state": "failed"},
    )
    assert answer.ok, answer.text
    give_up = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < give_up, "the task was not ended"
        time.sleep(0.2)

    assert scene.ended(run_id) == "failed"
    assert "stopped between two requests" in deployment.log(instance)
    with deployment.ledger() as ledger:
        (batch,) = (one.batch for one in deployment.sessions() if one.day == scene.day)
        chunks = [
            chunk
            for data_set in ledger.data_sets.of_batch(batch)
            for chunk in ledger.data_sets.chunks_of(data_set.id).values()
        ]
    # It stopped between two requests: the ledger knows of each chunk what became of it.
    assert 0 < len(chunks) < RECORDS // CHUNK_RECORDS
    assert {str(chunk.state) for chunk in chunks} == {"stored"}
    scene.clear(run_id)
    assert scene.ended(run_id) == "success"
    assert scene.is_there_once()


def test_a_backfill_meets_a_manual_run(deployment: Deployment) -> None:
    scene = Scene(deployment, 6)
    run_id = scene.trigger()
    days = ("--from-date", str(scene.day), "--to-date", str(scene.day + timedelta(days=1)))
    conf = f'{{"chunk_records": {CHUNK_RECORDS}}}'
    command = [sys.executable, "-m", "airflow", "backfill", "create", "--dag-id", DAG_ID, *days]

    made = subprocess.run(
        [*command, "--dag-run-conf", conf],
        env={**os.environ, **deployment.airflow.settings},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    runs = [run["dag_run_id"] for run in deployment.get("/dagRuns", limit=100)["dag_runs"]]
    backfilled = [one for one in runs if one.startswith("backfill__")]

    assert scene.ended(run_id) == "success"
    assert [scene.ended(one) for one in backfilled] == ["success"] * len(backfilled)
    assert backfilled
    assert scene.is_there_once()

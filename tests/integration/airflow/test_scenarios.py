"""What may happen to an upload under a real scheduler on PostgreSQL: each record is visible once after all.

Time constants of the upload are shortened, see :mod:`tests.integration.airflow.runs_of_a_day`; nothing else
differs from ``make up``.
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

import psutil
import pytest
import requests
from dev.components import LocalAirflow
from dev.home import LocalHome
from dev.postgresql import postgresql
from dev.simulator import simulator, simulator_connection

from tests.factories import meter_readings, stage
from tests.integration.airflow.deployment import DAG_ID, RUN_SECONDS, Deployment
from tests.integration.airflow.runs_of_a_day import (
    CHUNK_RECORDS,
    UPLOAD,
    RunsOfADay,
    install,
    quick,
    slow_posts,
)
from tests.ports import free_port
from tidepool_simulator import Fault

RECORDS = 400
FIRST_DAY = date(2024, 5, 1)


class Scene(RunsOfADay):
    """One batch of one day, and what is done to its run."""

    def __init__(self, deployment: Deployment, number: int) -> None:
        super().__init__(deployment, FIRST_DAY + timedelta(days=number))
        self.device = f"device-{number}"
        records = meter_readings(RECORDS, device=self.device, day=self.day)
        stage(deployment.home.staging, records, day=self.day, batch=f"scene-{number}", device=self.device)

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
        """Return whether everything staged so far is visible once, and the ledger says the same."""
        result = self.deployment.check()
        assert result.ok, [vars(entry) for entry in result.sets if not entry.ok]
        assert (result.lost, result.double, result.foreign, result.left_open) == (0,) * 4
        (upload,) = (upload for upload in self.deployment.uploads() if upload.day == self.day)
        assert (upload.state, upload.data_set_state) == ("verified", "verified")
        assert upload.visible_rows == RECORDS
        return True


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with tempfile.TemporaryDirectory(prefix="tidepool-scenes-") as made, ExitStack() as stack:
        home = LocalHome(Path(made))
        home.staging.mkdir(parents=True, exist_ok=True)
        databases = stack.enter_context(postgresql(home.postgresql))
        roles = stack.enter_context(simulator(home))
        environment = home.environment(tidepool=simulator_connection(roles["base_url"]), databases=databases)
        port = free_port()
        settings = quick(environment, home.folder / "first")
        airflow = LocalAirflow(settings, home.folder / "logs", port)
        stack.enter_context(airflow.running())
        airflow.unpause(DAG_ID)
        yield Deployment(home, airflow, roles, port, stack)


@pytest.fixture
def slowly(deployment: Deployment) -> Iterator[None]:
    install(deployment, slow_posts())
    yield
    requests.delete(f"{deployment.roles['base_url']}/simulator/faults", timeout=30).raise_for_status()


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slowly")]


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
    install(deployment, Fault.lost_answer("post", skip=3))
    run_id = scene.trigger()

    psutil.Process(scene.until_uploading(run_id)["pid"]).send_signal(signal.SIGKILL)

    assert scene.ended(run_id) == "success"
    assert scene.is_there_once()


def test_the_same_batch_is_started_twice(deployment: Deployment) -> None:
    scene = Scene(deployment, 3)

    runs = [scene.trigger(), scene.trigger()]

    assert [scene.ended(run_id) for run_id in runs] == ["success", "success"]
    assert scene.is_there_once()
    assert len([upload for upload in deployment.uploads() if upload.day == scene.day]) == 1


def test_an_upload_is_cleared_while_it_runs(deployment: Deployment) -> None:
    scene = Scene(deployment, 4)
    run_id = scene.trigger()
    scene.until_uploading(run_id)

    scene.clear(run_id)

    assert scene.ended(run_id) == "success"
    assert scene.is_there_once()
    (upload,) = (upload for upload in deployment.uploads() if upload.day == scene.day)
    assert (upload.try_number or 0) > 1


def test_an_upload_is_marked_failed_and_cleared_later(deployment: Deployment) -> None:
    scene = Scene(deployment, 5)
    run_id = scene.trigger()
    instance = scene.until_uploading(run_id)
    pid = instance["pid"]

    response = deployment.airflow.request(
        "PATCH",
        f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{UPLOAD}/0",
        {"new_state": "failed"},
    )
    assert response.ok, response.text
    give_up = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < give_up, "the task was not ended"
        time.sleep(0.2)

    assert scene.ended(run_id) == "failed"
    assert "stopped between two requests" in deployment.log(instance)
    with deployment.ledger() as ledger:
        (batch,) = (upload.batch for upload in deployment.uploads() if upload.day == scene.day)
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
    backfilled = [run for run in runs if run.startswith("backfill__")]

    assert scene.ended(run_id) == "success"
    assert [scene.ended(run_id) for run_id in backfilled] == ["success"] * len(backfilled)
    assert backfilled
    assert scene.is_there_once()

"""A manifest that lands in staging starts an upload: under a real triggerer and a real scheduler."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from dev.components import LocalAirflow
from dev.simulator import simulator, simulator_connection

from tests.factories import meter_readings, stage
from tests.integration.airflow.deployment import DAG_ID, RUN_SECONDS, Deployment, home_on_server
from tests.ports import free_port
from tidepool_simulator.sample import SAMPLE_USERS

pytestmark = pytest.mark.slow

ARRIVAL = "tidepool_on_arrival"
LOOK_SECONDS = 1
QUIET_LOOKS = 5


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """Airflow that also runs what assets trigger, checking for manifests every second."""
    port = free_port()
    with ExitStack() as stack:
        home, databases = stack.enter_context(home_on_server())
        stage(home.staging, meter_readings(3), batch="first")
        roles = stack.enter_context(simulator(home))
        environment = home.environment(tidepool=simulator_connection(roles["base_url"]), databases=databases)
        settings = {**environment, "TIDEPOOL_RETRIES": "0", "TIDEPOOL_WATCH_SECONDS": str(LOOK_SECONDS)}
        airflow = LocalAirflow(settings, home.folder / "logs", port, by_itself=True)
        stack.enter_context(airflow.running())
        yield Deployment(home, airflow, roles, port, stack)


def runs(deployment: Deployment, dag_id: str, *, kind: str) -> list[dict[str, Any]]:
    response = deployment.airflow.request("GET", f"/api/v2/dags/{dag_id}/dagRuns?run_type={kind}&limit=100")
    assert response.ok, response.text
    found: list[dict[str, Any]] = response.json()["dag_runs"]
    return found


def wait_until(deployment: Deployment, is_so: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + RUN_SECONDS
    while not is_so():
        deployment.airflow.check()
        assert time.monotonic() < give_up, (what, [upload.state for upload in deployment.uploads()])
        time.sleep(0.5)


def verified(deployment: Deployment) -> int:
    with deployment.ledger() as ledger:
        ledger.migrate()
    return sum(upload.state == "verified" for upload in deployment.uploads())


def at_rest(deployment: Deployment) -> bool:
    found = [run for kind in ("asset_triggered", "operator_triggered") for dag in (ARRIVAL, DAG_ID)
             for run in runs(deployment, dag, kind=kind)]  # fmt: skip
    return all(run["state"] in ("success", "failed") for run in found)


def test_nothing_starts_by_itself_before_somebody_wants_it(deployment: Deployment) -> None:
    response = deployment.airflow.request("GET", f"/api/v2/dags/{ARRIVAL}")

    assert response.json()["is_paused"] is True
    assert runs(deployment, ARRIVAL, kind="asset_triggered") == []


def test_what_lies_there_is_uploaded_when_it_is_switched_on(deployment: Deployment) -> None:
    deployment.airflow.unpause(DAG_ID)
    deployment.airflow.unpause(ARRIVAL)

    wait_until(deployment, lambda: verified(deployment) == 1, "the first batch is verified")
    wait_until(deployment, lambda: at_rest(deployment), "all runs have ended")
    (started,) = runs(deployment, ARRIVAL, kind="asset_triggered")
    assert started["state"] == "success"
    assert len(runs(deployment, DAG_ID, kind="operator_triggered")) == 1


def test_the_same_manifest_starts_no_second_run(deployment: Deployment) -> None:
    time.sleep(QUIET_LOOKS * LOOK_SECONDS)

    assert len(runs(deployment, ARRIVAL, kind="asset_triggered")) == 1


def test_another_one_starts_another_run(deployment: Deployment) -> None:
    stage(deployment.home.staging, meter_readings(3), user=SAMPLE_USERS[1], batch="second")

    wait_until(deployment, lambda: verified(deployment) == 2, "the second batch is verified")
    wait_until(deployment, lambda: at_rest(deployment), "all runs have ended")
    assert len(runs(deployment, ARRIVAL, kind="asset_triggered")) == 2


def test_a_triggerer_that_starts_anew_knows_what_was_seen(deployment: Deployment) -> None:
    before = len(runs(deployment, ARRIVAL, kind="asset_triggered"))
    deployment.airflow.restart("triggerer")
    time.sleep(QUIET_LOOKS * LOOK_SECONDS)
    assert len(runs(deployment, ARRIVAL, kind="asset_triggered")) == before

    stage(deployment.home.staging, meter_readings(3), user=SAMPLE_USERS[2], batch="third")
    wait_until(deployment, lambda: verified(deployment) == 3, "the third batch is verified")


def test_no_event_names_anybody(deployment: Deployment) -> None:
    response = deployment.airflow.request("GET", "/api/v2/assets/events?limit=100")
    text = json.dumps(response.json())

    assert '"manifests": 1' in text
    assert not [user for user in SAMPLE_USERS if user in text]

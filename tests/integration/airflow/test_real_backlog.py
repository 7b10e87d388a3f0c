"""A backlog of several meters at its first run, under a real scheduler with eight slots."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from typing import Any

import pytest
from dev.components import LocalAirflow
from dev.simulator import simulator, simulator_connection

from tests.factories import meter_readings, stage
from tests.integration.airflow.deployment import DAG_ID, Deployment, home_on_server
from tests.ports import free_port

pytestmark = pytest.mark.slow

SLOTS = "8"
METERS = 3
READ_OUTS = int(os.environ.get("BACKLOG_READ_OUTS", "5"))
"""Of each meter. With 20 of them, the tests take most of an hour on two processors."""

A_READ_OUT = 40
NEW_IN_EACH = 5
READINGS = METERS * (A_READ_OUT + (READ_OUTS - 1) * NEW_IN_EACH)
"""Different ones, of all meters."""

BACKLOG_SECONDS = 240 * READ_OUTS
"""For a run, on a machine that may be busy."""

ONE_DAY, FIRST_DAY = date(2024, 5, 1), date(2024, 6, 1)


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """Airflow on PostgreSQL, whose tasks have no retries: none of them may be lost by waiting."""
    with ExitStack() as stack:
        home, databases = stack.enter_context(home_on_server())
        roles = stack.enter_context(simulator(home))
        environment = home.environment(tidepool=simulator_connection(roles["base_url"]), databases=databases)
        settings = {**environment, "TIDEPOOL_RETRIES": "0", "AIRFLOW__CORE__PARALLELISM": SLOTS}
        port = free_port()
        airflow = LocalAirflow(settings, home.folder / "logs", port)
        stack.enter_context(airflow.running())
        airflow.unpause(DAG_ID)
        yield Deployment(home, airflow, roles, port, stack)


def stage_backlog(deployment: Deployment, kind: str, days: list[date], **doses: float) -> None:
    """Stage read-outs of some meters, each of which holds most of what the one before it held."""
    for meter in range(METERS):
        device = f"{kind}-{meter}"
        for number in range(READ_OUTS):
            first = NEW_IN_EACH * number
            records = meter_readings(first + A_READ_OUT, device=device, day=ONE_DAY)[first:]
            if doses:
                records.append(_bolus(device, round(1 + number * doses["step"], 2)))
            day = days[number % len(days)]
            stage(deployment.home.staging, records, day=day, batch=f"{device}-{number:02}", device=device)


def _bolus(device: str, amount: float) -> dict[str, Any]:
    """A dose that each read-out tells anew, under the same identity."""
    time = f"{ONE_DAY}T23:00:00Z"
    return {"type": "bolus", "subType": "normal", "normal": amount, "time": time, "deviceId": device}


def run(deployment: Deployment, first: date, last: date, **conf: Any) -> str:
    given = {"first_day": str(first), "last_day": str(last), **conf}
    run_id = str(deployment.post("/dagRuns", {"logical_date": None, "conf": given})["dag_run_id"])
    deployment.wait_for(run_id, BACKLOG_SECONDS)
    return run_id


def all_there(deployment: Deployment, kind: str, *, visible: int) -> bool:
    """Return whether every batch of a kind is verified, and each reading visible once."""
    result = deployment.check()
    assert result.ok, [vars(entry) for entry in result.sets if not entry.ok]
    assert (result.lost, result.double, result.foreign, result.left_open) == (0,) * 4
    assert result.visible == visible
    with deployment.ledger() as ledger:
        uploads = ledger.uploads.last_changed(limit=1000)
    found = [upload for upload in uploads if f"/{kind}-" in upload.folder]
    assert {(upload.state, upload.reason) for upload in found} == {("verified", None)}
    assert len(found) == METERS * READ_OUTS
    return True


def test_a_backlog_in_one_day_folder_is_green_at_its_first_run(deployment: Deployment) -> None:
    stage_backlog(deployment, "one", [ONE_DAY])

    run(deployment, ONE_DAY, ONE_DAY)

    assert all_there(deployment, "one", visible=READINGS)


def test_and_so_is_a_forced_run_over_all_of_it(deployment: Deployment) -> None:
    run(deployment, ONE_DAY, ONE_DAY, force=True)

    assert all_there(deployment, "one", visible=READINGS)


def test_a_backlog_of_many_days_ends_with_the_newest_values(deployment: Deployment) -> None:
    days = [FIRST_DAY + timedelta(days=number) for number in range(READ_OUTS)]
    stage_backlog(deployment, "many", days, step=0.1)

    run(deployment, days[0], days[-1])

    assert all_there(deployment, "many", visible=2 * READINGS + METERS)

"""A team is told of a late run and of a failed one, by a real scheduler and its workers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from dev.components import LocalAirflow
from dev.simulator import simulator, simulator_connection

from tests.airflow.receivers import WebServer, listening
from tests.factories import meter_readings, stage
from tests.integration.airflow.deployment import DAG_ID, RUN_SECONDS, Deployment, home_on_server
from tests.ports import free_port
from tidepool_simulator.sample import SAMPLE_USERS

pytestmark = pytest.mark.slow

AT_ONCE = "0.01"
"""Minutes after which a run is late: less than any takes."""

MODULE = """
import json, pathlib

def record(what, context):
    run = context["dag_run"]
    run_id = run["dag_run_id"] if isinstance(run, dict) else run.run_id
    line = {"what": what, "run": run_id, "context": str({key: str(context[key]) for key in context})}
    with pathlib.Path(__file__).with_name("calls").open("a") as file:
        file.write(json.dumps(line) + "\\n")

def late(context):
    record("late", context)

def failed(context):
    record("failed", context)
"""


class Team:
    """A module of a team's own, in a folder that Airflow's components can import from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "a_team_of_ours.py").write_text(MODULE)

    def calls(self, what: str) -> list[dict[str, Any]]:
        file = self.folder / "calls"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [line for line in lines if line["what"] == what]


@pytest.fixture(scope="module")
def notified() -> Iterator[tuple[Deployment, Team, WebServer]]:
    """Airflow whose runs are late at once, and one batch that cannot be read."""
    port = free_port()
    with ExitStack() as stack:
        home, databases = stack.enter_context(home_on_server())
        (stage(home.staging, meter_readings(3)) / "manifest.json").write_text("{")
        (home.folder / "team").mkdir()
        team = Team(home.folder / "team")
        roles = stack.enter_context(simulator(home))
        slack = stack.enter_context(listening(WebServer()))
        settings = {
            **home.environment(tidepool=simulator_connection(roles["base_url"]), databases=databases),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(team.folder), os.environ.get("PYTHONPATH")])),
            "TIDEPOOL_RETRIES": "0",
            "AIRFLOW_CONN_OUR_TEAM": json.dumps(
                {"conn_type": "slackwebhook", "host": slack.url, "password": "T0/B0/c4nary"}
            ),
            "TIDEPOOL_NOTIFY_CONNECTION": "our_team",
            "TIDEPOOL_ON_FAILURE": "a_team_of_ours.failed",
            "TIDEPOOL_ON_DEADLINE": "a_team_of_ours.late",
            "TIDEPOOL_DEADLINE_MINUTES": AT_ONCE,
        }
        airflow = LocalAirflow(settings, home.folder / "logs", port)
        stack.enter_context(airflow.running())
        airflow.unpause(DAG_ID)
        yield Deployment(home, airflow, roles, port, stack), team, slack


def wait_for(deployment: Deployment, team: Team, what: str) -> list[dict[str, Any]]:
    give_up = time.monotonic() + RUN_SECONDS
    while not (found := team.calls(what)):
        deployment.airflow.check()
        assert time.monotonic() < give_up
        time.sleep(0.5)
    return found


def test_a_late_run_and_a_failed_one_are_reported_once_each(
    notified: tuple[Deployment, Team, WebServer],
) -> None:
    deployment, team, slack = notified
    run_id = deployment.post("/dagRuns", {"logical_date": None})["dag_run_id"]

    (late,) = wait_for(deployment, team, "late")
    (failed,) = wait_for(deployment, team, "failed")

    assert late["run"] == failed["run"] == run_id
    while deployment.get(f"/dagRuns/{run_id}")["state"] == "running":
        time.sleep(0.5)
    assert (len(team.calls("late")), len(team.calls("failed"))) == (1, 1)
    ((_, notice),) = slack.posts
    assert notice["text"].startswith("Tidepool: tidepool_normal_upload failed\n")
    told = late["context"] + failed["context"] + notice["text"]
    assert not [user for user in SAMPLE_USERS if user in told]
    # The address of a webhook is a secret.
    logs = [log.read_text() for log in deployment.home.airflow.rglob("logs/**/*.log")]
    assert logs
    assert not [log for log in logs if "c4nary" in log]

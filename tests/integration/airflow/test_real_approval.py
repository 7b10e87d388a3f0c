"""Too many records are rejected, and a run waits for a person: under a real scheduler."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from typing import Any

import pytest
from dev.components import LocalAirflow
from dev.home import LocalHome
from dev.simulator import simulator, simulator_connection
from sqlalchemy import create_engine, text

from tests.factories import TODAY, meter_readings, stage
from tests.integration.airflow.deployment import DAG_ID, RUN_SECONDS, Deployment, home_on_server
from tests.ports import free_port
from tidepool_ingest.guards import Decision
from tidepool_ingest.ledger import ActionKind
from tidepool_simulator.sample import SAMPLE_USERS

pytestmark = pytest.mark.slow

PREPARE = "batch.prepare"
READING_SECONDS = 5
"""How long a person reads. A task that is answered in the second in which it began to wait is taken by
Airflow 3.3.2 for one that was killed, and asks again on its next try."""
ASKED = {"when_refused": "ask"}
DECISIONS = {"approved": Decision.APPROVE, "rejected": Decision.DECLINE, "good-ones": Decision.GOOD_ONES}


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """Airflow, one batch for each decision, and one that is in order."""
    port = free_port()
    with ExitStack() as stack:
        home, databases = stack.enter_context(home_on_server())
        for batch in DECISIONS:
            stage_spoilt(home, batch)
        stage(home.staging, meter_readings(6, device="in-order"), batch="in-order", device="in-order")
        roles = stack.enter_context(simulator(home))
        environment = home.environment(tidepool=simulator_connection(roles["base_url"]), databases=databases)
        settings = {
            **environment,
            "TIDEPOOL_RETRIES": "2",
            "TIDEPOOL_RETRY_SECONDS": "1",
            "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "1",
        }
        airflow = LocalAirflow(settings, home.folder / "logs", port)
        stack.enter_context(airflow.running())
        airflow.unpause(DAG_ID)
        yield Deployment(home, airflow, roles, port, stack)


def stage_spoilt(home: LocalHome, batch: str, *, day: date = TODAY, **fields: Any) -> None:
    """Stage a batch of which 10 of 25 records are rejected."""
    bad = [{**reading, "units": "stones"} for reading in meter_readings(10, device=batch, day=day)]
    good = meter_readings(25, device=batch, day=day, **fields)[10:]
    stage(home.staging, [*bad, *good], day=day, batch=batch, device=batch)


def start(deployment: Deployment, **overrides: str) -> str:
    conf = {**ASKED, **overrides}
    run_id: str = deployment.post("/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]
    return run_id


def waiting(deployment: Deployment, run_id: str, number: int) -> list[dict[str, Any]]:
    """Return the tasks that wait for a person, once there are so many."""
    give_up = time.monotonic() + RUN_SECONDS
    while True:
        found = deployment.task_instances(run_id, PREPARE)
        waiting_instances = [instance for instance in found if instance["state"] == "awaiting_input"]
        if len(waiting_instances) == number:
            time.sleep(READING_SECONDS)
            return waiting_instances
        deployment.airflow.check()
        ended = [instance for instance in found if instance["state"] in ("failed", "upstream_failed")]
        assert not ended, deployment.states(run_id)
        assert time.monotonic() < give_up, deployment.states(run_id)
        time.sleep(0.3)


def question(deployment: Deployment, instance: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = deployment.get(_details(instance))
    return found


def decide(deployment: Deployment, instance: dict[str, Any], decision: Decision) -> None:
    path = f"/api/v2/dags/{DAG_ID}{_details(instance)}"
    body = {"chosen_options": [decision.answer], "params_input": {}}
    response = deployment.airflow.request("PATCH", path, body)
    assert response.ok, response.text


def _details(instance: dict[str, Any]) -> str:
    where = f"/dagRuns/{instance['dag_run_id']}/taskInstances/{PREPARE}/{instance['map_index']}"
    return f"{where}/hitlDetails"


def let_time_pass(deployment: Deployment, run_id: str) -> None:
    """Let the time to answer be over, for what waits in a run: nobody waits for hours here.

    A time so short that one could wait for it would end before the question is seen, on a busy machine.
    """
    engine = create_engine(deployment.airflow.settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    over = text(
        "UPDATE task_instance SET trigger_timeout = now() - interval '1 second' "
        "WHERE run_id = :run_id AND state = 'awaiting_input'"
    )
    with engine.begin() as connection:
        assert connection.execute(over, {"run_id": run_id}).rowcount == 1
    engine.dispose()


def end_of(deployment: Deployment, run_id: str) -> str:
    give_up = time.monotonic() + RUN_SECONDS
    while (state := deployment.get(f"/dagRuns/{run_id}")["state"]) in ("queued", "running"):
        assert time.monotonic() < give_up, deployment.states(run_id)
        time.sleep(0.5)
    return str(state)


def end_once_decided(deployment: Deployment, run_id: str, decision_for: Callable[[str], Decision]) -> str:
    """Answer a run as often as it asks, and return how it ends.

    :param decision_for: returns what is answered about a batch, by its label.
    """
    give_up = time.monotonic() + RUN_SECONDS
    while (state := deployment.get(f"/dagRuns/{run_id}")["state"]) in ("queued", "running"):
        for instance in deployment.task_instances(run_id, PREPARE):
            if instance["state"] != "awaiting_input":
                continue
            asked = question(deployment, instance)
            if not asked["response_received"]:  # else it was answered, and nobody has noticed yet
                time.sleep(READING_SECONDS)
                decide(deployment, instance, decision_for(label_in(asked)))
        assert time.monotonic() < give_up, deployment.states(run_id)
        time.sleep(0.5)
    return str(state)


def label_in(asked: dict[str, Any]) -> str:
    """Return the label of the batch that a question is about."""
    label: str = asked["subject"].partition(":")[0]
    return label


def failed_of(deployment: Deployment, run_id: str) -> str:
    """Return the logs of what failed in a run."""
    found = [
        task_instance
        for task_instance in deployment.task_instances(run_id)
        if task_instance["state"] == "failed"
    ]
    return "\n\n".join(deployment.log(instance)[-3000:] for instance in found)


def states_of(deployment: Deployment) -> dict[str, tuple[str, str | None]]:
    """Return state and reason of each batch, by the name of its folder."""
    return {
        upload.folder.rpartition("/")[2]: (upload.state, upload.reason) for upload in deployment.uploads()
    }


def visible(deployment: Deployment) -> int:
    return deployment.check().visible


def test_each_batch_goes_the_way_that_was_decided(deployment: Deployment) -> None:
    run_id = start(deployment)
    waiting_instances = waiting(deployment, run_id, len(DECISIONS))
    assert {state for batch, state in states_of(deployment).items() if batch in DECISIONS} == {
        ("held", "too-many-refused")
    }
    batches = {upload.label: upload.folder.rpartition("/")[2] for upload in deployment.uploads()}

    for instance in waiting_instances:
        details = question(deployment, instance)
        assert "10 of 25 records (40.0 %) are rejected" in details["body"]
        assert details["options"] == [decision.answer for decision in Decision]
        assert not [user for user in SAMPLE_USERS if user in str(details)]
        decide(deployment, instance, DECISIONS[batches[label_in(details)]])

    # On a busy machine, one may be answered so soon that it asks again.
    ended = end_once_decided(deployment, run_id, lambda label: DECISIONS[batches[label]])
    assert ended == "success", failed_of(deployment, run_id)
    assert states_of(deployment) == {
        "approved": ("verified", None),
        "rejected": ("held", "declined"),
        "good-ones": ("verified", None),
        "in-order": ("verified", None),
    }
    assert visible(deployment) == 2 * 15 + 6
    uploads = {
        task_instance["rendered_map_index"]: task_instance["state"]
        for task_instance in deployment.task_instances(run_id, "batch.upload")
    }
    assert [state for label, state in uploads.items() if batches.get(label) == "rejected"] in (
        [],
        ["skipped"],
    )
    assert deployment.xcom(run_id, "report", "summary")["waiting"] == []


def test_who_decided_what_is_in_the_ledger(deployment: Deployment) -> None:
    with deployment.ledger() as ledger:
        actions = ledger.actions.newest()

    assert {action.kind for action in actions} == {ActionKind.APPROVE}
    assert sorted(str(action.detail) for action in actions) == sorted(map(str, DECISIONS.values()))
    assert all(action.actor and action.dag_id == DAG_ID and action.run_id for action in actions)


def test_nobody_answers_in_time_and_the_batch_stays_held(deployment: Deployment) -> None:
    day = TODAY - timedelta(days=9)
    stage_spoilt(deployment.home, "unanswered", day=day)
    sent = deployment.writes_at_tidepool()
    run_id = start(deployment, first_day=str(day), last_day=str(day))
    waiting(deployment, run_id, 1)
    let_time_pass(deployment, run_id)

    assert end_of(deployment, run_id) == "failed"
    assert states_of(deployment)["unanswered"] == ("held", "too-many-refused")
    assert deployment.writes_at_tidepool() == sent
    (prepared,) = deployment.task_instances(run_id, PREPARE)
    assert (prepared["state"], prepared["try_number"]) == ("failed", 1)
    log = deployment.log(prepared)
    assert "Nobody has decided in time" in log
    assert "What to do: Clear this task to be asked again, or correct the batch." in log
    assert not [sign for sign in ("error_detail", "Traceback") if sign in log]
    (report,) = deployment.task_instances(run_id, "report")
    assert "error_detail" not in deployment.log(report)

    deployment.post(
        "/clearTaskInstances",
        {
            "dry_run": False,
            "dag_run_id": run_id,
            "only_failed": True,
            "reset_dag_runs": True,
        },
    )
    ended = end_once_decided(deployment, run_id, lambda _label: Decision.APPROVE)
    (prepared,) = deployment.task_instances(run_id, PREPARE)
    assert ended == "success", deployment.log(prepared)
    assert states_of(deployment)["unanswered"] == ("verified", None)


def test_a_run_that_does_not_ask_fails_as_ever(deployment: Deployment) -> None:
    yesterday = TODAY - timedelta(days=1)
    bad = [{**reading, "units": "stones"} for reading in meter_readings(10, device="other", day=yesterday)]
    stage(deployment.home.staging, [*bad, *meter_readings(10, device="other", day=yesterday)],
          day=yesterday, batch="other", device="other")  # fmt: skip
    run_id = deployment.post("/dagRuns", {"logical_date": None})["dag_run_id"]

    assert end_of(deployment, run_id) == "failed"
    assert states_of(deployment)["other"] == ("held", "too-many-refused")

"""Who is notified of a run: a team's own functions, DAGs that follow, metrics."""

from __future__ import annotations

import json
import sys
from collections import Counter
from datetime import timedelta
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.observability import stats
from sqlalchemy import select

from tests.airflow.receivers import WebServer, listening
from tests.airflow.world import DAG_ID, AirflowWorld
from tests.factories import meter_readings
from tests.ports import free_port
from tidepool_airflow import notices, tidepool_dags
from tidepool_airflow import observability as metrics
from tidepool_airflow.assets import UPLOADS
from tidepool_airflow.notices import NoticeError
from tidepool_simulator import Fault
from tidepool_simulator.sample import SAMPLE_USERS

pytestmark = pytest.mark.slow

CALLS: list[dict[str, Any]] = []


@pytest.fixture
def team(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of a team's own, with a function that is called."""
    CALLS.clear()
    module = ModuleType("a_team_of_ours")
    module.notify = CALLS.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("TIDEPOOL_ON_FAILURE", f"{module.__name__}.notify")
    return module


def test_a_failed_run_is_reported_once(world: AirflowWorld, team: ModuleType) -> None:
    (world.stage(meter_readings(3)) / "manifest.json").write_text("{")
    assert world.run_dag().state == "failed"

    (context,) = CALLS
    assert context["ti"].task_id == "report"
    assert "1 of 1 batch of this run is not done" in str(context["exception"])


def test_a_good_run_is_reported_to_nobody(world: AirflowWorld, team: ModuleType) -> None:
    world.stage(meter_readings(3))
    assert world.run_dag().state == "success"

    assert CALLS == []


@pytest.mark.parametrize("path", ["no_such_module.notify", "json.no_such_function"])
def test_a_function_that_is_not_there_is_named_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("TIDEPOOL_ON_FAILURE", path)
    (named,) = notices.on_failure()

    with pytest.raises(NoticeError, match="TIDEPOOL_ON_FAILURE names a function"):
        named({})


def test_a_deadline_takes_both_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert notices.deadline() is None
    monkeypatch.setenv("TIDEPOOL_ON_DEADLINE", "a_team_of_ours.notify")
    monkeypatch.setenv("TIDEPOOL_DEADLINE_MINUTES", "90")
    alert = notices.deadline()

    assert alert is not None
    assert alert.interval == timedelta(minutes=90)
    assert alert.callback.path == "a_team_of_ours.notify"


def told_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Name a webhook of Slack's for notices."""
    connection = {"conn_type": "slackwebhook", "host": url, "password": "T0/B0/c4nary"}
    monkeypatch.setenv("AIRFLOW_CONN_OUR_TEAM", json.dumps(connection))
    monkeypatch.setenv("TIDEPOOL_NOTIFY_CONNECTION", "our_team")


def test_a_connection_is_told_of_a_failed_run_once_and_gets_a_digest(
    world: AirflowWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.stage(meter_readings(3)) / "manifest.json").write_text("{")
    world.stage(meter_readings(3, device="device-2"), batch="batch-2", device="device-2")
    with listening(WebServer()) as server:
        told_at(monkeypatch, server.url)
        assert world.run_dag().state == "failed"
        assert world.run_dag(dag_id="tidepool_digest").state == "success"

    failure, digest = [body["text"] for _, body in server.posts]
    assert failure.startswith("Tidepool: tidepool_normal_upload failed\n")
    assert "Batches: 1 failed, 1 verified." in failure
    assert digest.startswith("Tidepool uploads: 1 batch needs attention\n")
    assert "Batches that have changed: 1 failed, 1 verified." in digest
    assert not [user for user in SAMPLE_USERS if user in failure + digest]


def test_a_notice_that_cannot_be_sent_changes_no_run(
    world: AirflowWorld, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stage(meter_readings(3))
    told_at(monkeypatch, f"http://127.0.0.1:{free_port()}")
    assert world.run_dag().state == "success"
    digest = world.run_dag(dag_id="tidepool_digest")

    assert (digest.state, digest.tasks) == ("success", {("send", -1): "skipped"})
    assert "c4nary" not in "".join(capfd.readouterr())


def events() -> list[dict[str, Any]]:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session

    with create_session() as session:
        asset = select(AssetModel.id).where(AssetModel.uri == UPLOADS.uri)
        query = select(AssetEvent).where(AssetEvent.asset_id.in_(asset), AssetEvent.source_dag_id == DAG_ID)
        return [dict(event.extra) for event in session.scalars(query.order_by(AssetEvent.id))]


def test_dags_that_follow_hear_of_runs_in_which_something_became_visible(world: AirflowWorld) -> None:
    world.stage(meter_readings(4))
    before = len(events())
    world.run_dag({"dry_run": True})
    assert len(events()) == before
    world.run_dag()
    assert events()[before:] == [
        {"batches": {"verified": 1}, "accepted": 4, "quarantined": 0, "visible_rows": 4}
    ]
    world.run_dag()
    assert len(events()) == before + 1


def test_an_event_needs_nothing_that_two_runs_might_store_at_once() -> None:
    """What is behind an alias is stored by the first task that succeeds, and of two at once, one fails."""
    dags = tidepool_dags().values()
    outlets = [outlet for dag in dags for task in dag.tasks for outlet in task.outlets]
    assert outlets == [UPLOADS, UPLOADS]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What Airflow's metrics are given to count."""
    counted: Counter[str] = Counter()
    monkeypatch.setattr(stats, "incr", lambda name, count=1, **tags: counted.update({name: count}))
    return counted


def test_metrics_count_what_was_done(
    world: AirflowWorld, counted: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []
    monkeypatch.setattr(stats, "timing", lambda name, value, **tags: timed.append(name))
    world.stage([*meter_readings(20), meter_readings(1)[0], {"type": "smbg"}])
    assert world.run_dag().state == "success"
    ours = {name: number for name, number in counted.items() if name.startswith("tidepool.")}

    assert ours.pop("tidepool.bytes") > 20 * 50
    assert {name: number for name, number in ours.items() if number} == {
        "tidepool.records.accepted": 20,
        "tidepool.records.quarantined": 1,
        "tidepool.records.identical": 1,
        "tidepool.chunks.sent": 1,
        "tidepool.data_sets.verified": 1,
        "tidepool.rows.visible": 20,
    }
    assert "tidepool.upload.duration" in timed


def test_metrics_count_what_was_repaired_and_what_is_tried_again(
    world: AirflowWorld, counted: Counter[str]
) -> None:
    world.stage(meter_readings(20))
    world.simulator.faults.add(Fault.lost_answer("post"))
    assert world.run_dag().state == "success"

    assert (counted["tidepool.repairs"], counted["tidepool.retries"]) == (1, 0)
    for try_number in (1, 2):
        metrics.started({"ti": SimpleNamespace(dag_id=DAG_ID, try_number=try_number)})  # type: ignore[arg-type,typeddict-item]
    assert counted["tidepool.retries"] == 1

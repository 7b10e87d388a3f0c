"""Upload DAGs with ids, roots and connections of their own, side by side on one ledger and one page."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from upath import UPath

from tests.airflow.world import DAG_ID, AirflowWorld
from tests.factories import meter_readings
from tidepool_airflow import known_dags as known
from tidepool_airflow.links import ACTION_DAG
from tidepool_airflow.middleware import mistake_in
from tidepool_airflow.operators.action import TidepoolActionOperator
from tidepool_airflow.operators.base import TidepoolOperator
from tidepool_airflow.operators.reconcile import TidepoolReconcileOperator
from tidepool_airflow.uploads_page import actions
from tidepool_airflow.uploads_page.html import Links
from tidepool_airflow.uploads_page.live import SECONDS_TO_LOOK, next_look
from tidepool_ingest.ledger import ActionKind, BatchRow, BatchState, StoppedIn
from tidepool_simulator import Fault

STUDY = "study_upload"
FILES = {
    STUDY: """\
from tidepool_airflow import normal_upload_dag

normal_upload_dag("study_upload", staging_root="{root}", tidepool_conn_id="tidepool_study")
""",
    "study_upkeep": """\
from tidepool_airflow import reconcile_dag

reconcile_dag("study_upkeep", staging_root="{root}", tidepool_conn_id="tidepool_study")
""",
}
WRONG_ORDER = json.dumps({"conf": {"first_day": "2026-03-02", "last_day": "2026-03-01"}}).encode()


@pytest.fixture
def study(
    world: AirflowWorld, api_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AirflowWorld]:
    """A world whose Airflow has besides the usual DAGs those of a study, with the world's staging root."""
    from airflow.dag_processing.dagbag import sync_bag_to_db
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    root, folder = tmp_path / "study", tmp_path / "dags"
    root.mkdir()
    folder.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.py").write_text(text.format(root=root))
    # The same account by another name.
    monkeypatch.setenv("AIRFLOW_CONN_TIDEPOOL_STUDY", os.environ["AIRFLOW_CONN_TIDEPOOL_DEFAULT"])
    sync_bag_to_db(DagBag(str(folder)), "dags-folder", None)
    _unpaused()
    other = copy.copy(world)
    other.root = UPath(root)
    yield other
    with create_session() as session:
        session.execute(update(DagModel).where(DagModel.dag_id.in_(FILES)).values(is_stale=True))


def _unpaused() -> None:
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(DagModel).values(is_paused=False))


def run(study: AirflowWorld, dag_id: str = STUDY, conf: dict[str, Any] | None = None) -> Any:
    return study.run_dag(conf, dag_id=dag_id, folder=study.staging.parent / "dags")


def batch_of(folder: str, *, data_set_type: str = "normal", connection: str | None = None) -> BatchRow:
    """A batch as the ledger has it, as far as it matters here."""
    return BatchRow(
        **dict.fromkeys(BatchRow.__dataclass_fields__)
        | {"folder": folder, "data_set_type": data_set_type, "connection": connection}
    )


# ---------------------------------------------------------------- which there are


def test_airflow_says_what_each_dag_is_for(study: AirflowWorld) -> None:
    found = {dag.dag_id: dag for dag in known.known_dags()}

    assert found[STUDY] == known.KnownDag(STUDY, "normal", str(study.staging), "tidepool_study")
    assert found[DAG_ID] == known.KnownDag(DAG_ID, "normal")
    assert known.kind_of("study_upkeep") == known.RECONCILE
    assert known.kind_of(ACTION_DAG) == known.ACTION
    assert known.kind_of("somebody_elses") is None
    assert known.action_dag() == ACTION_DAG


def test_who_sees_the_page_may_see_every_dag_whose_uploads_it_shows(study: AirflowWorld) -> None:
    assert known.gates() == [STUDY, DAG_ID]


def test_without_the_usual_dags_those_that_are_there_count(
    study: AirflowWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [known.KnownDag("feeds", "continuous"), known.KnownDag("act", known.ACTION)]
    monkeypatch.setattr(known, "known_dags", lambda: own)

    assert known.gates() == ["feeds"]
    assert known.action_dag() == "act"
    assert known.dag_for(batch_of("/s/2026-01-01/u/b", data_set_type="continuous"), None).dag_id == "feeds"
    assert (
        known.dag_for(batch_of("/s/2026-01-01/u/b"), None).dag_id == DAG_ID
    )  # the page says that it is missing


def test_a_batch_is_tried_again_by_the_dag_that_it_belongs_to(study: AirflowWorld) -> None:
    in_study = f"{study.staging}/2026-01-01/user/batch"

    assert known.dag_for(batch_of(in_study, connection="tidepool_study"), None).dag_id == STUDY
    assert known.dag_for(batch_of(in_study), None).dag_id == DAG_ID  # it has another connection
    assert known.dag_for(batch_of("/elsewhere/2026-01-01/user/batch"), None).dag_id == DAG_ID
    assert known.dag_for(batch_of("/elsewhere/2026-01-01/user/batch"), STUDY).dag_id == STUDY
    # The maintenance may have worked on it last, and uploads nothing that is not begun.
    assert known.dag_for(batch_of(in_study), "study_upkeep").dag_id == DAG_ID


def test_parameters_are_checked_whatever_the_id_is(study: AirflowWorld) -> None:
    assert "the last day lies before" in str(mistake_in(STUDY, WRONG_ORDER)[1])
    assert mistake_in("study_upkeep", json.dumps({"conf": {"first_day": "2026-03-02"}}).encode())[1]
    assert mistake_in("somebody_elses", WRONG_ORDER)[1] is None


def test_links_lead_to_the_task_of_any_upload_dag(study: AirflowWorld) -> None:
    class Request:
        scope = {"root_path": "/tidepool/uploads"}  # noqa: RUF012

    links = Links(Request())  # type: ignore[arg-type]

    assert links.run(STUDY, "r", 3) == f"/dags/{STUDY}/runs/r/tasks/batch.upload/mapped/3"
    assert links.run("study_upkeep", "r", 3) == "/dags/study_upkeep/runs/r"
    assert links.runs("normal") == "/dags?tags=tidepool"
    assert links.runs("continuous") == "/dags/tidepool_continuous_upload/runs"


def test_what_has_stopped_before_it_was_opened_is_tried_again_by_the_dag_that_had_it(
    world: AirflowWorld, study: AirflowWorld
) -> None:
    """Neither root nor connection says whose it is: both were named for that run."""
    world.stage(meter_readings(3))
    world.run_dag({"dry_run": True})
    (upload,) = study.uploads()
    ledger = study.ledger
    stopped_in = StoppedIn(dag_id=STUDY, run_id="manual__1", task_id="batch.prepare", map_index=0)
    ledger.stops.record(upload.batch, stopped_in)

    ((dag_id, _run_id),) = actions.trigger_actions(
        ledger, [ledger.batches.get(upload.batch)], ActionKind.RETRY, "somebody"
    )

    assert dag_id == STUDY


@pytest.mark.parametrize("dag_id", [STUDY, "study_upkeep"])
def test_a_run_of_any_of_them_lets_the_page_move(study: AirflowWorld, dag_id: str) -> None:
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(DagRun).values(state="success"))  # those of other tests
    assert next_look(study.ledger) is None

    trigger_dag(dag_id, triggered_by=DagRunTriggeredByType.UI)

    assert next_look(study.ledger) == SECONDS_TO_LOOK


@pytest.mark.parametrize("operator", [TidepoolReconcileOperator, TidepoolActionOperator])
def test_what_serves_all_dags_finds_the_connection_of_each(
    operator: type[TidepoolOperator], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("default", "study"):
        monkeypatch.setenv(f"AIRFLOW_CONN_TIDEPOOL_{name.upper()}", f"tidepool://me:secret@{name}.example/")
    own = {"task_id": "task", "tidepool_conn_id": "tidepool_study"}

    alone = operator(**own).connections
    beside = operator(**own, allowed_conn_ids=["tidepool_default"]).connections

    assert alone.api_host_of(None) == "study.example"
    assert beside.api_host_of(None) == "default.example", "which the ledger names of none"
    assert beside.api_host_of("tidepool_study") == "study.example"


# ---------------------------------------------------------------- what they do


@pytest.mark.slow
def test_an_upload_goes_by_its_own_connection_and_is_tried_again_by_its_own_dag(study: AirflowWorld) -> None:
    wrong = [reading | {"value": 77_777} for reading in meter_readings(10)]
    study.stage(wrong)
    assert run(study).state == "failed"
    (upload,) = study.uploads()
    assert (upload.state, upload.dag_id) == ("held", None)
    row = study.row(upload.batch)
    assert row.connection == "tidepool_study"

    ((dag_id, run_id),) = actions.trigger_actions(study.ledger, [row], ActionKind.RETRY, "somebody")

    assert dag_id == STUDY
    assert run_id.startswith("retry__")


@pytest.mark.slow
def test_the_maintenance_completes_batches_of_each_root_in_their_own(
    study: AirflowWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.stage(meter_readings(1_500))
    study.simulator.faults.add(Fault.refused("close", 503, times=50))
    assert run(study).state == "failed"
    study.simulator.faults.clear()
    assert [upload.state for upload in study.uploads()] == ["uploading"]

    # The usual maintenance has another staging root; the study's connection is allowed to it.
    monkeypatch.setenv("TIDEPOOL_ALLOWED_CONNECTIONS", "tidepool_study")
    done = study.run_dag({"older_than_minutes": 0}, dag_id="tidepool_reconcile")

    assert done.state == "success"
    assert done.xcoms["reconcile", -1, "summary"]["finished"] == 1
    assert [upload.state for upload in study.uploads()] == [BatchState.VERIFIED]
    assert [path.name for path in study.staging.iterdir() if path.name == "_work"] == ["_work"]

"""A team's own file of three lines: Airflow finds it, and its DAGs are ours with the team's arguments."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
from dev.home import PROJECT, LocalHome

from tests.airflow.world import DAG_ID
from tidepool_airflow import continuous_upload_dag, normal_upload_dag, on_arrival_dag, tidepool_dags
from tidepool_airflow.assets import STAGED, ManifestTrigger

ALL = """\
from tidepool_airflow import tidepool_dags

tidepool_dags("glucose", staging_root="/srv/glucose", owner="data platform", tags=["diabetes"])
"""

STUDIES = """\
from tidepool_airflow import normal_upload_dag

normal_upload_dag("study_a_upload", schedule="0 5 * * *", staging_root="/srv/a", tidepool_conn_id="study_a")
normal_upload_dag("study_b_upload", schedule=None, staging_root="/srv/b", tidepool_conn_id="study_b")
"""

PLACES = ("fileloc", "relative_fileloc", "_processor_dags_folder")


def bag_of(folder: Path, text: str) -> DagBag:
    (folder / "ours.py").write_text(text)
    bag = DagBag(str(folder), safe_mode=True)
    assert bag.import_errors == {}
    return bag


def test_a_file_of_three_lines_brings_every_dag(airflow_home: LocalHome, tmp_path: Path) -> None:
    bag = bag_of(tmp_path, ALL)
    ours = [path.stem.replace("tidepool", "glucose") for path in (PROJECT / "dags").glob("*.py")]

    assert sorted(bag.dags) == sorted(ours)
    for dag in bag.dags.values():
        assert dag.fileloc == str(tmp_path / "ours.py")
        assert dag.tags == {"tidepool", "diabetes"}
        assert {task.owner for task in dag.tasks} == {"data platform"}
        for task in dag.tasks:
            assert getattr(task, "staging_root", "/srv/glucose") == "/srv/glucose"
    started = bag.dags["glucose_on_arrival"].task_dict["upload"]
    assert started.trigger_dag_id == "glucose_normal_upload"
    assert "`glucose_normal_upload`" in str(started.doc_md)


def test_without_arguments_they_are_those_of_this_project(airflow_home: LocalHome, tmp_path: Path) -> None:
    theirs = bag_of(tmp_path, "from tidepool_airflow import tidepool_dags\n\ntidepool_dags()\n").dags
    ours = DagBag(str(PROJECT / "dags")).dags

    assert without_places(theirs) == without_places(ours)


def without_places(dags: Any) -> dict[str, Any]:
    found = {name: DagSerialization.to_dict(dag)["dag"] for name, dag in dags.items()}
    return {
        name: {key: value for key, value in dag.items() if key not in PLACES} for name, dag in found.items()
    }


def test_several_upload_dags_are_side_by_side(airflow_home: LocalHome, tmp_path: Path) -> None:
    dags = bag_of(tmp_path, STUDIES).dags

    for study in ("a", "b"):
        dag = dags[f"study_{study}_upload"]
        assert {task.staging_root for task in dag.tasks} == {f"/srv/{study}"}
        assert {task.tidepool_conn_id for task in dag.tasks} == {f"study_{study}"}
    assert dags["study_a_upload"].timetable.expression == "0 5 * * *"
    assert not dags["study_b_upload"].timetable.can_be_scheduled


@pytest.mark.parametrize("schedule", ["0 5 * * *", "@daily", timedelta(hours=6)])
def test_a_schedule_has_intervals_that_days_follow_from(schedule: Any) -> None:
    dag = normal_upload_dag("study", schedule=schedule, look_back_days=2)

    assert "DataInterval" in type(dag.timetable).__name__
    assert dag.params["look_back_days"] == 2
    assert "of 2 days before it" in str(dag.doc_md)
    assert "03:00" not in str(dag.doc_md)


def test_arguments_of_airflow_go_before_ours() -> None:
    given: dict[str, Any] = {"max_active_runs": 1, "default_args": {"retries": 9}, "tags": ["ours"]}
    dag = continuous_upload_dag("feeds", dag_args=given)

    assert dag.max_active_runs == 1
    assert {task.retries for task in dag.tasks} == {9}
    assert dag.tags == {"tidepool", "ours"}
    assert set(given) == {"max_active_runs", "default_args", "tags"}


def test_what_is_no_argument_is_said() -> None:
    with pytest.raises(TypeError, match=r"max_active_runs: no argument .* dag_args"):
        normal_upload_dag("study", max_active_runs=1)  # type: ignore[call-arg]


def test_an_arrival_is_watched_for_where_the_team_stages() -> None:
    (usual,) = on_arrival_dag().timetable.asset_condition.objects
    (own,) = on_arrival_dag(
        "a", upload_dag_id=DAG_ID, staging_root="/srv/a"
    ).timetable.asset_condition.objects
    trigger = ManifestTrigger(60, "/srv/a").serialize()

    assert usual == STAGED
    assert (own.name, own.uri) == ("a_staged", "x-tidepool-staging://a_staged")
    assert own.watchers[0].trigger.serialize() == trigger
    assert ManifestTrigger(**trigger[1]).staging_root == "/srv/a"
    # Those that a triggerer has already stay what they are.
    assert usual.watchers[0].trigger.serialize()[1] == {"seconds": 60}


def test_every_dag_of_a_prefix_has_its_own_id() -> None:
    assert not tidepool_dags("one").keys() & tidepool_dags("two").keys()


def test_the_files_of_the_documentation_load(airflow_home: LocalHome, tmp_path: Path) -> None:
    text = (PROJECT / "docs" / "own-airflow.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    all_of_them, studies = (bag_of(tmp_path, block).dags for block in blocks)

    assert sorted(all_of_them) == sorted(path.stem for path in (PROJECT / "dags").glob("*.py"))
    assert sorted(studies) == [
        "study_a_reconcile",
        "study_a_upload",
        "study_b_reconcile",
        "study_b_upload",
        "tidepool_action",
        "tidepool_digest",
    ]

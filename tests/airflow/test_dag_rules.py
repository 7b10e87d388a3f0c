"""House rules that every DAG file keeps: cheap to load, the same each time, retried, with a good form."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
from dev.home import PROJECT, LocalHome

from tests.airflow.loading import loaded
from tests.airflow.world import CONTINUOUS_DAG_ID, DAG_ID
from tidepool_airflow.params import reconcile_params, upload_params
from tidepool_ingest.options import OptionsError, ReconcileOptions, RunOptions

CPU_SECONDS = 0.3
"""What loading all DAG files may cost a process that parses such; measured: 0.11."""

NEEDED_TO_LOAD = {
    f"tidepool_ingest.{name}" for name in ("errors", "options", "privacy", "rejection_limit", "texts")
}
"""Modules of the library that a DAG file may load; all others wait until a task runs.

What Airflow itself loads of this project before any DAG file, as the connection form, is not counted here:
see ``test_connection_form.py``.
"""

DAG_IDS = sorted(path.stem for path in (PROJECT / "dags").glob("*.py"))
"""A file is named like its DAG, and these names stay."""

UPLOAD_DAG_IDS = [CONTINUOUS_DAG_ID, DAG_ID]


@pytest.fixture(scope="module")
def bag(airflow_home: LocalHome) -> DagBag:
    return DagBag(str(PROJECT / "dags"))


# ---------------------------------------------------------------------- loading


def test_every_dag_file_loads(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert sorted(bag.dags) == DAG_IDS


def test_loading_opens_no_connection() -> None:
    for each in loaded():
        assert each.connections == []


def test_loading_is_cheap() -> None:
    # The lesser of two: the first process of a new checkout also compiles.
    assert min(each.cpu_seconds for each in loaded()) < CPU_SECONDS


def test_loading_leaves_the_library_for_the_tasks() -> None:
    ours = {name for name in loaded()[0].modules if name.startswith("tidepool_ingest")}

    assert ours == NEEDED_TO_LOAD
    assert not {"requests", "alembic", "fastapi", "uvicorn", "boto3", "s3fs"} & set(loaded()[0].modules)


def test_loading_leaves_what_sends_notices_for_when_one_is_sent() -> None:
    senders = re.compile(r"apprise|slack_sdk|smtplib|aiosmtplib|airflow\.providers\.(slack|smtp|apprise)")

    assert [name for name in loaded()[0].modules if senders.match(name)] == []


def test_a_dag_is_the_same_each_time_it_is_parsed() -> None:
    first, second = loaded()

    assert sorted(first.dags) == DAG_IDS
    assert {name: dag["hash"] for name, dag in first.dags.items()} == {
        name: dag["hash"] for name, dag in second.dags.items()
    }


# ---------------------------------------------------------------------- tasks


def test_every_task_is_tried_again_as_the_policy_says() -> None:
    for dag in loaded()[0].dags.values():
        assert len(dag["retries"]) >= 1
        assert all(retries >= 2 for retries in dag["retries"].values()), dag["retries"]
        assert set(dag["policies"].values()) == {"TidepoolRetryPolicy"}


def test_every_dag_has_tags_and_says_what_it_does(bag: DagBag) -> None:
    for dag in bag.dags.values():
        assert "tidepool" in dag.tags
        assert dag.description


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_the_docs_of_a_dag_name_its_tasks_and_where_to_go_on(bag: DagBag, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    text = str(dag.doc_md)

    assert re.findall("^### (.*)$", text, re.MULTILINE) == ["Tasks", "When it fails", "Read on"]
    assert not text.startswith("### ")
    for task in dag.tasks:
        assert str(task.doc_md).endswith(".")
        assert f"`{task.task_id}`" in text
    assert "(/plugin/tidepool-uploads)" in text
    for place in re.findall(r"`docs/(\S+)` of the project", text):
        file, _, anchor = place.partition("#")
        assert not anchor or anchor in anchors(PROJECT / "docs" / file)


def anchors(file: Path) -> set[str]:
    """Return where a link into a Markdown file can lead: its headings, as GitHub and others write them."""
    headings = re.findall("^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_a_deployment_names_owner_tags_and_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEPOOL_OWNER", "data platform")
    monkeypatch.setenv("TIDEPOOL_TAGS", "diabetes, tidepool,team:ingest")
    monkeypatch.setenv("TIDEPOOL_DOCS_URL", "https://docs.example.org/tidepool/")
    dag = DagBag(str(PROJECT / "dags" / "tidepool_digest.py")).dags["tidepool_digest"]

    assert dag.tags == {"tidepool", "diabetes", "team:ingest"}
    assert {task.owner for task in dag.tasks} == {"data platform"}
    assert "[docs/errors.md](https://docs.example.org/tidepool/errors.md)" in str(dag.doc_md)


def test_who_names_a_connection_gets_the_digest_each_day(
    monkeypatch: pytest.MonkeyPatch, bag: DagBag
) -> None:
    assert not bag.dags["tidepool_digest"].timetable.can_be_scheduled
    monkeypatch.setenv("TIDEPOOL_NOTIFY_CONNECTION", "our_team")
    dags = DagBag(str(PROJECT / "dags")).dags

    assert dags["tidepool_digest"].timetable.expression == "0 7 * * *"
    told = {task.task_id for dag in dags.values() for task in dag.tasks if task.on_failure_callback}
    assert told == {"report", "reconcile", "act", "upload"}


@pytest.mark.parametrize("dag_id", UPLOAD_DAG_IDS)
def test_a_scheduled_dag_has_intervals_with_a_length_and_catches_nothing_up(bag: DagBag, dag_id: str) -> None:
    dag = bag.dags[dag_id]

    assert type(dag.timetable).__name__ == "CronDataIntervalTimetable"
    assert not dag.catchup


@pytest.mark.parametrize("dag_id", UPLOAD_DAG_IDS)
def test_a_dag_survives_serialization(bag: DagBag, dag_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A run in the same process leaves this off, as in a scheduler; the UI loads the links.
    monkeypatch.setattr(DagSerialization, "_load_operator_extra_links", True)
    dag = bag.dags[dag_id]
    written = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    restored = DagSerialization.from_dict(written)

    assert {task.task_id for task in restored.tasks} == {task.task_id for task in dag.tasks}
    assert all(task.has_retry_policy for task in restored.tasks)
    assert restored.params.dump() == dag.params.dump()
    assert "Tidepool data set" in restored.task_dict["batch.upload"].extra_links


@pytest.mark.parametrize("dag_id", UPLOAD_DAG_IDS)
def test_the_last_task_runs_whatever_became_of_the_others(bag: DagBag, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    (leaf,) = [task for task in dag.tasks if not task.downstream_task_ids]

    assert leaf.task_id == "report"
    assert leaf.trigger_rule == "all_done"
    assert not any(task.is_teardown or task.is_setup for task in dag.tasks)


@pytest.mark.parametrize("dag_id", UPLOAD_DAG_IDS)
def test_templates_carry_numbers_and_places_only(bag: DagBag, dag_id: str) -> None:
    # What is rendered is kept in Airflow's own database and shown in its UI.
    rendered = {name for task in bag.dags[dag_id].tasks for name in task.template_fields}

    assert rendered == {"staging_root", "batches", "packs"}


# ---------------------------------------------------------------------- the trigger form


FORMS: dict[str, tuple[dict[str, Any], type[RunOptions] | type[ReconcileOptions]]] = {
    DAG_ID: (upload_params(), RunOptions),
    "tidepool_reconcile": (reconcile_params(), ReconcileOptions),
}


@pytest.mark.parametrize("dag_id", FORMS)
def test_every_parameter_is_an_option_and_every_option_a_parameter(dag_id: str) -> None:
    params, options = FORMS[dag_id]

    assert set(params) == set(options.model_fields)


@pytest.mark.parametrize(
    ("dag_id", "name"), [(dag_id, name) for dag_id in FORMS for name in FORMS[dag_id][0]]
)
def test_every_parameter_has_a_form_field(dag_id: str, name: str) -> None:
    param = FORMS[dag_id][0][name]

    assert param.schema["title"]
    assert param.schema["section"]
    assert str(param.description).endswith(".")


@pytest.mark.parametrize("dag_id", FORMS)
def test_the_defaults_of_the_form_are_those_of_the_options(bag: DagBag, dag_id: str) -> None:
    options = FORMS[dag_id][1]

    assert options.of_params(bag.dags[dag_id].params.dump()) == options()


@pytest.mark.parametrize(
    ("dag_id", "name", "least", "beyond"),
    [
        (dag_id, name, edge, beyond)
        for dag_id, (params, _options) in FORMS.items()
        for name, param in params.items()
        for edge, beyond in (
            (param.schema.get("minimum"), param.schema.get("minimum", 0) - 1),
            (param.schema.get("maximum"), param.schema.get("maximum", 0) + 1),
        )
        if edge is not None
    ],
)
def test_form_and_options_draw_the_same_lines(dag_id: str, name: str, least: float, beyond: float) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    params, options = FORMS[dag_id]

    assert params[name].resolve(least) == getattr(options.of_params({name: least}), name)
    with pytest.raises(ParamValidationError):
        params[name].resolve(beyond)
    with pytest.raises(OptionsError, match=name):
        options.of_params({name: beyond})


@pytest.mark.parametrize(
    ("dag_id", "name"),
    [
        (dag_id, name)
        for dag_id, (params, _options) in FORMS.items()
        for name, param in params.items()
        if "enum" in param.schema
    ],
)
def test_whatever_a_drop_down_offers_can_be_used(dag_id: str, name: str) -> None:
    params, options = FORMS[dag_id]
    offered, displayed = params[name].schema["enum"], params[name].schema["values_display"]

    assert params[name].value == offered[0]
    assert len(offered) > 1
    for choice in offered:
        taken = getattr(options.of_params({name: params[name].resolve(choice)}), name)
        assert taken == choice
    assert set(displayed) <= {"null" if choice is None else str(choice) for choice in offered}


@pytest.mark.parametrize("left_empty", ["first_day", "last_day", "users", "staging_root"])
def test_what_a_form_leaves_empty_is_taken(left_empty: str) -> None:
    param = upload_params()[left_empty]

    assert RunOptions.of_params({left_empty: param.resolve(None)}) == RunOptions()

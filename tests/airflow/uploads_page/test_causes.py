"""From an upload to its cause: the task that it stopped in, the question that waits, its folder and files."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException
from sqlalchemy import text

from tests.airflow.uploads_page.visiting import OWN, PAGE, Visitor, token_on
from tests.airflow.world import DAG_ID, AirflowWorld
from tests.factories import TODAY, meter_readings
from tidepool_airflow.operators import TidepoolPrepareOperator
from tidepool_ingest.guards import Decision, record_decision
from tidepool_ingest.ledger import (
    ActionKind,
    ActionStatus,
    BatchState,
    FoundBatch,
    Ledger,
    StoppedIn,
    TaskOrigin,
)
from tidepool_ingest.ledger.schema import metadata
from tidepool_ingest.options import RunOptions
from tidepool_ingest.privacy import short_hash
from tidepool_simulator.sample import SAMPLE_USERS

FOLDER = "annas-meter"
FILE = "anna <b> 4711.ndjson"
MANIFEST = b'{\n  "userId": "anna 4711"\n  "files": []}'
MALFORMED, REJECTED = "malformed", "rejected"


def a_day(world: AirflowWorld) -> dict[str, int]:
    """Run a day of two batches that stop, each of another cause; return their numbers."""
    (world.stage(meter_readings(3), batch=MALFORMED) / "manifest.json").write_bytes(MANIFEST)
    bad = [{**record, "value": 77_777} for record in meter_readings(11, device="device-2")]
    world.stage(bad, batch=REJECTED, device="device-2")
    world.run_dag()
    return {upload.folder.rpartition("/")[2]: upload.batch for upload in world.uploads()}


def staged(world: AirflowWorld, *, manifest: bytes | None = None, removed: bool = False) -> tuple[int, Path]:
    """Stage a batch whose names tell of a person, which the ledger knows; return its number and folder."""
    files = [{"name": FILE, "format": "ndjson"}]
    folder = world.stage(meter_readings(3), batch=FOLDER, files=files)
    (folder / "data.ndjson").rename(folder / FILE)
    if manifest is not None:
        (folder / "manifest.json").write_bytes(manifest)
    number = planned(world)
    if removed:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    return number, folder


def planned(world: AirflowWorld) -> int:
    (number,) = world.plan().batches
    return number


def ask_for_folder(client: Any, batch: int, token: str) -> Any:
    return client.post(f"{PAGE}/{batch}/folder", headers=OWN | {"x-tidepool-token": token})


def stopped(ledger: Ledger, batch: int, **where: Any) -> StoppedIn:
    task = {"dag_id": DAG_ID, "run_id": "manual__1", "task_id": "batch.prepare", "map_index": 0}
    stopped_in = StoppedIn(**{**task, **where})
    ledger.stops.record(batch, stopped_in)
    return stopped_in


# ---------------------------------------------------------------- the task


def test_what_stops_leads_to_its_task_and_its_place(world: AirflowWorld, visit: Visitor) -> None:
    numbers = a_day(world)
    viewer = visit("viewer")
    found = {name: world.ledger.uploads.get(number) for name, number in numbers.items()}
    listed = viewer.get(f"{PAGE}/list").text
    folder = short_hash(f"{TODAY}/{SAMPLE_USERS[0]}/{MALFORMED}")

    assert f"{TODAY} folder {folder}" in listed
    for name, detail in {
        MALFORMED: "it is not JSON (line 3, column 3)",
        REJECTED: "11 of 11 records",
    }.items():
        upload = found[name]
        assert upload is not None
        assert upload.stopped_in is not None
        where = upload.stopped_in
        assert (where.dag_id, where.task_id) == (DAG_ID, "batch.prepare")
        assert (where.code, where.detail) == (upload.reason, detail)
        run_id = str(where.run_id).replace(":", "%3A").replace("+", "%2B")
        link = f"/dags/{DAG_ID}/runs/{run_id}/tasks/batch.prepare/mapped/{where.map_index}?try_number=1"
        page = viewer.get(f"{PAGE}/{numbers[name]}").text
        assert f'href="{link}"' in listed
        assert f'href="{link}"' in page
        assert f"Here: {detail}." in page
        assert "required_actions" not in page
    assert "anna" not in listed
    assert "4711" not in viewer.get(f"{PAGE}/{numbers[MALFORMED]}").text


@pytest.mark.slow
def test_nothing_of_a_batch_that_comes_through_is_recorded(world: AirflowWorld) -> None:
    world.stage(meter_readings(3))
    world.run_dag()
    (upload,) = world.uploads()

    assert upload.state is BatchState.VERIFIED
    assert upload.stopped_in is None


def test_what_a_person_has_declined_leads_to_the_task_that_was_told(world: AirflowWorld) -> None:
    batch, _folder = staged(world)
    told = {"dag_id": DAG_ID, "run_id": "manual__1", "map_index": 0, "try_number": 1}
    context: Any = {
        "ti": SimpleNamespace(task_id="batch.prepare", **told),
        "dag_run": SimpleNamespace(start_date=None),
    }
    operator = TidepoolPrepareOperator(task_id="prepare", batches=[batch])
    row = world.ledger.batches.get(batch)
    record_decision(world.ledger, row, Decision.DECLINE, actor="ada", run=TaskOrigin(**told))
    summary: Any = None
    with pytest.raises(AirflowSkipException):
        operator._ask_or_apply(context, world.ledger, row, summary, RunOptions())
    upload = world.ledger.uploads.get(batch)
    assert upload is not None
    assert upload.reason == "declined"
    assert upload.stopped_in == StoppedIn(task_id="batch.prepare", **told)


def test_a_command_line_has_no_task_to_lead_to(world: AirflowWorld, visit: Visitor) -> None:
    batch, _folder = staged(world)
    world.ledger.batches.mark_failed(batch, "file-missing", "file 1")
    world.ledger.stops.record(batch, StoppedIn(code="file-missing", detail="file 1"))
    viewer = visit("viewer")

    for path in ("/list", f"/{batch}"):
        page = viewer.get(f"{PAGE}{path}").text
        assert "from a command line" in page
        assert "/tasks/" not in page


def test_a_try_that_another_may_follow_says_why_it_ended(world: AirflowWorld, visit: Visitor) -> None:
    batch, _folder = staged(world)
    stopped(world.ledger, batch, code="tidepool-unreachable", detail="could not open a data set: HTTP 503")
    page = " ".join(visit("viewer").get(f"{PAGE}/{batch}").text.split())

    assert "Its last try ended early." in page
    assert "<code>tidepool-unreachable</code>. Here: could not open a data set: HTTP 503." in page
    world.ledger.batches.hold(batch, "too-many-refused", "11 of 11 records")
    stopped(world.ledger, batch, code="staging-unreadable")
    page = " ".join(visit("viewer").get(f"{PAGE}/{batch}").text.split())
    assert "<code>too-many-refused</code>. Here: 11 of 11 records." in page
    assert "Its last try ended of another cause: staging storage cannot be read" in page


def test_what_the_ledger_holds_of_a_task_brings_no_markup(world: AirflowWorld, visit: Visitor) -> None:
    batch, _folder = staged(world)
    canary = "<b>\"x' & co"
    world.ledger.batches.mark_failed(batch, "file-missing", canary)
    stopped(world.ledger, batch, run_id=canary, task_id=canary, code="<b>", detail=canary)

    for path in ("/list", f"/{batch}"):
        page = visit("viewer").get(f"{PAGE}{path}").text
        assert "<b>" not in page
        assert "&lt;b&gt;" in page


# ---------------------------------------------------------------- the question


def wait_for_an_answer(stopped_in: StoppedIn, subject: str, *, waits: bool = True) -> None:
    """Let a task of a finished run wait for a person, or let it have been answered."""
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select

    key = (stopped_in.run_id, stopped_in.task_id, stopped_in.map_index)
    with create_session() as session:
        instance = session.scalars(
            select(TaskInstance).where(
                TaskInstance.run_id == key[0],
                TaskInstance.task_id == key[1],
                TaskInstance.map_index == key[2],
            )
        ).one()
        instance.state = TaskInstanceState.AWAITING_INPUT if waits else TaskInstanceState.SUCCESS
        if waits:
            given = {"options": ["Yes"], "subject": subject, "body": "canary", "params": {}}
            session.merge(HITLDetail(ti_id=instance.id, **given))


@pytest.mark.slow
def test_a_question_is_led_to_as_long_as_it_waits(world: AirflowWorld, visit: Visitor) -> None:
    numbers = a_day(world)
    viewer = visit("viewer")
    upload = world.ledger.uploads.get(numbers[REJECTED])
    assert upload is not None
    assert upload.stopped_in is not None
    paths = ("/list", f"/{upload.batch}")
    assert not [path for path in paths if "required_actions" in viewer.get(f"{PAGE}{path}").text]

    asked, subject = upload.stopped_in, f"{upload.label}: upload it without 11 rejected records?"
    wait_for_an_answer(asked, f"{subject} by another DAG")
    assert not [path for path in paths if "required_actions" in viewer.get(f"{PAGE}{path}").text]
    wait_for_an_answer(asked, subject)
    # Another run, which asks nobody, meets it meanwhile.
    world.ledger.batches.hold(upload.batch, "too-many-refused", "11 of 11 records")
    stopped(world.ledger, upload.batch, run_id="another", map_index=7)
    for path in paths:
        page = viewer.get(f"{PAGE}{path}").text
        link = f"/tasks/batch.prepare/mapped/{asked.map_index}/required_actions"
        assert page.count(link) == 1
        assert "canary" not in page
    assert "A question waits for an answer." in page
    other = viewer.get(f"{PAGE}/{numbers[MALFORMED]}").text
    assert "required_actions" not in other

    wait_for_an_answer(asked, subject, waits=False)
    assert not [path for path in paths if "required_actions" in viewer.get(f"{PAGE}{path}").text]


# ---------------------------------------------------------------- folder and files


def test_folder_and_files_are_told_to_who_may_act_and_that_is_recorded(
    world: AirflowWorld, visit: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    batch, folder = staged(world)
    user, viewer = visit("user"), visit("viewer")
    token = token_on(user, batch)

    told = ask_for_folder(user, batch, token)

    assert told.status_code == 200
    assert told.headers["cache-control"] == "no-store"
    assert told.json() == {"folder": str(folder), "files": [FILE], "numbered": True, "note": ""}
    assert ask_for_folder(viewer, batch, token).status_code == 403
    assert ask_for_folder(visit(""), batch, token).status_code == 401
    assert user.post(f"{PAGE}/{batch}/folder", headers=OWN).status_code == 403
    assert user.post(f"{PAGE}/77/folder", headers=OWN | {"x-tidepool-token": token}).status_code == 404
    assert user.get(f"{PAGE}/{batch}/folder").status_code == 405
    (action,) = world.ledger.actions.of_batch(batch)
    assert (action.actor, action.kind, action.status, action.detail) == (
        "user-name",
        ActionKind.FOLDER,
        ActionStatus.DONE,
        None,
    )
    assert "Saw folder and file names" in user.get(f"{PAGE}/audit-log").text
    for client in (user, viewer):
        for path in ("/list", f"/{batch}", "/audit-log"):
            page = client.get(f"{PAGE}{path}").text
            assert not [name for name in ("anna", "4711", SAMPLE_USERS[0]) if name in page], path
    assert "data-reveals" in user.get(f"{PAGE}/{batch}").text
    assert "data-reveals" not in viewer.get(f"{PAGE}/{batch}").text
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("tidepool")]
    assert not [line for line in ours if "anna" in line or SAMPLE_USERS[0] in line]
    assert file_name_in(world) == []


def file_name_in(world: AirflowWorld) -> list[str]:
    """Return the tables of the ledger that hold the file's name or the manifest's text."""
    with world.ledger.database.reading() as connection:
        rows = {
            name: str(connection.execute(text(f"SELECT * FROM {name}")).all()) for name in metadata.tables
        }
    return [name for name, content in rows.items() if "4711" in content]


@pytest.mark.parametrize(
    ("spoilt", "files", "note"),
    [
        ({"manifest": MANIFEST}, [FILE, "manifest.json"], ""),
        ({"removed": True}, [], "Its folder is not in staging any more."),
    ],
)
def test_what_cannot_be_read_is_named_as_it_lies(
    world: AirflowWorld, visit: Visitor, spoilt: dict[str, Any], files: list[str], note: str
) -> None:
    batch, folder = staged(world, **spoilt)
    user = visit("user")

    told = ask_for_folder(user, batch, token_on(user, batch)).json()

    assert told == {"folder": str(folder), "files": files, "numbered": False, "note": note}
    assert file_name_in(world) == []


# ---------------------------------------------------------------- what it corrects


def test_a_corrected_batch_and_its_forerunner_lead_to_each_other(world: AirflowWorld, visit: Visitor) -> None:
    batch, folder = staged(world, manifest=MANIFEST)
    manifest = {
        "userId": SAMPLE_USERS[0],
        "dataSet": {"deviceId": "device-1", "deviceModel": "Meter"},
        "files": [{"name": FILE, "format": "ndjson"}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    corrected = planned(world)
    viewer = visit("viewer")
    forerunner, later = (
        " ".join(viewer.get(f"{PAGE}/{number}").text.split()) for number in (batch, corrected)
    )

    hashed = short_hash(f"{TODAY}/{SAMPLE_USERS[0]}/{FOLDER}")
    link = f'<a href="{PAGE}/{corrected}">{TODAY} Meter {hashed}</a>'
    assert f"Another batch was staged in its place: {link}" in forerunner
    link = f'<a href="{PAGE}/{batch}">{TODAY} folder {hashed}</a>'
    assert f"It was staged in the place of {link}" in later
    assert 'class="badge overwritten"' in later


def test_one_that_replaces_another_leads_there_and_back(world: AirflowWorld, visit: Visitor) -> None:
    first, _folder = staged(world)
    day = TODAY - timedelta(days=1)
    row = world.ledger.batches.get(first)
    second = world.ledger.batches.register(
        FoundBatch(
            api_host=row.api_host,
            content_key="e" * 64,
            user_id=row.user_id,
            batch_id="another",
            day=day,
            folder=f"{world.staging}/{day}/{row.user_id}/another",
            label=f"{day} Meter 0123456789",
        )
    ).id
    world.ledger.batches.set_replaces(second, first)
    viewer = visit("viewer")

    page = " ".join(viewer.get(f"{PAGE}/{first}").text.split())
    assert f'Replaced by <a href="{PAGE}/{second}">{day} Meter 0123456789</a>' in page
    assert f'replaces <a href="{PAGE}/{first}">' in viewer.get(f"{PAGE}/{second}").text

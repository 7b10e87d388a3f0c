"""The DAG under a real scheduler: triggered by REST, run by workers, seen from outside."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from dev.components import COMPONENTS, LocalAirflow
from dev.home import LocalHome
from dev.simulator import simulator, simulator_connection

from tests.factories import meter_readings, stage
from tests.integration.airflow.deployment import DAG_ID, RUN_SECONDS, Deployment
from tests.ports import free_port, is_open
from tests.processes import children_of, remaining_of
from tidepool_ingest.privacy import short_hash
from tidepool_simulator.accounts import CLIENT_SECRET
from tidepool_simulator.sample import SAMPLE_USERS, write_sample

pytestmark = pytest.mark.slow

UPLOAD = "batch.upload"
WORKERS = 4
CANARY = "canary-7c1f0e9b"
CANARY_DEVICE = f"{CANARY}-device"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One start of everything, and one run of the sample and of a batch full of canaries."""
    home = LocalHome(tmp_path_factory.mktemp("scheduler"))
    today = datetime.now(UTC).date()
    write_sample(home.staging, today)
    _stage_canaries(home.staging)
    port = free_port()
    with ExitStack() as stack:
        roles = stack.enter_context(simulator(home))
        environment = home.environment(tidepool=simulator_connection(roles["base_url"]))
        airflow = LocalAirflow({**environment, "TIDEPOOL_RETRIES": "0"}, home.folder / "logs", port)
        stack.enter_context(airflow.running())
        airflow.unpause(DAG_ID)
        found = Deployment(home, airflow, roles, port, stack)
        found.first_run = found.trigger()
        yield found


def _stage_canaries(staging: Path) -> None:
    """Stage a batch with a planted word wherever a person's data may stand, accepted and rejected."""
    good = meter_readings(60, device=CANARY_DEVICE, payload={"note": CANARY})
    schedules = {
        "type": "pumpSettings",
        "time": "2026-01-01T00:00:00Z",
        "deviceId": CANARY_DEVICE,
        "activeSchedule": CANARY,
        "units": {"bg": "mg/dL", "carb": "grams"},
        "basalSchedules": {CANARY: [{"start": 0, "rate": -1}]},
    }
    bad = [
        {**good[0], "units": CANARY},
        {**good[1], "time": CANARY},
        schedules,
        b'{"type": "smbg", "value": ' + CANARY.encode(),
    ]
    body = {"deviceId": CANARY_DEVICE, "deviceModel": "Meter", "deviceSerialNumber": CANARY}
    stage(
        staging,
        [*good, *bad],
        user=SAMPLE_USERS[1],
        batch=CANARY,
        device=CANARY_DEVICE,
        dataSet={**body, "deviceTags": ["bgm"]},
    )


def test_every_staged_batch_is_verified(deployment: Deployment) -> None:
    found = deployment.uploads()

    assert len(found) == len(list(deployment.home.staging.glob("*/*/*/manifest.json"))) == 9
    assert {(upload.state, upload.data_set_state) for upload in found} == {("verified", "verified")}
    assert {upload.run_id for upload in found} == {deployment.first_run}
    assert {upload.reason for upload in found} == {None}


def test_the_store_holds_exactly_what_was_staged(deployment: Deployment) -> None:
    result = deployment.check()
    seen = {entry.data_set_id: entry.visible for entry in result.sets}

    assert result.ok
    assert result.visible > 20_000
    assert (result.lost, result.double, result.foreign, result.left_open, result.unreachable) == (0,) * 5
    assert seen == {session.data_set_id: session.visible_rows for session in deployment.uploads()}
    assert sum(session.quarantined or 0 for session in deployment.uploads()) == result.quarantined > 4


def test_the_data_set_ids_are_in_xcom_and_in_the_ledger(deployment: Deployment) -> None:
    run_id = deployment.first_run
    in_ledger = {session.map_index: session.data_set_id for session in deployment.uploads()}
    in_xcom = {
        index: deployment.xcom(run_id, UPLOAD, "data_set_id", index) for index in range(len(in_ledger))
    }

    assert in_xcom == in_ledger
    assert all(in_xcom.values())


def test_every_upload_links_to_its_data_set(deployment: Deployment) -> None:
    (session,) = (session for session in deployment.uploads() if session.map_index == 0)
    path = f"/dagRuns/{deployment.first_run}/taskInstances/{UPLOAD}/links"
    links = deployment.get(path, map_index=0)["extra_links"]

    assert links["Tidepool data set"] == f"{deployment.roles['base_url']}/v1/data_sets/{session.data_set_id}"
    assert links["Upload"].endswith(f"/{session.batch}")


def test_mapped_tasks_are_labelled_by_day_model_and_hash(deployment: Deployment) -> None:
    labels = {session.map_index: session.label for session in deployment.uploads()}

    for task_id in ("batch.prepare", UPLOAD):
        found = deployment.task_instances(deployment.first_run, task_id)
        assert {instance["map_index"]: instance["rendered_map_index"] for instance in found} == labels
    assert all(label.startswith(f"{datetime.now(UTC):%Y-}") for label in labels.values())


def test_a_second_run_finds_everything_done(deployment: Deployment) -> None:
    before = deployment.writes_at_tidepool()
    run_id = deployment.trigger()
    plan = deployment.xcom(run_id, "plan", "plan")

    assert (plan["batches"], plan["done"]) == (0, 9)
    assert deployment.writes_at_tidepool() == before
    assert sum(route.startswith("POST") for route in before) > 9


def test_a_cleared_upload_runs_again_and_uploads_nothing(deployment: Deployment) -> None:
    run_id, before = deployment.first_run, deployment.writes_at_tidepool()
    ids = {session.map_index: session.data_set_id for session in deployment.uploads()}
    deployment.post(
        "/clearTaskInstances",
        {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [[UPLOAD, 1]],
            "only_failed": False,
            "include_downstream": True,
            "reset_dag_runs": True,
        },
    )
    deployment.wait_for(run_id)
    tries = {
        task_instance["map_index"]: task_instance["try_number"]
        for task_instance in deployment.task_instances(run_id, UPLOAD)
    }

    assert tries == {index: 2 if index == 1 else 1 for index in ids}
    assert deployment.writes_at_tidepool() == before
    assert {session.map_index: session.data_set_id for session in deployment.uploads()} == ids
    assert deployment.xcom(run_id, UPLOAD, "data_set_id", 1) == ids[1]
    assert {session.state for session in deployment.uploads()} == {"verified"}


def secrets_of(deployment: Deployment) -> dict[str, bytes]:
    """What may stand in the ledger, the staging folder and the work area only, by what it is."""
    manifests = [json.loads(path.read_text()) for path in deployment.home.staging.glob("*/*/*/manifest.json")]
    words = {
        "planted word": CANARY,
        "client secret": CLIENT_SECRET,
        # The first part of every token that this Tidepool makes.
        "token": deployment.roles["owner"]["token"].split(".")[0],
        **{f"user {index}": user_id for index, user_id in enumerate(SAMPLE_USERS)},
    }
    for index, manifest in enumerate(manifests):
        words[f"device {index}"] = manifest["dataSet"]["deviceId"]
        for file in manifest["files"]:
            words[f"file of device {index}"] = file["name"]
    return {what: word.encode() for what, word in words.items()}


def found_in(texts: dict[str, bytes], secrets: dict[str, bytes]) -> list[tuple[str, str]]:
    return [(where, what) for where, text in texts.items() for what, word in secrets.items() if word in text]


def files_below(*folders: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()
    }


def test_no_log_names_a_person_a_device_a_token_or_a_value(deployment: Deployment) -> None:
    logs = files_below(deployment.home.airflow / "logs", deployment.home.folder / "logs")
    for instance in deployment.task_instances(deployment.first_run):
        where = f"{instance['task_id']} {instance['map_index']} over REST"
        logs[where] = deployment.log(instance).encode()
    everything = b"".join(logs.values())

    assert found_in(logs, secrets_of(deployment)) == []
    # These are the logs meant: each batch's steps are in them, by its user's short hash and its data set.
    assert len(logs) > 2 * len(deployment.task_instances(deployment.first_run))
    for session in deployment.uploads():
        assert short_hash(session.user_id).encode() in everything
        assert f"is verified: data set {session.data_set_id}".encode() in everything


def test_airflows_own_database_names_none_of_them_either(deployment: Deployment) -> None:
    """XCom, rendered templates, run parameters, audit log: all that any page of the UI can show."""
    with closing(sqlite3.connect(deployment.home.airflow / "airflow.db")) as database:
        dump = {f"line {number}": line.encode() for number, line in enumerate(database.iterdump())}
    everything = b"".join(dump.values())

    assert found_in(dump, secrets_of(deployment)) == []
    assert all(str(session.data_set_id).encode() in everything for session in deployment.uploads())


def test_the_search_would_find_them(deployment: Deployment) -> None:
    staged = files_below(deployment.home.staging, deployment.home.folder / "accounts.json")
    staged |= {"paths": "\n".join(staged).encode(), "roles": deployment.home.roles.read_bytes()}
    with closing(sqlite3.connect(deployment.home.ledger)) as database:
        staged["ledger"] = "\n".join(database.iterdump()).encode()
    secrets = secrets_of(deployment)

    assert {what for _, what in found_in(staged, secrets)} == secrets.keys() - {"client secret"}


def test_nothing_is_left_when_it_is_stopped_while_tasks_run(deployment: Deployment) -> None:
    run_id = deployment.post("/dagRuns", {"logical_date": None, "conf": {"force": True}})["dag_run_id"]
    give_up = time.monotonic() + RUN_SECONDS
    while (UPLOAD, "running") not in {(task, state) for task, _, state in deployment.states(run_id)}:
        assert time.monotonic() < give_up, deployment.states(run_id)
        time.sleep(0.1)
    family = [
        child
        for component in deployment.airflow.components.values()
        for child in _with_children(component.members())
    ]
    assert len(family) >= len(COMPONENTS) + WORKERS

    deployment.stop()

    assert remaining_of(family, deployment.home.folder) == []
    assert not is_open(deployment.port)


def _with_children(pids: list[int]) -> list[psutil.Process]:
    return [process for pid in pids for process in (psutil.Process(pid), *children_of(pid))]

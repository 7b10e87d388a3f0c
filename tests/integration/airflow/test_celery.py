"""The production shape end to end: PostgreSQL, Redis, Celery workers, staging in an S3 store over HTTP.

Preparing and uploading run on different workers, and the one that uploads is lost in the middle.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import pytest
from dev.components import LocalAirflow
from dev.home import LocalHome
from dev.postgresql import postgresql
from dev.simulator import simulator, simulator_connection
from upath import UPath

from tests.factories import meter_readings
from tests.integration.airflow.celery_stack import (
    BUCKET,
    DEFAULT_QUEUE,
    UPLOADS_QUEUE,
    Workers,
    celery_settings,
    redis,
)
from tests.integration.airflow.deployment import DAG_ID, Deployment
from tests.integration.airflow.runs_of_a_day import UPLOAD, RunsOfADay, install, quick, slow_posts
from tests.ports import free_port
from tests.servers import s3_server
from tidepool_airflow.settings import staging_root
from tidepool_ingest.stage import stage
from tidepool_simulator.sample import SAMPLE_USERS
from tidepool_simulator.sample.checker.check import check

pytestmark = pytest.mark.slow

DAY = date(2024, 6, 1)
DEVICES = ("device-1", "device-2")
RECORDS = 300
REFUSED = 2


@dataclass
class Ended:
    """A run in whose middle a worker was lost, when all is over."""

    deployment: Deployment
    store: Any
    run_id: str
    state: str
    lost_with: list[dict[str, Any]]

    def machines(self, task_id: str) -> set[tuple[str, str]]:
        """Queue and machine of each instance of a task, as Airflow's database has them."""
        found = self.deployment.task_instances(self.run_id, task_id)
        return {(instance["queue"], instance["hostname"]) for instance in found}


@pytest.fixture(scope="module")
def ended() -> Iterator[Ended]:
    with tempfile.TemporaryDirectory(prefix="tidepool-celery-") as made, ExitStack() as stack:
        home = LocalHome(Path(made))
        home.folder.joinpath("servers").mkdir()
        broker = stack.enter_context(redis(home.folder / "servers"))
        store = stack.enter_context(s3_server(home.folder / "servers" / "s3.log"))
        databases = stack.enter_context(postgresql(home.postgresql))
        roles = stack.enter_context(simulator(home))
        first = home.folder / "first"
        environment = home.environment(tidepool=simulator_connection(roles["base_url"]), databases=databases)
        settings = quick(environment, first)
        settings |= celery_settings(first, databases=databases, broker=broker, store=store)
        bucket = new_bucket(store)
        stage_into(settings, home.folder)
        airflow = LocalAirflow(settings, home.folder / "logs", port := free_port())
        deployment = Deployment(home, airflow, roles, port, stack)
        workers = Workers(deployment)
        stack.callback(workers.end)
        stack.enter_context(airflow.running())
        workers.start("preparing", DEFAULT_QUEUE)
        workers.start("uploading-1", UPLOADS_QUEUE)
        airflow.unpause(DAG_ID)
        install(deployment, slow_posts())

        runs = RunsOfADay(deployment, DAY)
        run_id = runs.trigger()
        runs.until_uploading(run_id)
        workers.kill("uploading-1")
        lost_with = deployment.task_instances(run_id, UPLOAD)
        workers.start("uploading-2", UPLOADS_QUEUE)
        yield Ended(deployment, bucket, run_id, runs.ended(run_id), lost_with)


def new_bucket(endpoint: str) -> Any:
    credentials = {"aws_access_key_id": "any-key", "aws_secret_access_key": "any-secret"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **credentials)
    client.create_bucket(Bucket=BUCKET)
    return client


def stage_into(settings: dict[str, str], folder: Path) -> None:
    """Stage a file of two devices, a few records of which Tidepool rejects, by the project's own code."""
    records = [record for device in DEVICES for record in meter_readings(RECORDS, device=device, day=DAY)]
    for record in records[:REFUSED]:
        record["units"] = "nobody's"
    file = folder / "readings.ndjson"
    file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_STAGING_STORE", settings["AIRFLOW_CONN_STAGING_STORE"])
        root = staging_root(settings["TIDEPOOL_STAGING_ROOT"])
        body = {"deviceModel": "Meter", "deviceTags": ["bgm"]}
        stage(UPath(file), root, SAMPLE_USERS[0], day=DAY, data_set=body)


def test_preparing_and_uploading_run_on_different_workers(ended: Ended) -> None:
    assert ended.state == "success", ended.deployment.states(ended.run_id)
    for task_id in ("plan", "batch.prepare", "report"):
        assert ended.machines(task_id) == {(DEFAULT_QUEUE, "preparing")}
    assert ended.machines(UPLOAD) <= {(UPLOADS_QUEUE, "uploading-1"), (UPLOADS_QUEUE, "uploading-2")}


def test_an_upload_whose_worker_is_lost_ends_on_another_one(ended: Ended) -> None:
    lost = {instance["map_index"] for instance in ended.lost_with if instance["state"] == "running"}
    now = {
        task_instance["map_index"]: task_instance
        for task_instance in ended.deployment.task_instances(ended.run_id, UPLOAD)
    }

    assert lost
    for index in lost:
        (first, *_), last = tries(ended, index), now[index]
        assert (first["hostname"], first["state"]) == ("uploading-1", "failed")
        assert (last["hostname"], last["state"]) == ("uploading-2", "success")
        assert last["try_number"] > 1


def tries(ended: Ended, map_index: int) -> list[dict[str, Any]]:
    path = f"/dagRuns/{ended.run_id}/taskInstances/{UPLOAD}/{map_index}/tries"
    found: list[dict[str, Any]] = ended.deployment.get(path)["task_instances"]
    return sorted(found, key=lambda instance: instance["try_number"])


def test_what_is_visible_is_what_was_staged_each_once(ended: Ended, tmp_path: Path) -> None:
    result = check(downloaded(ended.store, tmp_path), ended.deployment.home.simulator_store)

    assert result.ok, [vars(entry) for entry in result.sets if not entry.ok]
    assert (result.lost, result.double, result.foreign, result.left_open) == (0,) * 4
    assert result.visible == len(DEVICES) * RECORDS - REFUSED
    assert result.quarantined == REFUSED


def downloaded(store: Any, folder: Path) -> Path:
    """Fetch everything in the store, by a client that is not the one under test."""
    for page in store.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for entry in page["Contents"]:
            file = folder / entry["Key"]
            file.parent.mkdir(parents=True, exist_ok=True)
            store.download_file(BUCKET, entry["Key"], str(file))
    return folder / "batches"


def test_the_ledger_says_that_every_batch_is_verified(ended: Ended) -> None:
    found = ended.deployment.uploads()

    assert len(found) == len(DEVICES)
    assert {(upload.state, upload.data_set_state) for upload in found} == {("verified", "verified")}
    assert sum(upload.visible_rows or 0 for upload in found) == len(DEVICES) * RECORDS - REFUSED


def test_staging_is_in_the_store_and_nowhere_else(ended: Ended) -> None:
    listed = ended.store.list_objects_v2(Bucket=BUCKET)["Contents"]
    names = [entry["Key"].rpartition("/")[2] for entry in listed]

    assert names.count("manifest.json") == names.count("prepared.json") == len(DEVICES)
    assert "Uploads" not in ended.store.list_multipart_uploads(Bucket=BUCKET)
    assert list(ended.deployment.home.staging.rglob("*")) == []


def test_no_log_names_the_user_or_a_file_of_the_store(ended: Ended) -> None:
    home = ended.deployment.home
    folders = (home.airflow / "logs", home.folder / "logs")
    texts = {path: path.read_text(errors="replace") for folder in folders for path in folder.rglob("*.log")}
    of_workers = {path.stem for path in texts if path.stem.startswith("worker-")}

    assert of_workers == {"worker-preparing", "worker-uploading-1", "worker-uploading-2"}
    assert len(texts) > len(ended.deployment.task_instances(ended.run_id))
    assert [path for path, text in texts.items() if SAMPLE_USERS[0] in text or DEVICES[0] in text] == []

"""What OpenLineage's provider sends of an upload, as its own transport writes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.world import DAG_ID, HOME, AirflowWorld
from tests.factories import meter_readings
from tidepool_ingest.privacy import short_hash
from tidepool_simulator.sample import SAMPLE_USERS

pytestmark = pytest.mark.slow


@pytest.fixture
def sent(world: AirflowWorld, tmp_path: Path) -> list[dict[str, Any]]:
    """The events of a run in a process of its own: the provider reads its settings once."""
    world.stage(meter_readings(7))
    file = tmp_path / "events"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    ended = subprocess.run(
        [sys.executable, "-m", "dev.demo", DAG_ID],
        env={**os.environ, "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert HOME.airflow.exists()
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_batch_becomes_a_data_set(world: AirflowWorld, sent: list[dict[str, Any]]) -> None:
    (session,) = world.uploads()
    (completed,) = [
        event
        for event in sent
        if event["eventType"] == "COMPLETE" and event["job"]["name"] == f"{DAG_ID}.batch.upload"
    ]

    assert [(dataset["namespace"], dataset["name"]) for dataset in completed["inputs"]] == [
        ("tidepool-staging", session.label)
    ]
    (output,) = completed["outputs"]
    assert output["namespace"] == world.simulator.base_url.replace("http://", "tidepool://")
    assert output["name"] == f"data_sets/{session.data_set_id}"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 7


def test_no_event_names_a_person_or_a_device(sent: list[dict[str, Any]]) -> None:
    text = json.dumps(sent)

    assert sent
    assert SAMPLE_USERS[0] not in text
    assert "device-1" not in text
    assert short_hash(SAMPLE_USERS[0]) not in text

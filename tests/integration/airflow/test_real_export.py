"""A real Tidepool export of 2014 through the whole DAG: input that nobody here wrote."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tests.airflow.world import AirflowWorld
from tidepool_ingest.stage import stage
from tidepool_ingest.staging.manifest import RecordEdits

pytestmark = pytest.mark.slow

RECORDS = 8_994


@pytest.fixture
def export(shared: Path) -> Path:
    return shared / "real" / "export-2014.ndjson.gz"


def staged(world: AirflowWorld, export: Path, **edits: Any) -> None:
    stage(
        UPath(export),
        world.root,
        world.user,
        data_set={"deviceId": "Demo - 123"},
        edits=RecordEdits(**edits) if edits else None,
    )


def visible_glucose(world: AirflowWorld) -> list[float]:
    return [datum["value"] for datum in world.visible(types=["cbg"])]


def test_as_exported_every_record_is_rejected_and_nothing_is_opened(
    world: AirflowWorld, export: Path
) -> None:
    staged(world, export)
    run = world.run_dag()
    found = world.uploads()

    assert run.state == "failed"
    assert {(upload.state, upload.reason) for upload in found} == {("held", "too-many-refused")}
    assert (
        sum(upload.staged or 0 for upload in found)
        == sum(upload.quarantined or 0 for upload in found)
        == RECORDS
    )
    assert world.simulator.requests == []


def test_with_edits_it_is_visible_in_the_right_unit(world: AirflowWorld, export: Path) -> None:
    staged(world, export, drop=("id", "source"), glucose_units="mmol/L")
    run = world.run_dag()
    found = world.uploads()

    assert run.state in ("success", "failed")
    verified = [upload for upload in found if upload.state == "verified"]
    assert sum(upload.accepted or 0 for upload in verified) > 0.98 * RECORDS
    assert statistics.median(visible_glucose(world)) == pytest.approx(6.38, abs=0.005)
    assert world.check().lost == 0


def test_without_the_unit_it_is_held(world: AirflowWorld, export: Path) -> None:
    staged(world, export, drop=("id", "source"))
    world.run_dag()

    assert "glucose-units-implausible" in {session.reason for session in world.uploads()}
    assert visible_glucose(world) == []

"""A real Tidepool export of 2014 through the whole DAG: input that nobody here wrote."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tests.airflow.world import World
from tidepool_ingest.client import ClientSettings, connect
from tidepool_ingest.stage import stage
from tidepool_ingest.staging.manifest import RecordEdits
from tidepool_simulator.sample import SAMPLE_USERS
from tidepool_simulator.sample.checker.check import check

pytestmark = pytest.mark.slow

RECORDS = 8_994


@pytest.fixture
def export(shared: Path) -> Path:
    return shared / "real" / "export-2014.ndjson.gz"


def staged(world: World, export: Path, **edits: Any) -> None:
    stage(
        UPath(export),
        UPath(world.staging),
        SAMPLE_USERS[0],
        data_set={"deviceId": "Demo - 123"},
        edits=RecordEdits(**edits) if edits else None,
    )


def visible_glucose(world: World) -> list[float]:
    settings = ClientSettings.of(
        {
            "environment": world.simulator.base_url,
            "auth_mode": "token",
            "token": world.simulator.accounts["sample-0"].token,
        }
    )
    return [datum["value"] for datum in connect(settings).read_data(SAMPLE_USERS[0], types=["cbg"])]


def test_as_exported_every_record_is_rejected_and_nothing_is_opened(world: World, export: Path) -> None:
    staged(world, export)
    run = world.run()
    found = world.uploads()

    assert run.state == "failed"
    assert {(upload.state, upload.reason) for upload in found} == {("held", "too-many-refused")}
    assert (
        sum(upload.staged or 0 for upload in found)
        == sum(upload.quarantined or 0 for upload in found)
        == RECORDS
    )
    assert world.simulator.requests == []


def test_with_edits_it_is_visible_in_the_right_unit(world: World, export: Path) -> None:
    staged(world, export, drop=("id", "source"), glucose_units="mmol/L")
    run = world.run()
    found = world.uploads()

    assert run.state in ("success", "failed")
    verified = [upload for upload in found if upload.state == "verified"]
    assert sum(upload.accepted or 0 for upload in verified) > 0.98 * RECORDS
    assert statistics.median(visible_glucose(world)) == pytest.approx(6.38, abs=0.005)
    assert check(world.staging, world.staging.parent / "simulator.db").lost == 0


def test_without_the_unit_it_is_held(world: World, export: Path) -> None:
    staged(world, export, drop=("id", "source"))
    world.run()

    assert "glucose-units-implausible" in {session.reason for session in world.uploads()}
    assert visible_glucose(world) == []

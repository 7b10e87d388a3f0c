"""A real export of 2014 that nobody here wrote, through all steps."""

from __future__ import annotations

import gzip
import json
import statistics
from pathlib import Path

import pytest

from tests.world import World
from tidepool_ingest.guards.glucose import GlucoseUnitsError
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.prepare.summary import TooManyRejectedError

RECORDS = 8_994
CBG_MEDIAN_MMOL_L = 6.38
DROP = {"drop": ["id", "source"]}
DEVICE = {"deviceId": "Demo - 123", "deviceModel": "Export"}


@pytest.fixture(scope="module")
def export(shared: Path) -> bytes:
    return (shared / "real" / "export-2014.ndjson.gz").read_bytes()


def test_as_exported_every_record_is_refused_and_nothing_is_opened(world: World, export: bytes) -> None:
    world.stage(content=export, name="export.ndjson.gz", data_set=DEVICE)

    outcome = world.run()

    ((number, error),) = outcome.errors.items()
    assert isinstance(error, TooManyRejectedError)
    assert (error.summary.staged, error.summary.quarantined) == (RECORDS, RECORDS)
    assert error.summary.reasons["cbg"]["value-not-valid"] > 0
    assert "cbg value-" in str(error)
    assert world.row(number).state is BatchState.HELD
    assert world.simulator.requests == []
    assert len(world.quarantine(number)) == RECORDS
    allowed = world.run(max_quarantined_percent=100)
    assert (allowed.codes, allowed.uploaded) == ([], {})
    assert world.row(number).state is BatchState.NOTHING_ACCEPTED
    assert world.simulator.requests == []


def test_without_the_right_unit_the_guard_holds_it(world: World, export: bytes) -> None:
    world.stage(content=export, name="export.ndjson.gz", data_set=DEVICE, edits=DROP)

    outcome = world.run()

    ((number, error),) = outcome.errors.items()
    assert isinstance(error, GlucoseUnitsError)
    assert error.claimed == "mg/dL"
    assert world.row(number).state is BatchState.HELD
    assert world.simulator.requests == []


def test_with_the_right_unit_it_is_visible_as_it_was_measured(world: World, export: bytes) -> None:
    world.stage(
        content=export, name="export.ndjson.gz", data_set=DEVICE, edits=DROP | {"glucoseUnits": "mmol/L"}
    )

    outcome = world.run()

    assert outcome.codes == []
    (number,) = outcome.plan.batches
    prepared = outcome.prepared[number]
    assert prepared.staged == RECORDS
    assert prepared.accepted + prepared.quarantined + prepared.identical == RECORDS
    assert prepared.accepted > 0.99 * RECORDS
    assert len(world.quarantine(number)) == prepared.quarantined
    shown = world.visible()
    assert len(shown) == prepared.expected_rows
    values = [datum["value"] for datum in shown if datum["type"] == "cbg"]
    assert statistics.median(values) == pytest.approx(CBG_MEDIAN_MMOL_L, abs=0.005)
    staged = [json.loads(line) for line in gzip.decompress(export).splitlines()]
    measured = [record["value"] for record in staged if record.get("type") == "cbg"]
    assert sorted(values) == pytest.approx(sorted(measured))
    assert {datum["units"] for datum in shown if datum["type"] == "cbg"} == {"mmol/L"}
    assert world.all_right()

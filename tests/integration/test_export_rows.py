"""Rows that say something about their file: that it was cut off, or which data sets its records were in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.factories import DEVICE, cbg, readings
from tests.world import World
from tidepool_ingest.ledger import BatchState

MARKER = {"exportError": "Due to the size of your export, not all data could be retrieved."}


def lines_of(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@pytest.mark.parametrize("cut", [1, 20, 60])
@pytest.mark.parametrize("file_format", ["ndjson", "tidepool-export"])
def test_a_last_line_that_was_cut_off_fails_the_batch(world: World, file_format: str, cut: int) -> None:
    content = lines_of(*readings(5))[: -1 - cut]
    world.stage(content=content, name="data.ndjson", file={"format": file_format})

    outcome = world.run()

    assert outcome.codes == ["file-truncated"]
    assert world.visible() == []


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"  ", b"\nnonsense\n"])
def test_a_last_line_that_is_whole_or_ended_is_a_line(world: World, end: bytes) -> None:
    world.stage(content=lines_of(*readings(5))[:-1] + end, name="data.ndjson")

    outcome = world.run()

    assert outcome.codes == []
    assert len(world.visible()) == 5
    assert world.all_right()


@pytest.mark.parametrize("file_format", ["ndjson", "json", "tidepool-export"])
def test_an_export_that_tidepool_cut_off_fails_the_batch(world: World, file_format: str) -> None:
    records = [*readings(5), MARKER]
    content = lines_of(*records) if file_format == "ndjson" else json.dumps(records).encode()
    world.stage(content=content, name="data.json", file={"format": file_format})

    outcome = world.run()

    (number,) = outcome.plan.batches
    assert outcome.codes == ["export-cut-off"]
    assert world.row(number).state is BatchState.FAILED
    assert world.visible() == []


def test_a_record_may_have_a_field_of_that_name(world: World) -> None:
    world.stage([cbg(1, exportError="none"), *readings(5, first=10)])

    assert world.run().codes == []
    assert len(world.visible()) == 6


def data_set_row(number: int) -> dict[str, Any]:
    return {
        "type": "upload",
        "time": f"2026-02-{number + 1:02}T00:00:00Z",
        "uploadId": f"upid_{number}",
        "deviceId": DEVICE,
    }


@pytest.mark.parametrize("array", [False, True])
def test_rows_of_data_sets_are_counted_and_not_rejected(world: World, array: bool) -> None:
    rows = [
        data_set_row(0),
        *readings(3),
        data_set_row(1),
        data_set_row(2),
        cbg(50, 99),
        *readings(20, first=10),
    ]
    exported = [{"uploadId": "upid_0"} | row for row in rows]
    content = (
        json.dumps(exported).encode()
        if array
        else b"".join(json.dumps(row).encode() + b"\n" for row in exported)
    )
    folder = world.stage(content=content, name="data.json", file={"format": "tidepool-export", "records": 27})
    assert folder.exists()

    outcome = world.run()

    (number,) = outcome.plan.batches
    summary = outcome.prepared[number]
    assert (summary.staged, summary.accepted, summary.quarantined) == (24, 23, 1)
    assert summary.skipped == {"data-set": 3}
    (entry,) = world.quarantine(number)
    assert entry["position"] == 6
    assert len(world.visible()) == 23


def test_an_export_of_nothing_but_data_sets_is_empty(world: World) -> None:
    content = b"".join(json.dumps(data_set_row(number)).encode() + b"\n" for number in range(28))
    world.stage(content=content, file={"format": "tidepool-export"})

    outcome = world.run()

    (number,) = outcome.plan.batches
    assert outcome.codes == []
    assert world.row(number).state is BatchState.NOTHING_ACCEPTED

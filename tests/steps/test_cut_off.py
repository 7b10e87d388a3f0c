"""A file that is not whole is never taken for one that is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.steps.world import World, cbg, readings
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

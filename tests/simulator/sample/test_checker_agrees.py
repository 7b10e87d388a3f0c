"""Where checker and project must agree on a name they agree, though neither uses the other's code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tests.simulator.sample.two_sides import USER, TwoSides, smbg
from tidepool_ingest.staging.manifest import content_key, read_manifest
from tidepool_ingest.staging.quarantine import Place
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_simulator.sample.checker import staged
from tidepool_simulator.sample.checker.quarantine import rejected_records
from tidepool_simulator.sample.checker.staged import read_staging


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"edits": {"glucoseUnits": "mmol/L"}},
        {"edits": {"drop": ["id", "source"], "set": {"deviceId": "ä", "payload": {"a": [1.0, None]}}}},
        {"edits": {}},
        {"edits": {"drop": []}},
        {
            "data_set": {
                "client": {"name": "org.tidepool.exämple", "version": "1.0.0"},
                "conversionOffset": 1e3,
            }
        },
        {"connection": "tidepool_b", "replaces": "older"},
        {"checks": {"units-mixed": "warn", "time-not-utc": "ignore"}},
        {"checks": {"units-mixed": "refuse", "device-id-differs": "refuse", "time-not-utc": "warn"}},
        {"meantAs": ["zone-implausible", "clock-not-in-zone"]},
    ],
    ids=range(10),
)
def test_the_work_area_of_a_batch(tmp_path: Path, manifest: dict[str, Any]) -> None:
    world = TwoSides(tmp_path)
    folder = world.stage([smbg(1), smbg(2, 9999), b"\xff"], name="data.ndjson.gz", **manifest)
    digest = hashlib.sha256((folder / "data.ndjson.gz").read_bytes()).hexdigest()
    key = content_key(read_manifest(UPath(folder), USER), [digest])
    (batch,) = read_staging(world.staging)
    assert batch.content_key == key

    area = WorkArea(UPath(world.staging), key)
    area.begin()
    with area.quarantine_writer() as writer:
        writer.add(Place(1, 1), [("value-out-of-range", "/value")], b'{"note":"\xe2\x80\xa8"}')
        writer.add(Place(1, 2), [("staged-not-utf8", "")], b"\xff")
    assert rejected_records(world.staging, key) == {(1, 1, 0), (1, 2, 0)}


@pytest.mark.parametrize(
    "options",
    [
        {"timezone": "Europe/Berlin"},
        {"timezone": [{"zone": "Europe/Berlin", "until": "2025-03-30T10:00:00"}, {"zone": "Asia/Tokyo"}]},
        {"serial": "A-1", "dateOrder": "dmy", "keepNotes": True},
        {"keepNotes": False},
        {"table": {"time": {"column": "t", "format": "iso"}, "records": [{"record": {"a": [1.0, "ä"]}}]}},
    ],
    ids=range(5),
)
def test_the_work_area_of_a_batch_whose_file_is_read_in_a_stated_way(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    world = TwoSides(tmp_path)
    folder = world.stage([], content=b"x", file={"format": "clarity"} | options)
    key = content_key(read_manifest(UPath(folder), USER), [hashlib.sha256(b"x").hexdigest()])

    assert staged._content_key("", json.loads((folder / "manifest.json").read_bytes()), [b"x"]) == key

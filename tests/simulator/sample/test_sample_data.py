"""The sample is large, plausible, the same each time, and spoiled only where it says so."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
import statistics
import time
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tidepool_ingest.model import validate_datum
from tidepool_ingest.staging.batches import find_batches
from tidepool_ingest.staging.manifest import read_manifest
from tidepool_simulator.sample import (
    SAMPLE_USERS,
    SampleBatch,
    SampleSummary,
    SpoiledAs,
    write_sample,
)
from tidepool_simulator.sample.checker.files import values_of

DAY = date(2026, 11, 20)
"""Three weeks after the end of summer time in America, four after that in Europe."""

MOST_SECONDS = 4.0
"""CPU time that writing may take; it takes 0.5 s on an idle machine."""

Record = dict[str, Any]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SampleSummary:
    return write_sample(tmp_path_factory.mktemp("sample"), DAY)


@functools.lru_cache(maxsize=16)
def values(batch: SampleBatch) -> list[Any]:
    """Return the values of a batch's records in order, None for those that are no JSON."""
    manifest = json.loads((batch.path / "manifest.json").read_bytes())
    return [
        value
        for file in manifest["files"]
        for value in values_of(file["name"], file["format"], (batch.path / file["name"]).read_bytes())
    ]


def good(batch: SampleBatch) -> list[Record]:
    """Return a batch's records without the spoiled ones."""
    spoiled = {spoiled.index for spoiled in batch.spoiled}
    return [value for index, value in enumerate(values(batch)) if index not in spoiled]


def test_size_and_spread(sample: SampleSummary) -> None:
    assert sample.records >= 20_000
    assert {batch.user_id for batch in sample.batches} == set(SAMPLE_USERS)
    assert len(SAMPLE_USERS) >= 3
    assert len({batch.device_id for batch in sample.batches}) == len(sample.batches) >= 5
    assert all(re.fullmatch("[0-9a-f]{10}", user_id) for user_id in SAMPLE_USERS)
    kinds = {
        (record["type"], record.get("subType") or record.get("deliveryType"))
        for batch in sample.batches
        for record in good(batch)
    }
    assert kinds == {
        ("cbg", None),
        ("smbg", None),
        ("smbg", "linked"),
        ("smbg", "scanned"),
        ("bloodKetone", None),
        ("basal", "automated"),
        ("basal", "scheduled"),
        ("basal", "suspend"),
        ("basal", "temp"),
        ("bolus", "automated"),
        ("bolus", "normal"),
        ("bolus", "square"),
        ("wizard", None),
        ("pumpSettings", None),
        ("cgmSettings", None),
        ("deviceEvent", "alarm"),
        ("deviceEvent", "calibration"),
        ("deviceEvent", "prime"),
        ("deviceEvent", "reservoirChange"),
        ("deviceEvent", "timeChange"),
        ("food", None),
        ("insulin", None),
        ("physicalActivity", None),
    }
    embedded = {
        record["bolus"]["subType"]
        for batch in sample.batches
        for record in good(batch)
        if "bolus" in record and record["type"] == "wizard"
    }
    assert {"normal", "dual/square"} <= embedded


def test_batches_are_as_staging_wants_them(sample: SampleSummary) -> None:
    root = UPath(sample.batches[0].path.parents[2])
    found = {(folder.user_id, folder.batch_id): folder for folder in find_batches(root, DAY, DAY)}
    assert set(found) == {(batch.user_id, batch.batch_id) for batch in sample.batches}
    names = set()
    for batch in sample.batches:
        manifest = read_manifest(found[batch.user_id, batch.batch_id].path, batch.user_id)
        assert manifest.device_id == batch.device_id
        for file, records in zip(manifest.files, batch.file_records, strict=True):
            names.add(file.name.partition(".")[2])
            assert file.records in (None, records)
            content = (batch.path / file.name).read_bytes()
            assert file.sha256 in (None, hashlib.sha256(content).hexdigest())
        assert len(values(batch)) == batch.records == sum(batch.file_records)
        assert batch.device_id not in batch.batch_id
        assert batch.user_id not in batch.batch_id
    assert names == {"ndjson", "ndjson.gz", "ndjson.zst", "json", "json.gz", "json.zst"}


def test_the_same_each_time(sample: SampleSummary, tmp_path: Path) -> None:
    started = time.process_time()
    again = write_sample(tmp_path / "again", DAY)
    assert time.process_time() - started < MOST_SECONDS
    other = write_sample(tmp_path / "other", DAY, seed=7)
    for first, second, third in zip(sample.batches, again.batches, other.batches, strict=True):
        assert values(first) == values(second)
        assert values(first) != values(third)
        for path in first.path.iterdir():
            assert path.read_bytes() == (second.path / path.name).read_bytes()


@pytest.mark.parametrize("day", [date(2024, 3, 20), date(2025, 11, 9), date(2028, 3, 1)])
def test_any_day_will_do(day: date, tmp_path: Path) -> None:
    sample = write_sample(tmp_path, day)
    assert sample.records >= 20_000
    assert {validate_datum(record) for batch in sample.batches for record in good(batch)} == {()}


def test_about_a_hundredth_is_spoiled_in_every_way(sample: SampleSummary) -> None:
    assert 0.008 <= sample.spoiled.total() / sample.records <= 0.015
    assert set(sample.spoiled) == set(SpoiledAs)


def test_exactly_the_spoiled_ones_are_rejected(sample: SampleSummary) -> None:
    for batch in sample.batches:
        how = {spoiled.index: spoiled.how for spoiled in batch.spoiled}
        for index, value in enumerate(values(batch)):
            if index in how and how[index].unreadable:
                assert value is None
                continue
            refused = validate_datum(value) != ()
            assert refused == (index in how and how[index].rejected_by_tidepool), (batch.device_model, index)


def test_duplicates_and_ids_are_as_described(sample: SampleSummary) -> None:
    for batch in sample.batches:
        all_values = values(batch)
        how = {spoiled.index: spoiled.how for spoiled in batch.spoiled}
        texts: dict[str, int] = {}
        ids: set[str] = set()
        for index, value in enumerate(all_values):
            text = json.dumps(value, sort_keys=True)
            assert (text in texts) == (how.get(index) is SpoiledAs.REPEATED) or value is None or index in how
            if how.get(index) is SpoiledAs.REPEATED:
                assert text in texts
                continue
            texts[text] = index
            if isinstance(value, dict) and "id" in value:
                repeated = how.get(index) is SpoiledAs.REPEATED_ID
                assert (value["id"] in ids) == repeated
                ids.add(value["id"])
            if how.get(index) is SpoiledAs.NO_DEVICE_ID:
                assert "deviceId" not in value
            elif index not in how:
                assert value["deviceId"] == batch.device_id


def test_basal_is_recorded_without_gap_or_overlap(sample: SampleSummary) -> None:
    chains = 0
    for batch in sample.batches:
        spoiled = {spoiled.index for spoiled in batch.spoiled}
        chain = [
            (moment(record), record["duration"]) if index not in spoiled else None
            for index, record in enumerate(values(batch))
            if isinstance(record, dict) and record.get("type") == "basal" and "time" in record
        ]
        links = [
            (link, following)
            for link, following in itertools.pairwise(chain)
            if link is not None and following is not None
        ]
        chains += bool(links)
        # A spoiled record leaves a gap, so only neighbours with none between them are compared.
        tiled = sum(link[0] + timedelta(milliseconds=link[1]) == following[0] for link, following in links)
        assert tiled >= len(links) - len(spoiled)
        assert all(link[0] + timedelta(milliseconds=link[1]) <= following[0] for link, following in links)
    assert chains == 2


def test_times_belong_together(sample: SampleSummary) -> None:
    newest = datetime.combine(DAY + timedelta(days=1), datetime.min.time(), UTC)
    for batch in sample.batches:
        records = good(batch)
        assert records == sorted(records, key=moment)
        for record in records:
            assert record["time"].endswith("Z")
            wall = datetime.fromisoformat(record["deviceTime"])
            offset = timedelta(minutes=record["timezoneOffset"], milliseconds=record["conversionOffset"])
            assert wall == moment(record).replace(tzinfo=None) + offset
            assert moment(record) < newest


def test_plausible_physiology(sample: SampleSummary) -> None:
    for batch in sample.batches:
        glucose = [
            record["value"] * (1 if record["units"] == "mg/dL" else 18)
            for record in good(batch)
            if record["type"] in ("cbg", "smbg")
        ]
        if len(glucose) > 1000:
            in_range = sum(70 <= value <= 180 for value in glucose) / len(glucose)
            low = sum(value < 70 for value in glucose) / len(glucose)
            assert 110 <= statistics.mean(glucose) <= 190
            assert 0.5 <= in_range <= 0.9
            assert 0.005 <= low <= 0.12
            assert 0.2 <= statistics.stdev(glucose) / statistics.mean(glucose) <= 0.55
        doses: dict[str, float] = defaultdict(float)
        for record in good(batch):
            doses[record["deviceTime"][:10]] += units_of(record)
        given = sorted(doses.values())
        if given[-1]:
            # Units a day: children some 15, adults some 40.
            assert 8 <= statistics.median(given) <= 60
            assert given[-1] < 90


def test_meals_raise_glucose(sample: SampleSummary) -> None:
    """Glucose after breakfast is above that before it: the model answers to what is eaten."""
    cgm = next(batch for batch in sample.batches if batch.device_model == "G6")
    by_hour: dict[int, list[float]] = defaultdict(list)
    for record in good(cgm):
        if record["type"] == "cbg":
            by_hour[int(record["deviceTime"][11:13])].append(record["value"])
    assert statistics.mean(by_hour[8]) > statistics.mean(by_hour[5]) + 10


def moment(record: Record) -> datetime:
    """Return a record's time."""
    return datetime.fromisoformat(record["time"])


def units_of(record: Record) -> float:
    """Return the insulin that a record tells of, units."""
    if record["type"] == "basal":
        return float(record.get("rate", 0)) * float(record["duration"]) / 3_600_000
    if record["type"] == "insulin":
        return float(record["dose"]["total"])
    bolus = record.get("bolus", {}) if record["type"] == "wizard" else record
    if bolus.get("type") != "bolus":
        return 0.0
    return float(bolus.get("normal", 0)) + float(bolus.get("extended", 0))

"""The checker beside a real simulator: what was uploaded over HTTP, and faults planted that way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import requests
from upath import UPath

from tidepool_ingest.staging.manifest import content_key, read_manifest
from tidepool_ingest.staging.quarantine import Place
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_simulator import Accounts, Simulator
from tidepool_simulator.sample import (
    SampleBatch,
    SampleSummary,
    SpoiledAs,
    practice_accounts,
    write_sample,
)
from tidepool_simulator.sample.checker import CheckResult, check
from tidepool_simulator.sample.checker.files import values_of

MODEL = "723"
"""The conventional pump: basal, boluses inside wizards, events with status, settings."""

DEDUPLICATOR = {"name": "org.tidepool.deduplicator.device.deactivate.hash"}
Record = dict[str, Any]


class Uploaded:
    """One sample batch and a simulator to upload it to by hand."""

    def __init__(self, summary: SampleSummary, simulator: Simulator, store: Path) -> None:
        self._staging = summary.batches[0].path.parents[2]
        self._store = store
        (self.batch,) = (batch for batch in summary.batches if batch.device_model == MODEL)
        self._others = [_name(batch) for batch in summary.batches if batch is not self.batch]
        self._session = requests.Session()
        self._session.headers["X-Tidepool-Session-Token"] = simulator.accounts["uploader"].token
        self._url = f"{simulator.base_url}/v1"
        manifest = json.loads((self.batch.path / "manifest.json").read_bytes())
        self._body = manifest["dataSet"] | {"deduplicator": DEDUPLICATOR}
        (file,) = manifest["files"]
        content = (self.batch.path / file["name"]).read_bytes()
        spoiled = {spoiled.index for spoiled in self.batch.spoiled}
        self.places = [index for index in range(self.batch.records) if index not in spoiled]
        values = list(values_of(file["name"], file["format"], content))
        self.records: list[Record] = [values[index] for index in self.places]
        self._quarantine(hashlib.sha256(content).hexdigest())

    def open(self) -> str:
        response = self._session.post(
            f"{self._url}/users/{self.batch.user_id}/data_sets", json=self._body, timeout=30
        )
        assert response.status_code == 201
        return str(response.json()["data"]["uploadId"])

    def post(self, data_set: str, records: list[Record]) -> None:
        response = self._session.post(f"{self._url}/data_sets/{data_set}/data", json=records, timeout=60)
        assert response.status_code == 200, response.text

    def close(self, data_set: str) -> None:
        response = self._session.put(f"{self._url}/data_sets/{data_set}", json={}, timeout=60)
        assert response.status_code == 200

    def check(self) -> CheckResult:
        return check(self._staging, self._store, without=self._others)

    def _quarantine(self, digest: str) -> None:
        key = content_key(read_manifest(UPath(self.batch.path), self.batch.user_id), [digest])
        area = WorkArea(UPath(self._staging), key)
        area.begin()
        with area.quarantine_writer() as writer:
            for spoiled in self.batch.spoiled:
                if spoiled.how is not SpoiledAs.REPEATED:
                    writer.add(Place(1, spoiled.index), [("staged-not-json", "")], None)


def _name(batch: SampleBatch) -> str:
    return "/".join(batch.path.parts[-3:])


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> SampleSummary:
    return write_sample(tmp_path_factory.mktemp("staging"), date(2026, 11, 20))


@pytest.fixture
def uploaded(summary: SampleSummary, tmp_path: Path) -> Iterator[Uploaded]:
    accounts = tmp_path / "accounts.json"
    accounts.write_text(json.dumps(practice_accounts()))
    store = tmp_path / "store.sqlite"
    with Simulator(store, accounts=Accounts.from_file(accounts)) as simulator:
        yield Uploaded(summary, simulator, store)


def test_a_clean_upload(uploaded: Uploaded) -> None:
    data_set = uploaded.open()
    uploaded.post(data_set, uploaded.records)
    before = uploaded.check()
    assert (before.visible, before.left_open) == (0, 1)
    uploaded.close(data_set)
    result = uploaded.check()
    (entry,) = result.sets
    assert result.ok, result
    assert (entry.user_id, entry.device_id, entry.data_set_id) == (
        uploaded.batch.user_id,
        uploaded.batch.device_id,
        data_set,
    )
    embedded = sum(isinstance(record.get("bolus", record.get("status")), dict) for record in uploaded.records)
    assert embedded > 50
    assert result.visible == len(uploaded.records) + embedded
    assert result.quarantined + result.identical == len(uploaded.batch.spoiled)


def test_a_lost_a_doubled_and_an_altered_record(uploaded: Uploaded) -> None:
    boluses = [index for index, record in enumerate(uploaded.records) if record["type"] == "bolus"]
    lost, doubled, altered = boluses[1], boluses[3], boluses[5]
    sent = [dict(record) for record in uploaded.records]
    sent[altered]["normal"] = sent[altered].get("normal", 0) + 0.05
    sent.append(dict(uploaded.records[doubled]))
    del sent[lost]
    data_set = uploaded.open()
    uploaded.post(data_set, sent)
    uploaded.close(data_set)
    result = uploaded.check()
    (entry,) = result.sets
    assert (result.lost, result.double, result.foreign, result.ok) == (2, 1, 1, False)
    assert entry.lost_places == [(1, uploaded.places[lost]), (1, uploaded.places[altered])]
    assert entry.double_places == [(1, uploaded.places[doubled])]


def test_a_chunk_sent_twice_blindly(uploaded: Uploaded) -> None:
    data_set = uploaded.open()
    uploaded.post(data_set, uploaded.records[:100])
    uploaded.post(data_set, uploaded.records[:100])
    uploaded.post(data_set, uploaded.records[100:])
    uploaded.close(data_set)
    assert uploaded.check().double >= 100


def test_the_same_upload_again_is_superseded_and_not_double(uploaded: Uploaded) -> None:
    for _ in range(2):
        data_set = uploaded.open()
        uploaded.post(data_set, uploaded.records)
        uploaded.close(data_set)
    result = uploaded.check()
    assert result.ok, result
    assert next(entry.visible for entry in result.sets) == 0


def test_abandoned_sets(uploaded: Uploaded) -> None:
    data_set = uploaded.open()
    uploaded.post(data_set, uploaded.records)
    uploaded.close(data_set)
    uploaded.open()
    assert uploaded.check().unreachable == 1
    assert uploaded.check().ok
    abandoned = uploaded.open()
    uploaded.post(abandoned, uploaded.records[:3])
    result = uploaded.check()
    assert (result.left_open, result.ok) == (1, False)

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import DEVICE, USER, Run, cbg, ndjson
from tidepool_ingest.privacy import short_hash

DAY = "2026-03-05"
FEED = {"dataSetType": "continuous", "deviceId": DEVICE, "client": {"name": "org.example.cloud"}}


def staged(day: str = DAY, batch: str = "canary-1", **manifest: Any) -> Path:
    folder = Path("staging") / day / USER / batch
    folder.mkdir(parents=True)
    (folder / "a.ndjson").write_bytes(ndjson(cbg()))
    files = [{"name": "a.ndjson", "format": "ndjson"}]
    said = {"userId": USER, "dataSet": FEED, "files": files} | manifest
    (folder / "manifest.json").write_text(json.dumps(said))
    return folder


def test_it_stages_a_ready_batch_that_retracts_the_other(run: Run) -> None:
    folder = staged(connection="tidepool_other", stagedAt="2026-03-05T01:00:00Z", replaces=None)
    before = datetime.now(UTC)
    ran = run("retract", folder, "--root", "staging")

    assert ran.code == 0
    (line,) = ran.lines
    made = Path(line)
    assert made.parent == Path("staging") / str(before.date()) / USER
    manifest = json.loads((made / "manifest.json").read_text())
    assert before.replace(microsecond=0) <= datetime.fromisoformat(manifest.pop("stagedAt"))
    assert manifest == {
        "userId": USER,
        "dataSet": FEED,
        "files": [],
        "connection": "tidepool_other",
        "retracts": "canary-1",
    }
    assert run("validate", made).code == 0
    # What is going to happen, and what is not; no name of a batch, person or device.
    assert "tidepool_continuous_upload" in ran.err
    assert "stage the batch that holds it again" in ran.err
    for secret in ("canary", USER, DEVICE):
        assert secret not in ran.err
    assert short_hash(f"{DAY}/{USER}/canary-1") in ran.err
    assert "canary" not in made.name


def test_a_batch_of_a_later_day_is_retracted_on_that_day(run: Run) -> None:
    (line,) = run("retract", staged("2999-01-01"), "--root", "staging").lines
    assert Path(line).parts[-3] == "2999-01-01"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"dataSet": {"deviceId": DEVICE}}, "retracts-unknown"),
        ({"files": [], "retracts": "another"}, "retracts-not-uploaded"),
        ({"surprise": 1}, "manifest-malformed"),
    ],
)
def test_what_cannot_be_retracted_is_told_at_once(run: Run, changed: dict[str, Any], code: str) -> None:
    folder = staged(**changed)
    ran = run("retract", folder, "--root", "staging")

    assert code in ran.refusal
    assert "canary" not in ran.refusal
    assert len(list(Path("staging").glob("*/*/*"))) == 1


def test_only_a_batch_below_the_root_can_be(run: Run) -> None:
    staged()
    elsewhere = Path("elsewhere") / DAY / USER / "canary-2"
    elsewhere.mkdir(parents=True)
    for folder in (elsewhere, Path("staging") / DAY, "nowhere"):
        error = run("retract", folder, "--root", "staging").told
        assert "manifest-missing" in error or "batch-folder" in error
        assert USER not in error

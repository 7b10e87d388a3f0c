"""The steps with sealed work areas, over HTTP."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from upath import UPath

from tests.factories import DEVICE, cbg, readings, wizard
from tests.happenings import recheck
from tests.world import World
from tidepool_ingest.ledger import BatchState, Rejection
from tidepool_ingest.stage import stage
from tidepool_ingest.staging.encryption import KEYS_VARIABLE, decrypted
from tidepool_ingest.staging.storage import read_blocks
from tidepool_ingest.staging.work_area import WorkArea

KEY = Fernet.generate_key().decode()
RECORDS = [*readings(40), wizard(50), cbg(60, 99.125)]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, KEY)


def area(world: World, number: int) -> WorkArea:
    return WorkArea(world.root, world.row(number).content_key)


def test_a_sealed_batch_goes_to_tidepool_and_nothing_lies_open(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world.stage(RECORDS)

    outcome = world.run(chunk_records=10)

    assert outcome.codes == []
    (number,) = outcome.plan.batches
    assert world.row(number).state is BatchState.VERIFIED
    assert len(world.visible()) == 42
    work = Path(area(world, number).path.path)
    assert sorted(path.name for path in work.iterdir()) == [
        "accepted.ndjson",
        "prepared.json",
        "quarantine.ndjson",
        "quarantine.sha256",
    ]
    for path in work.iterdir():
        # With its quotes, as it would lie open: the letters alone come up in base64 by chance.
        assert not any(text in path.read_bytes() for text in (b'"cbg"', DEVICE.encode(), b"99.125"))
    assert recheck(world, number).comparison.is_exact
    assert KEY not in caplog.text


def test_a_sealed_batch_goes_on_after_the_key_was_rotated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = world.ready(RECORDS, max_quarantined_percent=100)
    monkeypatch.setenv(KEYS_VARIABLE, f"{Fernet.generate_key().decode()},{KEY}")

    world.upload(number)

    assert len(world.visible()) == 42


def test_without_its_key_a_batch_stops_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.stage(RECORDS)
    assert world.run(dry_run=True).codes == []
    monkeypatch.setenv(KEYS_VARIABLE, Fernet.generate_key().decode())

    outcome = world.run()

    assert outcome.codes == ["work-area-sealed"]
    assert world.visible() == []
    monkeypatch.setenv(KEYS_VARIABLE, KEY)
    assert world.run().codes == []
    assert len(world.visible()) == 42


def test_what_tidepool_refuses_is_added_to_the_sealed_file_and_staged_again(
    world: World, tmp_path: Path
) -> None:
    number = world.ready(RECORDS, max_quarantined_percent=100)
    work = area(world, number)
    refused = Rejection(ordinal=3, type="cbg", rows=1, problems=(("refused", "/value"),))
    work.add_to_quarantine(world.prepared(number), {refused.ordinal: refused.problems})

    text = b"".join(decrypted(read_blocks(work.quarantine_path)))
    assert [json.loads(line)["position"] for line in text.splitlines()] == [41, 3]
    root = UPath(tmp_path / "elsewhere")
    (folder,) = stage(work.quarantine_path, root, world.user)
    assert json.loads((Path(folder.path.path) / "manifest.json").read_text())["files"][0]["records"] == 2

"""What stands for a person or holds a record is not shown when a value is printed."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tests.model.examples import example
from tidepool_ingest.formats.reader import Block, Candidate, RejectedRow, Row
from tidepool_ingest.formats.tidepool_export.cleaning import LinkKey
from tidepool_ingest.ledger import (
    BatchRow,
    BatchState,
    FeedRow,
    FoundBatch,
    KnownBatch,
    ReadManifest,
    Upload,
)
from tidepool_ingest.model import LineObjects, Validated, validate_block
from tidepool_ingest.model.fast_path import Outline
from tidepool_ingest.model.glucose import GlucoseReading
from tidepool_ingest.model.origins import Origin
from tidepool_ingest.model.parsing import Parsed
from tidepool_ingest.prepare.classify import JudgedBlock, Judgement
from tidepool_ingest.prepare.feeds.origins import RecordWithOrigins
from tidepool_ingest.stage import Output
from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.staging.manifest import Deletion, Manifest, RecordEdits
from tidepool_ingest.staging.splice import Cut
from tidepool_ingest.upload.feeds.payload import ExpectedRow, FeedPayload, SentRecord
from tidepool_ingest.upload.feeds.resolver import Feed
from tidepool_ingest.upload.record_ids import RecordWithIds
from tidepool_ingest.upload.sending import ChunkPayload

CANARY = "canary"
LINE = b'{"value": "canary"}'
DATUM = {"value": CANARY}
CBG = json.dumps(example("cbg", {"deviceId": CANARY, "origin": {"id": CANARY}})).encode()
NOW = datetime(2026, 1, 2, tzinfo=UTC)
DAY = NOW.date()

FOUND: dict[str, Any] = {
    "api_host": "api.example.org",
    "content_key": "c" * 64,
    "user_id": CANARY,
    "batch_id": CANARY,
    "day": date(2026, 1, 2),
    "folder": CANARY,
    "label": "2026-01-02 Dexcom G6 0a1b2c3d4e",
    "device_id": CANARY,
}
COUNTS = dict.fromkeys(
    (
        "reason",
        "replaces",
        "part_of",
        "part",
        "part_records",
        "staged",
        "accepted",
        "quarantined",
        "identical",
    )
)
EMPTY = {one.name: None for one in fields(Upload)}


@pytest.mark.parametrize(
    "value",
    [
        FoundBatch(**FOUND),
        BatchRow(
            **FOUND,
            **COUNTS,
            id=1,
            state=BatchState.PLANNED,
            expected_rows=None,
            chunks=None,
            purged=None,
            missed_at=None,
            created_at=NOW,
            updated_at=NOW,
        ),
        KnownBatch(1, BatchState.PLANNED, None, CANARY),
        ReadManifest(
            fingerprint="1" * 64, user_id=CANARY, content_key="c" * 64, label="one", device_id=CANARY
        ),
        FeedRow(
            id=1,
            api_host="api.example.org",
            user_id=CANARY,
            client_name="org.example.app",
            data_set_type="continuous",
            deduplicator=None,
            data_set_id=None,
            pinned_at=None,
            created_at=NOW,
        ),
        Upload(
            **EMPTY | {"user_id": CANARY, "folder": CANARY},  # type: ignore[arg-type]
        ),
        BatchFolder(DAY, CANARY, CANARY, UPath(CANARY)),
        Block(0, [LINE]),
        Block(0, [LINE], [RejectedRow(1, "x", LINE, CANARY)], staged=[LINE], positions=[0], where=[CANARY]),
        Row(0, LINE, where=CANARY),
        RejectedRow(1, "x", LINE, CANARY),
        Candidate(LINE, 1),
        Cut(0, 1, LINE),
        Output(Path("records"), CANARY, "ndjson", buffered=[LINE]),
        RecordEdits(set={"deviceId": CANARY}),
        Manifest(
            user_id="0123456789",
            data_set={"deviceId": CANARY, "dataSetType": "continuous"},
            files=(),
            deletes=(Deletion(id=CANARY, time=CANARY),),
        ),
        Deletion(id=CANARY, time=CANARY),
        Validated(LINE, ()),
        Outline(CANARY, CANARY, value=7.0),
        validate_block([CBG]),
        validate_block([CBG]).records[0],
        LineObjects([LINE], {}),
        Parsed(GlucoseReading, DATUM),
        Origin("cbg", CANARY, CANARY),
        LinkKey("bolus", "id", CANARY),
        Judgement(LINE, DATUM),
        JudgedBlock([LINE], [Outline(CANARY, CANARY)], [DATUM], {0: Judgement(LINE, DATUM)}),
        RecordWithOrigins(LINE, (Origin("cbg", CANARY, None),)),
        Feed("api.example.org", CANARY, {"deviceId": CANARY}),
        SentRecord(0, LINE, DATUM),
        ExpectedRow(0, "cbg", CANARY, True, DATUM),
        FeedPayload(
            rows={CANARY: ExpectedRow(0, "cbg", CANARY)},
            deletes=[Deletion(id=CANARY)],
            may_be_older={CANARY},
        ),
        RecordWithIds(0, LINE, (CANARY,)),
        ChunkPayload([RecordWithIds(0, LINE, (CANARY,))], lambda: [{"origin": {"id": CANARY}}]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_of_a_person_is_printed(value: object) -> None:
    shown = f"{value!r} {value} {[value]}"

    assert type(value).__name__ in shown
    assert CANARY not in shown
    assert "0123456789" not in shown

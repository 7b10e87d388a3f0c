"""What the real readers and validators find in an example, read as a batch that was staged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from upath import UPath

from tests.formats.clarity_files import HEADER as CLARITY_HEADER
from tests.formats.libreview_files import HEADER, TITLE
from tidepool_ingest.cli.validate import print_verdicts
from tidepool_ingest.codes.explanation import DATA_SET, RECORD, VERDICT
from tidepool_ingest.formats import FORMATS, read_manifest
from tidepool_ingest.model.data_set import data_set_problems
from tidepool_ingest.prepare.classify import RecordClassifier
from tidepool_ingest.prepare.feeds.classify import FeedClassifier
from tidepool_ingest.prepare.reading import RecordReader
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.staged_batch import StagedBatch
from tidepool_ingest.staging.batches import BatchFolder

MAPPING: Final[dict[str, Any]] = {
    "time": {"column": "When", "format": "iso", "order": "oldest-first"},
    "deviceId": {"column": "Meter"},
    "id": ["No"],
    "where": {"column": "Kind", "notIn": ["Interpolated"]},
    "records": [
        {
            "when": {"column": "Kind", "is": "Sensor"},
            "record": {"type": "cbg", "units": "mmol/L", "value": {"column": "Value"}},
        },
        {
            "when": {"column": "Kind", "is": "Basal"},
            "record": {
                "type": "basal",
                "deliveryType": "scheduled",
                "rate": {"column": "Value"},
                "duration": {"toNext": {"max": "PT1H", "to": "ms"}},
            },
        },
        {
            "when": {"column": "Kind", "is": "Sport"},
            "record": {
                "type": "physicalActivity",
                "reportedIntensity": {"column": "Value", "map": {"easy": "low", "hard": "high"}},
                "duration": {"units": "minutes", "value": {"column": "Lasts", "as": "hh:mm:ss", "to": "min"}},
            },
        },
    ],
}
"""The mapping by which rows of tables are read in examples."""

FRAMES: Final = {
    "clarity": ",".join(CLARITY_HEADER) + "\n",
    "libreview": TITLE.format(generated="20-03-2026 12:00 UTC") + "\n" + HEADER.format(units="mmol/L") + "\n",
    "table": "No,Meter,When,Kind,Value,Lasts\n",
}
"""What stands above the rows of a format."""

OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "clarity": {"timezone": "Europe/Berlin"},
    "libreview": {"timezone": "Europe/Berlin", "dateOrder": "dmy"},
    "table": {"timezone": "Europe/Berlin", "table": MAPPING},
}
"""What the manifest says of a file."""

DATA_SET_BODY: Final = {"deviceId": "M-17", "dataSetType": "normal"}

Found = tuple[str, str]
"""Code and pointer."""

_MADE: Final = {"letters": "x", "numbers": "1,"}


def as_it_is(example: str) -> bytes:
    """Return an example with what it only describes."""
    text = re.sub(
        r"<([\d,]+) (letters|numbers)>",
        lambda found: (_MADE[found[2]] * int(found[1].replace(",", ""))).rstrip(","),
        example,
    )
    parts = re.split(r"<byte ([0-9A-F]{2})>", text)
    return b"".join(bytes.fromhex(part) if number % 2 else part.encode() for number, part in enumerate(parts))


def found_in(
    folder: Path, text: str, kind: str, manifest: str = "", capsys: pytest.CaptureFixture[str] | None = None
) -> list[Found]:
    """Return each code that is found in an example, with its field."""
    if kind == DATA_SET:
        return [(problem.code, problem.pointer) for problem in data_set_problems(json.loads(text))]
    return list(_found(_staged(folder, text, kind, manifest), verdicts=kind == VERDICT, capsys=capsys))


def _staged(root: Path, text: str, kind: str, manifest: str) -> StagedBatch:
    format_ = "ndjson" if kind in (RECORD, VERDICT) else kind
    path = root / "2026-03-05" / "5a3c0d0001" / "b"
    path.mkdir(parents=True, exist_ok=True)
    (path / "file").write_bytes(FRAMES.get(format_, "").encode() + as_it_is(text) + b"\n")
    said = {
        "userId": "5a3c0d0001",
        "dataSet": DATA_SET_BODY,
        "files": [{"name": "file", "format": format_} | OPTIONS.get(format_, {})],
    } | (json.loads(f"{{{manifest}}}") if manifest else {})
    said["files"][0] |= said.pop("file", {})
    (path / "manifest.json").write_text(json.dumps(said))
    folder = BatchFolder.at(UPath(root), "2026-03-05/5a3c0d0001/b")
    return StagedBatch(folder, read_manifest(folder.path, folder.user_id), "")


def _found(
    batch: StagedBatch, *, verdicts: bool, capsys: pytest.CaptureFixture[str] | None
) -> Iterator[Found]:
    manifest = batch.manifest
    with RecordReader.of(manifest, batch.folder.path) as reader:
        if verdicts:
            assert capsys
            print_verdicts(reader)
            for line in capsys.readouterr().out.splitlines():
                yield from ((error["code"], error["pointer"]) for error in json.loads(line)["errors"])
            return
        is_feed = manifest.data_set_type == "continuous"
        with FeedClassifier(batch) if is_feed else RecordClassifier(RecordChecker.of(manifest)) as classifier:
            for block in reader:
                for record in classifier.classify(block.lines):
                    yield from ((problem.code, problem.pointer) for problem in record.problems)
                    yield from ((problem.code, problem.pointer) for problem in record.warnings)
                    if block.warning:
                        yield block.warning, ""
                yield from ((row.code, "") for row in block.rejected)
                for reason, rows in block.skipped.items():
                    yield from [(reason, "")] * rows
    assert set(FORMATS) >= set(OPTIONS)

"""The table of conformance notices what does not agree."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.model.examples import example
from tidepool_ingest.model.conformance import main

WRONG = [{"code": "value-out-of-range", "pointer": "/value"}]


def write(path: Path, cases: list[dict[str, Any]]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(case) + "\n" for case in cases).encode()))


def verdict_of(case: str, datum: dict[str, Any], errors: list[dict[str, str]]) -> dict[str, Any]:
    return {"id": case, "type": "cbg", "datum": datum, "accepted": not errors, "errors": errors}


def test_agreement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datum = example("cbg", {"id": "0" * 32})
    stored = {**datum, "units": "mmol/L", "value": 6.60539, "time": "2024-03-04T05:06:07Z"}
    write(
        tmp_path / "datum-verdicts.ndjson.gz",
        [verdict_of("good", datum, []), verdict_of("bad", {**datum, "value": -1}, WRONG)],
    )
    write(tmp_path / "datum-normalized.ndjson.gz", [{"id": "good", "normalized": stored, "extra": None}])
    assert main([str(tmp_path)]) == 0
    assert "1 of 1" in capsys.readouterr().out


def test_disagreement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datum = example("cbg", {"id": "0" * 32})
    write(
        tmp_path / "datum-verdicts.ndjson.gz", [verdict_of("one", datum, WRONG), verdict_of("two", datum, [])]
    )
    write(tmp_path / "datum-normalized.ndjson.gz", [{"id": "two", "normalized": datum, "extra": None}])
    write(
        tmp_path / "data-set-verdicts.ndjson.gz",
        [{"id": "set", "body": {}, "accepted": False, "errors": WRONG}],
    )
    write(tmp_path / "lines.ndjson.gz", [datum])
    write(tmp_path / "lines.verdicts.ndjson.gz", [{"index": 0, "accepted": False, "errors": WRONG}])
    assert main([str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if line.startswith("differs")] == [
        "differs: one",
        "differs: set",
        "differs: two (stored)",
        "differs: lines/0",
    ]


def test_nothing_to_judge(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 2

"""Exports of Tidepool and corrected quarantine files, staged from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from upath import UPath

from tests.cli.commands import DEVICE, USER, Run, cbg, ndjson
from tidepool_ingest.staging.quarantine import Place, QuarantineWriter

OWNED = {"id": "e263bc1a-5976-4c05-a969-d03074c5b552", "source": "demo", "_active": True}


def minute(number: int) -> str:
    return f"2026-03-01T00:{number:02}:00Z"


def corrected(folder: Path) -> Path:
    path = folder / "quarantine.ndjson"
    with QuarantineWriter(UPath(path)) as writer:
        writer.add(Place(1, 3), [("value-out-of-range", "/value")], json.dumps(cbg(value=5.9)).encode())
    return path


def manifest(folder: str) -> dict[str, object]:
    content: dict[str, object] = json.loads((Path(folder) / "manifest.json").read_bytes())
    return content


def test_a_sealed_quarantine_file_is_validated_and_staged(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEPOOL_WORK_KEYS", Fernet.generate_key().decode())
    file = corrected(tmp_path)
    assert file.read_bytes().startswith(b"gAAAAA")

    assert run("validate", file).lines[-1] == "1 records: 1 accepted, 0 rejected"
    staged = run("stage", file, "--user", USER, "--root", tmp_path / "s")
    assert staged.code == 0
    assert run("validate", staged.lines[0]).lines[-1] == "1 records: 1 accepted, 0 rejected"
    monkeypatch.delenv("TIDEPOOL_WORK_KEYS")
    error = run("stage", file, "--user", USER, "--root", tmp_path / "s").refusal
    assert "TIDEPOOL_WORK_KEYS is not set" in error


def test_validate_shows_an_export_as_it_would_be_uploaded(run: Run, tmp_path: Path) -> None:
    records = [cbg(time=minute(one), units="mg/dL", **OWNED) for one in range(3)]
    wizard = cbg(type="wizard", value=None, bolus="x" * 32, **OWNED)
    bolus = cbg(type="bolus", subType="normal", normal=2, value=None, units=None, id="x" * 32)
    file = tmp_path / "export.ndjson"
    file.write_bytes(ndjson(*records, wizard, bolus, {"messagetext": "hello"}))

    ran = run("validate", "--format", "tidepool-export", file)
    assert ran.code == 1
    assert ran.lines[-1] == "6 records: 5 accepted, 1 rejected"
    edited = dict(line.split() for line in ran.lines if len(line.split()) == 2)
    assert edited["id"] == "5"
    assert (edited["units"], edited["bolus"], edited["source"], edited["_active"]) == ("3", "1", "4", "4")
    verdicts = run("validate", "--verdicts", "--format", "tidepool-export", file)
    assert [json.loads(line)["accepted"] for line in verdicts.lines] == [True] * 5 + [False]
    assert run("validate", file).lines[-1] == "6 records: 1 accepted, 5 rejected"


def test_a_batch_of_an_export_is_validated_as_one(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    file.write_text(json.dumps([cbg(time=minute(one), **OWNED) for one in range(3)]))
    staged = run("stage", file, "--user", USER, "--root", tmp_path / "s", "--format", "tidepool-export")
    assert staged.code == 0
    ran = run("validate", staged.lines[0])
    assert (ran.code, ran.lines[-1]) == (0, "3 records: 3 accepted, 0 rejected")


def test_validate_warns(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "data.ndjson"
    file.write_bytes(
        ndjson(cbg(), cbg(time="2026-03-01T01:01:00+01:00"), cbg(time=minute(9), units="mg/dL", value=120))
    )
    ran = run("validate", file)
    assert (ran.code, ran.lines[-1]) == (0, "3 records: 3 accepted, 0 rejected")
    assert any(line.split()[:3] == ["cbg", "staged-time-not-utc", "/time"] for line in ran.lines)
    assert any(line.split()[:3] == ["cbg", "staged-units-mixed", "/units"] for line in ran.lines)


def test_a_corrected_quarantine_file_is_seen_validated_and_staged(run: Run, tmp_path: Path) -> None:
    file = corrected(tmp_path)
    assert run("validate", file).lines[-1] == "1 records: 1 accepted, 0 rejected"
    ran = run("stage", file, "--user", USER, "--root", tmp_path / "s")
    assert manifest(ran.lines[0])["dataSet"] == {"deviceId": DEVICE}


def test_it_follows_the_batch_that_it_came_from(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data.ndjson"
    data.write_bytes(ndjson(cbg(value=60)))
    root = tmp_path / "s"
    about = ("--device-model", "G6", "--drop", "payload", "--connection", "other")
    first = run("stage", data, "--user", USER, "--root", root, *about).lines[0]
    ran = run("stage", corrected(tmp_path), "--like", first, "--root", root)
    (second,) = ran.lines
    assert second != first
    said, again = manifest(first), manifest(second)
    assert said.pop("files") != again.pop("files")
    assert said.pop("stagedAt") < again.pop("stagedAt")
    assert said == again
    assert again["dataSet"] == {"deviceId": DEVICE, "deviceModel": "G6"}


def test_what_is_wrong_with_restaging_is_one_line(run: Run, tmp_path: Path) -> None:
    file, root = corrected(tmp_path), tmp_path / "s"
    assert "--like" in run("stage", file, "--root", root).err
    assert "manifest-missing" in run("stage", file, "--like", tmp_path, "--root", root).refusal
    batch = run("stage", file, "--user", USER, "--root", root).lines[0]
    assert (
        "stage-arguments" in run("stage", file, "--like", batch, "--device-model", "x", "--root", root).error
    )
    file.write_text('{"file":1,"position":0,"problems":[],"record":null}\n')
    assert "file-not-quarantine" in run("stage", file, "--like", batch, "--root", root).refusal

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import DEVICE, USER, Ran, Run, cbg, ndjson
from tidepool_ingest.staging.errors import BatchError


def manifest_of(folder: str) -> Any:
    return json.loads((Path(folder) / "manifest.json").read_text())


def stage(run: Run, *arguments: object, files: tuple[str, ...] = ("a.ndjson",)) -> Ran:
    return run("stage", *files, "--user", USER, "--root", "staging", *arguments)


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    path = tmp_path / "a.ndjson"
    path.write_bytes(ndjson(cbg(), cbg(deviceId="other"), cbg(value=7)))
    return path


def test_each_device_becomes_a_batch_of_today(run: Run, data_file: Path) -> None:
    ran = stage(run)

    today = datetime.now(UTC).date().isoformat()
    assert ran.code == 0
    assert ran.err.splitlines() == [
        "Made a new staging root: staging",
        f"Staged 2 batches of 3 records, in the day folder {today}.",
    ]
    assert [Path(line).parent for line in ran.lines] == [Path("staging") / today / USER] * 2
    assert [manifest_of(line)["dataSet"] for line in ran.lines] == [
        {"deviceId": DEVICE},
        {"deviceId": "other"},
    ]
    assert [manifest_of(line)["files"][0]["records"] for line in ran.lines] == [2, 1]


def test_it_says_what_padding_it_left_out(run: Run, data_file: Path) -> None:
    data_file.write_bytes(ndjson(cbg(deviceId="canary\0"), cbg(deviceId="canary\0\0"), cbg(deviceId="b")))
    ran = stage(run)

    assert (ran.code, len(ran.lines)) == (0, 2)
    assert "2 values of deviceId" in ran.err
    assert "device-id-differs" in ran.err
    assert "canary" not in ran.out + ran.err


def test_what_was_staged_is_valid(run: Run, data_file: Path) -> None:
    for folder in stage(run).lines:
        assert run("validate", folder).code == 0


def test_the_manifest_says_what_the_options_say(run: Run, data_file: Path) -> None:
    data_file.write_bytes(ndjson(cbg()))
    device = ["--device-model", "G6", "--device-serial-number", "S1", "--device-tag", "cgm"]
    device += ["--device-manufacturer", "Dexcom", "--timezone", "Europe/London", "--time-processing", "none"]
    device += ["--deduplicator", "org.tidepool.deduplicator.none"]
    edits = ["--drop", "id", "--drop", "source", "--set", 'notes=["a=b"]', "--glucose-units", "mmol/L"]
    ran = stage(run, "--day", "2026-03-01", "--batch-id", "b", "--connection", "clinic", *device, *edits)

    assert ran.lines == [f"staging/2026-03-01/{USER}/b"]
    manifest = manifest_of(ran.lines[0])
    assert manifest["dataSet"] == {
        "deviceId": DEVICE,
        "deviceModel": "G6",
        "deviceSerialNumber": "S1",
        "deviceTags": ["cgm"],
        "deviceManufacturers": ["Dexcom"],
        "timezone": "Europe/London",
        "timeProcessing": "none",
        "deduplicator": {"name": "org.tidepool.deduplicator.none"},
    }
    assert manifest["edits"] == {
        "drop": ["id", "source"],
        "set": {"notes": ["a=b"]},
        "glucoseUnits": "mmol/L",
    }
    assert manifest["connection"] == "clinic"


def test_records_without_a_device_get_the_one_given(run: Run, data_file: Path) -> None:
    data_file.write_bytes(ndjson(cbg(deviceId=None)))

    (folder,) = stage(run, "--device-id", "given").lines

    assert manifest_of(folder)["dataSet"]["deviceId"] == "given"
    assert run("validate", folder).code == 0


def test_the_root_may_come_from_the_environment(
    run: Run, data_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEPOOL_STAGING_ROOT", "elsewhere")

    ran = run("stage", "a.ndjson", "--user", USER)

    assert all(line.startswith("elsewhere/") for line in ran.lines)
    monkeypatch.setenv("TIDEPOOL_STAGING_ROOT", "")
    assert "--root" in run("stage", "a.ndjson", "--user", USER).error


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--batch-id", "../b"], "batch id"),
        (["--connection", "a b"], "connection"),
        (["--set", "units"], "FIELD=JSON"),
        (["--set", "units=mmol/L"], "FIELD=JSON"),
        (["--set", "value=NaN"], "FIELD=JSON"),
        (["--set", "value=1e999"], "FIELD=JSON"),
        (["--set", "value=\udcff"], "FIELD=JSON"),
        (["--set", "=1"], "no name"),
        (["--drop", ""], "--drop"),
        (["--drop", "id", "--set", "id=1"], "drops and sets"),
        (["--glucose-units", "mg/dL", "--drop", "units"], "glucoseUnits"),
        (["--drop", "deviceId"], "deviceId"),
        (["--timezone", "Nowhere"], "value-not-valid at /timezone"),
        (["--time-processing", "magic"], "at /timeProcessing"),
        (["--device-tag", "pump"], "at /deviceTags/0"),
        (["--device-id", ""], "at /deviceId"),
        (["--deduplicator", "org.example.none"], "--deduplicator"),
        (["--root", "s4://bucket"], "staging-unreachable"),
        (["--root", "s3://my_aws@bucket/x"], "leave out `<connection>@`"),
        (["--root", "a.ndjson"], "staging-unwritable"),
    ],
)
def test_arguments_that_make_no_batch_are_one_line(
    run: Run, data_file: Path, arguments: list[str], what: str
) -> None:
    assert what in stage(run, *arguments).told
    assert not (data_file.parent / "staging").exists()


@pytest.mark.parametrize("user", ["bob", "0123456789a", "../0123456789", ""])
def test_a_user_id_that_tidepool_cannot_have_given_is_one_line(run: Run, data_file: Path, user: str) -> None:
    error = run("stage", "a.ndjson", "--user", user, "--root", "staging").error

    assert "user id" in error
    assert not user or user not in error


def test_a_file_that_cannot_be_staged_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(b"")
    assert "contains no records" in stage(run).refusal
    (tmp_path / "a.ndjson").unlink()
    assert "no such data file" in stage(run).error
    (tmp_path / "a.ndjson").write_bytes(ndjson(cbg(deviceId=None)))
    assert "no deviceId" in stage(run).refusal


def test_a_batch_id_is_taken_once(run: Run, data_file: Path) -> None:
    data_file.write_bytes(ndjson(cbg()))
    assert stage(run, "--batch-id", "b").code == 0
    data_file.write_bytes(ndjson(cbg(value=7)))
    assert "[stage-exists]" in stage(run, "--batch-id", "b").refusal


# ---------------------------------------------------------------- what is there already


def test_the_same_content_is_staged_once(run: Run, data_file: Path, tmp_path: Path) -> None:
    first = stage(run)

    again = stage(run, "--day", "2026-03-01", "--batch-id", "other")

    assert again.code == 0
    assert again.lines == first.lines
    assert again.err.splitlines() == [
        f"Staged already as {folder}: the same content is there, and nothing was added."
        for folder in first.lines
    ]
    assert len(list((tmp_path / "staging").glob("*/*/*"))) == 2


def test_what_is_new_of_a_file_is_staged(run: Run, data_file: Path) -> None:
    first = stage(run).lines
    data_file.write_bytes(ndjson(cbg(), cbg(deviceId="third"), cbg(value=7)))

    ran = stage(run)

    assert ran.lines[0] == first[0]
    assert ran.lines[1] not in first
    assert ran.err.splitlines()[-1].startswith("Staged 1 batch of 1 record, ")


@pytest.mark.parametrize(
    "option",
    [
        ("--connection", "clinic"),
        ("--replaces", "earlier"),
        ("--device-model", "G6"),
        ("--drop", "id"),
        ("--meant-as", "device-renamed"),
    ],
    ids=lambda option: option[0],
)
def test_what_goes_another_way_is_another_batch(run: Run, data_file: Path, option: tuple[str, ...]) -> None:
    data_file.write_bytes(ndjson(cbg()))
    first = stage(run).lines

    assert stage(run, *option).lines != first
    assert run("stage", "a.ndjson", "--user", "9876543210", "--root", "staging").lines != first


def test_one_file_given_twice_is_one_batch(run: Run, data_file: Path) -> None:
    data_file.write_bytes(ndjson(cbg()))

    ran = stage(run, files=("a.ndjson", "a.ndjson"))

    assert ran.lines[0] == ran.lines[1]
    assert "Staged already" in ran.err


def test_a_batch_that_somebody_else_wrote_counts_too(run: Run, data_file: Path) -> None:
    data_file.write_bytes(ndjson(cbg()))
    (folder,) = stage(run).lines
    manifest = manifest_of(folder)
    del manifest["files"][0]["sha256"], manifest["stagedAt"]
    (Path(folder) / "manifest.json").write_text(json.dumps(manifest))
    (Path(folder).parent / "unreadable").mkdir()
    (Path(folder).parent / "unreadable" / "manifest.json").write_text("{")

    assert stage(run).lines == [folder]


def test_a_root_that_is_there_is_not_new(run: Run, data_file: Path, tmp_path: Path) -> None:
    (tmp_path / "staging").mkdir()

    assert "new staging root" not in stage(run).err


def test_a_refused_file_does_not_stop_the_others(run: Run, data_file: Path, tmp_path: Path) -> None:
    (tmp_path / "none.ndjson").write_bytes(b"")

    ran = stage(run, files=("none.ndjson", "a.ndjson"))

    assert (ran.code, len(ran.lines)) == (1, 2)
    assert ran.err.startswith("tidepool-ingest: none.ndjson: The data file contains no records")


def test_wrong_use_is_told_before_anything_is_staged(run: Run, data_file: Path, tmp_path: Path) -> None:
    (tmp_path / "b.ndjson").write_bytes(ndjson(cbg()))

    assert "takes no --serial" in stage(run, "--serial", "1", files=("a.ndjson", "b.ndjson")).error
    assert not (tmp_path / "staging").exists()


def test_a_root_that_cannot_be_listed_can_be_written(
    run: Run, data_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_arguments: object) -> None:
        raise BatchError("staging-unreadable")

    monkeypatch.setattr("tidepool_ingest.stage.already.days", refused)

    ran = stage(run)

    assert (ran.code, len(ran.lines)) == (0, 2)
    assert "Staging cannot be listed" in ran.err


def test_an_error_about_a_record_names_its_line(run: Run, data_file: Path) -> None:
    data_file.write_bytes(b"\n" + ndjson(cbg()) + b"\n" + ndjson(cbg(deviceId=None)))

    assert stage(run).refusal.startswith("tidepool-ingest: a.ndjson, line 4: ")
    assert run("stage", "a.ndjson", "a.ndjson", "--user", USER, "--root", "s").err.count("line 4") == 2

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import DEVICE, USER, Run, cbg, ndjson
from tests.formats.readers import VendorReader, vendor_file
from tidepool_ingest.codes import in_words
from tidepool_ingest.formats import FORMATS

HASH = "org.tidepool.deduplicator.device.deactivate.hash"


def batch(folder: Path, content: bytes, **changes: Any) -> Path:
    """Write a batch folder by hand, its one file plain."""
    folder.mkdir(parents=True)
    (folder / "a.ndjson").write_bytes(content)
    manifest = {
        "userId": USER,
        "dataSet": {"deviceId": DEVICE, "deviceModel": "G6", "deduplicator": {"name": HASH}},
        "files": [{"name": "a.ndjson", "format": "ndjson"}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))
    return folder


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """Where a batch of the user lies in staging."""
    return tmp_path / "staging" / "2026-03-01" / USER / "batch-1"


def test_the_table_counts_by_type_and_reason(run: Run, tmp_path: Path) -> None:
    bad = cbg(units="furlongs", value=2)
    food = {"type": "food", "time": "2026-03-01T00:00:00Z", "deviceId": DEVICE}
    content = ndjson(cbg(), cbg(value=7), cbg(), bad, food, {"type": "Alice"}) + b'{"type":\nnull\n'
    (tmp_path / "a.ndjson").write_bytes(content)

    ran = run("validate", "a.ndjson")

    assert (ran.code, ran.err) == (1, "")
    assert ran.out == (
        "type        accepted  rejected\n"
        "----------  --------  --------\n"
        "cbg                2         1\n"
        "food               1         0\n"
        "unknown            0         1\n"
        "unreadable         0         2\n"
        "\n"
        "type        rejected for       field   records  where\n"
        "----------  -----------------  ------  -------  ------\n"
        "cbg         value-not-allowed  /units        1  line 4\n"
        "unknown     value-not-allowed  /type         1  line 6\n"
        "unreadable  staged-not-json                  1  line 7\n"
        "unreadable  staged-null                      1  line 8\n"
        "\n"
        + "".join(f"{line}\n" for line in in_words(["staged-null", "value-not-allowed", "staged-not-json"]))
        + "\n"
        "8 records: 3 accepted, 4 rejected, 1 identical to another one\n"
    )


def test_each_code_is_said_once_in_plain_words(run: Run, tmp_path: Path) -> None:
    bad = [cbg(value=2000), cbg(type="smbg", value=2000), cbg(units=None, value=5)]
    late = cbg(time="2026-03-01T01:00:00+01:00", value=7)
    (tmp_path / "a.ndjson").write_bytes(ndjson(*bad, late) + b"null\n")

    ran = run("validate", "a.ndjson")

    said = [line for line in ran.lines if re.match("[a-z-]+: ", line)]
    assert [line.partition(":")[0] for line in said] == [
        "staged-null",
        "staged-time-not-utc",
        "value-not-exists",
        "value-out-of-range",
    ]
    assert said[-1].endswith(
        "the number is smaller or larger than Tidepool takes. Check whether the unit is right: mmol/L and "
        "mg/dL, minutes and milliseconds. Otherwise correct it."
    )
    assert "docs/codes.md shows an example of each, and the same corrected." in ran.lines


def test_a_clean_file_is_success(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps([cbg(), cbg(value=7)]).encode()))

    ran = run("validate", "a.json.gz")

    assert ran.code == 0
    assert ran.lines[-1] == "2 records: 2 accepted, 0 rejected"
    assert "rejected for" not in ran.out


@pytest.mark.parametrize(("bad", "of", "held"), [(9, 10, False), (10, 11, True), (1, 1, True)])
def test_it_says_that_a_run_would_hold_so_many(
    run: Run, tmp_path: Path, bad: int, of: int, held: bool
) -> None:
    (tmp_path / "a.ndjson").write_bytes(ndjson(*[{"type": "smbg"}] * bad, *[cbg()] * (of - bad)))

    assert ("a run holds such a batch" in run("validate", "a.ndjson").out) == held


def test_a_reason_counts_a_record_once(run: Run, tmp_path: Path) -> None:
    schedules = {"mine": [{"rate": "x", "start": 0}], "yours": [{"rate": "x", "start": 0}]}
    settings = cbg(type="pumpSettings", units=None, value=None, basalSchedules=schedules)
    (tmp_path / "a.ndjson").write_bytes(ndjson(settings))

    lines = run("validate", "a.ndjson").lines
    (row,) = [line.split() for line in lines if " type-not-float64 " in line]

    assert row == ["pumpSettings", "type-not-float64", "/basalSchedules/*/0/rate", "1", "line", "1"]


def test_the_table_shows_no_value_and_no_name(run: Run, tmp_path: Path) -> None:
    record = cbg(type="pumpSettings", units={"bg": "secret-unit"}, id="secret-id", value=None)
    record |= {"deviceId": "secret-device", "basalSchedules": {"secret-schedule": [{"rate": -1, "start": 0}]}}
    other = cbg(value="secret-value", secretField=1)
    lines = ndjson(record, other, {"type": "secret-type"})
    (tmp_path / "a.ndjson").write_bytes(lines + b'{"secret-text"\n')

    ran = run("validate", "a.ndjson")

    assert "0 accepted, 4 rejected" in ran.out
    assert "/basalSchedules/*/0/rate" in ran.out
    assert "secret" not in ran.out + ran.err


def test_many_reasons_are_cut_short(run: Run, tmp_path: Path) -> None:
    settings = cbg(type="pumpSettings", units=None, value=None)
    settings["basalSchedules"] = {"a": [{"rate": -1, "start": start} for start in range(60)]}
    (tmp_path / "a.ndjson").write_bytes(ndjson(settings))

    ran = run("validate", "a.ndjson")

    assert sum(line.startswith("pumpSettings ") for line in ran.lines) == 1 + 50
    assert "more such rows; --verdicts" in ran.out


def test_what_is_accepted_but_hardly_meant_so_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(ndjson(cbg(), cbg(time="2026-03-01T01:00:00+01:00", value=7)))

    ran = run("validate", "a.ndjson")

    assert ran.code == 0
    assert "accepted, but" in ran.out
    assert "staged-time-not-utc" in ran.out


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.ndjson", b"", "contains no records"),
        ("a.ndjson", b"\n \n", "contains no records"),
        ("a.gz", gzip.compress(ndjson(cbg()), mtime=0)[:-12], "ends in the middle"),
        ("a.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff\xff\xff\xff", "is damaged"),
        ("a.gz", ndjson(cbg()), "compression"),
        ("a.ndjson", gzip.compress(ndjson(cbg()), mtime=0), "compression"),
        ("a.json", b'[{"type":"cbg"}', "ends in the middle"),
        ("a.ndjson", b"\xff\xfe{\0}\0", "not UTF-8"),
    ],
)
@pytest.mark.parametrize("verdicts", [(), ("--verdicts",)])
def test_a_file_that_cannot_be_read_is_one_line(
    run: Run, tmp_path: Path, name: str, content: bytes, what: str, verdicts: tuple[str, ...]
) -> None:
    (tmp_path / name).write_bytes(content)

    error = run("validate", name, *verdicts).refusal

    assert what in error
    assert "manifest" not in error


def test_a_format_that_is_not_the_file_s_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(ndjson(cbg(), cbg()))

    assert "file-not-array" in run("validate", "a", "--format", "json").refusal


@pytest.mark.parametrize("place", ["nowhere", "a/b", "s4://bucket/a", "file:///nowhere/a"])
def test_a_place_that_is_not_there_is_one_line(run: Run, place: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(ndjson(cbg()))

    error = run("validate", place).error

    assert "file-missing" in error or "staging-unreachable" in error


def test_a_storage_whose_package_is_missing_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)

    assert "fsspec package" in run("validate", "gs://bucket/a").error


def test_a_batch_is_validated_as_its_manifest_asks(run: Run, staged: Path) -> None:
    content = ndjson(cbg(id="bad id", source="x"), cbg(value=7, id="bad id"), cbg(type=None, id="bad id"))
    batch(staged, content, edits={"drop": ["id", "source"]})

    ran = run("validate", staged)

    assert ran.code == 1
    assert "3 records: 2 accepted, 1 rejected" in ran.out
    assert [line.split() for line in ran.lines if line.startswith(("id ", "source "))] == [
        ["id", "3"],
        ["source", "1"],
    ]
    shown = run("validate", "--verdicts", staged)
    assert [json.loads(line)["accepted"] for line in shown.lines] == [True, True, False]


def test_the_manifest_stands_for_its_folder(run: Run, staged: Path) -> None:
    batch(staged, ndjson(cbg()))

    assert run("validate", staged / "manifest.json").out == run("validate", staged).out
    assert "1 accepted, 0 rejected" in run("validate", staged).out


def test_several_files_are_one_batch(run: Run, staged: Path) -> None:
    files = [{"name": name, "format": "ndjson"} for name in ("a.ndjson", "b.ndjson")]
    batch(staged, ndjson(cbg()), files=files)
    (staged / "b.ndjson").write_bytes(ndjson(cbg(), cbg(time=None)))

    assert "1 accepted, 1 rejected, 1 identical" in run("validate", staged).out
    lines = run("validate", "--verdicts", staged).lines
    assert [json.loads(line)["index"] for line in lines] == [0, 1, 2]


def test_a_batch_needs_device_ids_where_its_deduplicator_does(run: Run, staged: Path, tmp_path: Path) -> None:
    bolus = cbg(type="bolus", subType="normal", normal=1, units=None, value=None)
    wizard = cbg(type="wizard", value=None, bolus=bolus | {"deviceId": None})
    content = ndjson(wizard)
    batch(staged, content)
    (tmp_path / "alone.ndjson").write_bytes(content)

    assert "staged-device-id-missing" in run("validate", staged).out
    assert "1 accepted" in run("validate", "alone.ndjson").out


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"userId": "9876543210"}, "manifest-user"),
        ({"colour": "red"}, "manifest-malformed"),
        ({"dataSet": {"deviceId": DEVICE, "timezone": "Nowhere"}}, "data-set-body"),
        ({"dataSet": {"deviceId": DEVICE, "deduplicator": {"name": "org.example"}}}, "deduplicator"),
        ({"dataSet": {"deviceModel": "G6"}}, "device-id-required"),
        ({"files": [{"name": "../a.ndjson", "format": "ndjson"}]}, "file-name"),
        ({"files": [{"name": "b.ndjson", "format": "ndjson"}]}, "file-missing"),
        ({"files": [{"name": "a.ndjson", "format": "ndjson", "sha256": "0" * 64}]}, "file-sha256"),
        ({"files": [{"name": "a.ndjson", "format": "ndjson", "records": 3}]}, "file-records"),
    ],
)
def test_a_batch_that_cannot_be_taken_is_one_line(
    run: Run, staged: Path, changes: dict[str, Any], code: str
) -> None:
    batch(staged, ndjson(cbg()), **changes)

    error = run("validate", staged).refusal

    assert f"[{code}]" in error
    assert error.startswith("tidepool-ingest: batch 2026-03-01/")
    assert USER not in error
    assert DEVICE not in error


def test_digest_and_count_that_agree_are_fine(run: Run, staged: Path) -> None:
    content = ndjson(cbg())
    digest = hashlib.sha256(content).hexdigest()
    files = [{"name": "a.ndjson", "format": "ndjson", "sha256": digest, "records": 1}]

    assert run("validate", batch(staged, content, files=files)).code == 0


def test_a_folder_outside_staging_is_validated_too(run: Run, tmp_path: Path) -> None:
    batch(tmp_path / "draft", ndjson(cbg()), userId="9876543210")

    assert run("validate", "draft").code == 0


def test_a_folder_without_a_manifest_is_no_batch(run: Run, tmp_path: Path, staged: Path) -> None:
    (tmp_path / "draft").mkdir()

    assert "nothing in the folder" in run("validate", "draft").error
    staged.mkdir(parents=True)
    assert "[manifest-missing]" in run("validate", staged).refusal
    batch(tmp_path / "written", ndjson(cbg()))
    assert "--format" in run("validate", "written", "--format", "json").error


def test_values_in_another_unit_than_they_claim_hold_a_batch(run: Run, staged: Path) -> None:
    content = ndjson(*(cbg(units="mg/dL", value=5 + n / 10) for n in range(30)))
    batch(staged, content)

    ran = run("validate", staged)

    assert ran.code == 1
    assert "30 accepted" in ran.out
    assert "is held" in ran.err
    assert len(ran.err.splitlines()) == 1
    alone = run("validate", staged / "a.ndjson")
    assert alone.code == 0
    assert "--glucose-units" in alone.lines[-1]
    described = run("validate", staged / "a.ndjson", "--device-model", "G6")
    assert (described.code, "is held" in described.err) == (1, True)
    assert run("validate", staged / "a.ndjson", "--glucose-units", "mmol/L").code == 0


def test_a_batch_whose_manifest_says_the_unit_is_not_held(run: Run, staged: Path) -> None:
    content = ndjson(*(cbg(units="mg/dL", value=5 + n / 10) for n in range(30)))
    batch(staged, content, edits={"glucoseUnits": "mmol/L"})

    ran = run("validate", staged)

    assert (ran.code, ran.err) == (0, "")


# ---------------------------------------------------------------- files whose rows are not records


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A vendor's export: two readings of one device, a note, a row that cannot be read, one of another."""
    monkeypatch.setitem(FORMATS, VendorReader.name, VendorReader)
    rows = ("A,,2026-03-05T08:00:00,6.5", "A,,2026-03-05T08:05:00,x", "A,,2026-03-05T08:06:00,")
    (tmp_path / "a.csv").write_bytes(
        vendor_file(*rows, "A,,2026-03-05T08:10:00,7", "B,,2026-03-05T08:10:00,8")
    )
    return tmp_path / "a.csv"


def test_rows_are_counted_whatever_becomes_of_them(run: Run, vendor: Path) -> None:
    ran = run("validate", vendor, "--timezone", "Europe/Berlin", "--serial", "A")

    assert ran.code == 1
    assert "3 records: 2 accepted, 1 rejected" in ran.lines
    assert ["unreadable", "staged-not-a-number", "1", "line", "3"] in [line.split() for line in ran.lines]
    assert ran.lines[-1] == "2 rows are no reading: 1 note, 1 other-device"
    ran = run("validate", vendor, "--timezone", "Europe/Berlin")
    assert ran.lines[-1] == "1 row is no reading: 1 note"


def test_a_file_of_local_times_needs_a_zone(run: Run, vendor: Path) -> None:
    error = run("validate", vendor).refusal

    assert "[timezone-missing]" in error
    assert "--timezone" in error


def test_what_a_manifest_says_is_not_said_again(run: Run, staged: Path) -> None:
    batch(staged, ndjson(cbg()))

    for option in (["--timezone", "Europe/Berlin"], ["--keep-notes"], ["--meant-as", "dates-swapped"]):
        assert "manifest.json says it" in run("validate", staged, *option).error


def test_a_batch_of_such_a_file_is_validated(run: Run, vendor: Path, staged: Path) -> None:
    staged.mkdir(parents=True)
    vendor.rename(staged / "a.csv")
    file = {"name": "a.csv", "format": VendorReader.name, "serial": "A", "timezone": "Europe/Berlin"}
    manifest = {"userId": USER, "dataSet": {"deviceId": DEVICE}, "files": [file]}
    (staged / "manifest.json").write_text(json.dumps(manifest))

    ran = run("validate", staged)

    assert (ran.code, ran.lines[-1]) == (1, "2 rows are no reading: 1 note, 1 other-device")
    del file["serial"]
    (staged / "manifest.json").write_text(json.dumps(manifest))
    assert "[file-several-devices]" in run("validate", staged).refusal


# ---------------------------------------------------------------- a file as the data of a batch

NAMELESS = ndjson(cbg(), cbg(value=7, deviceId=None))


@pytest.mark.parametrize(
    "options",
    [
        ("--device-model", "G6"),
        ("--device-id", DEVICE),
        ("--drop", "payload"),
        ("--deduplicator", HASH),
    ],
    ids=lambda options: options[0],
)
def test_what_prepare_would_reject_is_rejected(run: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "a.ndjson").write_bytes(NAMELESS)
    assert run("validate", "a.ndjson").code == 0

    ran = run("validate", "a.ndjson", *options)

    assert ran.code == 1
    assert ["cbg", "staged-device-id-missing", "/deviceId", "1", "line", "2"] in [
        one.split() for one in ran.lines
    ]
    assert "device-id-differs" not in ran.out


def test_it_is_accepted_where_nothing_needs_the_device(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(NAMELESS)

    assert run("validate", "a.ndjson", "--deduplicator", "org.tidepool.deduplicator.none").code == 0
    assert run("validate", "a.ndjson", "--set", f'deviceId="{DEVICE}"').code == 0
    assert "device-id-differs" in run("validate", "a.ndjson", "--device-id", "x", "--set", 'deviceId="y"').out


def test_a_file_is_validated_like_a_batch(run: Run, staged: Path, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(NAMELESS)
    like = batch(staged, ndjson(cbg()), checks={"device-id-differs": "refuse"})
    (tmp_path / "b.ndjson").write_bytes(ndjson(cbg(deviceId="other")))

    assert "staged-device-id-missing" in run("validate", "a.ndjson", "--like", like).out
    assert "staged-device-id-differs" in run("validate", "b.ndjson", "--like", like).out
    assert run("validate", "b.ndjson", "--device-model", "G6").code == 0
    assert "--like says" in run("validate", "a.ndjson", "--like", like, "--device-model", "G6").error
    assert "--like says" in run("validate", "a.ndjson", "--like", like, "--drop", "id").error
    assert "[manifest-missing]" in run("validate", "a.ndjson", "--like", tmp_path).refusal


def test_a_data_set_that_tidepool_would_reject_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(NAMELESS)

    assert "at /deviceTags/0" in run("validate", "a.ndjson", "--device-tag", "pump").error
    assert "[deduplicator]" in run("validate", "a.ndjson", "--deduplicator", "org.example").refusal


def test_a_line_is_that_of_the_file(run: Run, tmp_path: Path) -> None:
    bad = json.dumps(cbg(value=2000)).encode()
    lines = [b"", b"  ", json.dumps(cbg()).encode(), b"", bad, *[b"", bad] * 600]
    (tmp_path / "a.ndjson").write_bytes(b"\r\n".join(lines))
    (tmp_path / "a.json").write_bytes(json.dumps([cbg(), cbg(value=2000)]).encode())

    assert "line 5, line 7, line 9, line 11, line 13, ..." in run("validate", "a.ndjson").out
    assert "row 2" in run("validate", "a.json").out

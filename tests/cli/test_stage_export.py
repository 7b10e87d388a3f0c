"""``stage`` of an export whose rows are not records: the file as it is, in a batch for each device."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from upath import UPath

from tests.cli.commands import USER, Ran, Run, cbg, ndjson
from tests.factories import DAY
from tests.formats.readers import VendorReader, vendor_file
from tests.world import World
from tidepool_ingest import __version__
from tidepool_ingest.cli.stage import BESIDE
from tidepool_ingest.formats import FORMATS
from tidepool_ingest.stage import stage as stage_records
from tidepool_ingest.stage.vendor import Description, stage_export
from tidepool_ingest.staging.errors import BatchError

BERLIN = ("--timezone", "Europe/Berlin")
DROP_HASH = ("--deduplicator", "org.tidepool.deduplicator.dataset.drop.hash")
PERIODS = ("--timezone", "Europe/London@2026-03-05T08:02:00", *BERLIN)
ROWS = [f"A,,2026-03-05T08:0{minute}:00,6.{minute}" for minute in range(4)]
OTHERS = [row.replace("A,", "B,") for row in ROWS[1:]]
NAMED = [row.replace("A,,", f"A,r{number},") for number, row in enumerate(ROWS)]
EXPORT = vendor_file(*ROWS)
FILE = {
    "name": "export.csv",
    "format": VendorReader.name,
    "sha256": hashlib.sha256(EXPORT).hexdigest(),
    "records": 4,
}
DEVICE_A = {
    "deviceId": "Vendor-A",
    "deviceModel": "Vendor One",
    "deviceManufacturers": ["Vendor"],
    "deviceSerialNumber": "A",
    "deviceTags": ["cgm"],
    "timeProcessing": "across-the-board-timezone",
}


@pytest.fixture(autouse=True)
def _test_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, VendorReader.name, VendorReader)


def stage(run: Run, *arguments: object, content: bytes = EXPORT, name: str = "patient.csv") -> Ran:
    Path(name).write_bytes(content)
    return run("stage", name, "--user", USER, "--root", "staging", *arguments)


def manifest_of(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(folder) / "manifest.json").read_text())
    return content


def test_the_file_goes_into_the_batch_as_it_is(run: Run) -> None:
    ran = stage(run, *BERLIN)

    (folder,) = ran.lines
    manifest = manifest_of(folder)
    assert sorted(path.name for path in Path(folder).iterdir()) == ["export.csv", "manifest.json"]
    assert (Path(folder) / "export.csv").read_bytes() == EXPORT
    assert manifest["files"] == [FILE]
    assert manifest["dataSet"] == DEVICE_A | {"timezone": "Europe/Berlin"}
    assert manifest.keys() == {"userId", "dataSet", "files", "stagedAt"}
    assert ran.err.splitlines() == [
        f"By its content, this is an export of format {VendorReader.name}.",
        "Vendor One: 4 of 4 rows are readings.",
        BESIDE,
        "Made a new staging root: staging",
        f"Staged 1 batch, in the day folder {Path(folder).parent.parent.name}.",
    ]
    assert run("validate", folder).lines[-1] == "4 records: 4 accepted, 0 rejected"


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_it_keeps_its_compression(run: Run, ending: str) -> None:
    packed = gzip.compress(EXPORT) if ending == ".gz" else zstandard.compress(EXPORT)

    (folder,) = stage(run, *BERLIN, content=packed, name=f"patient.csv{ending}").lines

    assert (Path(folder) / f"export.csv{ending}").read_bytes() == packed
    assert run("validate", folder).code == 0


def test_each_device_has_a_batch_of_its_own(run: Run) -> None:
    held = vendor_file(*ROWS, *OTHERS, "B,,2026-03-05T09:00:00,x", "A,,2026-03-05T09:00:00,")

    ran = stage(run, *BERLIN, content=held)

    first, second = map(manifest_of, ran.lines)
    assert [one["files"][0]["serial"] for one in (first, second)] == ["A", "B"]
    assert [one["dataSet"]["deviceId"] for one in (first, second)] == ["Vendor-A", "Vendor-B"]
    assert [one["files"][0]["records"] for one in (first, second)] == [9, 9]
    assert ran.err.splitlines()[1:-2] == [
        "Device 1 of 2, Vendor One, serial number A: 4 of 9 rows are readings.",
        "  5 rows are no reading: 4 other-device, 1 note",
        "Device 2 of 2, Vendor One, serial number B: 3 of 9 rows are readings.",
        "  1 row is rejected: 1 staged-not-a-number (line 9)",
        "  5 rows are no reading: 5 other-device",
        "docs/codes.md explains each code and reason.",
        BESIDE,
    ]
    assert [run("validate", folder).code for folder in ran.lines] == [0, 1]


def test_one_device_may_be_chosen(run: Run) -> None:
    content = vendor_file(*ROWS, *OTHERS)

    (folder,) = stage(run, *BERLIN, "--serial", "B", "--device-id", "mine", content=content).lines

    manifest = manifest_of(folder)
    assert (manifest["files"][0]["serial"], manifest["dataSet"]["deviceId"]) == ("B", "mine")
    assert "no rows of a device" in stage(run, *BERLIN, "--serial", "C", content=content).err
    for said in (["--device-id", "mine"], ["--device-serial-number", "1"], ["--set", 'deviceId="mine"']):
        assert "--serial" in stage(run, *BERLIN, *said, content=content).error


def test_a_device_without_a_reading_stops_no_other_one(run: Run) -> None:
    ran = stage(run, *BERLIN, content=vendor_file(*ROWS, "B,,2026-03-05T09:00:00,"))

    assert (ran.code, len(ran.lines)) == (0, 2)
    assert "serial number B: 0 of 5 rows are readings." in ran.err
    assert run("validate", ran.lines[1]).lines[-1] == "5 rows are no reading: 1 note, 4 other-device"


def test_periods_stand_with_the_file_and_the_last_zone_with_the_data_set(run: Run) -> None:
    (folder,) = stage(run, *PERIODS).lines

    manifest = manifest_of(folder)
    assert manifest["files"][0]["timezone"] == [
        {"zone": "Europe/London", "until": "2026-03-05T08:02:00"},
        {"zone": "Europe/Berlin"},
    ]
    assert manifest["dataSet"]["timezone"] == "Europe/Berlin"
    assert run("validate", folder).code == 0


def test_rows_with_names_make_a_feed(run: Run) -> None:
    ran = stage(run, *BERLIN, content=vendor_file(*NAMED))

    (folder,) = ran.lines
    client = {"name": f"org.tidepool-ingest.{VendorReader.name}", "version": __version__}
    assert manifest_of(folder)["dataSet"] == DEVICE_A | {
        "timezone": "Europe/Berlin",
        "dataSetType": "continuous",
        "client": client,
    }
    assert f"the feed {client['name']}" in ran.err
    assert run("validate", folder).code == 0


def test_each_device_whose_names_are_its_own_has_a_feed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    named = [*NAMED, *(row.replace("A,", "B,") for row in NAMED)]

    folders = stage(run, *BERLIN, content=vendor_file(*named)).lines
    again = stage(run, *BERLIN, "--serial", "B", "--batch-id", "again", content=vendor_file(*named)).lines
    monkeypatch.setattr(VendorReader, "devices", lambda _self: [])
    told = stage(run, *BERLIN, "--device-id", "mine", content=vendor_file(*NAMED)).lines

    a, b, only_b, mine = (
        manifest_of(folder)["dataSet"]["client"]["name"] for folder in (*folders, *again, *told)
    )
    assert (b, len({a, b, mine})) == (only_b, 3)


def test_or_a_normal_batch_on_request(run: Run) -> None:
    ran = stage(run, *BERLIN, "--normal", content=vendor_file(*NAMED))

    (folder,) = ran.lines
    assert "normal batches" in ran.err
    assert manifest_of(folder)["dataSet"] == DEVICE_A | {"timezone": "Europe/Berlin"}


def test_what_is_said_of_the_device_goes_before_what_the_file_tells(run: Run) -> None:
    said = [
        "--device-id",
        "mine",
        "--device-model",
        "Other",
        "--device-tag",
        "bgm",
        "--time-processing",
        "none",
    ]

    (folder,) = stage(run, *BERLIN, *said, "--device-serial-number", "S", "--device-manufacturer", "M").lines

    assert manifest_of(folder)["dataSet"] == {
        "deviceId": "mine",
        "deviceModel": "Other",
        "deviceManufacturers": ["M"],
        "deviceSerialNumber": "S",
        "deviceTags": ["bgm"],
        "timeProcessing": "none",
        "timezone": "Europe/Berlin",
    }


def test_options_go_into_the_manifest(run: Run) -> None:
    content = vendor_file(*ROWS, "A,,2026-03-05T09:00:00,swapped")
    more = ["--keep-notes", "--meant-as", "dates-swapped", "--drop", "payload", "--connection", "clinic"]

    (folder,) = stage(run, *BERLIN, *more, "--batch-id", "b", "--day", "2026-03-06", content=content).lines

    manifest = manifest_of(folder)
    assert folder == f"staging/2026-03-06/{USER}/b"
    assert manifest["files"][0]["keepNotes"] is True
    assert manifest["meantAs"] == ["dates-swapped"]
    assert (manifest["edits"]["drop"], manifest["connection"]) == (["payload"], "clinic")


@pytest.mark.parametrize(
    ("content", "options", "what"),
    [
        (vendor_file(*ROWS, "A,,2026-03-05T09:00:00,swapped"), BERLIN, "--meant-as"),
        (EXPORT, (), "--timezone"),
        (EXPORT, ("--timezone", "Nowhere"), "value-not-valid at /timezone"),
        (b"Index,Value\n1,2\n", BERLIN, "--mapping"),
        (b"1,2\n", (*BERLIN, "--format", VendorReader.name), "file-other-format"),
        (EXPORT, (*BERLIN, "--date-order", "dmy"), "takes no --date-order"),
        (
            EXPORT,
            (*BERLIN, *DROP_HASH),
            "normal data sets",
        ),
        (EXPORT, (*BERLIN, "--device-tag", "pump"), "at /deviceTags/0"),
        (vendor_file(), BERLIN, "contains no records"),
    ],
)
def test_what_would_be_held_is_not_staged(
    run: Run, content: bytes, options: tuple[str, ...], what: str
) -> None:
    assert what in stage(run, *options, content=content).told
    assert not Path("staging").exists()


def test_a_deduplicator_of_feeds_is_for_those(run: Run) -> None:
    (folder,) = stage(run, *BERLIN, *DROP_HASH, content=vendor_file(*NAMED)).lines

    assert manifest_of(folder)["dataSet"]["deduplicator"] == {"name": DROP_HASH[1]}
    assert (
        "normal data sets" in stage(run, *BERLIN, *DROP_HASH, "--normal", content=vendor_file(*NAMED)).error
    )


def test_such_a_batch_is_corrected_in_its_export(run: Run, tmp_path: Path) -> None:
    (folder,) = stage(run, *BERLIN).lines
    (tmp_path / "fixed.ndjson").write_bytes(ndjson(cbg()))

    error = run("stage", "fixed.ndjson", "--like", folder, "--root", "staging").refusal

    assert "[stage-like-export]" in error
    assert "stage it again whole" in error


def test_what_is_for_exports_is_not_said_of_records(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(ndjson(cbg()))
    command = ("stage", "a.ndjson", "--user", USER, "--root", "staging")

    for option in (PERIODS, ("--serial", "A"), ("--meant-as", "dates-swapped"), ("--keep-notes",)):
        assert f"{option[0]}" in run(*command, *option).error
    (folder,) = run(*command, *BERLIN).lines
    assert manifest_of(folder)["dataSet"]["timezone"] == "Europe/Berlin"


def test_what_holds_a_batch_of_records_can_be_meant(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(ndjson(cbg()))
    command = ("stage", "a.ndjson", "--root", "staging")

    (folder,) = run(*command, "--user", USER, "--meant-as", "device-renamed").lines
    assert manifest_of(folder)["meantAs"] == ["device-renamed"]
    more = ("--batch-id", "corrected", "--meant-as", "replaces-loses-days")
    (folder,) = run(*command, "--like", folder, *more).lines
    assert manifest_of(folder)["meantAs"] == ["device-renamed", "replaces-loses-days"]


def test_records_and_exports_are_not_mixed_up(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(EXPORT)

    with pytest.raises(BatchError, match="staged as it is"):
        stage_records(UPath(tmp_path / "a.csv"), UPath(tmp_path / "staging"), USER)


def test_no_device_id_is_no_batch(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VendorReader, "devices", lambda _self: [])

    assert "[stage-no-device]" in stage(run, *BERLIN).refusal
    (folder,) = stage(run, *BERLIN, "--device-id", "mine").lines
    assert manifest_of(folder)["dataSet"] == {"deviceId": "mine", "timezone": "Europe/Berlin"}


# ---------------------------------------------------------------- several files


SITE = {
    "entries.json": [{"type": "sgv", "sgv": 120, "date": 1772697600000, "_id": "a1"}],
    "treatments.json": [
        {"eventType": "Meal Bolus", "insulin": 2, "created_at": "2026-03-05T08:00:00Z", "_id": "b1"}
    ],
}


def test_the_files_of_a_site_make_one_batch(run: Run) -> None:
    for name, documents in SITE.items():
        Path(name).write_text(json.dumps(documents))

    ran = run("stage", *SITE, "--user", USER, "--root", "staging", *BERLIN)

    (folder,) = ran.lines
    files = manifest_of(folder)["files"]
    assert [(file["name"], file["records"]) for file in files] == [
        ("export-1.json", 1),
        ("export-2.json", 1),
    ]
    assert [(Path(folder) / file["name"]).read_text() for file in files] == [
        json.dumps(documents) for documents in SITE.values()
    ]
    assert run("validate", folder).lines[-1] == "2 records: 2 accepted, 0 rejected"


def test_other_files_are_staged_one_by_one(run: Run) -> None:
    Path("a.csv").write_bytes(EXPORT)
    Path("b.csv").write_bytes(vendor_file(*OTHERS))
    Path("c.ndjson").write_bytes(ndjson(cbg()))

    ran = run("stage", "a.csv", "b.csv", "c.ndjson", "--user", USER, "--root", "staging", *BERLIN)

    assert ran.code == 0
    assert [manifest_of(folder)["files"][0]["format"] for folder in ran.lines] == [
        VendorReader.name,
        VendorReader.name,
        "ndjson",
    ]


def test_several_batches_have_no_one_id_and_the_standard_input_is_one_file(run: Run) -> None:
    Path("a.csv").write_bytes(EXPORT)
    Path("b.csv").write_bytes(vendor_file(*OTHERS))
    to = ("--user", USER, "--root", "staging", *BERLIN)

    assert "--batch-id names one batch" in run("stage", "a.csv", "b.csv", "--batch-id", "x", *to).error
    assert "The standard input can be read once" in run("stage", "-", "-", *to).error
    assert not Path("staging").exists()


# ---------------------------------------------------------------- the whole way


def test_what_was_staged_becomes_visible_as_it_was_read(world: World) -> None:
    export = world.folder / "a.csv"
    export.write_bytes(vendor_file(*ROWS, *OTHERS))
    stage_export(
        [UPath(export)],
        world.root,
        world.user,
        VendorReader.name,
        Description(day=DAY, data_set={"timezone": "Europe/Berlin"}),
    )

    outcome = world.run()

    assert outcome.codes == []
    assert len(outcome.uploaded) == 2
    shown = [(row["deviceId"], row["time"], row["timezoneOffset"]) for row in world.visible()]
    assert sorted(shown)[0] == ("Vendor-A", "2026-03-05T07:00:00Z", 60)
    assert len(shown) == 7


# ---------------------------------------------------------------- in the place of another batch


def test_it_names_the_batch_that_it_replaces(run: Run) -> None:
    (old,) = stage(run, *BERLIN).lines
    ran = stage(run, "--timezone", "Europe/Lisbon", "--replaces", f"{old}/", "--batch-id", "batch-1")
    (by_folder,) = ran.lines
    (by_name,) = stage(run, *BERLIN, "--replaces", "batch-1", "--batch-id", "batch-2").lines

    assert manifest_of(by_folder)["replaces"] == Path(old).name
    assert manifest_of(by_name)["replaces"] == "batch-1"
    assert BESIDE not in ran.err


def test_records_name_the_batch_that_they_replace(run: Run) -> None:
    Path("corrected.ndjson").write_bytes(ndjson(cbg()))
    ran = run("stage", "corrected.ndjson", "--user", USER, "--root", "staging", "--replaces", "batch-1")

    assert manifest_of(ran.lines[0])["replaces"] == "batch-1"


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (vendor_file(*ROWS, *OTHERS), ("--replaces", "batch-1"), "2 devices"),
        (vendor_file(*NAMED), ("--replaces", "batch-1"), "--normal"),
        (EXPORT, ("--replaces", "_work"), "no batch's name"),
    ],
)
def test_what_cannot_replace_a_batch_is_not_staged(
    run: Run, content: bytes, options: tuple[str, ...], said: str
) -> None:
    ran = stage(run, *BERLIN, *options, content=content)

    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert "stage-arguments" in ran.err
    assert not Path("staging").exists()


def test_the_same_export_is_staged_once(run: Run) -> None:
    first = stage(run, *BERLIN)

    again = stage(run, *BERLIN)

    assert again.lines == first.lines
    assert "Staged already as" in again.err
    assert stage(run, "--timezone", "Europe/London").lines != first.lines


def test_of_a_feed_only_the_newest_batch_counts(run: Run) -> None:
    first = stage(run, *BERLIN, content=vendor_file(*NAMED)).lines
    assert stage(run, *BERLIN, content=vendor_file(*NAMED)).lines == first
    changed = vendor_file(*NAMED).replace(b"08:00", b"09:00")
    second = stage(run, *BERLIN, content=changed).lines
    assert second != first

    third = stage(run, *BERLIN, "--batch-id", "back", content=vendor_file(*NAMED)).lines

    # What the second batch has changed is put back.
    assert third not in (first, second)

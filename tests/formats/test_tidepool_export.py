"""The format ``tidepool-export``: what came out of Tidepool goes in again, once, and as it was measured."""

from __future__ import annotations

import gzip
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tests.factories import DAY, DEVICE, NONE, Record, alarm, bolus, cbg, minute_of, readings, wizard
from tests.world import World
from tidepool_ingest.formats.tidepool_export import cleaning as links
from tidepool_ingest.formats.tidepool_export.cleaning import ExportCleaner
from tidepool_ingest.formats.tidepool_export.platform_fields import SERVER_OWNED, SHOWN_ONLY
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.model.datum import DATUM_MODELS
from tidepool_ingest.model.specification import fields_of
from tidepool_ingest.stage import stage
from tidepool_ingest.staging.manifest import read_manifest

EXPORT = {"format": "tidepool-export"}
OWNED = {
    "id": "8a9f3c0d4e5b6a7c8d9e0f1a2b3c4d5e",
    "uploadId": "upid_0123456789ab",
    "createdTime": "2016-01-01T00:00:00Z",
    "createdUserId": "0123456789",
    "modifiedTime": "2016-01-01T00:00:00Z",
    "guid": "e263bc1a-5976-4c05-a969-d03074c5b552",
    "revision": 1,
    "deduplicator": {"name": "x"},
    "_active": True,
    "_schemaVersion": 3,
    "localTime": "2016-01-01T00:00:00.000Z",
    "source": "demo",
}


def cleaned(record: Record | bytes, cleaner: ExportCleaner | None = None) -> Any:
    line = record if isinstance(record, bytes) else json.dumps(record).encode()
    return json.loads((cleaner or ExportCleaner()).apply(line))


def own_id(number: int) -> str:
    return f"{number:032x}"


def linked(first: int, *, inner_id: str = "", **more: Any) -> tuple[Record, Record]:
    """Return a calculation and its bolus as an export shows them."""
    inner_id = inner_id or own_id(first)
    calculation = wizard(first, id=own_id(10_000 + first), bolus=inner_id, **more)
    return calculation, bolus(first, id=inner_id)


def rows(world: World, kind: str) -> list[Record]:
    return [row for row in world.visible() if row["type"] == kind]


# ---------------------------------------------------------------- what the server owns


def test_what_tidepool_added_is_left_out_and_counted() -> None:
    cleaner = ExportCleaner()
    record = {**cbg(1), **OWNED}
    assert cleaned(record, cleaner) == cbg(1)
    assert cleaned({**OWNED, **cbg(2)}, cleaner) == cbg(2)
    assert cleaner.changes == dict.fromkeys(OWNED, 2)


def test_no_field_that_the_platform_reads_is_left_out() -> None:
    read = {spec.name for model in DATUM_MODELS for spec in fields_of(model)}
    assert read & (SERVER_OWNED | SHOWN_ONLY) == {"id"}


def test_a_source_that_the_platform_takes_stays() -> None:
    cleaner = ExportCleaner()
    assert cleaned(cbg(1, source="carelink"), cleaner)["source"] == "carelink"
    assert not cleaner.changes


def test_the_rest_keeps_its_bytes() -> None:
    line = b'{ "value" : 6.10 , "_id": {"a":[1,"}"]}, "type":"cbg","id":"x", "units":"mmol/L" , "id" : "y"}'
    assert ExportCleaner().apply(line) == b'{ "value" : 6.10, "type":"cbg", "units":"mmol/L"}'


def test_what_the_platform_stores_under_another_name_is_read_again() -> None:
    cleaner = ExportCleaner()
    settings = {"type": "cgmSettings", "rateOfChangeAlert": {"rise": 1}}
    assert cleaned(settings, cleaner) == {"type": "cgmSettings", "rateOfChangeAlerts": {"rise": 1}}
    assert cleaner.changes == {"rateOfChangeAlert": 1}
    both = {**settings, "rateOfChangeAlerts": {}}
    assert cleaned(both, cleaner) == both


@pytest.mark.parametrize("line", [b"[1]", b"null", b'{"a":', b"\xff", b'"x"'])
def test_what_is_no_record_is_left_to_the_judge(line: bytes) -> None:
    assert ExportCleaner().apply(line) == line


def test_an_embedded_datum_is_cleaned_too() -> None:
    cleaner = ExportCleaner()
    assert cleaned(wizard(1, bolus=bolus(1, **OWNED)), cleaner) == wizard(1)
    assert cleaner.changes == {f"bolus.{name}": 1 for name in OWNED}


def test_without_knowing_more_a_link_is_dropped() -> None:
    cleaner = ExportCleaner()
    calculation, _ = linked(1)
    assert "bolus" not in cleaned(calculation, cleaner)
    assert cleaner.changes == {"bolus": 1, "id": 1}


# ---------------------------------------------------------------- through all steps


@pytest.mark.parametrize("name", ["export.ndjson", "export.json", "export.ndjson.gz"])
def test_an_export_is_lines_or_an_array(world: World, name: str) -> None:
    number = world.ready([{**reading, **OWNED} for reading in readings(5)], name=name, file=EXPORT)
    assert world.prepared(number).accepted == {"cbg": 5}


def test_an_array_may_begin_after_much_space(world: World) -> None:
    content = b" \n" * 700_000 + json.dumps(readings(3)).encode()
    number = world.ready([], content=content, name="export.json", file=EXPORT)
    assert world.prepared(number).accepted == {"cbg": 3}


@pytest.mark.parametrize("reverse", [False, True])
def test_a_bolus_travels_inside_the_calculation_that_links_to_it(world: World, *, reverse: bool) -> None:
    pairs = [record for number in range(3) for record in linked(number)]
    records = [*pairs, bolus(50, id=own_id(50))]
    number = world.ready(records[::-1] if reverse else records, file=EXPORT)

    prepared = world.prepared(number)
    assert prepared.accepted == {"wizard": 3, "bolus": 4}
    assert (prepared.records, prepared.inside, prepared.expected_rows) == (7, 3, 7)
    assert prepared.changes == {"id": 7, "bolus": 3}
    assert sum(chunk.records for chunk in prepared.chunks) == 4
    world.upload(number)
    assert len(rows(world, "bolus")) == 4
    ids = {row["id"] for row in rows(world, "bolus")}
    assert {row["bolus"] for row in rows(world, "wizard")} < ids


def test_an_alarm_and_its_status_come_together_again(world: World) -> None:
    whole = alarm(1)
    status = {**whole["status"], "id": own_id(1)}
    number = world.ready([status, {**whole, "status": own_id(1)}], file=EXPORT)

    assert world.prepared(number).inside == 1
    world.upload(number)
    assert sorted(row["subType"] for row in rows(world, "deviceEvent")) == ["alarm", "status"]


def test_calculation_and_bolus_of_2014_find_each_other_by_their_join_key(world: World) -> None:
    calculation = {**wizard(1), "joinKey": "k"}
    del calculation["bolus"]
    number = world.ready([calculation, bolus(1, joinKey="k"), bolus(2, joinKey="other")], file=EXPORT)

    assert (world.prepared(number).inside, world.prepared(number).changes) == (1, {"bolus": 1})
    world.upload(number)
    assert "bolus" in rows(world, "wizard")[0]
    assert len(rows(world, "bolus")) == 2


def test_edits_of_the_manifest_reach_what_is_embedded(world: World) -> None:
    calculation, inner = linked(1)
    for one in (calculation, inner):
        del one["deviceId"]
    number = world.ready([calculation, inner], file=EXPORT, edits={"set": {"deviceId": DEVICE}})

    assert world.prepared(number).changes == {"id": 2, "bolus": 1, "deviceId": 2}
    (line,) = world.accepted(number)
    assert json.loads(line)["bolus"]["deviceId"] == DEVICE


def separate(world: World, records: list[Record], **staged: Any) -> int:
    """Prepare records of which none may travel inside another."""
    number = world.ready(records, file=EXPORT, max_quarantined_percent=100, **staged)
    assert world.prepared(number).inside == 0
    assert not any(b'"bolus":{' in line for line in world.accepted(number))
    return number


def test_a_refused_calculation_does_not_take_its_bolus_along(world: World) -> None:
    calculation, inner = linked(1, carbInput=5_000)
    number = separate(world, [calculation, inner])
    assert world.prepared(number).accepted == {"bolus": 1}
    assert world.prepared(number).reasons == {"wizard": {"value-out-of-range": 1}}


def test_a_refused_bolus_does_not_take_its_calculation_along(world: World) -> None:
    calculation, inner = linked(1)
    number = separate(world, [calculation, {**inner, "normal": 1_000}])
    assert world.prepared(number).accepted == {"wizard": 1}
    assert world.prepared(number).quarantined == 1


def test_a_bolus_without_device_does_not_take_its_calculation_along(world: World) -> None:
    calculation, inner = linked(1)
    del inner["deviceId"]
    number = separate(world, [calculation, inner])
    assert world.prepared(number).accepted == {"wizard": 1}
    assert world.refused(number) == [(1, ["staged-device-id-missing"])]


def test_a_link_to_nothing_is_dropped(world: World) -> None:
    number = separate(world, [linked(1)[0], bolus(2, id=own_id(2))])
    assert world.prepared(number).accepted == {"wizard": 1, "bolus": 1}
    assert world.prepared(number).changes["bolus"] == 1


def test_a_link_to_another_kind_is_dropped(world: World) -> None:
    calculation, _ = linked(1)
    number = separate(world, [calculation, cbg(1, id=own_id(1))])
    assert world.prepared(number).accepted == {"wizard": 1, "cbg": 1}


def test_a_link_to_two_different_records_is_dropped(world: World) -> None:
    calculation, inner = linked(1)
    number = separate(world, [calculation, inner, {**inner, "normal": 3}])
    assert world.prepared(number).accepted == {"wizard": 1, "bolus": 2}


def test_one_bolus_goes_into_one_calculation_only(world: World) -> None:
    calculation, inner = linked(1)
    other = {**calculation, "time": minute_of(2), "id": own_id(7)}
    number = world.ready([calculation, other, inner], file=EXPORT, data_set={"deduplicator": {"name": NONE}})

    assert (world.prepared(number).inside, world.prepared(number).expected_rows) == (1, 3)
    world.upload(number)
    assert (len(rows(world, "bolus")), len(rows(world, "wizard"))) == (1, 2)


def test_repeats_stay_repeats(world: World) -> None:
    """Neither the calculation nor its bolus may come twice, whichever is repeated and under which id."""
    calculation, inner = linked(1)
    again = {**inner, "id": own_id(8)}
    records = [again, calculation, inner, {**calculation, "id": own_id(9)}, inner]
    number = world.ready(records, file=EXPORT, data_set={"deduplicator": {"name": NONE}})

    row = world.row(number)
    assert (row.staged, row.accepted, row.identical, row.quarantined) == (5, 2, 3, 0)
    world.upload(number)
    assert (len(rows(world, "bolus")), len(rows(world, "wizard"))) == (1, 1)


def test_two_links_to_one_content_embed_it_once(world: World) -> None:
    first, inner = linked(1)
    second = {**first, "time": minute_of(2), "bolus": own_id(8)}
    number = world.ready([first, inner, second, {**inner, "id": own_id(8)}], file=EXPORT)

    prepared = world.prepared(number)
    assert (prepared.inside, prepared.identical, prepared.expected_rows) == (1, 1, 3)


def test_links_beyond_what_memory_allows_are_dropped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MAX_LINKS", 2)
    number = world.ready([record for one in range(5) for record in linked(one)], file=EXPORT)

    prepared = world.prepared(number)
    assert (prepared.inside, prepared.expected_rows) == (2, 10)
    assert prepared.changes["bolus"] == 5
    world.upload(number)
    assert (len(rows(world, "bolus")), len(rows(world, "wizard"))) == (5, 5)


def test_records_of_other_kinds_go_to_quarantine(world: World) -> None:
    message = {"id": "x", "messagetext": "hello", "parentmessage": None}
    other = {"type": "note", "deviceId": DEVICE, "time": minute_of(1), "id": own_id(1)}
    number = world.ready([*readings(30), message, other], file=EXPORT)

    assert world.refused(number) == [(30, ["value-not-exists"]), (31, ["value-not-allowed"])]
    assert world.quarantine(number)[0]["record"] == message


def test_other_files_of_the_batch_are_not_cleaned(world: World) -> None:
    folder = world.stage([cbg(1, **OWNED)], file=EXPORT)
    (folder / "more.ndjson").write_text(json.dumps(cbg(2, id=own_id(2))))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"].append({"name": "more.ndjson", "format": "ndjson"})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (number,) = world.plan().batches
    world.prepare(number)

    first, second = map(json.loads, world.accepted(number))
    assert (first, second) == (cbg(1), cbg(2, id=own_id(2)))


# ---------------------------------------------------------------- units


def mislabelled(count: int) -> list[Record]:
    return readings(count, units="mg/dL")


def test_mmol_values_under_a_mg_label_are_relabelled(world: World) -> None:
    """Each kind by its own values; one without any follows the readings; a right label stays."""
    sensitivity = {"type": "wizard", "time": minute_of(600), "deviceId": DEVICE, "units": "mg/dL"}
    records = [
        *mislabelled(20),
        cbg(500),
        {**wizard(501), "units": "mg/dL", "bgTarget": {"low": 5, "high": 6}},
        {**cbg(503, 5.5, units="mg/dL"), "type": "deviceEvent", "subType": "calibration"},
        {**cbg(504, 1.2), "type": "bloodKetone"},
    ]
    number = world.ready(records, file=EXPORT)
    assert world.prepared(number).changes == {"units": 22}
    assert {json.loads(line)["units"] for line in world.accepted(number)} == {"mmol/L"}

    number = world.ready(
        [*mislabelled(20), {**sensitivity, "insulinSensitivity": 3}], batch="two", file=EXPORT
    )
    assert world.prepared(number).changes == {"units": 21}


def test_values_that_fit_their_label_keep_it(world: World) -> None:
    records = [cbg(one, 120, units="mg/dL") for one in range(9)]
    settings = {
        "type": "pumpSettings",
        "time": minute_of(1),
        "deviceId": DEVICE,
        "activeSchedule": "a",
        "units": {"bg": "mg/dL", "carb": "grams"},
        "bgTarget": [{"start": 0, "target": 5.5}],
    }
    number = world.ready([*records, settings], file=EXPORT)
    assert world.prepared(number).changes == {"units.bg": 1}


def test_a_unit_that_the_manifest_names_is_not_found_out(world: World) -> None:
    number = world.ready(mislabelled(9), file=EXPORT, edits={"glucoseUnits": "mg/dL"})
    assert world.prepared(number).changes == {}


def test_the_guard_still_holds_what_is_wrong_the_other_way(world: World) -> None:
    world.stage([cbg(one, 50) for one in range(9)], file=EXPORT)
    outcome = world.run()
    assert outcome.codes == ["glucose-units-implausible"]


# ---------------------------------------------------------------- staging


def test_staging_an_export_keeps_it_one(world: World, tmp_path: Path) -> None:
    calculation, inner = linked(1)
    message = {"id": "x", "messagetext": "hello"}
    file = tmp_path / "export.json"
    file.write_text(json.dumps([message, {**cbg(1), **OWNED}, calculation, inner, cbg(2, deviceId="other")]))
    first, second = stage(UPath(file), world.root, world.user, file_format="tidepool-export")

    manifest = read_manifest(first.path, world.user)
    assert manifest.files[0].format == "tidepool-export"
    lines = gzip.decompress((first.path / manifest.files[0].name).read_bytes()).splitlines()
    assert len(lines) == 4
    assert read_manifest(second.path, world.user).device_id == "other"


# ---------------------------------------------------------------- the real one


@pytest.mark.slow
def test_the_real_export_of_2014(world: World, shared: Path) -> None:
    file = UPath(shared / "real" / "export-2014.ndjson.gz")
    stage(file, world.root, world.user, file_format="tidepool-export", day=DAY)

    outcome = world.run()
    ((number, prepared),) = outcome.prepared.items()
    assert (prepared.staged, prepared.accepted, prepared.quarantined) == (8_994, 8_905, 89)
    assert prepared.reasons == {"unknown": {"value-not-exists": 87, "value-not-allowed": 2}}
    assert prepared.edits == {"id": 8_994, "source": 8_907, "normalEnd": 302, "units": 8_398, "bolus": 153}
    assert (prepared.inside, prepared.warnings) == (153, {})
    assert world.row(number).state is BatchState.VERIFIED
    shown = world.visible()
    assert len(shown) == prepared.expected_rows == 8_905
    values = [row["value"] for row in shown if row["type"] == "cbg"]
    assert statistics.median(values) == pytest.approx(6.38, abs=0.005)
    boluses = {row["id"]: row["time"] for row in shown if row["type"] == "bolus"}
    calculations = [row for row in shown if row["type"] == "wizard" and "bolus" in row]
    assert len(calculations) == 153
    assert all(boluses[row["bolus"]] == row["time"] for row in calculations)

"""What becomes of the documents of a Nightscout site, one by one and in whatever form they come."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tests.formats.nightscout_sites import (
    Document,
    Made,
    at,
    ms,
    profile,
    read,
    read_files,
    sgv,
    temp,
    text_of,
    time_of,
    treatment,
)
from tidepool_ingest.formats import guess_format, recognized_format
from tidepool_ingest.formats.nightscout import NightscoutReader
from tidepool_ingest.formats.nightscout.times import Clock, zone_meant
from tidepool_ingest.formats.nightscout.values import RefusedDocumentError, instant
from tidepool_ingest.local_times import zone_named
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import FileOptions

KEPT_NOTES = FileOptions(keep_notes=True)


def table(*rows: list[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


# ---------------------------------------------------------------- forms

ENTRIES = [sgv(0), sgv(5, 131)]
FORMS = {
    "array": json.dumps(ENTRIES).encode(),
    "pretty": json.dumps(ENTRIES, indent=1).encode(),
    "answer": json.dumps({"status": 200, "result": ENTRIES}).encode(),
    "pretty answer": json.dumps({"status": 200, "result": ENTRIES}, indent=2).encode(),
    "lines": b"\n".join(json.dumps(entry).encode() for entry in ENTRIES) + b"\n",
    "mongoexport": b"\n".join(
        json.dumps(
            entry
            | {
                "_id": {"$oid": entry["_id"]},
                "date": float(entry["date"]),
                "sgv": {"$numberInt": str(entry["sgv"])},
            }
        ).encode()
        for entry in ENTRIES
    ),
    "mark": b"\xef\xbb\xbf" + json.dumps(ENTRIES).encode(),
    "mills": json.dumps(
        [{("mills" if k == "date" else k): v for k, v in e.items()} for e in ENTRIES]
    ).encode(),
    "cells": table(list(ENTRIES[0]), *(list(entry.values()) for entry in ENTRIES)),
    "documents in cells": table(["n", "doc"], *([n, json.dumps(entry)] for n, entry in enumerate(ENTRIES))),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_recognized_and_gives_the_same_records(tmp_path: Path, form: str) -> None:
    path = tmp_path / "export.csv"
    path.write_bytes(FORMS[form])

    assert guess_format(UPath(path)) == recognized_format(UPath(path)) == "nightscout"
    made = read_files(tmp_path, {"export.csv": FORMS[form]})
    assert made.lines == read(tmp_path, *ENTRIES).lines
    assert made.rows == 2


def test_a_single_document_is_one_row(tmp_path: Path) -> None:
    for document in (sgv(0), {"status": 200, "result": sgv(0)}):
        for indent in (None, 2):
            made = read_files(tmp_path, {"one.json": json.dumps(document, indent=indent).encode()})
            assert (len(made.records), made.rows) == (1, 1)


def test_entries_csv_has_no_header(tmp_path: Path) -> None:
    content = table([at(0), ms(0), 120, "Flat", "share2"], [at(5), ms(5), 131, "", "share2"])

    made = read_files(tmp_path, {"entries.csv": content})

    assert [record["value"] for record in made.records] == [120, 131]
    assert made.places == [(1, 0, "line 1"), (1, 1, "line 2")]


def test_cells_that_hold_json_are_read_as_such(tmp_path: Path) -> None:
    rows = table(
        ["_id", "eventType", "created_at", "insulin", "bolus", "raw.x.y"],
        ["a", "Correction Bolus", at(0), "0.4", json.dumps({"isSMB": True}), "1"],
        ["b", "Meal Bolus", at(1), "2", "{broken", ""],
        ["c", "Meal Bolus", at(2), "2", "", "", "", "9"],
    )

    made = read_files(tmp_path, {"treatments.csv": rows})

    assert [(record["subType"], record["normal"]) for record in made.records] == [("automated", 0.4)]
    assert made.rejected == [(1, "staged-not-json"), (2, "staged-row-ragged")]


def test_files_of_one_batch_are_read_together(tmp_path: Path) -> None:
    files = {
        "entries.json.gz": gzip.compress(text_of([sgv(0)])),
        "treatments.json": text_of([temp(0, 2), temp(60, 3)]),
        "profile.json": text_of([profile()]),
    }

    made = read_files(tmp_path, files)

    assert made.basals() == [
        ("temp", time_of(0), 30, 2),
        ("scheduled", time_of(30), 30, 1.0),
        ("temp", time_of(60), 30, 3),
    ]
    assert [file for file, _position, _where in made.places] == [1, 2, 2, 2, 3]


@pytest.mark.parametrize(
    "content",
    [
        b'[{"COMMENT": "no document"}]',
        b'{"ENTRIES": {"a": {"type": "sgv", "sgv": 1}}}',
        b"# CGM ENTRIES\nDate,Time,Glucose (mg/dL),Type\n4/7/2026,7:59:42 PM,129,sgv\n",
        b'[{"type": "cbg", "time": "2026-03-05T12:00:00Z", "value": 5.5, "units": "mmol/L"}]',
        b"[1, 2]",
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(BatchError) as caught:
        read_files(tmp_path, {"x.json": content})
    assert caught.value.code == "file-other-format"
    assert not NightscoutReader.recognizes(content)


def test_more_documents_than_are_held_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NightscoutReader, "held_max", 2)

    read(tmp_path, *[sgv(minute) for minute in range(9)], temp(0, 1), temp(1, 1))
    with pytest.raises(BatchError) as caught:
        read(tmp_path, temp(0, 1), temp(1, 1), profile())

    assert caught.value.code == "file-too-many-events"


# ---------------------------------------------------------------- instants, numbers, names

NOON = ms(0)
INSTANTS: dict[str, object] = {
    "utc": "2026-03-05T12:00:00Z",
    "fraction": "2026-03-05T12:00:00.000000Z",
    "offset": "2026-03-05T13:00:00+01:00",
    "no colon": "2026-03-05T13:00:00.000+0100",
    "behind": "2026-03-05T05:00:00-07:00",
    "blank": "2026-03-05 12:00:00Z",
    "milliseconds": NOON,
    "float": float(NOON),
    "text": str(NOON),
    "exponent": "1.7727120e12",
    "mongo": {"$date": "2026-03-05T12:00:00Z"},
    "mongo number": {"$date": {"$numberLong": str(NOON)}},
    "spelled out": "Thu Mar 05 13:00:00 GMT+01:00 2026",
    "browser": "Thu Mar 05 2026 13:00:00",
}


@pytest.mark.parametrize("form", [form for form in INSTANTS if form != "browser"])
def test_an_instant_is_read_however_it_is_written(form: str) -> None:
    assert instant({"created_at": INSTANTS[form]}, "created_at") == NOON


@pytest.mark.parametrize(
    "written",
    [
        None,
        "",
        "now",
        "2026-03-05T12:00:00",
        "2026-02-30T12:00:00Z",
        "1970-01-01T00:00:00Z",
        0,
        NOON // 1000,
        True,
        [],
        "9" * 500,
        float("inf"),
        float("nan"),
        INSTANTS["browser"],
        {"$date": {"$date": {"$date": NOON}}},
        "Thu Xyz 05 13:00:00 GMT+01:00 2026",
    ],
)
def test_what_is_no_instant_is_refused(tmp_path: Path, written: object) -> None:
    with pytest.raises(RefusedDocumentError):
        instant({"created_at": written}, "created_at")


def test_an_entry_without_an_instant_is_refused_and_found_again(tmp_path: Path) -> None:
    made = read(tmp_path, sgv(0), sgv(1, date=None), sgv(2, "12O"), sgv(3, None))

    assert len(made.records) == 1
    assert made.rejected == [
        (1, "staged-time-unreadable"),
        (2, "staged-not-a-number"),
        (3, "staged-no-amount"),
    ]


def test_a_name_is_the_steadiest_that_a_document_has(tmp_path: Path) -> None:
    names: Document = {"identifier": "i", "syncIdentifier": "s", "id": "d", "_id": "m"}
    for name in list(names):
        made = read(tmp_path, sgv(0, **names))
        assert made.records[0]["origin"] == {"id": f"cbg:{names[name]}"}
        names[name] = None
        names["_id"] = names["_id"] or "m"
    assert read(tmp_path, sgv(0, _id=7)).records[0]["origin"] == {"id": "cbg:7"}


def test_a_long_name_is_hashed_and_a_missing_one_is_the_instant(tmp_path: Path) -> None:
    long, odd = (read(tmp_path, sgv(0, _id=name)).records[0]["origin"]["id"] for name in ("n" * 99, "a\nb"))
    assert [(name[:4], len(name)) for name in (long, odd)] == [("cbg:", 68)] * 2
    endless = [read(tmp_path, sgv(0, _id=name * 5000)).records[0]["origin"]["id"] for name in "ab"]
    assert len({len(name) for name in endless}) == 1
    assert len(set(endless)) == 2

    made = read(tmp_path, sgv(0, _id=""), sgv(0, 99, _id=None), treatment(0, "Meal Bolus", insulin=1, _id=""))

    assert list(made.by_name) == [f"cbg:{time_of(0)}:0", f"cbg:{time_of(0)}:1", f"bolus:{time_of(0)}:0"]


def test_a_treatment_of_two_records_has_two_names(tmp_path: Path) -> None:
    made = read(tmp_path, treatment(0, "Meal Bolus", insulin=4, carbs=30))
    assert list(made.by_name) == ["bolus:t0", "food:t0"]


@pytest.mark.parametrize(
    ("written", "zone"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        ("europe/berlin ", "Europe/Berlin"),
        ("GMT+4", "Etc/GMT-4"),
        ("UTC-03:00", "Etc/GMT+3"),
        ("GMT+0", "Etc/GMT"),
        ("ETC/GMT+5", "Etc/GMT+5"),
        ("GMT+5:30", None),
        ("GMT+99", None),
        ("Middle-earth", None),
        ("", None),
    ],
)
def test_zones_are_what_people_mean_by_them(written: str, zone: str | None) -> None:
    assert zone_meant(written) == zone


def test_local_times_stand_only_where_a_zone_is_known(tmp_path: Path) -> None:
    bare = read(tmp_path, sgv(0)).records[0]
    assert not {"deviceTime", "timezoneOffset"} & bare.keys()

    told = read(tmp_path, sgv(0), profile(zone="GMT+4")).records[0]
    assert (told["deviceTime"], told["timezoneOffset"]) == ("2026-03-05T16:00:00", 240)

    moved = read(tmp_path, sgv(0), sgv(60), profile(zone="Europe/Berlin"), profile(30, zone="Asia/Tokyo"))
    assert [record["timezoneOffset"] for record in moved.of("cbg")] == [60, 540]

    periods = FileOptions.model_validate_json(
        '{"timezone": [{"until": "2026-03-05T12:30:00", "zone": "Etc/UTC"}, {"zone": "Asia/Tokyo"}]}'
    )
    stated = read(tmp_path, sgv(0), sgv(60), options=periods)
    assert [record["timezoneOffset"] for record in stated.records] == [0, 540]
    assert read(tmp_path, sgv(0), timezone="Asia/Tokyo").records[0]["timezoneOffset"] == 540


def test_the_device_is_the_site_unless_the_batch_names_one(tmp_path: Path) -> None:
    made = read(tmp_path, sgv(0), {"type": "mbg", "mbg": 99, "date": ms(1)}, temp(0, 1), profile(zone="UTC"))
    assert {record["deviceId"] for record in made.records} == {"Nightscout"}
    (device,) = made.devices
    assert device.fields == {
        "deviceId": "Nightscout",
        "timeProcessing": "none",
        "deviceTags": ["cgm", "bgm", "insulin-pump"],
        "timezone": "UTC",
    }
    assert read(tmp_path, sgv(0), device_id="mine").records[0]["deviceId"] == "mine"


# ---------------------------------------------------------------- entries


def test_an_entry_becomes_a_reading(tmp_path: Path) -> None:
    made = read(
        tmp_path, sgv(0, "120.5", direction="FortyFiveDown", noise=2, filtered="131.1", unfiltered=None)
    )

    assert made.records == [
        {
            "type": "cbg",
            "time": time_of(0),
            "deviceId": "Nightscout",
            "units": "mg/dL",
            "value": 120.5,
            "trend": "slowFall",
            "payload": {"noise": 2, "filtered": 131.1},
            "origin": {"id": "cbg:e0"},
        }
    ]


def test_milliseconds_are_kept(tmp_path: Path) -> None:
    assert read(tmp_path, sgv(0, date=ms(0) + 5)).records[0]["time"] == "2026-03-05T12:00:00.005Z"


def test_error_codes_are_refused_and_low_values_kept(tmp_path: Path) -> None:
    made = read(
        tmp_path, *[sgv(value, value) for value in (1, 5, 12, 13, 38, 39)], sgv(50, 6.5, units="mmol")
    )

    assert made.rejected == [(row, "staged-sensor-error") for row in range(3)]
    assert [(r["value"], r["units"]) for r in made.records] == [
        (13, "mg/dL"),
        (38, "mg/dL"),
        (39, "mg/dL"),
        (6.5, "mmol/L"),
    ]


def test_other_entries_are_counted(tmp_path: Path) -> None:
    made = read(
        tmp_path,
        {"type": "cal", "date": ms(0), "slope": 1},
        {"type": "rawbg", "date": ms(1)},
        sgv(2, isValid=False),
        {"type": "mbg", "mbg": 88, "date": ms(3), "_id": "m"},
        {"openaps": {}, "created_at": at(4)},
        {"type": "food", "name": "x", "carbs": 3, "created_at": at(5)},
    )

    assert made.skipped == {
        "calibration": 1,
        "other-entry": 1,
        "deleted": 1,
        "device-status": 1,
        "food-catalogue": 1,
    }
    assert [(record["type"], record["value"]) for record in made.records] == [("smbg", 88)]


def test_a_reading_that_is_there_many_times_is_one_whatever_the_order(tmp_path: Path) -> None:
    copies = [sgv(0, _id=f"c{number}") for number in range(5)]
    for order in (copies, copies[::-1]):
        made = read(tmp_path, *order, sgv(0, 121))
        assert list(made.by_name) in (["cbg:c0", "cbg:e0"], ["cbg:e0", "cbg:c0"])
        assert made.skipped == {"duplicate-row": 4}


def test_a_deleted_copy_of_a_reading_does_not_delete_the_other(tmp_path: Path) -> None:
    made = read(tmp_path, sgv(0, _id="a", isValid=False), sgv(0, _id="b"))
    assert list(made.by_name) == ["cbg:b"]


# ---------------------------------------------------------------- treatments


def only(made: Made) -> dict[str, Any]:
    (record,) = made.records
    return {name: value for name, value in record.items() if name not in ("time", "deviceId", "origin")}


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        (treatment(0, "Meal Bolus", insulin="4.5"), {"type": "bolus", "subType": "normal", "normal": 4.5}),
        (treatment(0, "SMB", insulin=0.1), {"type": "bolus", "subType": "automated", "normal": 0.1}),
        (
            treatment(0, "Correction Bolus", insulin=0.3, isSMB=True),
            {"type": "bolus", "subType": "automated", "normal": 0.3},
        ),
        (
            treatment(0, "Correction Bolus", insulin=0.3, automatic=True, type="normal"),
            {"type": "bolus", "subType": "automated", "normal": 0.3},
        ),
        (
            treatment(0, "Correction Bolus", insulin=1, automatic=False),
            {"type": "bolus", "subType": "normal", "normal": 1},
        ),
        (
            treatment(0, "Bolus", insulin=3, bolus={"isExternal": True}),
            {"type": "insulin", "dose": {"total": 3, "units": "Units"}},
        ),
        (
            treatment(0, "Correction Bolus", insulin=12, isBasalInsulin=True),
            {
                "type": "insulin",
                "dose": {"total": 12, "units": "Units"},
                "formulation": {"simple": {"actingType": "long"}},
            },
        ),
        (
            treatment(0, "Combo Bolus", enteredinsulin=6, insulin=2.4, splitNow=40, splitExt=60, duration=90),
            {
                "type": "bolus",
                "subType": "dual/square",
                "normal": 2.4,
                "extended": 3.6,
                "duration": 5_400_000,
            },
        ),
        (
            treatment(0, "Combo Bolus", insulin=2, splitNow=0, splitExt=100, duration=60),
            {"type": "bolus", "subType": "square", "extended": 2, "duration": 3_600_000},
        ),
        (
            treatment(0, "Combo Bolus", insulin=2, splitNow=100, splitExt=0, duration=60),
            {"type": "bolus", "subType": "normal", "normal": 2},
        ),
        (
            treatment(
                0, "Carb Correction", carbs=20, fat=5, protein="3", absorptionTime=120, foodType="toast"
            ),
            {
                "type": "food",
                "name": "toast",
                "nutrition": {
                    "carbohydrate": {"net": 20, "units": "grams"},
                    "fat": {"total": 5, "units": "grams"},
                    "protein": {"total": 3, "units": "grams"},
                    "estimatedAbsorptionDuration": 7200,
                },
            },
        ),
        (
            treatment(0, "BG Check", glucose=6.4, glucoseType="Finger", units="mmol"),
            {"type": "smbg", "units": "mmol/L", "value": 6.4},
        ),
        (
            treatment(0, "BG Check", glucose="115", glucoseType="Finger"),
            {"type": "smbg", "units": "mg/dL", "value": 115},
        ),
        (treatment(0, "Site Change"), {"type": "deviceEvent", "subType": "prime", "primeTarget": "cannula"}),
        (
            treatment(0, "Meal Bolus", insulin=0.7, type="PRIMING"),
            {"type": "deviceEvent", "subType": "prime", "primeTarget": "cannula", "volume": 0.7},
        ),
        (treatment(0, "Insulin Change"), {"type": "deviceEvent", "subType": "reservoirChange"}),
        (
            treatment(0, "Exercise", duration=45),
            {"type": "physicalActivity", "duration": {"units": "minutes", "value": 45}},
        ),
        (
            treatment(0, "Temporary Target", targetTop=160, targetBottom=140, duration=60),
            {
                "type": "deviceEvent",
                "subType": "pumpSettingsOverride",
                "overrideType": "custom",
                "bgTarget": {"low": 140, "high": 160},
                "units": {"bg": "mg/dL"},
                "duration": 3600,
            },
        ),
        (
            treatment(0, "Temporary Target", targetTop=8, targetBottom=8, duration=30, reason="Activity"),
            {
                "type": "deviceEvent",
                "subType": "pumpSettingsOverride",
                "overrideType": "physicalActivity",
                "bgTarget": {"low": 8, "high": 8},
                "units": {"bg": "mmol/L"},
                "duration": 1800,
            },
        ),
        (
            treatment(
                0,
                "Temporary Override",
                reason="Gym",
                duration=60,
                correctionRange=[140, 160],
                insulinNeedsScaleFactor=0.5,
            ),
            {
                "type": "deviceEvent",
                "subType": "pumpSettingsOverride",
                "overrideType": "preset",
                "overridePreset": "Gym",
                "bgTarget": {"low": 140, "high": 160},
                "units": {"bg": "mg/dL"},
                "basalRateScaleFactor": 0.5,
                "carbRatioScaleFactor": 2,
                "insulinSensitivityScaleFactor": 2,
                "duration": 3600,
            },
        ),
        (
            treatment(0, "", carbs=15),
            {"type": "food", "nutrition": {"carbohydrate": {"net": 15, "units": "grams"}}},
        ),
        (
            {"created_at": at(0), "carbs": 15},
            {"type": "food", "nutrition": {"carbohydrate": {"net": 15, "units": "grams"}}},
        ),
        (treatment(0, "Breakfast shot", insulin=2), {"type": "bolus", "subType": "normal", "normal": 2}),
        (treatment(0, "Note", insulin=2), {"type": "bolus", "subType": "normal", "normal": 2}),
    ],
)
def test_a_treatment_is_what_it_carries(tmp_path: Path, document: Document, fields: dict[str, Any]) -> None:
    assert only(read(tmp_path, document)) == fields


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (treatment(0, "Note", notes="x"), "note"),
        (treatment(0, "Announcement", notes="x", isAnnouncement=True), "note"),
        (treatment(0, "Sensor Start"), "sensor-event"),
        (treatment(0, "Pump Battery Change"), "battery-change"),
        (treatment(0, "OpenAPS Offline", duration=60), "loop-state"),
        (treatment(0, "Profile Switch", profile="Default"), "profile-switch"),
        (treatment(0, "Meal Bolus", carbs=None, insulin=0), "empty-event"),
        (treatment(0, "BG Check", glucose=100, glucoseType="Sensor"), "empty-event"),
        (treatment(0, "Something new", value=4), "unknown-event"),
        (treatment(0, "Meal Bolus", insulin=4, isValid=False), "deleted"),
        (treatment(0, "Meal Bolus", insulin=4, isValid="false"), "deleted"),
        (temp(0, 0, 0), "basal-end"),
        (treatment(0, "Temp Basal", reason="Pump resumed"), "basal-end"),
        (treatment(0, "Temporary Target", duration=0), "override-end"),
    ],
)
def test_what_is_no_reading_is_counted(tmp_path: Path, document: Document, reason: str) -> None:
    made = read(tmp_path, document)
    assert (made.records, made.skipped, made.rejected) == ([], {reason: 1}, [])


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (treatment(0, "Meal Bolus", insulin="two"), "staged-not-a-number"),
        (treatment(0, "Meal Bolus", insulin=[1]), "staged-not-a-number"),
        (treatment(0, "Meal Bolus", insulin=10**400), "staged-not-a-number"),
        (treatment(0, "Meal Bolus", insulin=1, created_at="yesterday"), "staged-time-unreadable"),
        (treatment(0, "BG Check", glucose=30, glucoseType="Finger"), "staged-units-unknown"),
        (treatment(0, "Temp Basal", duration=30), "staged-no-amount"),
        (treatment(0, "Combo Bolus", insulin=2, splitNow=50, splitExt=50), "staged-no-amount"),
        (temp(0, 110), "staged-percent-as-rate"),
        (treatment(0, "Temp Basal", percent=20, duration=30), "staged-profile-missing"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, document: Document, code: str) -> None:
    made = read(tmp_path, document)
    assert (made.records, made.rejected) == ([], [(0, code)])


def test_free_text_is_left_out_unless_it_is_asked_for(tmp_path: Path) -> None:
    documents = [treatment(0, "Note", notes="felt low"), treatment(1, "Meal Bolus", carbs=9, notes="cake")]

    assert b"cake" not in b"".join(read(tmp_path, *documents).lines)
    note, food = read(tmp_path, *documents, options=KEPT_NOTES).records

    assert (note["type"], note["states"]) == ("reportedState", [{"state": "other", "stateOther": "note"}])
    assert (note["notes"], food["notes"]) == (["felt low"], ["cake"])


def test_the_same_dose_and_carbs_are_told_once(tmp_path: Path) -> None:
    documents = [
        treatment(0, "Meal Bolus", insulin=4, carbs=30, _id="b", created_at="2026-03-05T14:00:00+0200"),
        treatment(0, "Correction Bolus", insulin="4.0", _id="a", isSMB=True),
        treatment(0, "Carb Correction", carbs=30, _id="c"),
        treatment(0, "Carb Correction", carbs=31, _id="d"),
        treatment(1, "Meal Bolus", insulin=4, _id="e"),
    ]
    for order in (documents, documents[::-1]):
        made = read(tmp_path, *order)
        assert sorted(made.by_name) == ["bolus:a", "bolus:e", "food:b", "food:d"]
        assert json.loads(made.by_name["bolus:a"])["subType"] == "automated"
        assert made.skipped == {"duplicate-row": 1}


def test_a_finger_value_in_entries_and_treatments_is_one(tmp_path: Path) -> None:
    meter = {"type": "mbg", "mbg": 115, "date": ms(0), "_id": "m"}
    documents = [
        treatment(0.5, "BG Check", glucose=115, glucoseType="Finger", units="mg/dl"),
        treatment(0.9, "BG Check", glucose=6.4, glucoseType="Finger", units="mmol"),
        treatment(0.7, "BG Check", glucose=116, glucoseType="Finger", units="mg/dl"),
        treatment(5, "BG Check", glucose=115, glucoseType="Finger", units="mg/dl"),
    ]

    made = read_files(tmp_path, {"t.json": text_of(documents), "e.json": text_of([meter])})

    assert sorted(made.by_name) == ["smbg:m", "smbg:t0.7", "smbg:t5"]


def test_a_newer_version_of_a_document_takes_the_place_of_the_older(tmp_path: Path) -> None:
    old = treatment(0, "Meal Bolus", insulin=4, srvModified=5)
    new = treatment(1, "Meal Bolus", insulin=5, srvModified=9, _id=old["_id"])
    for order in ((old, new), (new, old)):
        made = read(tmp_path, *order)
        assert [record["normal"] for record in made.records] == [5]
        assert made.skipped == {"duplicate-row": 1}
    made = read(tmp_path, old, new | {"isValid": False})
    assert (made.records, made.skipped) == ([], {"duplicate-row": 1, "deleted": 1})


def test_one_id_for_several_events_does_not_merge_them(tmp_path: Path) -> None:
    events = [treatment(minute, "Carb Correction", carbs=5, id="same") for minute in range(3)]
    assert sorted(read(tmp_path, *events).by_name) == ["food:t0", "food:t1", "food:t2"]

    bare = [{key: value for key, value in event.items() if key != "_id"} for event in events]
    assert sorted(read(tmp_path, *bare).by_name) == [f"food:same:{time_of(minute)}" for minute in range(3)]


def test_a_bolus_calculation_has_its_bolus_inside_and_leaves_carbs_to_the_food(tmp_path: Path) -> None:
    inputs = {"bg": 180, "isf": 50, "ic": 10, "targetBGLow": 100, "targetBGHigh": 110, "iob": 0.5}
    made = read(
        tmp_path,
        treatment(0, "Bolus Wizard", insulin=4, carbs=30, boluscalc=inputs | {"insulincarbs": 3}),
        treatment(1, "Bolus Wizard", bolusCalculatorResult=json.dumps({"glucoseValue": 180, "ic": 9})),
        treatment(2, "Bolus Wizard", insulin=1, boluscalc={}),
    )

    wizard, food, alone, bolus = made.records
    assert (wizard["bolus"]["normal"], wizard["bolus"]["origin"]) == (4, {"id": "bolus:t0"})
    assert "carbInput" not in wizard
    assert food["nutrition"]["carbohydrate"]["net"] == 30
    assert (wizard["bgInput"], wizard["insulinSensitivity"], wizard["insulinCarbRatio"]) == (180, 50, 10)
    assert (wizard["insulinOnBoard"], wizard["recommended"], wizard["units"]) == (0.5, {"carb": 3}, "mg/dL")
    assert (alone["type"], bolus["type"]) == ("wizard", "bolus")


def test_a_target_ends_where_the_next_one_begins(tmp_path: Path) -> None:
    target = {"targetTop": 150, "targetBottom": 150}
    made = read(
        tmp_path,
        treatment(0, "Temporary Target", duration=60, **target),
        treatment(20, "Temporary Target", duration=60, **target),
        treatment(30, "Temporary Override", reason="Gym"),
        treatment(35, "Temporary Target", duration=0),
        treatment(50, "Temporary Override Cancel"),
        treatment(90, "Temporary Target", duration=10, **target),
    )

    spans = [(record.get("duration"), record.get("expectedDuration")) for record in made.records]
    assert spans == [(1200, 3600), (900, 3600), (1200, None), (600, None)]
    assert made.skipped == {"override-end": 2}


# ---------------------------------------------------------------- profiles


def test_a_profile_becomes_pump_settings(tmp_path: Path) -> None:
    made = read(
        tmp_path,
        profile(
            0,
            {"00:00": "0.5", "06:30": "0.8"},
            store={
                "units": "mmol",
                "sens": [{"time": "00:00", "timeAsSeconds": "0", "value": "3"}],
                "carbratio": [{"timeAsSeconds": 21600, "value": 10}, {"timeAsSeconds": 0, "value": 12}],
                "target_low": [{"time": "00:00", "value": 5}],
                "target_high": [{"time": "00:00", "value": 6}, {"time": "22:00", "value": 7}],
            },
        ),
    )

    assert only(made) == {
        "type": "pumpSettings",
        "deviceTime": "2026-03-05T12:00:00",
        "timezoneOffset": 0,
        "activeSchedule": "Default",
        "units": {"bg": "mmol/L", "carb": "grams"},
        "basalSchedules": {"Default": [{"rate": 0.5, "start": 0}, {"rate": 0.8, "start": 23_400_000}]},
        "bgTargets": {
            "Default": [{"start": 0, "low": 5, "high": 6}, {"start": 79_200_000, "low": 5, "high": 7}]
        },
        "carbRatios": {"Default": [{"amount": 12, "start": 0}, {"amount": 10, "start": 21_600_000}]},
        "insulinSensitivities": {"Default": [{"amount": 3, "start": 0}]},
    }


def test_a_profile_that_says_the_same_again_is_counted(tmp_path: Path) -> None:
    made = read(tmp_path, profile(3), profile(1), profile(2), profile(4, {"00:00": 2}), profile(5))
    assert sorted(made.by_name) == ["pumpSettings:p1", "pumpSettings:p4", "pumpSettings:p5"]
    assert made.skipped == {"unchanged-profile": 2}


def test_a_profile_without_a_date_has_that_of_its_making_or_none(tmp_path: Path) -> None:
    since_ever = {"startDate": "1970-01-01T00:00:00.000Z", "mills": 0}
    dated = read(tmp_path, profile(0, created_at=at(7)) | since_ever)
    assert dated.records[0]["time"] == time_of(7)
    undated = read(tmp_path, profile(0) | since_ever)
    assert (undated.records, undated.skipped) == ([], {"undated-profile": 1})


def test_a_profile_whose_values_are_not_in_its_unit_is_refused(tmp_path: Path) -> None:
    made = read(tmp_path, profile(store={"units": "mmol", "sens": [{"time": "00:00", "value": 100}]}))
    assert made.rejected == [(0, "staged-units-implausible")]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"noise": 1, "filtered": 0, "unfiltered": None, "rssi": 100},
        {"noise": 1.5, "rssi": "120", "filtered": 10**15, "unfiltered": -(10**15) + 1},
        {"_id": None},
        {"_id": " a "},
        {"_id": "\u0661", "direction": "FortyFiveUp"},
        {"_id": "A" * 97, "direction": None},
        {"identifier": "", "_id": "x-1", "direction": "NOT COMPUTABLE"},
        {"identifier": "first", "id": "second", "direction": 5},
        {"units": "mmol", "sgv": 13},
        {"isValid": False},
        {"sgv": 12},
        {"sgv": 120.0},
        {"eventType": None},
        {"status": 200, "result": {"type": "sgv", "sgv": 99, "date": ms(1)}},
    ],
)
def test_a_reading_is_the_same_however_much_of_it_is_looked_at(
    tmp_path: Path, more: dict[str, object]
) -> None:
    short = sgv(0) | more
    made = read(tmp_path, short)
    whole = read(tmp_path, short | {"device": "x" * 3000})  # which is decoded as a whole
    assert (made.lines, made.skipped, made.rejected) == (whole.lines, whole.skipped, whole.rejected)


def test_of_a_reading_told_twice_the_same_name_counts_in_any_order(tmp_path: Path) -> None:
    short, long = sgv(0, _id="b"), sgv(0, _id="a", device="x" * 3000)
    expected = read(tmp_path, long, short)
    assert [record["origin"]["id"] for record in expected.records] == ["cbg:a"]
    assert read(tmp_path, short, long).by_name == expected.by_name


@pytest.mark.parametrize("device", ["x", "x" * 3000])
def test_white_space_around_a_document_of_a_line_is_none_of_it(tmp_path: Path, device: str) -> None:
    line = json.dumps(sgv(0, device=device)).encode()
    made = read_files(tmp_path, {"a.json": b" \t" + line + b" \n" + line.replace(b"e0", b"e1") + b"\n"})
    assert (len(made.lines), made.rejected) == (1, [])


@pytest.mark.parametrize("hidden", [b'"\xff"', b'"\t"', b"01", b"9" * 5000, b"[1,]", b"tru"])
def test_what_is_no_json_is_so_where_nothing_counts_too(tmp_path: Path, hidden: bytes) -> None:
    good = json.dumps(sgv(0)).encode()
    made = read_files(tmp_path, {"a.json": good + b"\n" + good[:-1] + b',"device":' + hidden + b"}\n"})
    assert [position for position, _code in made.rejected] == [1]


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia"]
)
def test_a_clock_knows_each_quarter_hour_of_the_days_on_which_it_is_set(zone: str) -> None:
    clock, info = Clock(zone), zone_named(zone)
    start = datetime(2011, 1, 1, tzinfo=UTC)
    for hour in range(366 * 24):
        moment = start + timedelta(hours=hour, minutes=hour % 4 * 15)
        ahead = moment.astimezone(info).utcoffset()
        assert ahead is not None
        assert clock.offset(round(moment.timestamp() * 1000)) == ahead.total_seconds() / 60, moment


# ---------------------------------------------------------------- hostile documents

_WORDS: list[object] = [
    None, True, False, 0, -1, 1e308, 10**30, float("nan"), "", " ", "x", "1,5", "NaN", [], {}, [[]],
    {"$oid": "x"}, {"$date": {}}, {"a": {"b": []}}, "\ud800", "\0", "é" * 300, at(0), ms(0), "2026-13-41",
]  # fmt: skip


def _garbled(chosen: random.Random) -> Document:
    documents: list[Document] = [
        sgv(chosen.randrange(99)),
        temp(chosen.randrange(99), 1, percent=chosen.choice([None, 10])),
        treatment(chosen.randrange(99), "Combo Bolus", insulin=2, splitNow=50, splitExt=50, duration=30),
        treatment(chosen.randrange(99), "Bolus Wizard", carbs=3, boluscalc={"bg": 100, "ic": 9}),
        treatment(chosen.randrange(99), "Temporary Override", correctionRange=[90, 100], duration=5),
        treatment(chosen.randrange(99), "BG Check", glucose=99, glucoseType="Finger"),
        treatment(
            chosen.randrange(99), "Profile Switch", profile="Default", percentage=90, timeshift=1, duration=9
        ),
        treatment(chosen.randrange(99), chosen.choice(["Suspend Pump", "Resume Pump", "Pod Change", "Note"])),
        profile(chosen.randrange(99), {"00:00": 1, "12:30": 2}),
        {"type": "mbg", "mbg": 100, "date": ms(3)},
    ]
    document = chosen.choice(documents)
    for _ in range(chosen.randrange(4)):
        document[chosen.choice([*document, "units", "percent", "store", "isValid"])] = chosen.choice(_WORDS)
    return document


@pytest.mark.parametrize("seed", range(4))
def test_no_document_breaks_the_others(tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)
    lines = [json.dumps(_garbled(chosen)).encode() for _ in range(300)]
    lines += [
        b"{",
        b"[]",
        b"1",
        b'{"eventType":' * 3000,
        b'{"eventType":"\xff"}',
        b'{"a":' + b"9" * 5000 + b"}",
    ]
    chosen.shuffle(lines)
    whole = json.dumps(sgv(0, 98, _id="z")).encode()
    content = b"\n".join([whole, *lines, b""])

    made = read_files(tmp_path, {"garbled.json": content}, timezone="Europe/Berlin", is_checked=False)

    assert made.rows == len(lines) + 1
    assert b'cbg:z"' in b"".join(made.lines)

"""Exports of Dexcom Clarity: rows by position, instants by the transmitters' clocks, nothing lost."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tests.factories import ORIGIN
from tests.formats.clarity_files import (
    BORN,
    GERMAN,
    HEADER,
    NAME,
    Row,
    clock_of,
    event,
    export,
    in_order,
    reading,
    travelling,
    utc,
    worn,
)
from tests.world import World
from tidepool_ingest.errors import IngestError
from tidepool_ingest.formats import SourceReader, guess_format
from tidepool_ingest.formats.clarity import DEVICE_ID, ClarityReader
from tidepool_ingest.formats.clarity.records import CLOCK_NOT_IN_ZONE, Records, Survey
from tidepool_ingest.formats.delimited import Rows
from tidepool_ingest.formats.holds import ClockHeldError
from tidepool_ingest.formats.reader import Device, ReadingContext
from tidepool_ingest.local_times import LocalTimes, Period
from tidepool_ingest.model import validate_lines
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import FileOptions, ZonePeriod
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import GIVEN

BERLIN = "Europe/Berlin"
HALF_HOUR = timedelta(minutes=30)
UNCERTAIN = {"code": "uncertain-timestamp"}


@dataclass
class Made:
    """What a file gives."""

    records: list[dict[str, Any]] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    elsewhere: list[str] = field(default_factory=list)
    rows: int = 0
    devices: list[Device] = field(default_factory=list)

    def times(self, kind: str = "cbg") -> list[str]:
        return [record["time"] for record in self.records if record["type"] == kind]

    @property
    def by_name(self) -> dict[str, dict[str, Any]]:
        return {record["origin"]["id"]: record for record in self.records}


def read(
    folder: Path,
    content: bytes,
    zone: str | None = BERLIN,
    *,
    meant_as: tuple[str, ...] = (),
    device_id: str | None = None,
    **options: Any,
) -> Made:
    (folder / "clarity.csv").write_bytes(content)
    path = UPath(folder / "clarity.csv")
    file = SourceFile(path, "clarity", 1, below_root=GIVEN, options=FileOptions(**options))
    context = ReadingContext(timezone=zone, meant_as=meant_as, device_id=device_id)
    made = Made()
    with SourceReader([file], context) as source:
        for block in source:
            made.lines += block.lines
            made.refused += [(row.position, row.code, row.where) for row in block.rejected]
            made.counted.update(block.skipped)
            for index, line in enumerate(block.lines):
                row = block.row(index)
                assert row.text in content
                assert int(row.where.removeprefix("line ")) >= row.position + 2
                if block.warning == CLOCK_NOT_IN_ZONE:
                    made.elsewhere.append(json.loads(line)["deviceTime"])
        made.rows = source.rows[1]
        reader = source._readers[0]
        made.devices = reader.devices()
        assert reader.has_names
    made.records = [json.loads(line) for line in made.lines]
    if len(made.lines) < 1000:
        assert [found.problems for found in validate_lines(made.lines)] == [()] * len(made.lines)
    return made


def read_rows(folder: Path, *rows: Row, **more: Any) -> Made:
    return read(folder, export(rows, metadata=()), **more)


# ---------------------------------------------------------------- what a row becomes


def test_a_reading_is_named_by_transmitter_and_its_time(tmp_path: Path) -> None:
    made = read_rows(tmp_path, reading("2026-02-03T10:00:00", 7200, 94))

    assert made.records == [
        {
            "type": "cbg",
            "time": "2026-02-03T09:00:00Z",
            "deviceId": "Dexcom-Clarity",
            "deviceTime": "2026-02-03T10:00:00",
            "timezoneOffset": 60,
            "units": "mg/dL",
            "value": 94,
            "sampleInterval": 300000,
            "origin": {"id": "cbg:8TEST1:7200"},
        }
    ]


EVENTS = [
    (event("", "Calibration", glucose=101, transmitter="8TEST1"), "deviceEvent:calibration"),
    (event("", "Insulin", "Fast-Acting", insulin="3.00"), "insulin:rapid"),
    (event("", "Insulin", "Long-Acting", insulin="12.50"), "insulin:long"),
    (event("", "Insulin", insulin="1"), "insulin:"),
    (event("", "Carbs", carbs=45), "food:"),
    (event("", "Exercise", "Light", duration="00:45:00"), "physicalActivity:low"),
    (event("", "Activity", "Medium", duration="1:00:30"), "physicalActivity:medium"),
    (event("", "Exercise", "Heavy"), "physicalActivity:high"),
    (event("", "Health", "Alcohol"), "reportedState:alcohol"),
    (event("", "Health", "Cycle"), "reportedState:cycle"),
    (event("", "Health", "Illness"), "reportedState:illness"),
    (event("", "Health", "Stress"), "reportedState:stress"),
    (event("", "Health", "Low Symptoms"), "reportedState:hypoglycemiaSymptoms"),
    (event("", "Health", "High Symptoms"), "reportedState:hyperglycemiaSymptoms"),
    (event("", "Fasting Glucose", glucose=88), "smbg:manual"),
]
FIELDS: dict[str, dict[str, Any]] = {
    "deviceEvent:calibration": {"subType": "calibration", "units": "mg/dL", "value": 101},
    "insulin:rapid": {
        "dose": {"units": "Units", "total": 3.0},
        "formulation": {"simple": {"actingType": "rapid"}},
    },
    "insulin:long": {
        "dose": {"units": "Units", "total": 12.5},
        "formulation": {"simple": {"actingType": "long"}},
    },
    "insulin:": {"dose": {"units": "Units", "total": 1}},
    "food:": {"nutrition": {"carbohydrate": {"units": "grams", "net": 45}}},
    "physicalActivity:low": {
        "reportedIntensity": "low",
        "duration": {"units": "seconds", "value": 2700},
    },
    "physicalActivity:medium": {
        "reportedIntensity": "medium",
        "duration": {"units": "seconds", "value": 3630},
    },
    "physicalActivity:high": {"reportedIntensity": "high"},
    "smbg:manual": {"subType": "manual", "units": "mg/dL", "value": 88},
}


@pytest.mark.parametrize(("row", "name"), EVENTS, ids=[name for _row, name in EVENTS])
def test_an_event_is_named_by_kind_stamp_and_order(tmp_path: Path, row: Row, name: str) -> None:
    made = read_rows(tmp_path, ("2026-07-03T10:00:00", *row[1:]))

    kind, _, state = name.partition(":")
    fields = FIELDS.get(name, {"states": [{"state": state}]})
    assert made.records == [
        {
            "type": kind,
            "time": "2026-07-03T08:00:00Z",
            "deviceId": DEVICE_ID,
            "deviceTime": "2026-07-03T10:00:00",
            "timezoneOffset": 120,
            **fields,
            "origin": {"id": f"{name}:2026-07-03T10:00:00:0"},
        }
    ]


def test_numbers_keep_their_digits(tmp_path: Path) -> None:
    row = event("2026-07-03T10:00:00", "Insulin", "Fast-Acting", insulin="3,50")
    lines = read_rows(tmp_path, row, reading("2026-07-03T10:05:00", "900.0", "108.0")).lines

    assert b'"total":3.50}' in lines[0]
    assert b'"value":108.0,' in lines[1]
    assert b'"cbg:8TEST1:900"' in lines[1]


LOW_AND_HIGH = [
    (HEADER, "Low", 39, "low", 40),
    (HEADER, "High", 401, "high", 400),
    (GERMAN, "Niedrig", 2.2, "low", 2.2),
    (GERMAN, "Hoch", 22.3, "high", 22.2),
    (GERMAN, "HIGH", 22.3, "high", 22.2),
    (HEADER, "Élevé", 401, "high", 400),
]


@pytest.mark.parametrize(("header", "word", "value", "side", "bound"), LOW_AND_HIGH)
def test_what_no_sensor_shows_is_written_as_words(
    tmp_path: Path, header: Sequence[str], word: str, value: float, side: str, bound: float
) -> None:
    rows = [event("2026-07-03T10:00:00", "EGV", word, glucose=word, count=900, transmitter="8TEST1")]
    [record] = read(tmp_path, export(rows, header=header)).records

    assert record["value"] == value
    assert record["annotations"] == [{"code": "bg/out-of-range", "value": side, "threshold": bound}]


def test_german_files_are_read_by_position(tmp_path: Path) -> None:
    rows = [
        event("2026-01-01 0:04:45", "EGV", glucose="5,8", count=388692, transmitter="111111111111"),
        event("2026-01-01 0:05:00", "Insulin", "Schnell wirkend", insulin="4,00"),
        event("2026-01-01 0:06:00", "Kohlenhydrate", carbs="30"),
    ]
    metadata = [("", "Vorname", "", NAME), ("", "Gerät", "", "", "Dexcom G7", "iOS G7")]
    content = export(rows, header=GERMAN, metadata=metadata, delimiter=";", width=14, start=b"", quoted=True)
    made = read(tmp_path, content, "Europe/Zurich")

    assert [(one["type"], one["time"]) for one in made.records] == [
        ("cbg", "2025-12-31T23:04:45Z"),
        ("insulin", "2025-12-31T23:05:00Z"),
        ("food", "2025-12-31T23:06:00Z"),
    ]
    assert made.records[0]["units"] == "mmol/L"
    assert made.records[0]["value"] == 5.8
    assert made.counted == {"metadata": 2}
    assert not made.refused


@pytest.mark.parametrize("width", [12, 13, 14])
def test_old_files_have_fewer_columns(tmp_path: Path, width: int) -> None:
    rows = [reading("2026-02-03T10:00:00", 7200)[:13], reading("2026-02-03T10:05:00", 7500)]
    rows = [row[: width - 1] for row in rows]
    made = read(tmp_path, export(rows, width=width, start=b"\xef\xbb\xbf\xc3\xaf\xc2\xbb\xc2\xbf"))

    assert made.times() == ["2026-02-03T09:00:00Z", "2026-02-03T09:05:00Z"]
    by_stamp = ["cbg::2026-02-03T10:00:00:0", "cbg::2026-02-03T10:05:00:0"]
    assert [*made.by_name] == (["cbg:8TEST1:7200", "cbg:8TEST1:7500"] if width == 14 else by_stamp)


def test_the_name_of_the_data_sets_device_wins(tmp_path: Path) -> None:
    made = read_rows(tmp_path, reading("2026-02-03T10:00:00", 7200), device_id='study "7"')
    assert made.records[0]["deviceId"] == 'study "7"'


def test_the_file_tells_of_one_device(tmp_path: Path) -> None:
    [device] = read(tmp_path, export([reading("2026-02-03T10:00:00", 7200)])).devices

    assert device == Device(
        "",
        {
            "deviceId": "Dexcom-Clarity",
            "deviceManufacturers": ["Dexcom"],
            "deviceModel": "G6",
            "deviceTags": ["cgm"],
            "timeProcessing": "across-the-board-timezone",
        },
    )


# ---------------------------------------------------------------- what gives no record


def test_rows_without_a_stamp_are_metadata_however_many(tmp_path: Path) -> None:
    metadata = [("", "Sensor", "", "", "G7", "iOS G7")] * 40
    made = read(tmp_path, export([reading("2026-02-03T10:00:00", 7200)], metadata=metadata))

    assert made.counted == {"metadata": 40}
    assert made.rows == 41


def test_notes_stay_out_unless_they_are_wanted(tmp_path: Path) -> None:
    text = 'slept "badly"'
    rows = [
        event("2026-07-03T10:00:00", "Notes", text),
        event("2026-07-03T10:01:00", "Notes"),
        event("2026-07-03T10:02:00", "Note", person="x" * 1500),
    ]
    made = read_rows(tmp_path, *rows)
    assert made.counted == {"note": 2, "empty-event": 1}
    assert not made.records

    kept = read_rows(tmp_path, *rows, keep_notes=True)
    assert kept.counted == {"empty-event": 1}
    assert [one["notes"] for one in kept.records] == [[text], ["x" * 1000, "x" * 500]]
    assert kept.records[0]["states"] == [{"state": "other", "stateOther": "note"}]


def test_settings_with_a_stamp_are_counted(tmp_path: Path) -> None:
    made = read_rows(tmp_path, event("2026-07-03T10:00:00", "Alert", "High", glucose=250))
    assert made.counted == {"metadata": 1}


def test_rows_that_are_there_twice_are_counted_and_others_of_that_minute_are_not(tmp_path: Path) -> None:
    dose = event("2026-07-03T10:00:00", "Insulin", "Fast-Acting", insulin="2.00")
    other = event("2026-07-03T10:00:00", "Insulin", "Fast-Acting", insulin="3.00")
    shown = reading("2026-07-03T10:05:00", 7200)
    made = read_rows(tmp_path, dose, other, dose, shown, shown)

    assert made.counted == {"duplicate-row": 2}
    assert [*made.by_name] == [
        "insulin:rapid:2026-07-03T10:00:00:0",
        "insulin:rapid:2026-07-03T10:00:00:1",
        "cbg:8TEST1:7200",
    ]


def test_a_file_in_another_order_has_the_same_records(tmp_path: Path) -> None:
    day = [row for _at, row in worn(clock_of(BERLIN), utc("2026-10-24T12:00"), utc("2026-10-25T12:00"))]
    doses = [event(f"2026-10-24T{hour}:01:00", "Insulin", "Fast-Acting", insulin=hour) for hour in (15, 16)]
    rows = in_order((utc("2026-10-24T12:00"), row) for row in [*day, *doses, *doses, *day[100:103]])
    made = read(tmp_path, export(rows))
    assert made.counted["duplicate-row"] == 5

    again = (Counter(rows) - Counter(set(rows))).elements()
    for mixed in (rows[::-1], sorted(rows, key=lambda row: row[6:]), [*dict.fromkeys(rows), *again]):
        other = read(tmp_path, export(mixed))
        assert other.by_name == made.by_name
        assert len(other.records) == len(made.records)
        assert other.counted == made.counted


def test_two_exports_in_one_file_are_one(tmp_path: Path) -> None:
    rows = [reading("2026-02-03T10:00:00", 7200), HEADER[1:], reading("2026-02-03T09:55:00", 6900)]
    made = read_rows(tmp_path, *rows)

    assert made.times() == ["2026-02-03T09:00:00Z", "2026-02-03T08:55:00Z"]
    assert made.counted == {"metadata": 1}


REFUSED = [
    (reading("2026-13-03T10:00:00", 7200), "staged-time-unreadable"),
    (reading("03/02/2026 10:00", 7200), "staged-time-unreadable"),
    (reading("2026-02-03T10:00:60", 7200), "staged-time-unreadable"),
    (reading("2026-02-03T10:00:00+01:00", 7200), "staged-time-unreadable"),
    (reading("", 7200), "staged-time-unreadable"),
    (reading("0026-02-03T10:00:00", 7200), "staged-time-unreadable"),
    (reading("2026-02-03T10:00:00", 7200, "???"), "staged-not-a-number"),
    (reading("2026-02-03T10:00:00", 7200, "1.2.3"), "staged-not-a-number"),
    (reading("2026-02-03T10:00:00", 7200, "NaN"), "staged-not-a-number"),
    (reading("2026-02-03T10:00:00", 7200, ""), "staged-no-amount"),
    (event("2026-02-03T10:00:00", "Insulin", "Fast-Acting"), "staged-no-amount"),
    (event("2026-02-03T10:00:00", "Carbs"), "staged-no-amount"),
    (event("2026-02-03T10:00:00", "Insulin", "Premixed", insulin=3), "staged-event-unknown"),
    (event("2026-02-03T10:00:00", "Health", "Zebulon"), "staged-event-unknown"),
    (event("2026-02-03T10:00:00", "Exercise", "Zebulon"), "staged-event-unknown"),
    (event("2026-02-03T10:00:00", "Zebulon", glucose=100), "staged-event-unknown"),
    (event("2026-02-03T10:00:00", "", glucose=100), "staged-event-unknown"),
    (event("2026-02-03T10:00:00", "Exercise", "Light", duration="long"), "staged-not-a-number"),
    (event("2026-02-03T10:00:00", "EGV", glucose=5, insulin=8), "staged-split-decimal"),
    (event("2026-02-03T10:00:00", "Calibration", glucose=5, insulin=8), "staged-split-decimal"),
    (event("2026-02-03T10:00:00", "Insulin", "Fast-Acting", insulin=2, carbs=5), "staged-split-decimal"),
    (event("2026-02-03T10:00:00", "Carbs", carbs=2, duration=5), "staged-split-decimal"),
    ((*reading("2026-02-03T10:00:00", 7200), "more"), "staged-row-ragged"),
]


@pytest.mark.parametrize(("row", "code"), REFUSED)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path: Path, row: Row, code: str) -> None:
    made = read_rows(tmp_path, reading("2026-02-03T09:55:00", 6900), row)

    assert made.refused == [(1, code, "line 3")]
    assert made.times() == ["2026-02-03T08:55:00Z"]
    assert made.rows == 2


def test_short_and_damaged_rows_are_refused(tmp_path: Path) -> None:
    whole = export([reading("2026-02-03T10:00:00", 7200)], metadata=())
    made = read(tmp_path, whole + b'3,2026-02-03T10:05:00,EGV\r\n4,\x00,EGV\r\n"5,2026-02-03T10:10')

    assert [(place, code) for place, code, _where in made.refused] == [
        (1, "staged-row-ragged"),
        (2, "staged-nul"),
        (3, "staged-row-broken"),
    ]


def test_a_quote_that_is_not_closed_makes_no_record_of_two_lines(tmp_path: Path) -> None:
    rows = [reading(f"2026-02-03T10:{minute:02}:00", 7200 + 60 * minute, minute) for minute in range(40, 50)]
    content = export([*rows, event("2026-02-03T11:00:00", "Note", "one\ntwo")], metadata=())
    for place in (b"EGV,", b"EGV,,,,android G6,"):
        damaged = content.replace(b"4,2026-02-03T10:43:00,EGV,", b'4,,EGV,"')
        damaged = damaged.replace(b"7,2026-02-03T10:46:00," + place, b"7,2026-02-03T10:46:00," + place + b'"')
        made = read(tmp_path, damaged, keep_notes=True)

        assert [one["value"] for one in made.records[:-1]] == [40, 41, 42, 47, 48, 49]
        assert made.records[-1]["notes"] == ["one\ntwo"]
        assert made.refused == [(3, "staged-row-broken", "line 5")]


def test_an_event_of_nothing_is_empty(tmp_path: Path) -> None:
    assert read_rows(tmp_path, event("2026-02-03T10:00:00", "")).counted == {"empty-event": 1}


# ---------------------------------------------------------------- what is no such file


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "file-empty"),
        (b"\xef\xbb\xbf\r\n\r\n", "file-empty"),
        (export([], metadata=()), "file-empty"),
        (b"Device,Serial Number,Device Timestamp\r\nx,y,z\r\n", "file-other-format"),
        (export([reading("2026-02-03T10:00:00", 1)], delimiter=":"), "file-other-format"),
        (b'{"type": "cbg"}\n', "file-other-format"),
        (export([reading("2026-02-03T10:00:00", 1)]).decode().encode("utf-16"), "file-encoding"),
        (
            export([reading("2026-02-03T10:00:00", 1)]).replace(b"mg/dL/min", b"mmol/L/min"),
            "file-other-format",
        ),
        (export([reading("2026-02-03T10:00:00", 1)]).replace(b" (mg/dL)", b""), "file-other-format"),
        (export([reading("2026-02-03T10:00:00", 1)]).replace(b"\r\n", b"\r"), "file-not-records"),
    ],
)
def test_another_file_is_told_from_it(tmp_path: Path, content: bytes, code: str) -> None:
    with pytest.raises(BatchError) as caught:
        read(tmp_path, content)
    assert caught.value.code == code


def test_stamps_need_a_time_zone(tmp_path: Path) -> None:
    content = export([reading("2026-02-03T10:00:00", 7200)])
    with pytest.raises(BatchError) as caught:
        read(tmp_path, content, None)
    assert caught.value.code == "timezone-missing"

    assert read(tmp_path, content, "Asia/Tokyo", timezone="America/New_York").times() == [
        "2026-02-03T15:00:00Z"
    ]


@pytest.mark.parametrize("header", [HEADER, HEADER[:12], GERMAN])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_the_file_is_recognized_by_its_header(
    tmp_path: Path, header: tuple[str, ...], delimiter: str
) -> None:
    content = export([], header=header, width=len(header), delimiter=delimiter)
    (tmp_path / "some.csv").write_bytes(content)

    assert guess_format(UPath(tmp_path / "some.csv")) == "clarity"
    assert not ClarityReader.recognizes(content.replace(b"L/min)", b")"))
    assert not ClarityReader.recognizes(b"")


# ---------------------------------------------------------------- which instant a stamp was


def offsets(rows: Sequence[tuple[datetime, Row]]) -> dict[str, str]:
    """Return the instant of each reading by its name, as it really was."""
    return {f"cbg:{row[12]}:{row[11]}": at.strftime("%Y-%m-%dT%H:%M:%SZ") for at, row in rows}


def found(made: Made) -> dict[str, str]:
    return {name: one["time"] for name, one in made.by_name.items() if one["type"] == "cbg"}


CHANGES = [
    (BERLIN, "2026-10-24T20:00", "2026-10-25T05:00"),
    (BERLIN, "2026-10-25T00:10", "2026-10-25T05:00"),  # begins in the first pass
    (BERLIN, "2026-10-25T01:10", "2026-10-25T05:00"),  # begins in the second
    (BERLIN, "2026-03-28T20:00", "2026-03-29T05:00"),
    ("America/New_York", "2026-11-01T02:00", "2026-11-01T12:00"),
    ("Australia/Lord_Howe", "2026-04-04T10:00", "2026-04-04T20:00"),
    ("Asia/Kolkata", "2026-04-04T10:00", "2026-04-04T20:00"),
]


@pytest.mark.parametrize(("zone", "first", "last"), CHANGES)
def test_the_transmitter_tells_the_passes_of_a_doubled_hour(
    tmp_path: Path, zone: str, first: str, last: str
) -> None:
    rows = list(worn(clock_of(zone), utc(first), utc(last)))
    made = read(tmp_path, export(in_order(rows)), zone)

    assert found(made) == offsets(rows)
    assert not made.elsewhere
    assert not any("annotations" in one for one in made.records)


JOURNEYS = [
    ([("2026-02-05T10:02", "2026-02-06T10:02", -60)], 288),
    ([("2026-02-05T10:02", "2026-02-06T10:02", 540)], 288),
    ([("2026-02-05T10:02", "2026-02-06T10:02", 330)], 288),
    ([("2026-02-05T10:02", "2026-02-05T10:22", 60)], 4),  # shorter than the hour that the clock was set by
    ([("2026-02-01T00:00", "2026-02-03T10:02", 60), ("2026-02-07T10:02", "2026-02-20T00:00", -120)], None),
]


@pytest.mark.parametrize(("journeys", "away"), JOURNEYS)
def test_journeys_are_found_and_reported(
    tmp_path: Path, journeys: list[tuple[str, str, int]], away: int | None
) -> None:
    clock = travelling(clock_of(BERLIN), [(utc(begins), utc(ends), by) for begins, ends, by in journeys])
    rows = list(worn(clock, utc("2026-02-02T12:00"), utc("2026-02-09T12:00")))
    made = read(tmp_path, export(in_order(rows)))

    assert found(made) == offsets(rows)
    home = clock_of(BERLIN)
    assert len(made.elsewhere) == sum(clock(at) != home(at) for at, _row in rows)
    assert away is None or len(made.elsewhere) == away


def test_a_journey_goes_on_under_the_next_transmitter(tmp_path: Path) -> None:
    """Most readings of the second transmitter are from the journey: alone, it would be taken for home."""
    clock = travelling(clock_of(BERLIN), [(utc("2026-03-20T10:02"), utc("2026-04-05T10:02"), -60)])
    rows = [
        *worn(clock, utc("2026-03-01T00:00"), utc("2026-03-25T00:00"), transmitter="8AAAA1", every=HALF_HOUR),
        *worn(clock, utc("2026-03-25T02:00"), utc("2026-04-07T00:00"), transmitter="8BBBB2", every=HALF_HOUR),
    ]
    made = read(tmp_path, export(in_order(rows)))

    assert found(made) == offsets(rows)


def test_a_transmitter_that_begins_in_the_doubled_hour_is_read_by_what_follows(tmp_path: Path) -> None:
    clock = clock_of(BERLIN)
    for begins in ("2026-10-25T00:20", "2026-10-25T01:20"):
        rows = [
            *worn(clock, utc("2026-10-20T00:00"), utc("2026-10-24T22:00"), transmitter="8AAAA1"),
            *worn(clock, utc(begins), utc("2026-10-26T00:00"), transmitter="8BBBB2"),
        ]
        assert found(read(tmp_path, export(in_order(rows)))) == offsets(rows)


def test_periods_say_where_the_clock_was(tmp_path: Path) -> None:
    clock = travelling(clock_of(BERLIN), [(utc("2026-02-05T10:02"), utc("2026-02-20T00:00"), -360)])
    rows = list(worn(clock, utc("2026-02-02T12:00"), utc("2026-02-09T12:00")))
    periods = (ZonePeriod(until="2026-02-05T08:00:00", zone=BERLIN), ZonePeriod(zone="America/New_York"))
    made = read(tmp_path, export(in_order(rows)), timezone=periods)

    assert found(made) == offsets(rows)
    assert len(made.elsewhere) <= 2 * 12 * 3 + 2  # between what the person said and what the clock did


def test_events_follow_the_clock_of_the_readings_beside_them(tmp_path: Path) -> None:
    clock = travelling(clock_of(BERLIN), [(utc("2026-02-05T10:02"), utc("2026-02-06T10:02"), -60)])
    rows = list(worn(clock, utc("2026-02-02T12:00"), utc("2026-02-09T12:00")))
    doses = {
        "2026-02-05T09:31:00": ("2026-02-05T08:31:00Z", True),
        "2026-02-05T10:31:00": ("2026-02-05T09:31:00Z", False),  # shown by the clock twice
        "2026-02-05T12:01:00": ("2026-02-05T12:01:00Z", True),
        "2026-02-06T09:56:00": ("2026-02-06T09:56:00Z", True),
        "2026-02-06T10:30:00": ("2026-02-06T10:30:00Z", False),  # never shown by it
        "2026-02-06T12:00:00": ("2026-02-06T11:00:00Z", True),
    }
    events = [event(stamp, "Insulin", "Fast-Acting", insulin=1) for stamp in doses]
    made = read(tmp_path, export(sorted([*in_order(rows), *events])))

    for stamp, (time, is_sure) in doses.items():
        one = made.by_name[f"insulin:rapid:{stamp}:0"]
        assert one["time"] == time
        assert one.get("annotations", []) == ([] if is_sure else [UNCERTAIN])
        assert (stamp in made.elsewhere) == (one["timezoneOffset"] != 60)


@pytest.mark.parametrize("goes_on", [False, True])
def test_an_event_after_a_clock_was_set_back_follows_the_clock_as_it_was_set(
    tmp_path: Path, goes_on: bool
) -> None:
    clock = travelling(clock_of(BERLIN), [(utc("2026-06-01T10:30"), utc("2026-06-03T00:00"), -60)])
    gaps = [(utc("2026-06-01T10:55"), utc("2026-06-02T09:00"))]
    last = utc("2026-06-02T12:00" if goes_on else "2026-06-01T10:55")
    rows = list(worn(clock, utc("2026-05-30T22:00"), last, gaps=gaps))
    # The clock showed 12:30 for the first time, then 11:30 again, and by 11:55 the readings end.
    carbs = [event(stamp, "Carbs", carbs=20) for stamp in ("2026-06-01T12:40:00", "2026-06-01T13:00:00")]
    made = read(tmp_path, export(sorted([*in_order(rows), *carbs])))

    assert made.times("food") == ["2026-06-01T11:40:00Z", "2026-06-01T12:00:00Z"]


def test_events_of_a_doubled_hour_without_readings_are_uncertain(tmp_path: Path) -> None:
    gap = (utc("2026-10-24T22:00"), utc("2026-10-25T04:00"))
    rows = list(worn(clock_of(BERLIN), utc("2026-10-24T12:00"), utc("2026-10-25T12:00"), gaps=[gap]))
    events = [event(f"2026-10-25T0{hour}:30:00", "Carbs", carbs=20) for hour in (1, 2, 3)]
    made = read(tmp_path, export(sorted([*in_order(rows), *events])))

    assert made.times("food") == ["2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"]
    uncertain = [one.get("annotations") == [UNCERTAIN] for one in made.records if one["type"] == "food"]
    assert uncertain == [False, True, False]


def test_a_clock_that_goes_on_through_the_missing_hour_holds_the_file(tmp_path: Path) -> None:
    rows = list(worn(lambda _at: 60, utc("2026-03-28T00:00"), utc("2026-03-30T00:00")))
    content = export(in_order(rows))
    with pytest.raises(ClockHeldError) as caught:
        read(tmp_path, content)
    assert caught.value.code == "clock-not-in-zone"
    assert caught.value.file_number == 1

    made = read(tmp_path, content, meant_as=("clock-not-in-zone",))
    assert found(made) == offsets(rows)
    assert len(made.elsewhere) == 23 * 12


def test_without_transmitters_the_zone_is_the_clock(tmp_path: Path) -> None:
    stamps = ["2026-10-25T01:55:00", "2026-10-25T02:30:00", "2026-10-25T03:05:00"]
    rows = [reading(stamp, glucose="Low") for stamp in stamps]
    made = read(tmp_path, export([row[:11] for row in rows], width=12))

    assert made.times() == ["2026-10-24T23:55:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:05:00Z"]
    assert [len(one["annotations"]) for one in made.records] == [1, 2, 1]
    assert made.records[1]["annotations"][1] == UNCERTAIN

    missing = export([reading("2026-03-29T02:30:00")[:11]], width=12)
    with pytest.raises(ClockHeldError):
        read(tmp_path, missing)
    [one] = read(tmp_path, missing, meant_as=("clock-not-in-zone",)).records
    assert (one["time"], one["annotations"]) == ("2026-03-29T01:30:00Z", [UNCERTAIN])


def test_what_a_person_typed_into_the_missing_hour_holds_nothing(tmp_path: Path) -> None:
    rows = list(worn(clock_of(BERLIN), utc("2026-03-28T12:00"), utc("2026-03-29T12:00")))
    events = [event("2026-03-29T02:30:00", "Carbs", carbs=20)]
    made = read(tmp_path, export(sorted([*in_order(rows), *events])))

    [one] = [one for one in made.records if one["type"] == "food"]
    assert (one["time"], one["annotations"]) == ("2026-03-29T01:30:00Z", [UNCERTAIN])
    assert not made.elsewhere


def test_cells_of_any_length_are_not_remembered() -> None:
    rows = [
        ("1", *event(f"2026-03-05T10:0{number}:00", "EGV" + "_" * 100_000, glucose="100" + " " * 100_000))
        for number in range(3)
    ]
    named = [
        ("1", *reading(f"2026-03-05T11:0{number}:00", 60 * number, 100, f"{number}{'T' * 100_000}"))
        for number in range(3)
    ]
    survey = Survey(LocalTimes((Period("Europe/Berlin"),)))
    survey.see([*rows, *named])
    survey.end()
    records = Records(survey, "d", header=HEADER, units="mg/dL", keep_notes=False)
    (block,) = records.blocks(Rows([*rows, *named], [b""] * 6, [*range(2, 8)]), 0)

    assert len(block.lines) == 6
    kept = [*survey.clock._counts, *records._kinds, *records._values, *records._transmitters]
    assert sum(map(len, kept)) < 1_000


def test_times_of_no_clock_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidepool_ingest.formats.clarity.clock.RUNS_MAX", 50)
    random_times = random.Random(5)
    stamp = utc("2026-02-02T12:00")
    rows = [
        reading((stamp + number * timedelta(minutes=5)).isoformat()[:19], random_times.randrange(10**6))
        for number in range(200)
    ]
    with pytest.raises(BatchError) as caught:
        read(tmp_path, export(rows))
    assert caught.value.code == "file-other-format"


# ---------------------------------------------------------------- overlaps, privacy, damage


CLOCKS = {
    "at home": [],
    "with a journey": [("2026-10-12T10:02", "2026-10-14T15:02", -60)],
    "with two": [("2026-10-12T10:02", "2026-10-13T15:02", 120), ("2026-10-22T08:31", "2026-10-25T09:02", 60)],
}


@pytest.mark.parametrize("journeys", CLOCKS.values(), ids=CLOCKS.keys())
@pytest.mark.parametrize("seed", range(5))
def test_two_overlapping_exports_make_what_the_whole_one_makes(
    tmp_path: Path, journeys: list[tuple[str, str, int]], seed: int
) -> None:
    chance = random.Random(seed)
    clock = travelling(clock_of(BERLIN), [(utc(begins), utc(ends), by) for begins, ends, by in journeys])
    gaps = [
        (at, at + timedelta(minutes=chance.randrange(10, 400)))
        for at in (utc("2026-10-10T00:00") + timedelta(hours=chance.randrange(480)) for _ in range(5))
    ]
    change = utc("2026-10-19T00:00") + timedelta(minutes=chance.randrange(600))
    rows = [
        *worn(clock, utc("2026-10-10T00:00"), change, transmitter="8AAAA1", gaps=gaps, every=HALF_HOUR),
        *worn(
            clock,
            change + timedelta(hours=2),
            utc("2026-10-30T00:00"),
            transmitter="8BBBB2",
            gaps=gaps,
            every=HALF_HOUR,
        ),
    ]
    shown = in_order(rows)
    events = [
        event(chance.choice(shown)[0][:17] + "00", "Insulin", "Fast-Acting", insulin=number % 7)
        for number in range(60)
    ]
    shown = sorted([*shown, *events], key=lambda row: row[0])
    whole = read(tmp_path, export(shown)).by_name
    stamps = sorted({row[0] for row in shown})
    first, last = sorted(chance.sample(range(len(stamps) // 3, 2 * len(stamps) // 3), 2))

    merged: dict[str, dict[str, Any]] = {}
    for part in (
        [row for row in shown if row[0] <= stamps[last]],
        [row for row in shown if row[0] >= stamps[first]],
    ):
        merged |= read(tmp_path, export(part)).by_name

    assert {name: merged[name] for name in offsets(rows)} == {name: whole[name] for name in offsets(rows)}
    assert merged.keys() == whole.keys()
    edge = {stamps[first], stamps[first + 1], stamps[last]}  # what comes before is not in that export
    assert [
        name for name in whole if merged[name] != whole[name] and whole[name]["deviceTime"] not in edge
    ] == []


def test_the_same_bytes_give_the_same_records(tmp_path: Path) -> None:
    rows = in_order(worn(clock_of(BERLIN), utc("2026-10-24T12:00"), utc("2026-10-25T12:00")))
    content = export([*rows, rows[-1]])
    assert read(tmp_path, content).lines == read(tmp_path, content).lines


def test_names_and_birth_dates_stay_in_the_file(tmp_path: Path) -> None:
    rows = [
        reading("2026-02-03T10:00:00", 7200),
        event("2026-02-03T10:01:00", "Carbs", carbs=20, person=NAME),
        event("2026-02-03T10:02:00", NAME, BORN),
    ]
    made = read(tmp_path, export(rows))
    told = repr((made.lines, made.refused, made.counted, made.devices))
    assert NAME not in told
    assert BORN not in told


def fuzzed(chance: random.Random, rows: Sequence[Row]) -> bytes:
    """Return a file in which cells have moved, gone, doubled, or become something else."""
    cells = [
        "",
        " ",
        "Low",
        "1,5",
        "-3",
        "1e9",
        "9" * 50,
        "2026-03-29T02:30:00",
        "\u0660\u0661",
        '"',
        "\u2028",
        "EGV",
    ]
    lines = []
    for row in rows:
        made = ["1", *row]
        for _ in range(chance.choice((0, 0, 1, 1, 2, 5))):
            at = chance.randrange(len(made) + 1)
            change = chance.randrange(5)
            if change == 0:
                made.insert(at, chance.choice(cells))
            elif change == 1 and at < len(made):
                del made[at]
            elif at < len(made):
                text = made[at]
                cut = chance.randrange(len(text) + 1)
                made[at] = chance.choice(
                    (chance.choice(cells), text[:cut], text[cut:] + text[:cut], text * 2)
                )
        lines.append(",".join(made).encode())
    noise = b"".join(bytes([chance.randrange(256)]) for _ in range(200))
    lines.insert(chance.randrange(len(lines)), noise)
    return export([], metadata=()) + b"\r\n".join(lines)


def test_of_twenty_thousand_damaged_rows_each_is_accounted_for(tmp_path: Path) -> None:
    chance = random.Random(11)
    rows = in_order(worn(clock_of(BERLIN), utc("2026-03-20T00:00"), utc("2026-04-03T00:00")))
    events = [
        (f"2026-03-2{chance.randrange(10)}T10:00:00", *row[1:]) for row, _name in EVENTS for _ in range(60)
    ]
    shown = sorted([*rows, *events])
    assert len(shown) > 4800
    for _ in range(4):
        content = fuzzed(chance, shown + chance.sample(shown, 200))
        (tmp_path / "clarity.csv").write_bytes(content)
        path = UPath(tmp_path / "clarity.csv")
        file = SourceFile(path, "clarity", below_root=GIVEN)
        context = ReadingContext(timezone=BERLIN, meant_as=("clock-not-in-zone",))
        secrets = {cell for row in shown for cell in row if len(cell) > 4}
        told, accounted = "", 0
        try:
            with SourceReader([file], context) as source:
                for block in source:
                    told += repr(block.rejected)
                    texts = [*(block.staged or ()), *(row.text or b"" for row in block.rejected)]
                    accounted += sum(text.count(b"\n") + 1 for text in texts)
                    accounted += sum(block.skipped.values())
                    codes = {one.code for line in validate_lines(block.lines) for one in line.problems}
                    assert codes <= {"value-out-of-range"}
        except IngestError as error:
            told = str(error)
        assert accounted >= content.count(b"\n")
        assert not any(secret in told for secret in secrets)


# ---------------------------------------------------------------- at Tidepool


def test_overlapping_exports_of_a_feed_show_each_record_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later one has another value for a reading, and was staged with a corrected zone."""
    monkeypatch.setattr(world, "data_set_type", "continuous")
    feed = {"dataSetType": "continuous", "deduplicator": {"name": ORIGIN}}
    rows = list(worn(clock_of(BERLIN), utc("2026-03-02T20:00"), utc("2026-03-03T08:00"), every=HALF_HOUR))
    dose = event("2026-03-03T05:31:00", "Insulin", "Fast-Acting", insulin=2)
    bad = event("2026-03-03T05:32:00", "Zebulon", glucose=100)
    shown = sorted([*in_order(rows), dose, bad])
    corrected = reading(*shown[12][:1], shown[12][11], 222, "8TEST1")
    exports = {
        "Europe/London": shown[:18],
        BERLIN: [corrected if row is shown[12] else row for row in shown[8:]],
    }
    options = {"name": "clarity.csv", "max_quarantined_percent": 100, "data_set": feed}
    for batch, (zone, part) in enumerate(exports.items()):
        file = {"format": "clarity", "timezone": zone}
        meant = {"meantAs": ["zone-differs"]}  # a corrected zone replaces, in a feed
        number = world.ready([], content=export(part), file=file, batch=f"export-{batch}", **meant, **options)
        world.upload(number)

    assert [one["problems"][0]["code"] for one in world.quarantine(number)] == ["staged-event-unknown"]
    by_name = {one["origin"]["id"]: one for one in world.visible()}
    assert len(by_name) == len(world.visible()) == len(rows) + 1
    home = [name for name, at in offsets(rows).items() if by_name[name]["time"][:19] == at[:19]]
    assert len(home) == len(rows) - 8
    assert by_name["insulin:rapid:2026-03-03T05:31:00:0"]["time"][:19] == "2026-03-03T04:31:00"
    assert by_name[f"cbg:8TEST1:{shown[12][11]}"]["value"] == pytest.approx(222 / 18.01559, abs=1e-4)

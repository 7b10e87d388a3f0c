"""What an inspection counts: each record and row once, by type, day and hour."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tidepool_ingest.inspection.findings import Inspection
from tidepool_ingest.inspection.inspecting import Source, inspect_source
from tidepool_ingest.staging.manifest import FileOptions

READING = {"type": "cbg", "time": "2026-03-05T10:02:00Z", "units": "mg/dL", "value": 120, "deviceId": "d"}


def inspected(folder: Path, *records: dict[str, Any], zone: str = "Etc/UTC") -> Inspection:
    path = folder / "records.ndjson"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    source = Source([UPath(path)], ["records.ndjson"], "ndjson", FileOptions(timezone=zone))
    (found,) = inspect_source(source)
    return found


def test_each_record_is_counted_once(tmp_path: Path) -> None:
    found = inspected(
        tmp_path,
        READING,
        READING,
        {**READING, "time": "2026-03-05T23:59:59.5Z", "value": 200},
        {**READING, "time": "2026-03-06T00:30:00+01:00", "value": 2000},
        {**READING, "type": "food", "nutrition": {"carbohydrate": {"net": 30, "units": "grams"}}},
    )

    assert (found.rows, found.accepted, found.rejected, found.duplicates) == (5, 3, 1, 1)
    assert [(kind.type, kind.accepted, kind.rejected) for kind in found.types] == [
        ("cbg", 2, 1),
        ("food", 1, 0),
    ]
    (reason,) = found.rejections
    assert (reason.code, reason.type, reason.field) == ("value-out-of-range", "cbg", "/value")
    assert (reason.count, reason.places) == (1, ("line 4",))
    (day,) = found.days
    assert (day.day, day.carbs) == (date(2026, 3, 5), 30)
    assert (day.records[10], day.readings[10], day.readings[23]) == (2, 1, 1)
    assert found.glucose is not None
    assert (found.glucose.unit, found.glucose.lowest, found.glucose.highest) == ("mg/dL", 120, 200)
    assert (found.glucose.in_range, found.glucose.above) == (0.5, 0.5)


@pytest.mark.parametrize("others", [0, 9])
def test_limits_of_the_range_are_in_it_in_either_unit_and_as_tidepool_converts_them(
    tmp_path: Path, others: int
) -> None:
    in_mmol = [3.8, 3.82996, 3.88545, 3.9, 9.99134, 10.0, 10.04686, 10.1]  # 3.88545 mmol/L is 70 mg/dL
    values = [(value, "mmol/L") for value in in_mmol] + [(70 + number, "mg/dL") for number in range(others)]

    found = inspected(
        tmp_path,
        *(
            {**READING, "time": f"2026-03-05T10:{minute:02}:00Z", "units": units, "value": value}
            for minute, (value, units) in enumerate(values)
        ),
    ).glucose

    assert found is not None
    assert found.unit == ("mg/dL" if others else "mmol/L")
    shares = (found.below, found.in_range, found.above)
    assert [round(share * len(values)) for share in shares] == [2, 4 + others, 2]


@pytest.mark.parametrize(
    ("zone", "day", "hour"),
    [
        ("Europe/Berlin", 6, 0),
        ("America/Los_Angeles", 5, 15),
        ("Asia/Kolkata", 6, 4),
        ("Asia/Kathmandu", 6, 4),
    ],
)
def test_hours_are_those_of_the_zone(tmp_path: Path, zone: str, day: int, hour: int) -> None:
    found = inspected(tmp_path, {**READING, "time": "2026-03-05T23:02:00Z"}, zone=zone)

    assert found.days[0].day == date(2026, 3, day)
    assert found.days[0].readings[hour] == 1


def test_an_hour_before_ten_may_have_one_digit(tmp_path: Path) -> None:
    found = inspected(tmp_path, {**READING, "time": "2026-03-05T7:05:00Z"}, {**READING, "value": 140})

    assert found.accepted == 2
    assert (found.days[0].readings[7], found.days[0].readings[10]) == (1, 1)
    assert found.glucose is not None
    assert found.glucose.readings == 2
    assert found.first == datetime(2026, 3, 5, 7, 5, tzinfo=UTC)


def test_hours_are_those_that_the_device_showed(tmp_path: Path) -> None:
    record = {**READING, "deviceTime": "2026-03-05T11:02:00", "timezoneOffset": 60}

    assert inspected(tmp_path, record).days[0].readings[11] == 1


def test_what_is_no_reading_of_years_that_no_calendar_has_is_counted_all_the_same(tmp_path: Path) -> None:
    found = inspected(tmp_path, {**READING, "time": "0000-03-05T10:02:00Z"})

    assert found.accepted == 1
    assert found.days == ()


@pytest.mark.parametrize("kind", [{}, {"type": "deviceEvent", "subType": "calibration"}])
def test_values_in_the_wrong_unit_hold(tmp_path: Path, kind: dict[str, str]) -> None:
    found = inspected(
        tmp_path, *({**READING, **kind, "time": f"2026-03-05T10:{n:02}:00Z", "value": 6.5} for n in range(60))
    )

    assert [hold.code for hold in found.holds] == ["glucose-units-implausible"]
    assert found.accepted == 60

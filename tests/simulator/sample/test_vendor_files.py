"""The made-up files of vendors: the same each time, and read by the checker as they were meant."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.simulator.sample.vendor_rows import records, rows_of
from tidepool_simulator.sample import __main__ as command
from tidepool_simulator.sample import clarity_weeks, typed_tables, vendor_files
from tidepool_simulator.sample.checker.files import UnreadableError
from tidepool_simulator.sample.vendor_files import VENDOR_FILES, VendorFile


@pytest.mark.parametrize("make", VENDOR_FILES)
def test_the_same_file_each_time(make: Callable[[], VendorFile]) -> None:
    assert make() == make()


@pytest.mark.parametrize(
    "make",
    [
        vendor_files.clarity_export,
        vendor_files.german_clarity_export,
        clarity_weeks.clarity_weeks,
        vendor_files.meter_table,
        typed_tables.study_table,
        typed_tables.diary_workbook,
    ],
)
def test_each_row_is_what_it_was_made_as(make: Callable[[], VendorFile]) -> None:
    file = make()
    rows = list(rows_of(file))

    assert len(rows) == file.rows
    assert sum(None in row for row in rows) == file.refused
    assert sum(not row for row in rows) == file.skipped


def test_each_row_of_two_readers_is_one_of_them() -> None:
    file = vendor_files.libreview_export()
    old, new = (
        list(rows_of(file, serial=serial)) for serial in (vendor_files.OLD_READER, vendor_files.NEW_READER)
    )

    assert len(old) == len(new) == file.rows
    assert not any(first and second for first, second in zip(old, new, strict=True))
    assert sum(None in row for row in [*old, *new]) == file.refused
    assert sum(not (first or second) for first, second in zip(old, new, strict=True)) == file.skipped
    assert {record["deviceId"] for record in records(iter(new))} == {f"LibreView-{vendor_files.NEW_READER}"}


def test_two_readers_of_which_none_is_chosen_are_not_read() -> None:
    with pytest.raises(UnreadableError):
        list(rows_of(vendor_files.libreview_export()))


def test_a_clarity_export_keeps_its_moments_through_journey_and_summer_time() -> None:
    readings = [
        record for record in records(rows_of(vendor_files.clarity_export())) if record["type"] == "cbg"
    ]
    by_moment = sorted(readings, key=lambda record: record["time"])

    # The phone shows some hours twice and leaves one out; moments neither repeat nor jump.
    assert len({record["deviceTime"] for record in readings}) < len(readings)
    assert len({record["time"] for record in readings}) == len(readings)
    assert [record["origin"]["id"] for record in by_moment] == sorted(
        (record["origin"]["id"] for record in readings),
        key=lambda name: (name.split(":")[1], int(name.split(":")[2])),
    )
    changes = [
        after["timezoneOffset"] - before["timezoneOffset"]
        for before, after in pairwise(by_moment)
        if after["timezoneOffset"] != before["timezoneOffset"]
    ]
    assert changes == [60, -60, 60, -60]


def test_what_a_person_entered_in_an_hour_that_was_there_twice_is_uncertain() -> None:
    entered = [
        record for record in records(rows_of(vendor_files.clarity_export())) if record["type"] == "food"
    ]
    uncertain = [record["deviceTime"] for record in entered if "annotations" in record]

    assert uncertain == ["2025-03-30T15:20:00", "2025-10-26T02:15:00"]


def test_the_two_kinds_of_insulin_of_one_minute_are_two_records() -> None:
    rows = rows_of(vendor_files.libreview_export(), serial=vendor_files.NEW_READER)
    doses = [record for record in records(rows) if record["type"] == "insulin"]

    assert len({record["time"] for record in doses}) == 1
    assert Counter(record["formulation"]["simple"]["actingType"] for record in doses) == {
        "rapid": 1,
        "long": 1,
    }


def test_a_command_writes_each_file_and_each_mapping(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for name, make in command.FILES.items():
        assert command.main([name]) == 0
        assert capfdbinary.readouterr().out == make().content
    for name in command.MAPPINGS:
        assert command.main([name]) == 0
        assert "records" in json.loads(capfdbinary.readouterr().out)

"""Tables by a mapping: made-up twins of what real ones have."""

from __future__ import annotations

import json
import pickle
import random
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tests import PROJECT
from tests.formats.tables import CBG, STUDY, Converted, convert, devices, error_of, examples, mapping, study
from tests.world import World
from tidepool_ingest.formats import read_manifest
from tidepool_ingest.formats.holds import ClockHeldError
from tidepool_ingest.formats.reader import ReadingContext
from tidepool_ingest.formats.table import TableColumnError
from tidepool_ingest.model import validate_lines
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import content_key

EPOCH = {"column": "t", "format": "epoch-s"}


def timed(pattern: str, **more: Any) -> dict[str, Any]:
    return mapping(time={"column": "t", "format": pattern} | more)


def value(**options: Any) -> dict[str, Any]:
    return mapping({"record": CBG["record"] | {"value": {"column": "v"} | options}})


# ---------------------------------------------------------------- the documentation


@pytest.mark.parametrize(("entry", "table", "records"), examples())
def test_examples_of_the_documentation_do_what_it_says(
    tmp_path: Path, entry: dict[str, Any], table: str, records: str
) -> None:
    context = ReadingContext()  # without a time zone and a device of the data set

    found = convert(tmp_path, table, entry["table"], context=context, timezone=entry.get("timezone"))

    assert found.lines == records.encode().splitlines()
    assert not found.rejected
    assert not [one.problems for one in validate_lines(found.lines) if one.problems]


def test_every_key_is_documented() -> None:
    section = (
        (PROJECT / "docs" / "formats.md").read_text().partition("\n## Tables\n")[2].partition("\n## ")[0]
    )
    keys = "csv delimiter encoding decimal headerRow where rowNumber time column columns format order records"
    keys += " when record deviceId prefix id is in notIn present above below as to times decimal map missing"
    keys += " default low high words value threshold toNext max"

    assert [key for key in keys.split() if f"`{key}`" not in section and f'"{key}"' not in section] == []


# ---------------------------------------------------------------- cells


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("5.40", "5.40"),
        (" 112 ", "112"),
        ("+7", "7"),
        ("007.5", "7.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1.2e+02", "1.2e+02"),
        ("0", "0"),
        ("100.00000000000000001", "100.00000000000000001"),
    ],
)
def test_a_number_keeps_its_digits(tmp_path: Path, cell: str, written: str) -> None:
    (line,) = convert(tmp_path, f"t,v\n2026-03-05T10:00:00,{cell}\n", mapping()).lines

    assert line.endswith(f'"value":{written}}}'.encode())
    assert json.loads(line)["value"] == float(cell)


@pytest.mark.parametrize(
    "cell",
    ["5.4.1", "12%", "nan", "inf", "1e999", "0x10", "\u0661", "5 4", "--5", "Low", "1" * 500, "-", "e5"],
)
def test_what_is_no_number_refuses_its_row(tmp_path: Path, cell: str) -> None:
    found = convert(tmp_path, f"t,v\n2026-03-05T10:00:00,{cell}\n", mapping())

    assert (found.lines, found.rejected) == ([], [("line 2", "staged-not-a-number")])
    assert found.texts == [f"2026-03-05T10:00:00,{cell}".encode()]


@pytest.mark.parametrize(
    ("decimal", "cell", "values"),
    [(",", "5,4", [5.4]), (",", "5", [5]), (",", "1.234", []), (",", "1,2,3", []), (".", '"5,4"', [])],
)
def test_a_comma_is_decimal_only_where_the_mapping_says_so(
    tmp_path: Path, decimal: str, cell: str, values: list[float]
) -> None:
    delimiter = ";" if decimal == "," else ","
    table = mapping(csv={"decimal": decimal, "delimiter": delimiter})

    found = convert(tmp_path, f"t{delimiter}v\n2026-03-05 10:00:00{delimiter}{cell}\n", table)

    assert [record["value"] for record in found.records] == values
    assert len(found.rejected) == 1 - len(values)


def test_a_decimal_comma_of_one_column(tmp_path: Path) -> None:
    found = convert(tmp_path, 't,v\n2026-03-05 10:00:00,"5,4"\n', value(decimal=","))

    assert [record["value"] for record in found.records] == [5.4]


def test_a_decimal_comma_that_cuts_a_cell_in_two_refuses_its_row(tmp_path: Path) -> None:
    content = "t,v,n\n2026-03-05 10:00:00,5,4,x\n2026-03-05 10:05:00,5\n2026-03-05 10:10:00,6,y\n"

    found = convert(tmp_path, content, mapping(id=["n"]))

    assert found.rejected == [("line 2", "staged-row-ragged"), ("line 3", "staged-row-ragged")]
    assert [record["value"] for record in found.records] == [6]


def test_a_row_may_lack_cells_that_nobody_asks_for(tmp_path: Path) -> None:
    assert len(convert(tmp_path, "t,v,note\n2026-03-05 10:00:00,5\n", mapping()).lines) == 1


def test_words_out_of_range(tmp_path: Path) -> None:
    table = value(
        low={"words": ["Low", "LO"], "below": 40, "value": 39, "threshold": 40},
        high={"above": 400, "threshold": 400},
    )
    rows = "".join(
        f"2026-03-05 10:0{at}:00,{cell}\n" for at, cell in enumerate(["LO", "40", "38", "401", "Hi"])
    )

    found = convert(tmp_path, f"t,v\n{rows}", table)

    low = [{"code": "bg/out-of-range", "value": "low", "threshold": 40}]
    high = [{"code": "bg/out-of-range", "value": "high", "threshold": 400}]
    assert [(one["value"], one.get("annotations")) for one in found.records] == [
        (39, low),
        (40, None),
        (39, low),
        (401, high),
    ]
    assert found.rejected == [("line 6", "staged-not-a-number")]


def test_a_ketone_out_of_range_is_no_glucose(tmp_path: Path) -> None:
    high = {"words": ["HI"], "value": 8.1, "threshold": 8}
    ketone = {"type": "bloodKetone", "units": "mmol/L", "value": {"column": "v", "high": high}}

    (record,) = convert(tmp_path, "t,v\n2026-03-05 10:00:00,HI\n", mapping({"record": ketone})).records

    assert record["annotations"] == [{"code": "ketone/out-of-range", "value": "high", "threshold": 8}]


def test_factors_are_exact(tmp_path: Path) -> None:
    basal = {
        "type": "basal",
        "deliveryType": "automated",
        "rate": {"column": "v", "times": 12},
        "duration": {"column": "d", "times": 60000},
    }

    found = convert(tmp_path, "t,v,d\n2026-03-05 10:00:00,0.035,5.0\n", mapping({"record": basal}))

    assert b'"rate":0.42,"duration":300000' in found.lines[0]


def test_words_missing_values_and_defaults(tmp_path: Path) -> None:
    food = {
        "type": "food",
        "name": {"column": "n", "as": "text", "missing": ["-"], "default": "100% unknown"},
        "nutrition": {"carbohydrate": {"units": "grams", "net": {"column": "v", "missing": ["0", "n/a"]}}},
    }
    rows = ['10:00:00,20,"a ""b""\n%s Öl"', "10:05:00,n/a,x", "10:10:00,0,x", "10:15:00,5,-", "10:20:00,,"]
    content = "t,v,n\n" + "".join(f"2026-03-05 {row}\n" for row in rows)

    found = convert(tmp_path, content, mapping({"record": food}))

    assert [(one["name"], one["nutrition"]["carbohydrate"]["net"]) for one in found.records] == [
        ('a "b"\n%s Öl', 20),
        ("100% unknown", 5),
    ]
    assert (found.rows, found.skipped) == (5, {"no-value": 3})
    assert found.where == ["line 2", "line 6"]


def test_a_word_that_is_not_mapped_refuses_its_row(tmp_path: Path) -> None:
    pen = {
        "type": "insulin",
        "dose": {"units": "Units", "total": {"column": "v"}},
        "formulation": {"simple": {"actingType": {"column": "k", "map": {"R": "rapid"}}}},
    }

    found = convert(
        tmp_path, "t,v,k\n2026-03-05 10:00:00,5,R\n2026-03-05 11:00:00,5,X\n", mapping({"record": pen})
    )

    assert [one["formulation"]["simple"]["actingType"] for one in found.records] == ["rapid"]
    assert found.rejected == [("line 3", "staged-not-mapped")]


@pytest.mark.parametrize(
    ("kind", "cell", "unit", "written"),
    [
        ("hh:mm:ss", "01:02:03", "ms", 3_723_000),
        ("hh:mm:ss", "100:00:30", "min", 6000.5),
        ("iso-duration", "PT1H30M", "s", 5400),
        ("iso-duration", "P1DT0.5S", "ms", 86_400_500),
        ("iso-duration", "PT20S", "min", 0.333),
        ("hh:mm:ss", "01:02", "ms", None),
        ("hh:mm:ss", "00:75:00", "ms", None),
        ("iso-duration", "P1M", "ms", None),
        ("iso-duration", "PT", "ms", None),
    ],
)
def test_lengths_of_time(tmp_path: Path, kind: str, cell: str, unit: str, written: float | None) -> None:
    payload = {"for": {"column": "v", "as": kind, "to": unit}}
    event = {"type": "reportedState", "states": [{"state": "illness"}], "payload": payload}

    found = convert(tmp_path, f"t,v\n2026-03-05 10:00:00,{cell}\n", mapping({"record": event}))

    assert [one["payload"]["for"] for one in found.records] == ([] if written is None else [written])
    assert [code for _, code in found.rejected] == (["staged-not-a-duration"] if written is None else [])


def test_conditions(tmp_path: Path) -> None:
    tests: list[dict[str, Any]] = [
        {"is": "a"},
        {"is": ""},
        {"in": ["a", "5"]},
        {"notIn": ["a", ""]},
        {"present": True},
        {"present": False},
        {"above": 4},
        {"below": 5.5},
    ]
    rules = [{"when": {"column": "k"} | test, "record": CBG["record"]} for test in tests]
    rows = "".join(f"2026-03-05 10:0{at}:00,100,{cell}\n" for at, cell in enumerate([" a", "", "5", "6"]))

    made = [convert(tmp_path, f"t,v,k\n{rows}", mapping(rule)) for rule in rules]

    minutes = [[time[15] for time in found.times] for found in made]
    assert minutes == [["0"], ["1"], ["0", "2"], ["2", "3"], ["0", "2", "3"], ["1"], ["2", "3"], ["2"]]
    assert [len(found.rejected) for found in made] == [0, 0, 0, 0, 0, 0, 1, 1]


def test_conditions_all_hold_and_rows_may_give_several_records(tmp_path: Path) -> None:
    bolus = {"type": "bolus", "subType": "normal", "normal": {"column": "b"}}
    when = [{"column": "b", "above": 0}, {"column": "k", "is": "x"}]
    content = "t,v,b,k\n2026-03-05 10:00:00,100,2,x\n2026-03-05 10:05:00,101,2,y\n2026-03-05 10:10:00,,1,x\n"

    found = convert(tmp_path, content, mapping(CBG, {"when": when, "record": bolus}))

    assert [(one["type"], one["time"][11:16]) for one in found.records] == [
        ("cbg", "09:00"),
        ("bolus", "09:00"),
        ("cbg", "09:05"),
        ("bolus", "09:10"),
    ]
    assert found.rows == 3


# ---------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        ("2026-03-05T10:00:00", "2026-03-05T09:00:00Z"),
        ("2026-03-05 9:05", "2026-03-05T08:05:00Z"),
        ("2026-07-05 10:00:00.25", "2026-07-05T08:00:00.250Z"),
        ("2026-03-05T10:00:00.000", "2026-03-05T09:00:00Z"),
        ("2026-03-05T10:00:00Z", "2026-03-05T10:00:00Z"),
        ("2026-03-05T10:00:00-0530", "2026-03-05T15:30:00Z"),
        ("2026-03-05T10:00+01", "2026-03-05T09:00:00Z"),
        ("2026-03-05", None),
        ("2026-02-30 10:00:00", None),
        ("2026-03-05 24:00:00", None),
        ("2026-03-05 10:60:00", None),
        ("05.03.2026 10:00", None),
        ("2026-03-05T10:00:00 CET", None),
        ("", None),
    ],
)
def test_iso_times(tmp_path: Path, stamp: str, time: str | None) -> None:
    found = convert(tmp_path, f"t,v\n2026-01-01 00:00:00,1\n{stamp},5\n", mapping())

    assert found.times[1:] == ([] if time is None else [time])
    assert found.rejected == ([("line 3", "staged-time-unreadable")] if time is None else [])


@pytest.mark.parametrize(
    ("pattern", "stamp", "time"),
    [
        ("%d.%m.%Y %H:%M", "5.3.2026 9:05", "2026-03-05T08:05:00Z"),
        ("%m/%d/%y %I:%M %p", "3/5/26 12:05 am", "2026-03-04T23:05:00Z"),
        ("%m/%d/%Y %I:%M:%S%p", "03/05/2026 12:05:10PM", "2026-03-05T11:05:10Z"),
        ("%d-%b-%Y %H:%M", "05-mar-2026 10:00", "2026-03-05T09:00:00Z"),
        ("%A, %d %B %Y %H:%M", "Thursday, 05 March 2026 10:00", "2026-03-05T09:00:00Z"),
        ("%Y%m%d%H%M%S", "20260305100000", "2026-03-05T09:00:00Z"),
        ("%Y%m%d%H%M", "2026355100", None),
        ("%a %b %d %H:%M:%S %z %Y", "Thu Mar 05 10:00:00 -0500 2026", "2026-03-05T15:00:00Z"),
        ("%Y-%m-%d %H:%M:%S.%f", "2026-03-05 10:00:00.123456", "2026-03-05T09:00:00.123Z"),
        ("%d.%m.%Y %H:%M Uhr (100%%)", "05.03.2026 10:00 Uhr (100%)", "2026-03-05T09:00:00Z"),
        ("%d.%m.%Y %H:%M", "31.02.2026 10:00", None),
        ("%d.%m.%Y %H:%M", "05.03.2026 10:00:30", None),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, stamp: str, time: str | None) -> None:
    whole = f't,v\n"{stamp}",5\n'
    if time is None:
        assert error_of(tmp_path, whole, timed(pattern)).code == "table-times"
    else:
        assert convert(tmp_path, whole, timed(pattern)).times == [time]


@pytest.mark.parametrize(
    ("form", "stamp", "time"),
    [
        ("epoch-s", "1772701200", "2026-03-05T09:00:00Z"),
        ("epoch-s", "1772701200.5", "2026-03-05T09:00:00.500Z"),
        ("epoch-ms", "1772701200000", "2026-03-05T09:00:00Z"),
        ("epoch-ms", "1.772701200123e+12", "2026-03-05T09:00:00.123Z"),
        ("epoch-ms", "1772701200", None),
        ("epoch-s", "1772701200000", None),
        ("epoch-s", "0", None),
        ("epoch-s", "-1", None),
    ],
)
def test_counts_need_no_zone_and_have_no_clock(
    tmp_path: Path, form: str, stamp: str, time: str | None
) -> None:
    content = f"t,v\n{stamp},5\n"
    if time is None:
        assert error_of(tmp_path, content, timed(form), timezone=None).code == "table-times"
        return

    (record,) = convert(tmp_path, content, timed(form), timezone=None).records

    assert record["time"] == time
    assert not {"deviceTime", "timezoneOffset"} & record.keys()


def test_local_times_need_a_zone(tmp_path: Path) -> None:
    content = "t,v\n2026-03-05T10:00:00Z,5\n2026-03-05T10:05:00,5\n"

    assert error_of(tmp_path, content, mapping(), timezone=None).code == "timezone-missing"

    context = ReadingContext(device_id="d", timezone="Europe/Berlin")
    assert len(convert(tmp_path, content, mapping(), timezone=None, context=context).lines) == 2


def test_zones_of_a_journey(tmp_path: Path) -> None:
    zones = [{"until": "2026-03-05T12:00:00", "zone": "Europe/Berlin"}, {"zone": "America/New_York"}]
    content = "t,v\n2026-03-05 10:00:00,5\n2026-03-05 12:00:00,6\n"

    found = convert(tmp_path, content, mapping(), timezone=zones)

    assert found.times == ["2026-03-05T09:00:00Z", "2026-03-05T17:00:00Z"]
    assert [one["timezoneOffset"] for one in found.records] == [60, -300]


@pytest.mark.parametrize("stamp", ["10:00:00", "9:05", "10:00 AM"])
def test_times_of_day_without_a_date_refuse_the_file(tmp_path: Path, stamp: str) -> None:
    error = error_of(tmp_path, f"t,v\n{stamp},86.0\n{stamp},81.0\n", mapping())

    assert error.code == "table-times"
    assert "all are times of day without a date" in str(error)
    assert stamp not in str(error)


@pytest.mark.parametrize(
    ("pattern", "stamp"),
    [
        ("%d.%m.%Y %H:%M", "05.03.2026 {hour}:{minute}"),
        ("%d.%m.%Y %H:%M:%S", "05.03.2026 {hour}:{minute}:{second}"),
        ("%S s %d.%m.%Y %H:%M", "{second} s 05.03.2026 {hour}:{minute}"),
        ("%f %d.%m.%Y %H:%M:%S", "250 05.03.2026 {hour}:{minute}:{second}"),
        ("iso", "2026-03-05 {hour}:{minute}:{second}"),
    ],
)
def test_all_of_a_time_counts_in_an_hour_that_was_seen_before(
    tmp_path: Path, pattern: str, stamp: str
) -> None:
    clock = [("9", "00", "01"), ("9", "07", "02"), ("9", "07", "59"), ("10", "07", "59"), ("9", "08", "03")]
    rows = [stamp.format(hour=hour, minute=minute, second=second) for hour, minute, second in clock]
    rows = [f"{row};{100 + number}" for number, row in enumerate(rows)]
    found = convert(
        tmp_path,
        "\n".join(["t;v", *rows]),
        mapping(time={"column": "t", "format": pattern}),
    )
    alone = [
        convert(tmp_path, f"t;v\n{row}", mapping(time={"column": "t", "format": pattern})).lines[0]
        for row in rows
    ]
    assert found.lines == alone


def test_an_hour_that_the_zone_leaves_out_holds_the_file(tmp_path: Path) -> None:
    content = "t,v\n2026-03-29 01:55:00,5\n2026-03-29 02:00:00,6\n2026-03-29 02:05:00,7\n"

    with pytest.raises(ClockHeldError) as caught:
        convert(tmp_path, content, mapping())

    assert caught.value.code == "clock-not-in-zone"
    assert "(2 times, the first in line 3)" in str(caught.value)
    with pytest.raises(ClockHeldError, match=r"\(1 time, the first in line 3\)"):
        convert(tmp_path, content.replace(" 02:05", " 03:05"), mapping())
    context = ReadingContext(device_id="d", meant_as=("clock-not-in-zone",))
    found = convert(tmp_path, content, mapping(), context=context)
    assert found.times == ["2026-03-29T00:55:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:05:00Z"]
    uncertain = [{"code": "uncertain-timestamp"}]
    assert [one.get("annotations") for one in found.records] == [None, uncertain, uncertain]


AUTUMN = ["01:30", "02:10", "02:50", "02:20", "02:55", "03:05"]
"""Local times of 25 October 2026 in Berlin: 2:20 and 2:55 are in the second pass."""
IN_ORDER = ["23:30", "00:10", "00:50", "01:20", "01:55", "02:05"]
FIRST_PASS = ["23:30", "00:10", "00:50", "00:20", "00:55", "02:05"]


def autumn(times: list[str]) -> str:
    return "t,v\n" + "".join(f"2026-10-25 {time}:00,{at + 50}\n" for at, time in enumerate(times))


def test_a_doubled_hour_is_its_first_pass_with_an_annotation(tmp_path: Path) -> None:
    found = convert(tmp_path, autumn(AUTUMN), mapping())

    assert [time[11:16] for time in found.times] == FIRST_PASS
    assert ["annotations" in one for one in found.records] == [False, True, True, True, True, False]


@pytest.mark.parametrize("order", ["oldest-first", "newest-first"])
def test_the_order_of_events_tells_both_passes_of_an_hour_apart(tmp_path: Path, order: str) -> None:
    step = 1 if order == "oldest-first" else -1

    found = convert(tmp_path, autumn(AUTUMN[::step]), timed("iso", order=order))

    assert [time[11:16] for time in found.times] == IN_ORDER[::step]
    assert not any("annotations" in one for one in found.records)
    assert [one["timezoneOffset"] for one in found.records][::step] == [120, 120, 120, 60, 60, 60]


@pytest.mark.parametrize("order", ["oldest-first", "newest-first"])
def test_where_the_order_does_not_tell_the_first_pass_is_taken_and_annotated(
    tmp_path: Path, order: str
) -> None:
    times = ["01:30", "02:10", "02:50", "03:05"]
    step = 1 if order == "oldest-first" else -1

    found = convert(tmp_path, autumn(times[::step]), timed("iso", order=order))

    assert [time[11:16] for time in found.times][::step] == ["23:30", "00:10", "00:50", "02:05"]
    assert sum("annotations" in one for one in found.records) == 2


# ---------------------------------------------------------------- days and months that were swapped


def daily(*dates: str) -> str:
    return "t,v\n" + "".join(f"{date} {hour:02}:00,{hour + 50}\n" for date in dates for hour in (8, 20))


JANUARY = [f"{day:02}/01/2026" for day in range(27, 32)]
FEBRUARY = [f"{day:02}/02/2026" for day in range(1, 16)]
SPREADSHEET = [f"{date[3:5]}/{date[:2]}{date[5:]}" if date[:2] <= "12" else date for date in FEBRUARY]


@pytest.mark.parametrize(
    ("dates", "pattern"),
    [
        (JANUARY + SPREADSHEET, "%d/%m/%Y %H:%M"),
        (SPREADSHEET[::-1] + JANUARY[::-1], "%d/%m/%Y %H:%M"),
        (FEBRUARY[:12], "%m/%d/%Y %H:%M"),
        (FEBRUARY[:12][::-1], "%m/%d/%Y %H:%M"),
    ],
)
def test_swapped_days_and_months_hold_the_file(tmp_path: Path, dates: list[str], pattern: str) -> None:
    with pytest.raises(ClockHeldError) as caught:
        convert(tmp_path, daily(*dates), timed(pattern))

    assert caught.value.code == "dates-swapped"
    context = ReadingContext(device_id="d", meant_as=("dates-swapped",))
    assert convert(tmp_path, daily(*dates), timed(pattern), context=context).rows == 2 * len(dates)


@pytest.mark.parametrize(
    "dates",
    [
        JANUARY + FEBRUARY,
        (JANUARY + FEBRUARY)[::-1],
        FEBRUARY[:12],
        ["05/03/2026", "05/05/2026", "06/05/2026", "13/05/2026"],
        ["05/03/2026", "06/03/2026", "05/04/2026", "05/06/2026"],
        ["05/05/2026"],
        [*JANUARY, *JANUARY],
    ],
)
def test_dates_that_are_as_they_should_be_do_not(tmp_path: Path, dates: list[str]) -> None:
    found = convert(tmp_path, daily(*dates), timed("%d/%m/%Y %H:%M"))

    assert found.rows == 2 * len(dates)


# ---------------------------------------------------------------- the header


def test_a_column_that_is_not_there_is_named_by_its_place_before_a_row_is_read(tmp_path: Path) -> None:
    table = mapping(CBG, {"when": {"column": "Erika Muster", "is": "x"}, "record": CBG["record"]})

    error = error_of(tmp_path, "t,v\nbroken\n", table)

    assert isinstance(error, TableColumnError)
    assert error.code == "table-column"
    assert "/records/1/when/column is not in it" in str(error)
    assert "Erika" not in f"{error}{error!r}"
    assert error.column == "Erika Muster"
    for elsewhere in (error.for_batch("b"), pickle.loads(pickle.dumps(error))):
        assert str(elsewhere).endswith(str(error))
        assert "Erika" not in repr(elsewhere.__dict__)


def test_a_column_that_is_there_twice_is_not_chosen_from(tmp_path: Path) -> None:
    assert "/records/0/record/value/column is in it twice" in str(error_of(tmp_path, "t,v, v\n", mapping()))
    assert convert(tmp_path, "t,v,x,x\n2026-03-05 10:00:00,5,,\n", mapping()).rows == 1


def test_a_header_below_titles_with_blanks_around_its_names(tmp_path: Path) -> None:
    content = 'Report of somebody,"with ""quotes""\nand lines"\n\n t ,v \n2026-03-05 10:00:00,5\n'

    found = convert(tmp_path, content, mapping(csv={"headerRow": 3}))

    assert (found.rows, found.where) == (1, ["line 5"])


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "file-empty"),
        (b"\n\n", "file-empty"),
        (b"t,v\n", "file-empty"),
        (b"\xef\xbb\xbft,v\r\n\r\n", "file-empty"),
        (b"t;v\n2026-03-05 10:00:00;5\n", None),
        (b"t ;v;n\n2026-03-05 10:00:00;5;a,b,c,d,e\n", None),
        (b't;v;"a,b,c,d,e,f"\n2026-03-05 10:00:00;5;a\n', None),
        (b'"t,v,""a, b"""\n"2026-03-05 10:00:00,5,""a, b"""\n', None),
        (b"t\tv\n2026-03-05 10:00:00\t5\n", None),
        (b"\xef\xbb\xbft,v\r\n2026-03-05 10:00:00,5\r\n", None),
        (b"\xc3\xaf\xc2\xbb\xc2\xbft,v\n2026-03-05 10:00:00,5\n", None),
        (b"t,v\0,x\n2026-03-05 10:00:00,5,\n", "table-header"),
        (b'"t,v\n2026-03-05 10:00:00,5\n', "table-header"),
        (b"zeit,wert\n2026-03-05 10:00:00,5\n", "table-column"),
        (b'{"type":"cbg"}\n{"type":"cbg"}\n', "table-column"),
        (b"<html>", "file-not-records"),
        (b"PK\x03\x04 and so on", "file-not-records"),
        ("t,v\n2026-03-05 10:00:00,5\n".encode("utf-16"), "file-encoding"),
    ],
)
def test_files_as_they_come(tmp_path: Path, content: bytes, code: str | None) -> None:
    if code is None:
        assert convert(tmp_path, content, mapping()).rows == 1
    else:
        assert error_of(tmp_path, content, mapping()).code == code


def test_another_encoding_is_said_in_the_mapping(tmp_path: Path) -> None:
    error = error_of(tmp_path, "t,v\n2026-03-05 10:00:00,5\n".encode("utf-16"), mapping())

    assert "csv.encoding" in error.remedy
    assert convert(
        tmp_path, "t,v\n2026-03-05 10:00:00,5\n".encode("utf-16"), mapping(csv={"encoding": "utf-16"})
    ).lines


def test_a_wrong_delimiter_is_told_by_the_columns(tmp_path: Path) -> None:
    error = error_of(tmp_path, "t,v\n2026-03-05 10:00:00,5\n", mapping(csv={"delimiter": ";"}))

    assert error.code == "table-column"
    assert "csv.delimiter" in error.remedy


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_a_stated_encoding(tmp_path: Path, encoding: str) -> None:
    table = mapping(
        {"record": {"type": "food", "name": {"column": "größe", "as": "text"}}}, csv={"encoding": encoding}
    )
    content = "t,größe\n2026-03-05 10:00:00,süß\n".encode(encoding)

    assert [one["name"] for one in convert(tmp_path, content, table).records] == ["süß"]


@pytest.mark.parametrize(
    ("encoding", "damaged"),
    [("cp1252", b"\x81"), ("utf-16", b"\x00\xdc"), ("utf-16", b"\x00\xd8"), ("utf-16", None)],
)
def test_what_a_stated_encoding_does_not_have_refuses_its_row(
    tmp_path: Path, encoding: str, damaged: bytes | None
) -> None:
    """Nothing of a cell is changed in silence, to U+FFFD or otherwise."""
    table = mapping(
        {"record": {"type": "food", "name": {"column": "größe", "as": "text"}}}, csv={"encoding": encoding}
    )
    mark = "ß".encode(encoding).removeprefix(b"\xff\xfe")
    content = "t,größe\n2026-03-05 10:00:00,süd\n2026-03-05 10:05:00,ß\n".encode(encoding)
    if damaged is None:
        content = content[:-1]  # the last character is cut in two
    else:
        content = content.replace(mark, damaged).replace(b"gr\xf6" + damaged, b"gr\xf6" + mark)
        content = content.replace("grö".encode("utf-16-le") + damaged, "größ".encode("utf-16-le"))

    found = convert(tmp_path, content, table)

    assert [one["name"] for one in found.records] == ["süd"]
    assert found.rejected == [("line 3", "staged-not-utf8")]


def test_swapped_days_are_seen_in_the_whole_table_where_times_have_offsets(tmp_path: Path) -> None:
    days = [datetime(2026, 1, 20) + timedelta(hours=number) for number in range(40 * 24)]
    stamps = [f"{day:%m/%d/%Y %H:%M}" if day.day <= 12 else f"{day:%d/%m/%Y %H:%M}" for day in days]
    content = "t,v\n" + "".join(f"{stamp}+01:00,100\n" for stamp in ["19/01/2026 23:59"] * 600 + stamps)
    table = mapping(time={"column": "t", "format": "%d/%m/%Y %H:%M%z"})

    with pytest.raises(ClockHeldError) as caught:
        convert(tmp_path, content, table)

    assert caught.value.code == "dates-swapped"


def test_damaged_rows_are_refused_each_by_itself(tmp_path: Path) -> None:
    lines = [
        b"t,v",
        b"2026-03-05 10:00:00,5",
        b"2026-03-05 10:05:00,6\0",
        b"2026-03-05 10:10:00,7,8",
        b"x" * (17 * 1024 * 1024),
        b"2026-03-05 10:15:00,\xff",
        b"2026-03-05 10:20:00,6",
        b'2026-03-05 10:25:00,"6',
    ]

    found = convert(tmp_path, b"\n".join(lines), mapping())

    assert sorted(found.rejected) == [
        ("line 3", "staged-nul"),
        ("line 4", "staged-row-ragged"),
        ("line 5", "staged-too-large"),
        ("line 6", "staged-not-utf8"),
        ("line 8", "staged-row-broken"),
    ]
    assert [one["value"] for one in found.records] == [5, 6]
    assert found.rows == 7


# ---------------------------------------------------------------- rows that are no readings


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    table = mapping(where={"column": "k", "notIn": ["Interpolated"]}, rowNumber=["n"])
    rows = ["1,10:00,5,EGV", "2,10:05,6,Interpolated", "3,10:00,5,EGV", "4,10:10,,EGV", "5,10:15,x,EGV"]
    content = "n,t,v,k\n" + "".join(f"{row}\n".replace(",10:", ",2026-03-05 10:") for row in rows) + ",,,\n"

    found = convert(tmp_path, content, table)

    assert found.skipped == {"filtered": 1, "duplicate-row": 1, "no-value": 2}
    assert found.rejected == [("line 6", "staged-not-a-number")]
    assert (found.rows, found.where) == (6, ["line 2"])


def test_a_row_number_may_be_missing(tmp_path: Path) -> None:
    content = "t,v,n\n2026-03-05 10:00:00,5\n2026-03-05 10:00:00,5,7\n"

    assert convert(tmp_path, content, mapping(rowNumber=["n"])).skipped == {"duplicate-row": 1}


def test_identical_rows_without_a_row_number(tmp_path: Path) -> None:
    found = convert(tmp_path, "t,v\n" + "2026-03-05 10:00:00,5\n" * 3, mapping())

    assert (len(found.lines), found.skipped) == (1, {"duplicate-row": 2})


# ---------------------------------------------------------------- devices and names


TWO_DEVICES = "t,v,s\n2026-03-05 10:00:00,5,A 1\n2026-03-05 10:00:00,6,B\n2026-03-05 10:05:00,7,A 1\n"
BY_DEVICE = mapping(deviceId={"column": "s", "prefix": "M-"})


def test_devices_of_a_column(tmp_path: Path) -> None:
    found = devices(tmp_path, TWO_DEVICES, BY_DEVICE)

    processing = {"timeProcessing": "across-the-board-timezone"}
    assert [(one.serial, one.fields) for one in found] == [
        ("A 1", {"deviceId": "M-A 1"} | processing),
        ("B", {"deviceId": "M-B"} | processing),
    ]
    assert error_of(tmp_path, TWO_DEVICES, BY_DEVICE).code == "file-several-devices"


def test_one_device_is_chosen(tmp_path: Path) -> None:
    found = convert(tmp_path, TWO_DEVICES, BY_DEVICE, serial="A 1", context=ReadingContext())

    assert [(one["value"], one["deviceId"]) for one in found.records] == [(5, "M-A 1"), (7, "M-A 1")]
    assert found.skipped == {"other-device": 1}
    mine = convert(tmp_path, TWO_DEVICES, BY_DEVICE, serial="B", context=ReadingContext(device_id="mine"))
    assert [one["deviceId"] for one in mine.records] == ["mine"]


def test_a_row_without_its_device_is_refused(tmp_path: Path) -> None:
    content = "t,v,s\n2026-03-05 10:00:00,5,A\n2026-03-05 10:05:00,6, \n"

    assert convert(tmp_path, content, BY_DEVICE).rejected == [("line 3", "staged-device-id-missing")]


def test_one_device_without_a_column(tmp_path: Path) -> None:
    content = "t,v\n1772701200,5\n"

    (device,) = devices(tmp_path, content, timed("epoch-s"))

    assert (device.serial, device.fields) == ("", {"timeProcessing": "none"})
    assert "deviceId" not in convert(tmp_path, content, timed("epoch-s"), context=ReadingContext()).records[0]
    assert "has no `deviceId`" in str(error_of(tmp_path, content, timed("epoch-s"), serial="x"))


def test_too_many_devices_are_none(tmp_path: Path) -> None:
    content = "t,v,s\n" + "".join(f"2026-03-05 10:00:00,5,{number}\n" for number in range(1001))

    assert error_of(tmp_path, content, BY_DEVICE).code == "stage-too-many-devices"


def test_names_of_rows(tmp_path: Path) -> None:
    bolus = {"type": "bolus", "subType": "normal", "normal": {"column": "b"}}
    table = mapping(CBG, {"record": bolus}, {"record": bolus}, id=["n", "m"])
    rows = ["10:00:00,5,2,a:b,c", f"10:05:00,5,,{'x' * 101},c", "11:00:00,5,,a,"]
    content = "t,v,b,n,m\n" + "".join(f"2026-03-05 {row}\n" for row in rows)

    found = convert(tmp_path, content, table)

    ids = [one["origin"]["id"] for one in found.records]
    assert ids[:3] == ["cbg:a%3Ab:c", "bolus:normal:a%3Ab:c", "bolus:normal#2:a%3Ab:c"]
    assert re.fullmatch("cbg:[0-9a-f]{64}", ids[3])
    assert found.rejected == [("line 4", "staged-origin-key-missing")]


def test_names_are_of_their_device_and_of_no_zone(tmp_path: Path) -> None:
    table = BY_DEVICE | {"id": ["t"]}

    berlin, phoenix = (
        convert(tmp_path, TWO_DEVICES, table, serial="B", timezone=zone)
        for zone in ("Europe/Berlin", "America/Phoenix")
    )

    assert berlin.times != phoenix.times
    assert [one["origin"] for one in berlin.records] == [{"id": "cbg:B:2026-03-05 10%3A00%3A00"}]
    assert [one["origin"] for one in phoenix.records] == [one["origin"] for one in berlin.records]


# ---------------------------------------------------------------- until the next row


def rated(order: str, longest: str = "PT30M") -> dict[str, Any]:
    basal = {
        "type": "basal",
        "deliveryType": "automated",
        "rate": {"column": "r", "missing": ["-"]},
        "duration": {"toNext": {"max": longest, "to": "ms"}},
    }
    return mapping(CBG, {"record": basal}, time={"column": "t", "format": "iso", "order": order})


RATES = ["10:00:00,5,0.8", "10:05:00,6,", "10:10:00,7,0.7", "12:00:00,,0.6", "12:05:00,9,-"]


def basals(found: Converted) -> list[tuple[str, float, int]]:
    made = [one for one in found.records if one["type"] == "basal"]
    return [(one["deviceTime"][11:16], one["rate"], one["duration"]) for one in made]


@pytest.mark.parametrize("order", ["oldest-first", "newest-first"])
def test_a_rate_lasts_until_the_next_one(tmp_path: Path, order: str) -> None:
    rows = RATES[:: 1 if order == "oldest-first" else -1]

    found = convert(tmp_path, "t,v,r\n" + "".join(f"2026-03-05 {row}\n" for row in rows), rated(order))

    assert sorted(basals(found)) == [("10:00", 0.8, 600_000), ("10:10", 0.7, 1_800_000)]
    assert found.skipped == {"no-value": 1}  # the last rate: nobody knows how long it lasted
    assert len(found.records) == 6


@pytest.mark.parametrize("unread", range(6))
@pytest.mark.parametrize("order", ["oldest-first", "newest-first"])
def test_a_condition_that_cannot_be_read_refuses_its_own_row_only(
    tmp_path: Path, order: str, unread: int
) -> None:
    rules = [
        {
            "when": {"column": column, "above": 0},
            "record": {
                "type": "basal",
                "deliveryType": kind,
                "rate": {"column": column},
                "duration": {"toNext": {"max": "PT30M", "to": "ms"}},
            },
        }
        for column, kind in (("a", "scheduled"), ("b", "automated"))
    ]
    rows = [f"2026-03-05 10:{5 * row:02}:00,{'high' if row == unread else 1},2\n" for row in range(6)]
    ordered = rows[:: 1 if order == "oldest-first" else -1]
    time = {"column": "t", "format": "iso", "order": order}

    found = convert(tmp_path, f"t,a,b\n{''.join(ordered)}", mapping(*rules, time=time))

    assert [code for _, code in found.rejected] == ["staged-not-a-number"]
    assert {time[11:16] for time in found.times} == {
        f"09:{5 * row:02}" for row in range(5) if row != unread
    }  # and the last one: nobody knows how long it lasted
    assert {record["duration"] for record in found.records} == {300_000}


@pytest.mark.parametrize("order", ["oldest-first", "newest-first"])
def test_rows_against_the_stated_order_are_refused(tmp_path: Path, order: str) -> None:
    rows = ["10:00:00,5,0.8", "10:10:00,6,0.7", "10:05:00,7,0.6", "10:20:00,8,0.5"]
    ordered = rows[:: 1 if order == "oldest-first" else -1]

    found = convert(tmp_path, "t,v,r\n" + "".join(f"2026-03-05 {row}\n" for row in ordered), rated(order))

    assert [code for _, code in found.rejected] == ["staged-out-of-order"]
    assert sorted(basals(found)) == [("10:00", 0.8, 600_000), ("10:05", 0.6, 900_000)]


def test_refused_rows_do_not_move_the_ends_of_others(tmp_path: Path) -> None:
    rows = ["10:00:00,5,0.8", "10:05:00,x,0.7", "10:10:00,6,0.6", "10:15:00,6,x", "10:20:00,8,0.5"]

    found = convert(
        tmp_path, "t,v,r\n" + "".join(f"2026-03-05 {row}\n" for row in rows), rated("oldest-first")
    )

    assert [where for where, _ in found.rejected] == ["line 3", "line 5"]
    assert basals(found) == [("10:00", 0.8, 300_000), ("10:10", 0.6, 300_000)]


# ---------------------------------------------------------------- manifests


TABLE = "t,v\n2026-03-05 10:00:00,100\n2026-03-05 10:05:00,x\n"


def staged(world: World, table: object, content: str = TABLE, **file: Any) -> Path:
    entry = {"format": "table", "timezone": "Europe/Berlin", "table": table} | file
    return world.stage([], content=content.encode(), name="table.csv", file=entry)


def key_of(world: World, folder: Path) -> str:
    return content_key(read_manifest(UPath(folder), world.user), ["0" * 64])


def test_a_table_becomes_visible_and_its_bad_row_stays_in_quarantine(world: World) -> None:
    entry = {"format": "table", "timezone": "Europe/Berlin", "table": mapping()}
    number = world.ready(
        [], content=TABLE.encode(), name="table.csv", file=entry, max_quarantined_percent=100
    )

    world.upload(number)

    assert [(one["type"], one["time"]) for one in world.visible()] == [("cbg", "2026-03-05T09:00:00Z")]
    (refused,) = world.quarantine(number)
    assert (refused["where"], refused["recordText"]) == ("line 3", "2026-03-05 10:05:00,x")


def test_a_mapping_beside_the_manifest_is_read_with_it_and_is_part_of_the_content(world: World) -> None:
    inline = key_of(world, staged(world, mapping()))

    folder = staged(world, "study.json")
    (folder / "study.json").write_text(json.dumps(mapping()))
    beside = key_of(world, folder)
    (folder / "study.json").write_text(json.dumps(value(missing=["-"])))

    assert beside == inline
    assert key_of(world, folder) != beside
    (file,) = read_manifest(UPath(folder), world.user).files
    assert file.table == value(missing=["-"])


def test_a_corrected_zone_is_another_batch(world: World) -> None:
    keys = {key_of(world, staged(world, mapping(), timezone=zone)) for zone in ("UTC", "Europe/Berlin")}

    assert len(keys) == 2


@pytest.mark.parametrize(
    ("table", "beside", "code", "said"),
    [
        (mapping(secret=1), None, "table-mapping", "file 1: the mapping of a table cannot be used: key 3"),
        (None, None, "table-mapping", "there is none"),
        ("study.json", None, "file-missing", ""),
        ("study.json", b"{", "table-mapping", "it is not JSON (line 1, column 2)"),
        ("study.json", b'{"time": 1, "time": 2}', "table-mapping", "names a key twice"),
        ("study.json", b"[]", "table-mapping", "a mapping is a JSON object"),
        (
            "study.json",
            json.dumps(mapping(rowNumber=["\ud800"])).encode(),
            "table-mapping",
            "half of a surrogate",
        ),
        ("study.json", b"[" * 100_000, "table-mapping", "it is nested too deeply"),
        ("study.json", b" " * 1_100_000, "table-mapping", "its file is too large"),
        ("../study.json", None, "file-name", ""),
        ([1], None, "manifest-malformed", "/files/0/table"),
    ],
)
def test_manifests_whose_mapping_cannot_be_used(
    world: World, table: object, beside: bytes | None, code: str, said: str
) -> None:
    folder = staged(world, table)
    if beside is not None:
        (folder / "study.json").write_bytes(beside)

    with pytest.raises(BatchError) as caught:
        read_manifest(UPath(folder), world.user)

    assert caught.value.code == code
    assert said in str(caught.value)


def test_other_formats_take_no_mapping(world: World) -> None:
    folder = world.stage([{}], file={"table": mapping()})

    with pytest.raises(BatchError, match="/files/0/table: format ndjson does not take it"):
        read_manifest(UPath(folder), world.user)


# ---------------------------------------------------------------- every cut, every damage


@pytest.mark.parametrize("names", [[], ["n"]])
def test_any_cut_into_overlapping_exports_gives_the_same_records(tmp_path: Path, names: list[str]) -> None:
    chance = random.Random(3)
    night = range(20, 55)  # nobody can tell the passes of an hour apart by a part of it
    for _ in range(8):
        rows = study(90, chance)
        cut = chance.choice([at for at in range(4, 90) if at not in night])
        pieces = [rows, rows[:cut], rows[cut - 4 :]]

        whole, *parts = (
            convert(tmp_path, "\n".join(["t,v,r,k,n", *piece]), STUDY | {"id": names}) for piece in pieces
        )

        assert {line for part in parts for line in part.lines} == set(whole.lines)
        assert {line for line in parts[0].lines} & {line for line in parts[1].lines}
        by_name = {one["origin"]["id"]: one for one in whole.records if names}
        assert len(by_name) == (len(whole.lines) if names else 0)


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    content = "\n".join(["t,v,r,k,n", *study(200, random.Random(4))])

    assert convert(tmp_path, content, STUDY).lines == convert(tmp_path, content, STUDY).lines


_DAMAGES = [
    "",
    "Canary",
    "\0",
    '"',
    '""',
    ",",
    ";",
    "\t",
    "\r",
    "\n",
    "1e9",
    "-",
    "NaN",
    "\u2028",
    "%s",
    "{}",
]


def damaged(rows: int, seed: int) -> bytes:
    """Return a table with something wrong in most rows."""
    chance = random.Random(seed)
    lines = []
    for line in study(rows, chance):
        at, length = chance.randrange(len(line)), chance.choice([0, 0, 1, 3])
        changed = f"{line[:at]}{chance.choice(_DAMAGES)}{line[at + length :]}".encode()
        if not chance.randrange(10):
            at = chance.randrange(len(changed))
            changed = changed[:at] + chance.randbytes(chance.randrange(4)) + changed[at + 1 :]
        lines.append(changed)
    return b"t,v,r,k,n\n" + b"\n".join(lines)


def fuzz_rows(folder: Path, rows: int, seed: int, table: dict[str, Any]) -> Converted:
    context = ReadingContext(device_id="d", meant_as=("clock-not-in-zone", "dates-swapped"))
    found = convert(folder, damaged(rows, seed), table, context=context)
    assert all(isinstance(one, dict) for one in found.records)
    assert found.rows == len(set(found.where)) + len(found.rejected) + sum(found.skipped.values())
    assert all(code.startswith("staged-") for _, code in found.rejected)
    return found


@pytest.mark.parametrize("order", [None, "oldest-first", "newest-first"])
def test_damaged_rows_end_as_records_or_refused_or_counted(tmp_path: Path, order: str | None) -> None:
    rules = [rule for rule in STUDY["records"] if order or "duration" not in rule["record"]]
    table = STUDY | {"time": {"column": "t", "format": "iso", "order": order}, "records": rules, "id": ["n"]}
    if order is None:
        del table["time"]["order"]

    found = fuzz_rows(tmp_path, 700, 5, table)

    assert len(found.lines) > 10
    assert len(found.rejected) > 100

"""A gap and a doubled day stand out in the chart; what is merely irregular does not."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest

from tidepool_airflow.uploads_page.chart import (
    BAR,
    FEWEST_HEAT_COLUMNS,
    HEAT_COLUMNS,
    MOST_SLOTS,
    STEP,
    charts,
    heat_map,
    zones_in_words,
)
from tidepool_ingest.coverage import HOURS, LEVELS, LONGEST_GAP, MORE_THAN_USUAL, text_of_hours

FIRST = date(2026, 1, 1)


def after(days: int) -> date:
    return FIRST + timedelta(days=days)


def cgm(days: int) -> dict[date, dict[str, int]]:
    return {after(day): {"cbg": 288} for day in range(days)}


def test_a_gap_and_a_doubled_day_are_marked() -> None:
    own = cgm(10)
    del own[after(3)], own[after(4)]
    own[after(7)]["cbg"] = 576

    (chart,) = charts(own, {})

    assert {bar.day: bar.mark for bar in chart.bars if bar.mark} == {
        after(3): "gap",
        after(4): "gap",
        after(7): "unusual",
    }
    assert (chart.gaps, chart.unusual, chart.highest, chart.records) == (2, (after(7),), 576, 7 * 288 + 576)
    assert [bar.records for bar in chart.bars] == [288, 288, 288, 0, 0, 288, 288, 576, 288, 288]


def test_what_does_not_come_every_day_has_no_gaps_and_few_records_vary_by_chance() -> None:
    own = cgm(10)
    for day in (0, 4, 5, 9):
        own[after(day)]["physicalActivity"] = 3 if day == 4 else 1

    _cgm, activity = charts(own, {})

    assert (activity.type, activity.gaps, activity.unusual) == ("physicalActivity", 0, ())
    assert {bar.mark for bar in activity.bars} == {""}


def test_other_uploads_of_the_device_stand_on_the_own_ones() -> None:
    (chart,) = charts(cgm(3), {after(1): {"cbg": 288, "smbg": 4}})

    first, second, _third = chart.bars
    assert (first.others, second.others, chart.highest) == (0, 288, 576)
    assert second.others_top == 0
    assert second.top == second.others_height == second.height


def test_a_long_gap_takes_one_place() -> None:
    own = cgm(2) | {after(LONGEST_GAP + 3): {"cbg": 288}}

    (chart,) = charts(own, {})

    assert [bar.gap_days for bar in chart.bars] == [0, 0, LONGEST_GAP + 1, 0]
    assert len(charts(cgm(2) | {after(LONGEST_GAP + 2): {"cbg": 1}}, {})[0].bars) == LONGEST_GAP + 3


def test_no_records_no_chart_and_the_newest_years_of_many() -> None:
    assert charts({}, {}) == []
    (chart,) = charts(cgm(MOST_SLOTS + 5), {})
    assert (len(chart.bars), chart.bars[-1].day, chart.stretched) == (
        MOST_SLOTS,
        after(MOST_SLOTS + 4),
        False,
    )


# ---------------------------------------------------------------- days by hours

BERLIN = '[[["Europe/Berlin",""]]]'


def full(days: int) -> dict[date, dict[str, str]]:
    return {after(day): {"cbg": text_of_hours([12] * HOURS)} for day in range(days)}


def test_missing_hours_and_doubled_ones_are_told() -> None:
    hours = full(6)
    hours[after(2)]["cbg"] = text_of_hours([12] * 3 + [0] * 4 + [12] * 5 + [24] * 2 + [6] + [12] * 9)
    hours[after(2)]["food"] = text_of_hours([5] * HOURS)

    found = heat_map(hours, None)

    assert found is not None
    assert (found.type, found.zone, found.full_hour, found.days_a_column) == ("cbg", "UTC", 12, 1)
    third = found.columns[2]
    assert (third.first, third.records) == (after(2), 17 * 12 + 2 * 24 + 6)
    assert (third.missing, third.unusual) == ("3\N{EN DASH}7", "12\N{EN DASH}14")
    assert [level for level, _cells in third.cells] == [0, 3, 4, 5]
    assert found.columns[0].missing == ""
    assert found.slots == FEWEST_HEAT_COLUMNS


@pytest.mark.parametrize(("change", "hour"), [(date(2026, 3, 29), 0), (date(2026, 10, 25), 24)])
def test_a_change_of_clocks_is_neither_a_gap_nor_a_doubled_hour(change: date, hour: int) -> None:
    days = [change + timedelta(days=number) for number in range(-3, 4)]
    found = heat_map({day: {"cbg": text_of_hours([12] * HOURS)} for day in days}, BERLIN)

    assert found is not None
    (column,) = [column for column in found.columns if column.first == change]
    assert column.hours[2] == hour
    assert (column.missing, column.unusual) == ("", "")
    assert set(column.levels) == {4}


def test_an_hour_that_is_there_twice_can_be_half_full_or_doubled() -> None:
    change = date(2026, 10, 25)
    for records, level in ((12, 3), (48, MORE_THAN_USUAL)):
        counts = [[12] * HOURS, [records // 2] * 2 + [12] * 22, [12] * HOURS]
        days = {change + timedelta(days=at - 1): {"cbg": text_of_hours(day)} for at, day in enumerate(counts)}
        found = heat_map(days, BERLIN)
        assert found is not None
        (column,) = [column for column in found.columns if column.first == change]
        assert column.levels[2] == level


def test_each_hour_has_a_cell_at_its_place() -> None:
    found = heat_map(full(3), None)
    assert found is not None

    outlines = {level: cells for level, cells in found.columns[1].cells}
    places = re.findall(r"M(\d+) (\d+)h\d+v\d+h-\d+z", outlines[4])
    assert outlines.keys() <= set(LEVELS)
    assert places == [(str(STEP), str(hour * found.height // HOURS)) for hour in range(HOURS)]
    assert BAR < STEP


def test_all_records_are_shown_where_there_is_no_sensor() -> None:
    one = text_of_hours([1] + [0] * 23)
    found = heat_map({FIRST: {"smbg": one, "food": one}}, None)

    assert found is not None
    assert (found.type, found.columns[0].hours[0]) == ("", 2)


@pytest.mark.parametrize(
    ("zones", "zone", "first"),
    [
        (BERLIN, "Europe/Berlin", 0),
        (None, "UTC", 23),
        ('[[["Asia/Kolkata",""]]]', "UTC", 23),
        ('[[["Europe/Berlin",""]],[["Europe/London",""]]]', "UTC", 23),
        ('[[["Europe/Berlin","2026-01-01T00:00:00"],["Europe/London",""]]]', "UTC", 23),
        ('[[["Europe/Nowhere",""]]]', "UTC", 23),
    ],
)
def test_the_picture_is_in_the_only_zone_there_is(zones: str | None, zone: str, first: int) -> None:
    found = heat_map({FIRST: {"cbg": text_of_hours([0] * 23 + [3])}}, zones)

    assert found is not None
    assert found.zone == zone
    assert found.columns[0].hours.index(3) == first


def test_zones_are_named_without_the_times_of_their_changes() -> None:
    assert zones_in_words(None) == []
    journey = '[[["Europe/Berlin","2026-01-01T00:00:00"],["Europe/London",""]],[["Asia/Tokyo",""]]]'
    assert zones_in_words(journey) == ["Europe/Berlin, then Europe/London", "Asia/Tokyo"]


def test_hours_that_are_not_known_make_no_picture() -> None:
    assert heat_map({}, BERLIN) is None


def test_years_fit_and_months_are_named_between() -> None:
    found = heat_map(full(800), None)

    assert found is not None
    assert len(found.columns) <= HEAT_COLUMNS
    assert found.days_a_column == 7
    assert 0 < len(found.ticks) <= 4
    assert all(20 < at < 80 for at, _month in found.ticks)
    assert sum(column.records for column in found.columns) == 800 * HOURS * 12


def test_a_long_gap_is_marked_in_the_picture() -> None:
    found = heat_map(full(2) | {after(LONGEST_GAP + 3): {"cbg": text_of_hours([12] * HOURS)}}, None)

    assert found is not None
    assert [(column.is_gap, bool(column.cells)) for column in found.columns] == [
        (False, True),
        (False, True),
        (True, False),
        (False, True),
    ]

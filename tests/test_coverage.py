"""The layout of coverage pictures: columns of days, gaps, and how full an hour is."""

from __future__ import annotations

from datetime import date, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidepool_ingest.coverage import (
    HOURS,
    LEVELS,
    MORE_THAN_USUAL,
    full_hour,
    hours_of_text,
    in_zone,
    level_of,
    passes_in,
    picture_of,
    text_of_hours,
)
from tidepool_ingest.local_times import zone_named

MONDAY = date(2026, 3, 2)
FULL = [12] * HOURS


def days_of(*numbers: int) -> dict[date, list[int]]:
    return {MONDAY + timedelta(days=number): FULL for number in numbers}


def test_each_day_is_a_column_where_there_is_room() -> None:
    picture = picture_of(
        {**days_of(0, 1), MONDAY + timedelta(days=3): [0, 3, 11, 12, 24, *[12] * 19]}, columns=9
    )

    assert [column.first_day.day for column in picture.columns] == [2, 3, 4, 5]
    assert (picture.full_hour, picture.days_a_column, picture.is_cut) == (12, 1, False)
    assert picture.columns[2].levels == (0,) * HOURS
    assert not picture.columns[2].is_gap
    assert picture.columns[3].levels[:5] == (0, 2, 4, 4, MORE_THAN_USUAL)


def test_many_days_share_columns() -> None:
    picture = picture_of(days_of(*range(90)), columns=66)

    assert len(picture.columns) == 45
    assert picture.days_a_column == 2
    assert picture.columns[-1].last_day == MONDAY + timedelta(days=89)
    assert {level for column in picture.columns for level in column.levels} == {4}


def test_a_long_gap_is_one_column() -> None:
    picture = picture_of(days_of(0, 400), columns=66)

    assert [(column.days, column.is_gap) for column in picture.columns] == [
        (1, False),
        (399, True),
        (1, False),
    ]
    assert picture.columns[1].last_day == MONDAY + timedelta(days=399)


def test_many_long_gaps_leave_the_oldest_out() -> None:
    picture = picture_of(days_of(*range(0, 4_000, 40)), columns=21)

    assert picture.is_cut
    assert len(picture.columns) == 21
    assert picture.columns[-1].first_day == MONDAY + timedelta(days=3_960)


def test_of_few_records_none_are_more_than_usual() -> None:
    assert level_of(9, 1) == 4
    assert level_of(9, 0) == 0
    assert level_of(8, 4) == MORE_THAN_USUAL
    assert level_of(8, 4, days=2) == 4


def test_nothing_makes_an_empty_picture() -> None:
    assert picture_of({MONDAY: [0] * HOURS}, columns=66).columns == ()
    assert full_hour({}) == 0


@given(
    st.dictionaries(
        st.dates(date(2020, 1, 1), date(2021, 1, 1)),
        st.lists(st.integers(0, 30), min_size=HOURS, max_size=HOURS),
        max_size=40,
    ),
    st.integers(1, 80),
)
def test_a_picture_fits_and_counts_all_that_it_shows(days: dict[date, list[int]], columns: int) -> None:
    picture = picture_of(days, columns=columns)

    assert len(picture.columns) <= columns
    assert all(level in LEVELS for column in picture.columns for level in column.levels)
    if not picture.is_cut:
        assert sum(sum(column.hours) for column in picture.columns) == sum(map(sum, days.values()))


@given(st.lists(st.integers(0, 2**40), min_size=HOURS, max_size=HOURS))
def test_hours_are_read_as_they_were_written(hours: list[int]) -> None:
    assert hours_of_text(text_of_hours(hours)) == tuple(hours)


def test_hours_of_nothing_are_a_short_text() -> None:
    assert text_of_hours([12, *[0] * 22, 3]) == f"12{',' * 23}3"


def test_hours_are_those_of_a_zone() -> None:
    hours = [0] * HOURS
    hours[0], hours[23] = 5, 7

    local = in_zone({MONDAY: hours}, ZoneInfo("America/New_York"))

    assert local is not None
    assert {day: {hour: n for hour, n in enumerate(of_day) if n} for day, of_day in local.items()} == {
        MONDAY - timedelta(days=1): {19: 5},
        MONDAY: {18: 7},
    }


def test_an_hour_that_is_there_twice_has_twice_as_many() -> None:
    back = date(2026, 10, 25)
    local = in_zone({back: FULL}, ZoneInfo("Europe/Berlin"))

    assert local is not None
    assert (local[back][2], local[back][3]) == (24, 12)
    forward = in_zone({date(2026, 3, 29): FULL}, ZoneInfo("Europe/Berlin"))
    assert forward is not None
    assert forward[date(2026, 3, 29)][2] == 0


@pytest.mark.parametrize("name", ["Asia/Kolkata", "Asia/Kathmandu", "Australia/Adelaide"])
def test_hours_that_begin_at_others_are_not_shown_in_a_zone(name: str) -> None:
    assert in_zone(days_of(0), ZoneInfo(name)) is None


def test_the_first_and_the_last_day_that_there_are_stay() -> None:
    for day, hours in ((date.min, -5), (date.max, 9)):
        local = in_zone({day: FULL}, timezone(timedelta(hours=hours)))
        assert local is not None
        assert sum(map(sum, local.values())) == sum(FULL)


@pytest.mark.parametrize(
    ("zone", "day", "passes"),
    [
        ("Europe/Berlin", date(2026, 3, 29), {2: 0}),
        ("Europe/Berlin", date(2026, 10, 25), {2: 2}),
        ("Australia/Lord_Howe", date(2026, 10, 4), {}),
        ("Australia/Lord_Howe", date(2026, 4, 5), {1: 2}),
        ("America/Havana", date(2026, 3, 8), {0: 0}),
        ("Asia/Kolkata", date(2026, 3, 8), {}),
        ("Europe/Berlin", date.max, {}),
    ],
)
def test_hours_are_there_as_often_as_the_zone_has_them(zone: str, day: date, passes: dict[int, int]) -> None:
    assert list(passes_in(zone_named(zone), day)) == [passes.get(hour, 1) for hour in range(HOURS)]


def test_a_change_of_clocks_is_neither_a_gap_nor_doubled_rows() -> None:
    berlin = zone_named("Europe/Berlin")
    forward, back = (12, 12, 0, *[12] * 21), (12, 12, 24, *[12] * 21)

    (spring,) = picture_of({date(2026, 3, 29): forward}, columns=9, zone=berlin).columns
    (autumn,) = picture_of({date(2026, 10, 25): back}, columns=9, zone=berlin).columns

    assert set(spring.levels) == set(autumn.levels) == {4}

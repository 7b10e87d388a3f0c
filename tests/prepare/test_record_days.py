"""On which UTC days accepted records lie, odd times included."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidepool_ingest.coverage import hours_of_text
from tidepool_ingest.prepare.days import RecordDays, utc_day


def seen(*times: str) -> dict[date, dict[str, int]]:
    days = RecordDays()
    days.see([{"type": "cbg", "time": time} for time in times])
    return days.by_day()


@pytest.mark.parametrize(
    ("time", "day"),
    [
        ("2026-03-05T00:00:00Z", date(2026, 3, 5)),
        ("2026-03-05T23:59:59.999999999Z", date(2026, 3, 5)),
        ("2024-02-29T9:00:00,5Z", date(2024, 2, 29)),
        ("2026-03-05T00:30:00+01:00", date(2026, 3, 4)),
        ("2026-12-31T23:30:00-01:00", date(2027, 1, 1)),
        ("2026-03-05T12:00:00+00:00", date(2026, 3, 5)),
        ("2026-03-05T12:00:00+24:00", date(2026, 3, 4)),
        ("2024-03-01T00:00:00+00:60", date(2024, 2, 29)),
        ("0001-01-01T00:00:01Z", date.min),
        ("0000-06-01T12:00:00Z", date.min),
        ("0000-01-01T00:00:00+24:00", date.min),
        ("9999-12-31T23:59:59Z", date.max),
        ("9999-12-31T23:59:59-24:00", date.max),
    ],
)
def test_a_time_counts_as_of_its_day_in_utc(time: str, day: date) -> None:
    assert utc_day(time) == day
    assert seen(time) == {day: {"cbg": 1}}


def test_days_and_types_are_counted_apart_and_oldest_day_first() -> None:
    days = RecordDays()
    days.see(
        [{"type": "cbg", "time": "2026-03-06T01:00:00Z"}, {"type": "food", "time": "2026-03-06T01:00:00Z"}]
    )
    days.see(
        [
            {"type": "cbg", "time": "2026-03-06T00:30:00+01:00"},
            {"type": "cbg", "time": "2026-03-05T01:00:00Z"},
        ]
    )

    assert days.by_day() == {date(2026, 3, 5): {"cbg": 2}, date(2026, 3, 6): {"cbg": 1, "food": 1}}
    assert list(days.by_day()) == [date(2026, 3, 5), date(2026, 3, 6)]
    assert days.by_type() == {"cbg": 3, "food": 1}


def test_times_of_the_year_0000_are_one_day() -> None:
    assert seen("0000-06-01T12:00:00Z", "0000-06-02T12:00:00Z") == {date.min: {"cbg": 2}}


@pytest.mark.parametrize(
    ("time", "hour"),
    [
        ("2026-03-05T00:00:00Z", 0),
        ("2026-03-05T23:59:59.999Z", 23),
        ("2024-02-29T9:00:00,5Z", 9),
        ("2026-03-05T00:30:00+01:00", 23),
        ("2026-03-05T12:00:00+05:30", 6),
        ("0000-01-01T00:00:00+24:00", 0),
        ("9999-12-31T23:59:59-24:00", 23),
    ],
)
def test_a_time_counts_as_of_its_hour_in_utc(time: str, hour: int) -> None:
    days = RecordDays()
    days.see([{"type": "cbg", "time": time}])

    ((day, kinds),) = days.by_hour().items()
    assert day == utc_day(time)
    assert hours_of_text(kinds["cbg"]) == tuple(int(each == hour) for each in range(24))


def test_many_hours_are_put_together_and_none_is_lost() -> None:
    days = RecordDays()
    first = datetime(2020, 1, 1, tzinfo=UTC)
    for start in range(0, 8_000, 1_000):
        moments = [first + timedelta(hours=start + number) for number in range(1_000)]
        data = [{"type": "cbg", "time": f"{moment:%Y-%m-%dT%H:%M:%SZ}"} for moment in moments]
        days.see([*data, data[0]])

    by_hour = {day: hours_of_text(kinds["cbg"]) for day, kinds in days.by_hour().items()}
    assert days.by_type() == {"cbg": 8_008}
    assert {day: sum(hours) for day, hours in by_hour.items()} == {
        day: kinds["cbg"] for day, kinds in days.by_day().items()
    }
    assert by_hour[first.date()] == (2, *[1] * 23)


def test_equal_hours_of_the_year_0000_are_put_together() -> None:
    days = RecordDays()
    days.see([{"type": "cbg", "time": f"0000-06-0{day}T12:00:00Z"} for day in (1, 2, 3)])

    assert hours_of_text(days.by_hour()[date.min]["cbg"])[12] == 3


@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31)),
    st.integers(min_value=-23 * 60, max_value=23 * 60),
)
def test_it_is_the_day_that_the_standard_library_finds(moment: datetime, offset: int) -> None:
    local = moment.replace(tzinfo=timezone(timedelta(minutes=offset)), microsecond=0)
    text = local.isoformat().replace("+00:00", "Z")

    assert seen(text) == {local.astimezone(UTC).date(): {"cbg": 1}}

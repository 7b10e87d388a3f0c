from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pendulum
import pytest

from tidepool_ingest.window import Window


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        (at(1), at(2), 1, 1),  # daily at midnight
        (at(1, 3), at(2, 3), 1, 1),  # daily at three
        (at(1, 3), at(8, 3), 1, 7),  # weekly at three
        (at(1, 10), at(1, 11), 1, 1),  # hourly
        (at(1, 23), at(2, 0), 1, 1),  # the last hour of a day
        (at(1, 18), at(2, 6), 1, 1),  # a night shift
        (at(1, 6), at(1, 18), 1, 1),  # a day shift
        (at(1), at(31), 1, 30),
    ],
)
def test_an_interval_selects_the_days_that_begin_in_it(
    start: datetime, end: datetime, first: int, last: int
) -> None:
    assert Window.of_interval(start, end) == Window(date(2026, 3, first), date(2026, 3, last))


def test_consecutive_daily_intervals_share_no_day_and_leave_none_out() -> None:
    days = [Window.of_interval(at(day, 3), at(day + 1, 3)) for day in range(1, 29)]

    assert [window.first_day.day for window in days] == list(range(1, 29))
    assert all(window.first_day == window.last_day for window in days)


def test_an_interval_is_read_in_utc() -> None:
    zone = timezone(timedelta(hours=11))
    start = datetime(2026, 3, 2, 5, tzinfo=zone)  # 1 March, 18:00 UTC

    assert Window.of_interval(start, start + timedelta(days=1)).first_day == date(2026, 3, 1)


def test_look_back_adds_earlier_days() -> None:
    assert Window.of_interval(at(8), at(9), look_back_days=7) == Window(date(2026, 3, 1), date(2026, 3, 8))


def test_an_interval_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="CronDataIntervalTimetable"):
        Window.of_interval(at(1), at(1))


def test_one_explicit_day_means_that_day() -> None:
    day = date(2026, 3, 1)

    assert Window.of_days(day, None) == Window.of_days(None, day) == Window(day, day)


def test_explicit_days_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="exchange them"):
        Window.of_days(date(2026, 3, 2), date(2026, 3, 1))


def test_recent_takes_tomorrow_of_those_east_of_greenwich() -> None:
    assert Window.recent(date(2026, 3, 8), 7) == Window(date(2026, 3, 1), date(2026, 3, 9))


def test_airflow_gives_intervals_as_pendulum_times() -> None:
    start = pendulum.datetime(2026, 3, 1, 3)

    assert Window.of_interval(start, start.add(days=2)) == Window(date(2026, 3, 1), date(2026, 3, 2))

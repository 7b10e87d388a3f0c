"""What a clock showed, and which instant that was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidepool_ingest.local_times import (
    LocalTime,
    LocalTimes,
    Period,
    at_offset,
    timezone_names,
    zone_named,
)

SOME_ZONES = (
    "America/New_York",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Pacific/Apia",
    "UTC",
)


def read(zone: str, local: str, *, second: bool = False) -> LocalTime:
    return LocalTimes([Period(zone)]).read(local, second=second)


@pytest.mark.parametrize(
    ("zone", "local", "expected"),
    [
        ("Europe/Berlin", "2026-03-05T10:00:00", ("2026-03-05T09:00:00Z", 60, "")),
        ("Europe/Berlin", "2026-07-05T10:00:59", ("2026-07-05T08:00:59Z", 120, "")),
        ("Asia/Kolkata", "2026-07-05T00:10:00", ("2026-07-04T18:40:00Z", 330, "")),
        ("America/New_York", "2026-03-08T02:30:00", ("2026-03-08T07:30:00Z", -300, "missing")),
        ("America/New_York", "2026-11-01T01:30:00", ("2026-11-01T05:30:00Z", -240, "doubled")),
        ("Etc/GMT+5", "2026-11-01T01:30:00", ("2026-11-01T06:30:00Z", -300, "")),
        ("America/New_York", "9999-12-31T18:59:59", ("9999-12-31T23:59:59Z", -300, "")),
        ("Pacific/Apia", "2011-12-30T12:00:00", ("2011-12-30T22:00:00Z", -600, "missing")),
        ("Australia/Lord_Howe", "2026-04-05T01:45:00", ("2026-04-04T14:45:00Z", 660, "doubled")),
        ("Africa/Monrovia", "1971-06-01T00:00:00", ("1971-06-01T00:44:30Z", -44, "")),
    ],
)
def test_a_local_time_is_an_instant(zone: str, local: str, expected: tuple[str, int, str]) -> None:
    assert read(zone, local) == expected


def test_the_second_pass_of_a_doubled_hour_is_an_hour_later() -> None:
    again = read("America/New_York", "2026-11-01T01:30:00", second=True)

    assert again == ("2026-11-01T06:30:00Z", -300, "doubled")
    # Nothing else has a second pass.
    assert read("America/New_York", "2026-11-01T03:30:00", second=True).time == "2026-11-01T08:30:00Z"


def test_a_clock_that_was_set_late_is_in_one_zone_after_the_other() -> None:
    times = LocalTimes([Period("America/New_York", "2026-03-08T18:20:00"), Period("Europe/London")])

    assert times.read("2026-03-08T18:19:59") == ("2026-03-08T22:19:59Z", -240, "")
    assert times.read("2026-03-08T18:20:00") == ("2026-03-08T18:20:00Z", 0, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-03-05",
        "2026-03-05T10:00",
        "2026-03-05 10:00:00",
        "2026-02-30T10:00:00",
        "2026-03-05T24:00:00",
        "2026-03-05T10:60:00",
        "2026-03-05T10:00:00Z",
        "٢٠٢٦-03-05T10:00:00",
        "0000-01-01T00:00:00",
    ],
)
def test_what_is_no_local_time_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"not|out of range|must be in"):
        read("Europe/Berlin", text)


def test_a_time_beyond_what_utc_can_say_is_an_error() -> None:
    with pytest.raises(ValueError, match="before the year 1"):
        read("Asia/Tokyo", "0001-01-01T00:00:00")
    with pytest.raises(ValueError, match="before the year 1"):
        at_offset("9999-12-31T23:00:00", -600)


@given(
    st.sampled_from(SOME_ZONES),
    st.datetimes(datetime(1960, 1, 1), datetime(2037, 12, 31)),
)
def test_every_instant_is_found_again(zone: str, moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    shown = moment.astimezone(zone_named(zone))
    local = shown.strftime("%Y-%m-%dT%H:%M:%S")

    found = read(zone, local, second=bool(shown.fold))

    assert found.time == moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert found.doubt != "missing"
    offset = shown.utcoffset()
    assert offset is not None
    assert abs(timedelta(minutes=found.offset) - offset) < timedelta(minutes=1)
    if not offset.seconds % 60:
        assert at_offset(local, found.offset) == found.time


def test_hours_are_remembered_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidepool_ingest.local_times.HOURS_MAX", 3)
    times = LocalTimes([Period("Europe/Berlin")])

    found = [times.read(f"2026-03-05T{hour:02}:00:00").time for _ in range(2) for hour in range(1, 10)]

    assert found == [f"2026-03-05T{hour:02}:00:00Z" for _ in range(2) for hour in range(9)]


def test_there_are_the_names_that_the_platform_knows() -> None:
    assert {"UTC", "Europe/Berlin", "Etc/GMT+5", "EST"} <= timezone_names()
    assert not {"posixrules", "PST", "", "europe/berlin"} & timezone_names()
    with pytest.raises(KeyError):
        zone_named("../../etc/passwd")


@pytest.mark.parametrize("back", ["22:00", "10:30"])
def test_a_journey_within_a_day_or_an_hour_is_seen(back: str) -> None:
    berlin = Period("Europe/Berlin")
    there = [Period(berlin.zone, "2026-03-15T10:00:00"), Period("Asia/Kolkata", f"2026-03-15T{back}:00")]
    times = LocalTimes([*there, berlin])

    hours = ("09:59", "10:00", "10:20", back, "23:00")
    assert [times.read(f"2026-03-15T{hour}:00").offset for hour in hours] == [60, 330, 330, 60, 60]

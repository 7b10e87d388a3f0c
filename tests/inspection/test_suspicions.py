"""Gaps, and values that look wrong: what is told of them, and what is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tidepool_ingest.inspection.findings import Suspicion
from tidepool_ingest.inspection.gathering import Gathering
from tidepool_ingest.inspection.suspicions import Suspecting, converted_values
from tidepool_ingest.model.glucose import MG_PER_DL_IN_MMOL_PER_L

START = datetime(2026, 3, 5, 6, tzinfo=UTC)
NOW = datetime(2026, 4, 1, tzinfo=UTC)

Record = dict[str, Any]


def reading(at: datetime, value: float, units: str = "mg/dL", **more: Any) -> Record:
    time = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    return {"type": "cbg", "time": time, "units": units, "value": value, "deviceId": "d", **more}


def wavy(number: int) -> list[int]:
    """Return values as of a sensor: they rise and fall, and not evenly."""
    return [120 + (step * 7 % 23) + abs(step % 60 - 30) for step in range(number)]


def series(values: Sequence[float], minutes: float = 5, start: datetime = START, **more: Any) -> list[Record]:
    return [
        reading(start + timedelta(minutes=minutes * step), value, **more) for step, value in enumerate(values)
    ]


def found(*parts: Iterable[Record]) -> list[Suspicion]:
    gathered, suspecting = Gathering("Etc/UTC"), Suspecting(NOW)
    for part in parts:
        data = list(part)
        gathered.see(data)
        suspecting.see(data)
    return list(suspecting.found(gathered, gathered.days()))


def told(*parts: Iterable[Record]) -> dict[str, int]:
    return {one.kind: one.count for one in found(*parts)}


def test_a_sensor_as_it_should_be_says_nothing() -> None:
    assert told(series(wavy(800))) == {}
    assert told(series(wavy(800))[::-1]) == {}
    assert told(series([round(value / 18, 1) for value in wavy(800)], units="mmol/L")) == {}


# ---------------------------------------------------------------- gaps


def gaps_of(*parts: Iterable[Record]) -> tuple[int, int, float, list[float]]:
    gathered = Gathering("Etc/UTC")
    for part in parts:
        gathered.see(part)
    gaps = gathered.gaps()
    return gaps.interval, gaps.number, gaps.hours, [gap.hours for gap in gaps.longest]


def test_gaps_are_told_with_the_longest_first() -> None:
    later = START + timedelta(hours=3)
    much_later = START + timedelta(days=2)

    parts = series(wavy(12)), series(wavy(12), start=later), series(wavy(12), start=much_later)

    assert gaps_of(*parts) == (5, 2, 46.2, [44.08, 2.08])
    assert gaps_of(*parts[::-1]) == gaps_of(*parts)
    gathered = Gathering("Etc/UTC")
    gathered.see(record for part in parts for record in part)
    gap = gathered.gaps().longest[0]
    assert (gap.start, gap.end) == (later + timedelta(minutes=55), much_later)


@pytest.mark.parametrize(
    ("minutes", "pause", "number"), [(5, 25, 0), (5, 35, 1), (15, 30, 0), (15, 45, 1), (1, 29, 0)]
)
def test_a_pause_is_a_gap_if_it_is_clearly_longer_than_usual(minutes: int, pause: int, number: int) -> None:
    first = series(wavy(20), minutes)
    then = START + timedelta(minutes=minutes * 19 + pause)

    assert gaps_of(first, series(wavy(20), minutes, then))[1] == number


def test_readings_of_a_meter_or_by_hand_have_no_gaps() -> None:
    assert gaps_of(series(wavy(30), 240)) == (0, 0, 0, [])
    assert gaps_of(series(wavy(30), type="smbg")) == (0, 0, 0, [])
    assert gaps_of([]) == (0, 0, 0, [])


def test_only_so_many_gaps_are_named() -> None:
    parts = [series(wavy(9), 5, START + timedelta(hours=2 * number)) for number in range(80)]

    interval, number, _hours, longest = gaps_of(*parts)

    assert (interval, number, len(longest)) == (5, 79, 50)


# ---------------------------------------------------------------- values


def test_a_flat_line_is_told_once_it_is_long() -> None:
    assert told(series([130] * 71)) == {}
    assert told(series([*wavy(10), *[130] * 100, *wavy(10)])) == {"flat-line": 100}
    assert told(series([400] * 200)) == {}  # above what the sensor shows


def test_spikes_are_up_and_down_again() -> None:
    assert told(series([120, 121, 260, 122, 121])) == {"spikes": 1}
    assert told(series([120, 121, 260, 262, 121])) == {}
    assert told(series([6.6, 6.7, 14.4, 6.7], units="mmol/L")) == {"spikes": 1}
    assert told(series([120, 121, 260, 122, 121], minutes=15)) == {}
    assert found(series([120, 121, 260, 122]))[0].first == START + timedelta(minutes=10)


def test_one_instant_with_two_values() -> None:
    again = reading(START + timedelta(minutes=25), 99)

    assert told(series(wavy(6)), [again]) == {"doubled-rows": 1}
    assert told(series(wavy(6)), [{**again, "deviceId": "other"}]) == {}


def test_every_reading_told_twice() -> None:
    twice = [
        record
        for step, value in enumerate(wavy(100))
        for record in (
            reading(START + timedelta(minutes=5 * step), value),
            reading(START + timedelta(minutes=5 * step, seconds=7), value),
        )
    ]

    assert told(twice) == {"doubled-rows": 100}
    assert told(series(wavy(100)), twice[-4:]) == {}


def test_part_of_a_file_in_the_other_unit() -> None:
    wrong = series([6.1, 6.3, 6.2, 6.6], start=START + timedelta(days=1))

    assert told(series(wavy(100)), wrong) == {"units": 4}
    assert told(series(wavy(100)), wrong[:2]) == {}
    assert told(series([6.1] * 20)) == {}  # all of them: that holds


@pytest.mark.parametrize("factor", [18, 18.0182, MG_PER_DL_IN_MMOL_PER_L])
@pytest.mark.parametrize("digits", [0, 2])
def test_values_that_were_multiplied(factor: float, digits: int) -> None:
    values = [round(round(value / 18, 1) * factor, digits) for value in wavy(400)]

    assert told(series(values)) == {"converted": 400}
    assert converted_values({("mg/dL", 0, value): 1 for value in range(60, 300)}) == 0


def test_interpolated_values() -> None:
    ends = wavy(200)
    values = [
        round(before + (after - before) * part / 5, 2)
        for before, after in pairwise(ends)
        for part in range(5)
    ]

    assert told(series(values, minutes=1)).keys() == {"interpolated"}


# ---------------------------------------------------------------- times


def test_records_in_the_future() -> None:
    ahead = [{"type": "food", "time": "2026-04-03T00:00:00Z"}]

    assert told(series(wavy(10)), ahead) == {"future": 1}
    assert told(series(wavy(10)), [{"type": "food", "time": "2026-04-01T20:00:00Z"}]) == {}


def test_a_clock_that_was_not_set() -> None:
    early = series(wavy(3), start=datetime(2000, 1, 1, tzinfo=UTC))

    assert told(early, series(wavy(200))) == {"clock": 3}
    assert told(early, series(wavy(20))) == {}  # nobody knows which of them are wrong
    assert told(series(wavy(3), start=datetime(1970, 1, 1, tzinfo=UTC))) == {"clock": 3}


def test_a_profile_in_force_since_1970_is_as_it_is() -> None:
    profile = {"type": "pumpSettings", "time": "1970-01-01T00:00:00Z"}

    assert told([profile], series(wavy(20))) == {}


def test_times_of_years_that_no_calendar_has_end_nothing() -> None:
    odd = {"type": "cbg", "time": "0000-03-05T10:02:00Z", "units": "mg/dL", "value": 100}

    assert told([odd, {**odd, "time": "2026-03-05T10:02:00.5+01:00"}]) == {}

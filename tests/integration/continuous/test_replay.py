"""Seven days of a sensor that measures every five minutes, replayed as a cloud service would tell of them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from tests.factories import DEVICE, Record
from tests.world import FeedWorld

START = datetime(2026, 3, 1, tzinfo=UTC)
READINGS = 7 * 24 * 12
FETCH_MINUTES = 120


def reading(number: int, value: float) -> Record:
    time = (START + timedelta(minutes=5 * number)).isoformat().replace("+00:00", "Z")
    return {"type": "cbg", "time": time, "deviceId": DEVICE, "units": "mmol/L", "value": value}


@pytest.mark.slow
def test_seven_days_end_equal_to_the_source(world: FeedWorld) -> None:
    chance = random.Random(7)
    source = [round(4 + chance.random() * 10, 1) for _ in range(READINGS)]
    late = {number for number in range(READINGS) if chance.random() < 0.05}
    told: dict[int, float] = {}
    for batch, begin in enumerate(range(0, READINGS, FETCH_MINUTES // 5)):
        end = begin + FETCH_MINUTES // 5
        fresh = [number for number in range(max(0, begin - 3), min(end, READINGS)) if number not in late]
        overdue = [number for number in late if number < begin - chance.randrange(300) and number not in told]
        for number in chance.sample(sorted(told), min(len(told), 3)):
            source[number] = round(source[number] + 0.1, 1)  # calibrated afterwards
            fresh.append(number)
        told |= {number: source[number] for number in (*fresh, *overdue)}
        records = [reading(number, source[number]) for number in dict.fromkeys((*fresh, *overdue))]
        world.feed(records, f"b-{batch:04}")
    rest = sorted(set(range(READINGS)) - told.keys())
    world.feed([reading(number, source[number]) for number in rest], "b-9999")

    expected = {reading(number, 0)["time"]: value for number, value in enumerate(source)}
    assert world.values() == expected
    assert len(world.data_sets()) == 1
    assert world.all_right()

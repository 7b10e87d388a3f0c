"""What a person does all day: meals, movement and the habits around them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from tidepool_simulator.sample.people import Person

MealName = Literal["breakfast", "lunch", "dinner", "snack"]


@dataclass(frozen=True)
class Meal:
    """Food at a moment.

    :param at: seconds since 1970, UTC.
    :param carbs: what is eaten, grams.
    :param guess: what the person believes it is, grams.
    :param bolus_delay: seconds from the meal to its insulin, below zero before it; None when forgotten.
    :param slow: rich in fat, covered by an extended bolus where the device can give one.
    """

    at: int
    name: MealName
    carbs: float
    guess: int
    bolus_delay: int | None
    slow: bool


@dataclass(frozen=True)
class Movement:
    """A time of physical activity: start in seconds since 1970 (UTC), length in seconds, effort 0 to 1."""

    at: int
    seconds: int
    effort: float
    kind: str


@dataclass(frozen=True)
class Diary:
    """All meals and movement of a stretch of days, in order of time."""

    start: int
    end: int
    meals: tuple[Meal, ...]
    movements: tuple[Movement, ...]


_MEALS: tuple[tuple[MealName, float, float, float], ...] = (
    ("breakfast", 7.2, 45.0, 1.0),
    ("lunch", 12.3, 58.0, 1.0),
    ("snack", 15.8, 20.0, 0.6),
    ("dinner", 18.6, 66.0, 1.0),
    ("snack", 21.2, 14.0, 0.25),
)
"""Name, usual local hour, usual grams of carbohydrate of an adult, chance that it happens."""

_MOVEMENTS = ("running", "cycling", "swimming", "soccer", "walking")
_WEEKEND_LIE_IN_HOURS = 1.4
_FRIDAY = 4


def at_local(day: date, hours: float, zone: ZoneInfo) -> int:
    """Return the moment at which a local clock shows so many hours, seconds since 1970 (UTC)."""
    wall = datetime.combine(day, time(), zone) + timedelta(seconds=round(hours * 3600))
    return int(wall.astimezone(UTC).timestamp())


def keep_diary(person: Person, last_day: date, chance: random.Random) -> Diary:
    """Return a diary of the person's days before ``last_day``, from local midnight to local midnight.

    :param last_day: the day of staging, which the diary doesn't reach into.
    """
    zone = ZoneInfo(person.timezone)
    days = [last_day - timedelta(days=back) for back in range(person.days, 0, -1)]
    meals = [meal for day in days for meal in _meals_of(day, person, zone, chance)]
    movements = [
        Movement(
            at_local(day, chance.uniform(16.3, 17.4), zone),
            chance.randrange(25, 70) * 60,
            chance.uniform(0.3, 0.8),
            chance.choice(_MOVEMENTS),
        )
        for day in days
        if chance.random() < 0.4
    ]
    return Diary(at_local(days[0], 0, zone), at_local(last_day, 0, zone), tuple(meals), tuple(movements))


def _meals_of(day: date, person: Person, zone: ZoneInfo, chance: random.Random) -> Iterator[Meal]:
    late = _WEEKEND_LIE_IN_HOURS if day.weekday() > _FRIDAY else 0.0
    for name, hour, grams, happens in _MEALS:
        if chance.random() > happens:
            continue
        carbs = max(grams * person.meal_size * chance.gauss(1.0, 0.22), 5.0)
        slow = name == "dinner" and day.weekday() == _FRIDAY
        if slow:
            carbs *= 1.3
        guess = max(5, round(carbs * chance.gauss(1.0, 0.35 * (1.0 - person.care)) / 5) * 5)
        forgotten = chance.random() < 0.05
        delay = chance.choice((-900, -600, -300, 0, 0, 300, 1200))
        at = at_local(day, hour + late + chance.gauss(0.0, 0.3), zone)
        yield Meal(at, name, carbs, guess, None if forgotten else delay, slow)

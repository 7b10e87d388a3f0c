"""Live through a diary: body and therapy, five minutes after five minutes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from tidepool_simulator.sample.body import STEP_SECONDS, Body
from tidepool_simulator.sample.diary import Diary, Meal
from tidepool_simulator.sample.people import Person


class Therapy(Protocol):
    """Whoever gives the insulin: a pump, a loop or a person with pens."""

    def give(self, at: int, hour: int, body: Body) -> float:
        """Return the units given in the step that begins now, recording what the device remembers.

        :param at: seconds since 1970, UTC.
        :param hour: local hour.
        """
        ...


class Trace:
    """A person's true glucose over a stretch of time.

    :param start: seconds since 1970 (UTC) of the first value.
    :param values: mg/dL, one every ``STEP_SECONDS``.
    """

    def __init__(self, start: int, values: list[float]) -> None:
        self.start = start
        self.end = start + len(values) * STEP_SECONDS
        self._values = values

    def at(self, moment: int) -> float:
        """Return the glucose at a moment, mg/dL."""
        place = (moment - self.start) / STEP_SECONDS
        index = min(max(int(place), 0), len(self._values) - 2)
        before, after = self._values[index], self._values[index + 1]
        return before + (after - before) * min(max(place - index, 0.0), 1.0)


def live(person: Person, diary: Diary, therapy: Therapy, chance: random.Random) -> Trace:
    """Return the glucose of a person who eats, moves and is treated as given."""
    body = Body(person, chance)
    zone = ZoneInfo(person.timezone)
    food = _food_by_step(diary)
    effort = _effort_by_step(diary)
    values: list[float] = []
    for at in range(diary.start, diary.end, STEP_SECONDS):
        hour = datetime.fromtimestamp(at, zone).hour
        units = therapy.give(at, hour, body)
        values.append(body.step(hour, units, food.get(at, 0.0), effort.get(at, 0.0)))
    return Trace(diary.start, values)


def steps_of(start: int, end: int, origin: int) -> Iterator[int]:
    """Yield the beginnings of the steps that a stretch of time touches."""
    return iter(range(step_of(start, origin), end, STEP_SECONDS))


def step_of(moment: int, origin: int) -> int:
    """Return the beginning of the step that a moment falls into."""
    return moment - (moment - origin) % STEP_SECONDS


def dosed_meals(diary: Diary) -> dict[int, Meal]:
    """Return the meals that insulin is given for, by the step in which it is given."""
    return {
        step_of(meal.at + meal.bolus_delay, diary.start): meal
        for meal in diary.meals
        if meal.bolus_delay is not None
    }


def _food_by_step(diary: Diary) -> dict[int, float]:
    food: dict[int, float] = {}
    for meal in diary.meals:
        # A meal takes ten minutes: half of it in each of two steps.
        for step in (step_of(meal.at, diary.start), step_of(meal.at, diary.start) + STEP_SECONDS):
            food[step] = food.get(step, 0.0) + meal.carbs / 2
    return food


def _effort_by_step(diary: Diary) -> dict[int, float]:
    return {
        step: movement.effort
        for movement in diary.movements
        for step in steps_of(movement.at, movement.at + movement.seconds, diary.start)
    }

"""A small model of a body: what food, insulin and movement do to blood glucose, five minutes at a time."""

from __future__ import annotations

import random

from tidepool_simulator.sample.people import Person

STEP_MINUTES = 5
STEP_SECONDS = STEP_MINUTES * 60

CARB_TIME = 22.0
"""Minutes: time constant of each of two compartments, stomach and gut."""

INSULIN_TIME = 48.0
"""Minutes: time constant of each of two compartments under the skin; so insulin acts for about five hours."""

RETURN_TIME = 420.0
"""Minutes: glucose is drawn to its usual level by kidneys, liver and brain with this time constant."""

USUAL_GLUCOSE = 136.0
"""mg/dL: where the slow pull leads to."""

LIVER_HELP_BELOW = 72.0
"""mg/dL: below, the liver releases sugar."""

LIVER_HELP = 0.035
"""mg/dL a minute for each mg/dL below ``LIVER_HELP_BELOW``."""

MOVEMENT_FALL = 0.9
"""mg/dL a minute at full effort."""

WANDER = 0.97
WANDER_STEP = 0.07
"""Unexplained change, mg/dL a minute: the share kept from step to step, and the spread of what is new."""


class Body:
    """One person's glucose, with food on its way and insulin on board.

    :param person: whose body it is.
    :param chance: source of what no model explains.
    """

    def __init__(self, person: Person, chance: random.Random) -> None:
        self._person = person
        self._chance = chance
        self._stomach = self._gut = 0.0
        steady = person.basal_rate(0) / 60.0 * INSULIN_TIME
        self._under_skin = self._near_blood = steady
        self._wander = 0.0
        self.glucose = USUAL_GLUCOSE

    def step(self, hour: int, units: float, carbs: float, effort: float) -> float:
        """Live through ``STEP_MINUTES`` and return the glucose after them, mg/dL.

        :param hour: local hour, for the need of insulin by time of day.
        :param units: insulin given in this step.
        :param carbs: carbohydrate eaten in this step, grams.
        :param effort: movement, 0 (none) to 1 (hard).
        """
        person = self._person
        self._stomach += carbs
        emptied = self._stomach * STEP_MINUTES / CARB_TIME
        absorbed = self._gut * STEP_MINUTES / CARB_TIME
        self._stomach -= emptied
        self._gut += emptied - absorbed

        self._under_skin += units
        moved = self._under_skin * STEP_MINUTES / INSULIN_TIME
        used = self._near_blood * STEP_MINUTES / INSULIN_TIME
        self._under_skin -= moved
        self._near_blood += moved - used

        needed = person.basal_rate(hour) * STEP_MINUTES / 60.0
        self._wander = self._wander * WANDER + self._chance.gauss(0.0, WANDER_STEP)
        change = absorbed * person.sensitivity / person.carb_ratio
        change -= (used - needed) * person.sensitivity * (1.0 + 0.5 * effort)
        change += (USUAL_GLUCOSE - self.glucose) * STEP_MINUTES / RETURN_TIME
        change += (self._wander - MOVEMENT_FALL * effort) * STEP_MINUTES
        if self.glucose < LIVER_HELP_BELOW:
            change += (LIVER_HELP_BELOW - self.glucose) * LIVER_HELP * STEP_MINUTES
        self.glucose = min(max(self.glucose + change, 34.0), 520.0)
        return self.glucose

    def insulin_on_board(self) -> float:
        """Return the units given but not yet used, beyond what the basal need keeps there."""
        steady = 2.0 * self._person.basal_rate(12) / 60.0 * INSULIN_TIME
        return max(self._under_skin + self._near_blood - steady, 0.0)

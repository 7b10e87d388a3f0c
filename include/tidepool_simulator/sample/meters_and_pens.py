"""Meters: drops of blood before meals and at bedtime, ketones when glucose stays high."""

from __future__ import annotations

import random

from tidepool_simulator.sample.advice import advise
from tidepool_simulator.sample.body import STEP_MINUTES, Body
from tidepool_simulator.sample.diary import Diary
from tidepool_simulator.sample.life import Trace, dosed_meals
from tidepool_simulator.sample.notebook import Notebook, Record
from tidepool_simulator.sample.people import Person

_STRIP_ERROR = 0.05
"""Relative spread of a test strip (ISO 15197 allows 15 % for 95 of 100)."""

_LOWEST, _HIGHEST = 20.0, 600.0
"""mg/dL: what meters show."""

_KETONES_ABOVE = 270.0
"""mg/dL: above it people are taught to look for ketones."""


def record_meter(
    notebook: Notebook, trace: Trace, diary: Diary, chance: random.Random, ketones: bool
) -> None:
    """Record finger sticks around the meals of a diary.

    :param ketones: whether this meter also takes ketone strips.
    """
    for at in _moments(diary, chance):
        glucose = min(max(trace.at(at) * chance.gauss(1.0, _STRIP_ERROR), _LOWEST), _HIGHEST)
        notebook.add(at, "smbg", notebook.glucose(glucose))
        if ketones and glucose > _KETONES_ABOVE:
            value = round(min(max(chance.gauss(0.5, 0.3), 0.0), 4.0), 1)
            notebook.add(at + 95, "bloodKetone", {"units": "mmol/L", "value": value})


def record_calibrations(notebook: Notebook, trace: Trace, chance: random.Random) -> None:
    """Record the two calibrations a day that older sensors ask for."""
    at = trace.start + 7 * 3600
    while at < trace.end:
        moment = at + chance.randrange(-2400, 2400)
        glucose = min(max(trace.at(moment) * chance.gauss(1.0, _STRIP_ERROR), _LOWEST), 400.0)
        notebook.add(moment, "deviceEvent", {"subType": "calibration", **notebook.glucose(glucose)})
        at += 12 * 3600


def _moments(diary: Diary, chance: random.Random) -> list[int]:
    """Return when blood is drawn: before most meals, two hours after some, never twice in five minutes."""
    moments: list[int] = []
    for meal in diary.meals:
        if chance.random() < 0.85:
            moments.append(meal.at - chance.randrange(60, 900))
        if chance.random() < 0.3:
            moments.append(meal.at + chance.randrange(6000, 8400))
    moments.sort()
    return [at for at, before in zip(moments, [0, *moments], strict=False) if at - before > 300]


_RAPID = {"actingType": "rapid", "brand": "NovoRapid", "concentration": {"units": "Units/mL", "value": 100}}
_LONG = {"actingType": "long", "brand": "Tresiba", "concentration": {"units": "Units/mL", "value": 100}}
_KILOCALORIES_A_MINUTE = 11.0
_METERS_A_MINUTE = {"running": 150.0, "cycling": 320.0, "walking": 85.0}


class Pens:
    """A rapid and a long insulin by pen, in whole and half units, and an app that keeps the diary."""

    def __init__(self, person: Person, diary: Diary, notebook: Notebook, chance: random.Random) -> None:
        self._person = person
        self._notebook = notebook
        self._chance = chance
        self._a_step_of_long = sum(person.basal_rates) / 24.0 * STEP_MINUTES / 60.0
        self._doses = dosed_meals(diary)
        self._corrected_at = 0
        self._record_diary(diary)

    def give(self, at: int, hour: int, body: Body) -> float:
        """Return the units that begin to act in this step."""
        units = self._a_step_of_long
        meal = self._doses.get(at)
        if meal is not None:
            units += self._inject(at, body, meal.guess)
        elif 8 <= hour <= 22 and body.glucose > 230.0 and at - self._corrected_at > 10800:
            units += self._inject(at, body, 0)
        return units

    def take_long_insulin(self, evenings: list[int]) -> None:
        """Record the daily dose of long insulin; the body model has it as a steady need.

        :param evenings: moments, seconds since 1970, UTC.
        """
        total = float(round(sum(self._person.basal_rates)))
        for at in evenings:
            moment = at + self._chance.randrange(-1800, 1800)
            self._record_dose(moment, {"total": total, "units": "Units"}, _LONG, "thigh")

    def _inject(self, at: int, body: Body, carbs: int) -> float:
        advice = advise(self._person, body, carbs, 0.5)
        if advice.net < 0.5:
            return 0.0
        self._corrected_at = at
        food = min(round(advice.carb * 2) / 2, advice.net)
        dose: Record = {"total": advice.net, "units": "Units", "food": food, "correction": advice.net - food}
        self._record_dose(at + self._chance.randrange(0, 280), dose, _RAPID, "abdomen")
        return advice.net

    def _record_dose(self, at: int, dose: Record, insulin: Record, site: str) -> None:
        self._notebook.add(at, "insulin", {"dose": dose, "formulation": {"simple": insulin}, "site": site})

    def _record_diary(self, diary: Diary) -> None:
        notebook = self._notebook
        for meal in diary.meals:
            if self._chance.random() < 0.1:
                continue  # not every meal is recorded
            nutrition: Record = {"carbohydrate": {"net": meal.guess, "units": "grams"}}
            if meal.slow:
                nutrition["fat"] = {"total": round(meal.carbs * 0.4), "units": "grams"}
                nutrition["estimatedAbsorptionDuration"] = 18000
            notebook.add(meal.at, "food", {"meal": meal.name, "nutrition": nutrition})
        for movement in diary.movements:
            minutes = movement.seconds // 60
            fields: Record = {
                "activityType": movement.kind,
                "duration": {"units": "minutes", "value": minutes},
                "reportedIntensity": "high" if movement.effort > 0.6 else "medium",
                "energy": {
                    "units": "kilocalories",
                    "value": round(minutes * movement.effort * _KILOCALORIES_A_MINUTE),
                },
            }
            speed = _METERS_A_MINUTE.get(movement.kind)
            if speed is not None:
                fields["distance"] = {"units": "meters", "value": round(minutes * speed)}
            notebook.add(movement.at, "physicalActivity", fields)

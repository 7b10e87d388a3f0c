"""Insulin pens and a diary app: doses, meals and movement written down by hand."""

from __future__ import annotations

import random

from tidepool_ingest.sample.advice import advise
from tidepool_ingest.sample.body import STEP_MINUTES, Body
from tidepool_ingest.sample.diary import Diary
from tidepool_ingest.sample.life import dosed_meals
from tidepool_ingest.sample.notebook import Notebook, Record
from tidepool_ingest.sample.people import Person

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
        self._note_diary(diary)

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
        """Note the daily dose of long insulin; the body model has it as a steady need.

        :param evenings: moments, seconds since 1970, UTC.
        """
        total = float(round(sum(self._person.basal_rates)))
        for at in evenings:
            moment = at + self._chance.randrange(-1800, 1800)
            self._note_dose(moment, {"total": total, "units": "Units"}, _LONG, "thigh")

    def _inject(self, at: int, body: Body, carbs: int) -> float:
        advice = advise(self._person, body, carbs, 0.5)
        if advice.net < 0.5:
            return 0.0
        self._corrected_at = at
        food = min(round(advice.carb * 2) / 2, advice.net)
        dose: Record = {"total": advice.net, "units": "Units", "food": food, "correction": advice.net - food}
        self._note_dose(at + self._chance.randrange(0, 280), dose, _RAPID, "abdomen")
        return advice.net

    def _note_dose(self, at: int, dose: Record, insulin: Record, site: str) -> None:
        self._notebook.note(at, "insulin", {"dose": dose, "formulation": {"simple": insulin}, "site": site})

    def _note_diary(self, diary: Diary) -> None:
        note = self._notebook
        for meal in diary.meals:
            if self._chance.random() < 0.1:
                continue  # not every meal is written down
            nutrition: Record = {"carbohydrate": {"net": meal.guess, "units": "grams"}}
            if meal.slow:
                nutrition["fat"] = {"total": round(meal.carbs * 0.4), "units": "grams"}
                nutrition["estimatedAbsorptionDuration"] = 18000
            note.note(meal.at, "food", {"meal": meal.name, "nutrition": nutrition})
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
            note.note(movement.at, "physicalActivity", fields)

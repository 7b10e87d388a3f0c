"""A pump that closes the loop: changes basal by the sensor, corrects by itself, doses meals on request."""

from __future__ import annotations

import random

from tidepool_simulator.sample.advice import TARGET, advise, wizard
from tidepool_simulator.sample.basal import BasalChain, suppressed
from tidepool_simulator.sample.body import STEP_MINUTES, Body
from tidepool_simulator.sample.diary import Diary
from tidepool_simulator.sample.life import dosed_meals
from tidepool_simulator.sample.notebook import Notebook
from tidepool_simulator.sample.people import Person
from tidepool_simulator.sample.reservoir import record_reservoir_change

SMALLEST_DOSE = 0.01
LOOK_AHEAD_STEPS = 6
CARTRIDGE_SECONDS = 3 * 86400
CHANGE_SECONDS = 1200
AUTO_CORRECTION_SHARE = 0.6
AUTO_CORRECTION_PAUSE = 3600
_PROFILE = "Weekday"


class ClosedLoop:
    """A hybrid closed loop pump and its memory.

    :param notebook: where the pump remembers.
    """

    def __init__(self, person: Person, diary: Diary, notebook: Notebook, chance: random.Random) -> None:
        self._person = person
        self._notebook = notebook
        self._chance = chance
        self._start = diary.start
        self._chain = BasalChain()
        self._doses = dosed_meals(diary)
        self._exercise = [
            (movement.at - 1800, movement.at + movement.seconds) for movement in diary.movements
        ]
        self._next_change = diary.start + 40000
        self._changing_until = 0
        self._corrected_at = 0
        self._seen: list[float] = []

    def finish(self, end: int) -> None:
        """Record the basal chain up to the end of the data."""
        self._chain.write(self._notebook, end)

    def give(self, at: int, hour: int, body: Body) -> float:
        """Return the units given in the step that begins now."""
        self._seen = [*self._seen[-2:], body.glucose]
        if at >= self._next_change and body.glucose < 200:
            self._change_cartridge(at, hour)
        if at < self._changing_until:
            return 0.0
        rate = self._basal(at, hour)
        return rate * STEP_MINUTES / 60.0 + self._meal_bolus(at, body) + self._auto_correction(at, body)

    def _expected(self) -> float:
        slope = (self._seen[-1] - self._seen[0]) / max(len(self._seen) - 1, 1)
        return self._seen[-1] + slope * LOOK_AHEAD_STEPS

    def _basal(self, at: int, hour: int) -> float:
        usual = self._person.basal_rate(hour)
        expected = self._expected()
        low, high = (140.0, 160.0) if self._exercising(at) else (112.5, 160.0)
        if expected < 70.0:
            factor = 0.0
        elif expected < low:
            factor = max(0.0, 1.0 - (low - expected) / 45.0)
        elif expected <= high:
            factor = 1.0
        else:
            factor = min(1.0 + (expected - high) / 50.0, 2.2)
        # In steps of a fifth: a pump doesn't change its rate for every breath of the sensor.
        rate = round(usual * round(factor * 5) / 5, 3)
        self._chain.change(at, {"deliveryType": "automated", "rate": rate, "scheduleName": _PROFILE})
        return rate

    def _exercising(self, at: int) -> bool:
        return any(start <= at < end for start, end in self._exercise)

    def _meal_bolus(self, at: int, body: Body) -> float:
        meal = self._doses.get(at)
        if meal is None:
            return 0.0
        advice = advise(self._person, body, meal.guess, SMALLEST_DOSE)
        if advice.net < 0.05:
            return 0.0
        moment = at + self._chance.randrange(0, 280)
        bolus = {"subType": "normal", "normal": advice.net, "deliveryContext": "device"}
        given = advice.net
        if self._chance.random() < 0.02:
            given = round(advice.net * self._chance.uniform(0.2, 0.8), 2)
            bolus |= {"normal": given, "expectedNormal": advice.net}
        embedded = self._notebook.datum(moment, "bolus", bolus)
        target = {"target": round(TARGET)}
        self._notebook.add(moment, "wizard", wizard(self._notebook, self._person, advice, target, embedded))
        return given

    def _auto_correction(self, at: int, body: Body) -> float:
        expected = self._expected()
        if expected < 180.0 or at - self._corrected_at < AUTO_CORRECTION_PAUSE or at in self._doses:
            return 0.0
        wanted = (expected - TARGET) / self._person.sensitivity - body.insulin_on_board()
        dose = round(wanted * AUTO_CORRECTION_SHARE, 2)
        if dose < 0.1:
            return 0.0
        self._corrected_at = at
        self._notebook.add(
            at + 20, "bolus", {"subType": "automated", "normal": dose, "deliveryContext": "algorithm"}
        )
        return dose

    def _change_cartridge(self, at: int, hour: int) -> None:
        """Change cartridge and infusion set: low-insulin alarm, suspended delivery, prime, new reservoir."""
        notebook = self._notebook
        self._changing_until = at + CHANGE_SECONDS
        self._next_change = at + CARTRIDGE_SECONDS + self._chance.randrange(-20000, 20000)
        notebook.add(at - 2400, "deviceEvent", {"subType": "alarm", "alarmType": "low_insulin"})
        usual = suppressed(self._person.basal_rate(hour), "automated", _PROFILE)
        self._chain.change(at, {"deliveryType": "suspend", "suppressed": usual})
        tubing = round(self._chance.uniform(10.0, 22.0), 1)
        record_reservoir_change(notebook, at, CHANGE_SECONDS, tubing, cannula=0.3)

"""A pump on a schedule: temporary and suspended basal, dual and square boluses, a linked meter."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tidepool_simulator.sample.advice import Advice, advise, wizard
from tidepool_simulator.sample.basal import BasalChain, suppressed
from tidepool_simulator.sample.body import STEP_MINUTES, STEP_SECONDS, Body
from tidepool_simulator.sample.diary import Diary, Meal
from tidepool_simulator.sample.life import dosed_meals, step_of
from tidepool_simulator.sample.notebook import Notebook, Record
from tidepool_simulator.sample.people import Person
from tidepool_simulator.sample.reservoir import record_reservoir_change

SMALLEST_DOSE = 0.05
SCHEDULE = "standard"
SCHEDULE_HOURS = (0, 3, 8, 18)
"""Local hours at which the basal schedule changes its rate."""

CALCULATOR_TARGET = {"low": 100, "high": 120}
_SET_SECONDS = 3 * 86400
_EXTENDED_SECONDS = 3 * 3600


@dataclass(frozen=True)
class _Override:
    """A stretch of other basal than scheduled: ``share`` of the schedule, None when suspended."""

    start: int
    end: int
    planned_end: int
    share: float | None


class ScheduledPump:
    """A conventional insulin pump and its memory."""

    def __init__(self, person: Person, diary: Diary, notebook: Notebook, chance: random.Random) -> None:
        self._person = person
        self._notebook = notebook
        self._chance = chance
        self._chain = BasalChain()
        self._doses = dosed_meals(diary)
        changes = self._set_changes(diary)
        # Nobody starts a temporary rate while the set is off.
        temporary = [planned for planned in self._temporary(diary) if not _overlaps(planned, changes)]
        self._overrides = sorted([*changes, *temporary], key=lambda override: override.start)
        self._extended: list[tuple[int, float]] = []

    def finish(self, end: int) -> None:
        """Record the basal chain up to the end of the data."""
        self._chain.write(self._notebook, end)

    def give(self, at: int, hour: int, body: Body) -> float:
        """Return the units given in the step that begins now."""
        rate = self._basal(at, hour)
        self._extended = [(end, units) for end, units in self._extended if end > at]
        spread = sum(units for _, units in self._extended)
        return rate * STEP_MINUTES / 60.0 + spread + self._bolus(at, body)

    def _basal(self, at: int, hour: int) -> float:
        usual = self._person.basal_rate(hour)
        while self._overrides and self._overrides[0].end <= at:
            self._overrides.pop(0)
        override = self._overrides[0] if self._overrides and self._overrides[0].start <= at else None
        if override is None:
            self._chain.change(at, {"deliveryType": "scheduled", "rate": usual, "scheduleName": SCHEDULE})
            return usual
        hidden = suppressed(usual, name=SCHEDULE)
        if override.share is None:
            self._chain.change(at, {"deliveryType": "suspend", "suppressed": hidden})
            return 0.0
        rate = round(usual * override.share, 3)
        temporary = {"deliveryType": "temp", "percent": override.share, "rate": rate, "suppressed": hidden}
        self._chain.change(at, temporary, override.planned_end)
        return rate

    def _bolus(self, at: int, body: Body) -> float:
        meal = self._doses.get(at)
        if meal is None:
            return 0.0
        advice = advise(self._person, body, meal.guess, SMALLEST_DOSE)
        if advice.net < SMALLEST_DOSE:
            return 0.0
        moment = at + self._chance.randrange(0, 280)
        fields, at_once, spread = self._shape(advice, meal)
        if spread:
            self._extended.append((at + _EXTENDED_SECONDS, spread * STEP_SECONDS / _EXTENDED_SECONDS))
        if self._chance.random() < 0.15:
            # Dosed by hand, without the calculator.
            self._notebook.add(moment, "bolus", fields)
            return at_once
        embedded = self._notebook.datum(moment, "bolus", fields)
        calculation = wizard(self._notebook, self._person, advice, dict(CALCULATOR_TARGET), embedded)
        self._notebook.add(moment, "wizard", calculation)
        reading = {"subType": "linked", **self._notebook.glucose(advice.glucose)}
        self._notebook.add(moment - 45, "smbg", reading)
        return at_once

    def _shape(self, advice: Advice, meal: Meal) -> tuple[Record, float, float]:
        """Return the bolus record's fields, the units given at once and the units spread out."""
        if meal.slow:
            at_once = round(advice.net * 0.6, 2)
            spread = round(advice.net - at_once, 2)
            timing = {"extended": spread, "duration": _EXTENDED_SECONDS * 1000}
            return {"subType": "dual/square", "normal": at_once, **timing}, at_once, spread
        if meal.name == "snack" and self._chance.random() < 0.2:
            timing = {"extended": advice.net, "duration": _EXTENDED_SECONDS * 1000}
            return {"subType": "square", **timing}, 0.0, advice.net
        if self._chance.random() < 0.02:
            given = round(advice.net * self._chance.uniform(0.2, 0.8), 2)
            return {"subType": "normal", "normal": given, "expectedNormal": advice.net}, given, 0.0
        return {"subType": "normal", "normal": advice.net}, advice.net, 0.0

    def _temporary(self, diary: Diary) -> list[_Override]:
        overrides = []
        for movement in diary.movements:
            start = step_of(movement.at, diary.start) - 4 * STEP_SECONDS
            planned = start + 2 * 3600
            cancelled = self._chance.random() < 0.3
            end = start + 15 * STEP_SECONDS if cancelled else planned
            overrides.append(_Override(start, end, planned, 0.5))
        return overrides

    def _set_changes(self, diary: Diary) -> list[_Override]:
        """Record the changes of reservoir and infusion set and return the suspensions they bring."""
        overrides = []
        at = diary.start + 61200
        while at < diary.end - 3600:
            start = step_of(at, diary.start)
            end = start + self._chance.randrange(2, 5) * STEP_SECONDS
            overrides.append(_Override(start, end, end, None))
            tubing = round(self._chance.uniform(7.0, 13.0), 1)
            record_reservoir_change(self._notebook, start, end - start, tubing, cannula=0.5)
            at += _SET_SECONDS + self._chance.randrange(-9000, 9000)
        return overrides


def _overlaps(override: _Override, others: list[_Override]) -> bool:
    return any(override.start < other.end and other.start < override.end for other in others)

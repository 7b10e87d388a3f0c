"""What a bolus calculator recommends, and the wizard record it leaves."""

from __future__ import annotations

from dataclasses import dataclass

from tidepool_simulator.sample.body import Body
from tidepool_simulator.sample.notebook import Notebook, Record, shown
from tidepool_simulator.sample.people import Person

TARGET = 110.0
"""mg/dL: what the calculators aim at."""


@dataclass(frozen=True)
class Advice:
    """A recommendation in units of insulin, with what it was made from (mg/dL, grams)."""

    glucose: float
    carbs: int
    on_board: float
    carb: float
    correction: float
    net: float


def advise(person: Person, body: Body, carbs: int, step: float) -> Advice:
    """Return the recommended bolus for a meal of so many grams.

    :param step: smallest dose the device gives, units.
    """
    on_board = body.insulin_on_board()
    carb = carbs / person.carb_ratio
    correction = (body.glucose - TARGET) / person.sensitivity
    counted = correction - on_board if correction > 0 else correction
    net = max(carb + (counted if correction < 0 else max(counted, 0.0)), 0.0)
    return Advice(
        body.glucose,
        carbs,
        round(on_board, 2),
        round(carb, 2),
        round(correction, 2),
        round(round(net / step) * step, 3),
    )


def wizard(notebook: Notebook, person: Person, advice: Advice, target: Record, bolus: Record) -> Record:
    """Return the fields of a wizard record with its bolus inside."""
    device = notebook.device
    fields: Record = {
        "units": device.units,
        "bgInput": shown(advice.glucose, device),
        "bgTarget": target,
        "insulinSensitivity": shown(person.sensitivity, device),
        "insulinCarbRatio": person.carb_ratio,
        "insulinOnBoard": advice.on_board,
        "recommended": {"carb": advice.carb, "correction": advice.correction, "net": advice.net},
        "bolus": bolus,
    }
    if advice.carbs:
        fields["carbInput"] = advice.carbs
        fields["carbUnits"] = "grams"
    return fields

"""What devices are set to: pump profiles, sensor alerts."""

from __future__ import annotations

from tidepool_simulator.sample.advice import TARGET
from tidepool_simulator.sample.notebook import Notebook, Record
from tidepool_simulator.sample.people import Person
from tidepool_simulator.sample.scheduled_pump import CALCULATOR_TARGET, SCHEDULE, SCHEDULE_HOURS

_HOUR = 3_600_000
"""Milliseconds: schedules count from midnight in them."""


def record_closed_loop_settings(notebook: Notebook, person: Person, at: int) -> None:
    """Record the settings of the pump that closes the loop: named profiles, each with all its parts."""
    names = ("Weekday", "Weekend")
    device = notebook.device
    notebook.add(
        at,
        "pumpSettings",
        {
            "activeSchedule": names[0],
            "automatedDelivery": True,
            "basalSchedules": {
                name: _rates(person, scale) for name, scale in zip(names, (1.0, 0.9), strict=True)
            },
            "bgTargets": {name: [{"start": 0, "target": round(TARGET)}] for name in names},
            "carbRatios": {name: _carb_ratios(person) for name in names},
            "insulinSensitivities": {name: _sensitivities(person) for name in names},
            "basal": {"rateMaximum": {"units": "Units/hour", "value": 3.0}},
            "bolus": {
                "amountMaximum": {"units": "Units", "value": 15},
                "calculator": {"enabled": True, "insulin": {"duration": 300, "units": "minutes"}},
            },
            "units": {"bg": device.units, "carb": "grams", "insulin": "Units"},
            "manufacturers": [device.manufacturer],
            "model": device.model,
            "serialNumber": device.serial_number,
            "firmwareVersion": "7.7.1",
        },
    )


def record_scheduled_settings(notebook: Notebook, person: Person, at: int, other_scale: float) -> None:
    """Record the settings of the conventional pump: one list each, several basal patterns.

    :param other_scale: the rates of the second pattern as a share of the first.
    """
    device = notebook.device
    notebook.add(
        at,
        "pumpSettings",
        {
            "activeSchedule": SCHEDULE,
            "basalSchedules": {
                SCHEDULE: _rates(person, 1.0),
                "pattern a": _rates(person, other_scale),
                "pattern b": [],
            },
            "bgTarget": [{"start": 0, **CALCULATOR_TARGET}],
            "carbRatio": _carb_ratios(person),
            "insulinSensitivity": _sensitivities(person),
            "display": {"bloodGlucose": {"units": device.units}},
            "units": {"bg": device.units, "carb": "grams"},
            "manufacturers": [device.manufacturer],
            "model": device.model,
            "serialNumber": device.serial_number,
        },
    )


def record_g6_settings(notebook: Notebook, at: int) -> None:
    """Record sensor settings with the alerts of today's apps."""
    device = notebook.device
    snooze = {"duration": 30, "units": "minutes"}
    notebook.add(
        at,
        "cgmSettings",
        {
            "units": device.units,
            "transmitterId": "8G2K41",
            "manufacturers": [device.manufacturer],
            "model": device.model,
            "serialNumber": device.serial_number,
            "softwareVersion": "1.11.2",
            "defaultAlerts": {
                "enabled": True,
                "urgentLow": {"enabled": True, "level": 55, "units": "mg/dL", "snooze": snooze},
                "low": {"enabled": True, "level": 75, "units": "mg/dL", "snooze": snooze},
                "high": {
                    "enabled": True,
                    "level": 220,
                    "units": "mg/dL",
                    "snooze": {"duration": 2, "units": "hours"},
                },
                "fall": {"enabled": True, "rate": 3, "units": "mg/dL/minute"},
                "rise": {"enabled": False, "rate": 3, "units": "mg/dL/minute"},
                "noData": {"enabled": True, "duration": 20, "units": "minutes"},
            },
        },
    )


def record_g5_settings(notebook: Notebook, at: int) -> None:
    """Record sensor settings with the alerts of older receivers."""
    device = notebook.device
    notebook.add(
        at,
        "cgmSettings",
        {
            "units": device.units,
            "transmitterId": "40D1RX",
            "manufacturers": [device.manufacturer],
            "model": device.model,
            "serialNumber": device.serial_number,
            "highAlerts": {"enabled": True, "level": 250, "snooze": 3_600_000},
            "lowAlerts": {"enabled": True, "level": 80, "snooze": 1_800_000},
            "outOfRangeAlerts": {"enabled": True, "snooze": 1_800_000},
            "rateOfChangeAlerts": {
                "fallRate": {"enabled": True, "rate": -3},
                "riseRate": {"enabled": False, "rate": 3},
            },
        },
    )


def _rates(person: Person, scale: float) -> list[Record]:
    return [
        {"start": hour * _HOUR, "rate": round(person.basal_rate(hour) * scale, 3)} for hour in SCHEDULE_HOURS
    ]


def _carb_ratios(person: Person) -> list[Record]:
    return [{"start": 0, "amount": person.carb_ratio}]


def _sensitivities(person: Person) -> list[Record]:
    return [{"start": 0, "amount": round(person.sensitivity)}]

"""Meters: drops of blood before meals and at bedtime, ketones when glucose stays high."""

from __future__ import annotations

import random

from tidepool_ingest.sample.diary import Diary
from tidepool_ingest.sample.life import Trace
from tidepool_ingest.sample.notebook import Notebook

_STRIP_ERROR = 0.05
"""Relative spread of a test strip (ISO 15197 allows 15 % for 95 of 100)."""

_LOWEST, _HIGHEST = 20.0, 600.0
"""mg/dL: what meters show."""

_KETONES_ABOVE = 270.0
"""mg/dL: above it people are taught to look for ketones."""


def note_meter(notebook: Notebook, trace: Trace, diary: Diary, chance: random.Random, ketones: bool) -> None:
    """Note finger sticks around the meals of a diary.

    :param ketones: whether this meter also takes ketone strips.
    """
    for at in _moments(diary, chance):
        glucose = min(max(trace.at(at) * chance.gauss(1.0, _STRIP_ERROR), _LOWEST), _HIGHEST)
        notebook.note(at, "smbg", notebook.glucose(glucose))
        if ketones and glucose > _KETONES_ABOVE:
            value = round(min(max(chance.gauss(0.5, 0.3), 0.0), 4.0), 1)
            notebook.note(at + 95, "bloodKetone", {"units": "mmol/L", "value": value})


def note_calibrations(notebook: Notebook, trace: Trace, chance: random.Random) -> None:
    """Note the two calibrations a day that older sensors ask for."""
    at = trace.start + 7 * 3600
    while at < trace.end:
        moment = at + chance.randrange(-2400, 2400)
        glucose = min(max(trace.at(moment) * chance.gauss(1.0, _STRIP_ERROR), _LOWEST), 400.0)
        notebook.note(moment, "deviceEvent", {"subType": "calibration", **notebook.glucose(glucose)})
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

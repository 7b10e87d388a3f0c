"""Continuous glucose sensors: noise, lag, warm-up, lost signal, what the display can't show."""

from __future__ import annotations

import random

from tidepool_simulator.sample.life import Trace
from tidepool_simulator.sample.notebook import Notebook, Record, shown

_NOISE_MEMORY = 0.7
_NOISE_STEP = 3.2
"""Sensor noise, mg/dL: share kept from one reading to the next, and spread of what is new."""

_LAG_SECONDS = 360
"""The tissue follows the blood."""

_DEXCOM_LOWEST, _DEXCOM_HIGHEST = 40, 400
"""mg/dL: a reading outside is reported as 39 or 401 with an annotation."""

_LIBRE_LOWEST, _LIBRE_HIGHEST = 2.2, 27.8
"""mmol/L: the range of the reader's display."""

_TRENDS = ((-3.0, "rapidFall"), (-2.0, "moderateFall"), (-1.0, "slowFall"), (1.0, "constant"))
_RISING = ((2.0, "slowRise"), (3.0, "moderateRise"))


class Sensor:
    """Moments and noisy values of a sensor worn day and night.

    :param interval: seconds between two readings.
    :param session: seconds until a sensor is worn out.
    :param warm_up: seconds in which a new sensor shows nothing.
    """

    def __init__(
        self, trace: Trace, chance: random.Random, interval: int, session: int, warm_up: int
    ) -> None:
        self._trace = trace
        self._chance = chance
        self._interval = interval
        self._session = session
        self._warm_up = warm_up

    def readings(self) -> list[tuple[int, float]]:
        """Return moment (seconds since 1970, UTC) and glucose (mg/dL) of each reading that was not lost."""
        chance = self._chance
        readings: list[tuple[int, float]] = []
        started = self._trace.start - chance.randrange(self._session)
        at = self._trace.start + chance.randrange(self._interval)
        lost_until = 0
        noise = 0.0
        sense = chance.gauss(1.0, 0.04)
        while at < self._trace.end:
            if at - started > self._session:
                started, sense = at, chance.gauss(1.0, 0.04)
                lost_until = at + self._warm_up
            elif chance.random() < 0.0012 * self._interval / 300:
                lost_until = at + chance.choice((900, 1800, 2700, 5400, 10800))
            noise = noise * _NOISE_MEMORY + chance.gauss(0.0, _NOISE_STEP)
            if at >= lost_until:
                readings.append((at, self._trace.at(at - _LAG_SECONDS) * sense + noise))
            # Clocks of transmitters are not exact: a second more or less now and then.
            at += self._interval + chance.choice((0, 0, 0, 0, 0, 0, 0, 0, 1, -1))
        return readings


def record_dexcom(notebook: Notebook, sensor: Sensor, with_trend: bool) -> None:
    """Record a reading every five minutes as Dexcom receivers report it."""
    before: tuple[int, float] | None = None
    for at, glucose in sensor.readings():
        fields = _dexcom_value(glucose)
        if with_trend and before is not None and at - before[0] < 400 and "annotations" not in fields:
            rate = (glucose - before[1]) / ((at - before[0]) / 60.0)
            fields |= _trend(rate)
        fields["sampleInterval"] = 300000
        notebook.add(at, "cbg", fields)
        before = (at, glucose)


def record_libre(notebook: Notebook, sensor: Sensor, chance: random.Random) -> None:
    """Record the reader's history, one value a quarter of an hour, and its scans in between."""
    for at, glucose in sensor.readings():
        value = min(max(float(shown(glucose, notebook.device)), _LIBRE_LOWEST), _LIBRE_HIGHEST)
        notebook.add(at, "cbg", {"units": "mmol/L", "value": value, "sampleInterval": 900000})
        if chance.random() < 0.09:
            scanned = round(min(max(value + chance.gauss(0.0, 0.2), _LIBRE_LOWEST), _LIBRE_HIGHEST), 1)
            reading = {"subType": "scanned", "units": "mmol/L", "value": scanned}
            notebook.add(at + chance.randrange(60, 840), "smbg", reading)


def _dexcom_value(glucose: float) -> Record:
    value = round(glucose)
    if value < _DEXCOM_LOWEST:
        return {
            "units": "mg/dL",
            "value": _DEXCOM_LOWEST - 1,
            "annotations": [_beyond("low", _DEXCOM_LOWEST)],
        }
    if value > _DEXCOM_HIGHEST:
        return {
            "units": "mg/dL",
            "value": _DEXCOM_HIGHEST + 1,
            "annotations": [_beyond("high", _DEXCOM_HIGHEST)],
        }
    return {"units": "mg/dL", "value": value}


def _beyond(side: str, threshold: int) -> Record:
    return {"code": "bg/out-of-range", "value": side, "threshold": threshold}


def _trend(rate: float) -> Record:
    """Return trend, rate and unit for a change in mg/dL a minute, as a receiver shows its arrow."""
    name = next((name for limit, name in (*_TRENDS, *_RISING) if rate < limit), "rapidRise")
    return {"trend": name, "trendRate": round(rate, 1), "trendRateUnits": "mg/dL/minute"}

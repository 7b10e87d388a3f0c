"""Three weeks of somebody's Clarity export, made up: a whole one to try things on, not a collection of traps.

A sensor of ten days is worn out and replaced, another one fails, summer time begins, signal is lost now and
then, and what was eaten and injected is there as far as it was entered. The same seed always gives the same
bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tidepool_simulator.sample.diary import at_local, keep_diary
from tidepool_simulator.sample.life import live
from tidepool_simulator.sample.meters_and_pens import Pens
from tidepool_simulator.sample.notebook import Notebook
from tidepool_simulator.sample.people import DISPLAY_MG_DL_PER_MMOL_L, PEN, PEN_USER, SENSOR_G6
from tidepool_simulator.sample.sensors import Sensor, record_dexcom
from tidepool_simulator.sample.vendor_files import (
    CLARITY_COLUMNS,
    PATIENT_NAMES,
    Cells,
    VendorFile,
    clarity_row,
    clarity_title_rows,
)
from tidepool_simulator.sample.write import DEFAULT_SEED

ZONE = "Europe/London"

_LAST_DAY = date(2025, 4, 7)
_DAYS = 21
_DAY = 86_400
_TRANSMITTERS = ("8WKS01", "8WKS02", "8WKS03", "8WKS04")
_TICKS = 412_000
"""What a transmitter had counted when it was first used."""

_NOT_SHOWN = (
    ("2025-03-22T09:10", "2025-03-22T20:40"),  # the phone was left at home
    ("2025-04-01T14:05", "2025-04-02T11:30"),  # the sensor failed, and there was no other one
)
"""From when until when there are no readings, by the phone's clock."""

Row = tuple[str, Cells]
"""Local stamp, and cells without the index."""


def clarity_weeks(seed: int = DEFAULT_SEED) -> VendorFile:
    """Return three weeks of a Clarity export in mmol/L, all of whose readings can be read."""
    chance = random.Random(f"{seed} clarity weeks")
    person = replace(PEN_USER, timezone=ZONE, days=_DAYS)
    diary = keep_diary(person, _LAST_DAY, chance)
    app = Notebook(replace(PEN, timezone=ZONE), chance)
    pens = Pens(person, diary, app, chance)
    trace = live(person, diary, pens, chance)
    days = [_LAST_DAY - timedelta(days=back) for back in range(_DAYS, 0, -1)]
    pens.take_long_insulin([at_local(day, 22.0, ZoneInfo(ZONE)) for day in days])
    cgm = Notebook(replace(SENSOR_G6, timezone=ZONE, with_ids=False), chance)
    sensor = Sensor(trace, chance, interval=300, session=10 * _DAY, warm_up=7200)
    record_dexcom(cgm, sensor, with_trend=False)
    rows = [*_readings(cgm.records()), *_entered(app.records())]
    # As Clarity has them: by what the phone showed, so that both passes of a doubled hour would be mixed.
    rows.sort(key=lambda row: row[0])
    titles = clarity_title_rows()
    lines = [",".join(CLARITY_COLUMNS).replace("mg/dL", "mmol/L")]
    cells = [*titles, *(cells for _stamp, cells in rows)]
    lines += (",".join([str(index), *row]) for index, row in enumerate(cells, 1))
    return VendorFile(
        "clarity.csv",
        "clarity",
        "".join(f"{line}\r\n" for line in lines).encode(),
        rows=len(cells),
        refused=0,
        skipped=len(titles),
        timezone=ZONE,
        private=PATIENT_NAMES,
    )


def _readings(records: list[dict[str, Any]]) -> Iterator[Row]:
    first = at = datetime.fromisoformat(records[0]["time"])
    number = 0
    for record in records:
        before, at = at, datetime.fromisoformat(record["time"])
        # A new sensor brings a new transmitter, which counts anew; it shows nothing while it warms up.
        if at - before >= timedelta(hours=2):
            number, first = number + 1, at
        if any(begin <= record["deviceTime"] < end for begin, end in _NOT_SHOWN):
            continue
        value = f"{record['value'] / DISPLAY_MG_DL_PER_MMOL_L:.1f}"
        shown = record["annotations"][0]["value"].capitalize() if "annotations" in record else value
        counted = str(_TICKS + round((at - first).total_seconds()))
        transmitter, stamp = _TRANSMITTERS[number % len(_TRANSMITTERS)], record["deviceTime"]
        yield clarity_row(stamp, "EGV", glucose=shown, counted=counted, transmitter=transmitter)


def _entered(records: list[dict[str, Any]]) -> Iterator[Row]:
    for record in records:
        stamp, kind = record["deviceTime"], record["type"]
        if kind == "insulin":
            acting = {"rapid": "Fast-Acting", "long": "Long-Acting"}
            simple = record["formulation"]["simple"]
            dose = f"{record['dose']['total']:.2f}"
            yield clarity_row(stamp, "Insulin", acting[simple["actingType"]], insulin=dose)
        elif kind == "food":
            yield clarity_row(stamp, "Carbs", carbs=str(record["nutrition"]["carbohydrate"]["net"]))
        elif kind == "physicalActivity":
            length = timedelta(minutes=record["duration"]["value"])
            effort = {"high": "Heavy", "medium": "Medium"}[record["reportedIntensity"]]
            yield clarity_row(stamp, "Exercise", effort, duration=f"{datetime.min + length:%H:%M:%S}")

"""The three people's months: who lives through what with which devices."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from tidepool_simulator.sample import people
from tidepool_simulator.sample.closed_loop import ClosedLoop
from tidepool_simulator.sample.diary import at_local, keep_diary
from tidepool_simulator.sample.life import Trace, live
from tidepool_simulator.sample.meters_and_pens import Pens, record_calibrations, record_meter
from tidepool_simulator.sample.notebook import Notebook
from tidepool_simulator.sample.scheduled_pump import ScheduledPump
from tidepool_simulator.sample.sensors import Sensor, record_dexcom, record_libre
from tidepool_simulator.sample.settings import (
    record_closed_loop_settings,
    record_g5_settings,
    record_g6_settings,
    record_scheduled_settings,
)

_HOUR = 3600


def record_clock_changes(notebook: Notebook, trace: Trace, slow_seconds: int) -> None:
    """Record one correction of a slow clock, and each change to or from summer time.

    :param slow_seconds: by how much the clock had fallen behind when it was corrected.
    """
    middle = trace.start + (trace.end - trace.start) // 2
    _record_change(notebook, middle, _wall(notebook, middle) - timedelta(seconds=slow_seconds), "manual")
    for at in range(trace.start + _HOUR, trace.end, _HOUR):
        unchanged = _wall(notebook, at - _HOUR) + timedelta(hours=1)
        if unchanged != _wall(notebook, at):
            _record_change(notebook, at, unchanged, "automatic")


def _record_change(notebook: Notebook, at: int, shown_before: datetime, method: str) -> None:
    zone = notebook.device.timezone
    notebook.add(
        at,
        "deviceEvent",
        {
            "subType": "timeChange",
            "from": {"time": shown_before.isoformat(), "timeZoneName": zone},
            "to": {"time": _wall(notebook, at).isoformat(), "timeZoneName": zone},
            "method": method,
        },
    )


def _wall(notebook: Notebook, at: int) -> datetime:
    return datetime.fromisoformat(notebook.local_time(at))


_DAY = 86400


def closed_loop_household(last_day: date, chance: random.Random) -> Iterator[Notebook]:
    """Yield the notebooks of an adult with a sensor and a pump that closes the loop."""
    person = people.CLOSED_LOOP_USER
    diary = keep_diary(person, last_day, chance)
    pump = Notebook(people.CLOSED_LOOP_PUMP, chance)
    loop = ClosedLoop(person, diary, pump, chance)
    trace = live(person, diary, loop, chance)
    loop.finish(trace.end)
    record_closed_loop_settings(pump, person, trace.start + 61)
    record_clock_changes(pump, trace, slow_seconds=95)

    cgm = Notebook(people.SENSOR_G6, chance)
    record_g6_settings(cgm, trace.start + 34)
    record_dexcom(cgm, Sensor(trace, chance, interval=300, session=10 * _DAY, warm_up=7200), with_trend=True)
    yield from (cgm, pump)


def pen_household(last_day: date, chance: random.Random) -> Iterator[Notebook]:
    """Yield the notebooks of an adult with pens, a scanned sensor and a meter that reads ketones."""
    person = people.PEN_USER
    diary = keep_diary(person, last_day, chance)
    app = Notebook(people.PEN, chance)
    pens = Pens(person, diary, app, chance)
    trace = live(person, diary, pens, chance)
    zone = ZoneInfo(person.timezone)
    days = [last_day - timedelta(days=back) for back in range(person.days, 0, -1)]
    pens.take_long_insulin([at_local(day, 22.0, zone) for day in days])

    libre = Notebook(people.SENSOR_LIBRE, chance)
    record_libre(libre, Sensor(trace, chance, interval=900, session=14 * _DAY, warm_up=3600), chance)
    meter = Notebook(people.METER_OF_PEN_USER, chance)
    record_meter(meter, trace, diary, chance, ketones=True)
    yield from (libre, meter, app)


def child_household(last_day: date, chance: random.Random) -> Iterator[Notebook]:
    """Yield the notebooks of a child with a conventional pump, a sensor to calibrate and a linked meter."""
    person = people.CHILD
    diary = keep_diary(person, last_day, chance)
    pump = Notebook(people.SCHEDULED_PUMP, chance)
    therapy = ScheduledPump(person, diary, pump, chance)
    trace = live(person, diary, therapy, chance)
    therapy.finish(trace.end)
    record_scheduled_settings(pump, person, trace.start + 15, other_scale=1.2)
    record_scheduled_settings(pump, person, trace.start + 17 * _DAY + 50400, other_scale=1.3)
    record_clock_changes(pump, trace, slow_seconds=247)

    cgm = Notebook(people.SENSOR_G5, chance)
    record_g5_settings(cgm, trace.start + 20)
    record_dexcom(cgm, Sensor(trace, chance, interval=300, session=7 * _DAY, warm_up=7200), with_trend=False)
    record_calibrations(cgm, trace, chance)
    meter = Notebook(people.METER_OF_CHILD, chance)
    record_meter(meter, trace, diary, chance, ketones=False)
    yield from (cgm, pump, meter)

"""The three people's months: who lives through what with which devices."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from tidepool_ingest.sample import people
from tidepool_ingest.sample.clocks import note_clock_changes
from tidepool_ingest.sample.closed_loop import ClosedLoop
from tidepool_ingest.sample.diary import at_local, keep_diary
from tidepool_ingest.sample.life import live
from tidepool_ingest.sample.meters import note_calibrations, note_meter
from tidepool_ingest.sample.notebook import Notebook
from tidepool_ingest.sample.pens import Pens
from tidepool_ingest.sample.scheduled_pump import ScheduledPump
from tidepool_ingest.sample.sensors import Sensor, note_dexcom, note_libre
from tidepool_ingest.sample.settings import (
    note_closed_loop_settings,
    note_g5_settings,
    note_g6_settings,
    note_scheduled_settings,
)

_DAY = 86400


def closed_loop_household(last_day: date, chance: random.Random) -> Iterator[Notebook]:
    """Yield the notebooks of an adult with a sensor and a pump that closes the loop."""
    person = people.CLOSED_LOOP_USER
    diary = keep_diary(person, last_day, chance)
    pump = Notebook(people.CLOSED_LOOP_PUMP, chance)
    loop = ClosedLoop(person, diary, pump, chance)
    trace = live(person, diary, loop, chance)
    loop.finish(trace.end)
    note_closed_loop_settings(pump, person, trace.start + 61)
    note_clock_changes(pump, trace, slow_seconds=95)

    cgm = Notebook(people.SENSOR_G6, chance)
    note_g6_settings(cgm, trace.start + 34)
    note_dexcom(cgm, Sensor(trace, chance, interval=300, session=10 * _DAY, warm_up=7200), with_trend=True)
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
    note_libre(libre, Sensor(trace, chance, interval=900, session=14 * _DAY, warm_up=3600), chance)
    meter = Notebook(people.METER_OF_PEN_USER, chance)
    note_meter(meter, trace, diary, chance, ketones=True)
    yield from (libre, meter, app)


def child_household(last_day: date, chance: random.Random) -> Iterator[Notebook]:
    """Yield the notebooks of a child with a conventional pump, a sensor to calibrate and a linked meter."""
    person = people.CHILD
    diary = keep_diary(person, last_day, chance)
    pump = Notebook(people.SCHEDULED_PUMP, chance)
    therapy = ScheduledPump(person, diary, pump, chance)
    trace = live(person, diary, therapy, chance)
    therapy.finish(trace.end)
    note_scheduled_settings(pump, person, trace.start + 15, other_scale=1.2)
    note_scheduled_settings(pump, person, trace.start + 17 * _DAY + 50400, other_scale=1.3)
    note_clock_changes(pump, trace, slow_seconds=247)

    cgm = Notebook(people.SENSOR_G5, chance)
    note_g5_settings(cgm, trace.start + 20)
    note_dexcom(cgm, Sensor(trace, chance, interval=300, session=7 * _DAY, warm_up=7200), with_trend=False)
    note_calibrations(cgm, trace, chance)
    meter = Notebook(people.METER_OF_CHILD, chance)
    note_meter(meter, trace, diary, chance, ketones=False)
    yield from (cgm, pump, meter)

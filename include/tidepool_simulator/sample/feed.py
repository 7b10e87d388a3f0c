"""A feed for the sample: a day of a sensor's cloud service, fetched every four hours.

Each fetch overlaps the one before. Some readings come late, meals are corrected afterwards, and one is
deleted.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from tidepool_simulator.sample.people import PEN_USER
from tidepool_simulator.sample.write import DEFAULT_SEED

Record = dict[str, Any]

FEED_CLIENT = "org.example.sensor-cloud"
"""What the feed's data set names as its program."""

FEED_DEVICE = "SensorCloud-PEN-2201"

READING_MINUTES = 5
FETCH_MINUTES = 240
OVERLAP_MINUTES = 15

MEAL_HOURS = (7, 12, 19)


@dataclass(frozen=True)
class SampleFeed:
    """What :func:`write_sample_feed` wrote.

    :param batches: folders of its batches, in order.
    :param records: records in all of them.
    """

    batches: tuple[Path, ...]
    records: int


def write_sample_feed(root: Path, day: date, seed: int = DEFAULT_SEED) -> SampleFeed:
    """Write the batches of one feed below ``root``: the 24 hours before a day.

    The same day and seed always give the same records.

    :param root: staging root, a local folder.
    :param day: the day of staging: the folder's name, and the day before which the data end.
    """
    chance = random.Random(f"{seed} feed")
    start = datetime.combine(day, time(), UTC) - timedelta(days=1)
    readings = _readings(start, chance)
    late = {at for at in readings if chance.random() < 0.03}
    batches, records = [], 0
    for number in range(24 * 60 // FETCH_MINUTES):
        begin = start + timedelta(minutes=number * FETCH_MINUTES)
        end = begin + timedelta(minutes=FETCH_MINUTES)
        window = begin - timedelta(minutes=OVERLAP_MINUTES)
        fetched = [reading for at, reading in readings.items() if window <= at < end and at not in late]
        # What came late to the cloud is in the next fetch.
        fetched += [
            readings[at] for at in sorted(late) if begin - timedelta(minutes=FETCH_MINUTES) <= at < begin
        ]
        fetched += _meals(start, begin, end)
        records += len(fetched)
        batches.append(_write(root / day.isoformat(), number, fetched, _deleted(number)))
    return SampleFeed(tuple(batches), records)


def _readings(start: datetime, chance: random.Random) -> dict[datetime, Record]:
    readings: dict[datetime, Record] = {}
    glucose = 130.0
    for number in range(24 * 60 // READING_MINUTES):
        at = start + timedelta(minutes=number * READING_MINUTES)
        target = 130 + 45 * math.sin(number / 23)
        glucose += 0.12 * (target - glucose) + chance.gauss(0, 5)
        value = {"units": "mg/dL", "value": min(max(round(glucose), 45), 360), "sampleInterval": 300000}
        readings[at] = _datum("cbg", at, value)
    return readings


def _meals(start: datetime, begin: datetime, end: datetime) -> list[Record]:
    """Return the meals of a stretch, and the corrections of those before it."""
    meals = []
    for hour in MEAL_HOURS:
        at = start + timedelta(hours=hour)
        recorded, corrected = begin <= at < end, begin <= at + timedelta(minutes=FETCH_MINUTES) < end
        if recorded or corrected:
            grams = 40 + hour + (10 if corrected else 0)
            nutrition = {"nutrition": {"carbohydrate": {"net": grams, "units": "grams"}}}
            meals.append(_datum("food", at, nutrition) | {"origin": _origin(f"meal-{hour}")})
    if start <= begin < start + timedelta(minutes=FETCH_MINUTES):
        by_mistake = {"nutrition": {"carbohydrate": {"net": 99, "units": "grams"}}}
        meals.append(_datum("food", start + timedelta(hours=2), by_mistake) | {"origin": _origin("meal-2")})
    return meals


def _deleted(number: int) -> list[str]:
    return ["meal-2"] if number == 1 else []


def _origin(identifier: str) -> Record:
    return {"id": identifier, "name": FEED_CLIENT, "type": "service"}


def _datum(kind: str, at: datetime, fields: Record) -> Record:
    moment = at.replace(tzinfo=None).isoformat()
    return {"type": kind, "time": f"{moment}Z", "deviceId": FEED_DEVICE, **fields}


def _write(day_folder: Path, number: int, records: list[Record], deletes: list[str]) -> Path:
    folder = day_folder / PEN_USER.user_id / f"{day_folder.name.replace('-', '')}-feed-{number:02}"
    folder.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{json.dumps(record)}\n" for record in records).encode()
    (folder / "fetched.ndjson").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    manifest = {
        "userId": PEN_USER.user_id,
        "dataSet": {
            "dataSetType": "continuous",
            "deviceId": FEED_DEVICE,
            "deviceModel": "Sensor Cloud",
            "deviceTags": ["cgm"],
            "client": {"name": FEED_CLIENT, "version": "1.0.0"},
        },
        "files": [{"name": "fetched.ndjson", "format": "ndjson", "sha256": digest, "records": len(records)}],
        "deletes": [{"id": deletion} for deletion in deletes],
    }
    # Written last: a batch without its manifest is not ready.
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return folder

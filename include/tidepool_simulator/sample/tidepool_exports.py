"""Data as they come out of Tidepool, made up: by its data API, and by the Export button of its web page.

Both tell of three days of a pump with a sensor, some of which is not as it may go back: links, fields of the
server, an old wrong label, minutes. The same seed always gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tidepool_simulator.sample.vendor_files import VendorFile
from tidepool_simulator.sample.write import DEFAULT_SEED

Record = dict[str, Any]

API_DEVICE, PAGE_DEVICE = "MMT-1780:TWN880011", "MMT-723:TWN880022"
"""The pumps that the two exports tell of."""

_MMOL = 18.01559
_MINUTE = 60_000
_DAYS = 3
_ZONE_MINUTES = -300

_PAGE_TEXTS = ("payload", "annotations", "from", "to", "nutrition", "manufacturers")
"""What the page writes as JSON in a string."""

_PAGE_LACKS = ("sampleInterval", "trend", "method", "carbUnits", "insulinFormulation", "createdTime", "guid")
"""What it has no column for."""

_SCHEDULES = {
    "basalSchedules": "basalSchedule",
    "bgTarget": "bgTarget",
    "carbRatio": "carbRatio",
    "insulinSensitivity": "insulinSensitivity",
}


def api_export(seed: int = DEFAULT_SEED) -> VendorFile:
    """Return what Tidepool's data API gives of a pump, an array, newest first."""
    chance = random.Random(f"{seed} api export")
    records = list(_kept(API_DEVICE, datetime(2025, 2, 10, 5, tzinfo=UTC), chance))
    mine = [record for record in records if record["type"] == "smbg"]
    for record in mine:  # an uploader of 2014 kept the meter's label beside the converted value
        record["units"] = "mg/dL"
    records[7]["value"] = 62.5  # beyond what any sensor shows
    records.append(dict(records[4]) | _servers(records[4], "again"))  # the same, stored twice
    next(record for record in records if record["type"] == "wizard")["bolus"] = "of-no-record"
    rows = [*records, *_data_sets(API_DEVICE, records)]
    rows.sort(key=lambda record: str(record["time"]), reverse=True)
    return VendorFile(
        "export.json",
        "tidepool-export",
        json.dumps(rows).encode(),
        rows=len(rows),
        refused=1,
        skipped=1,
        timezone=None,
        private=(),
    )


def web_export(seed: int = DEFAULT_SEED) -> VendorFile:
    """Return what the web page's Export button gives of a pump, as JSON."""
    chance = random.Random(f"{seed} web export")
    records = list(_kept(PAGE_DEVICE, datetime(2025, 2, 10, 5, tzinfo=UTC), chance))
    settings = next(record for record in records if record["type"] == "pumpSettings")
    rows = [
        *(row for record in records for row in _as_the_page_has_it(record)),
        *_data_sets(PAGE_DEVICE, records),
    ]
    # The page has no column for the settings of a sensor, so that nothing is left of them but this.
    lost = {"type": "cgmSettings", "time": settings["time"], "deviceId": PAGE_DEVICE, "units": "mmol/L"}
    rows.append(lost | {"id": "lost", "uploadId": settings["uploadId"]})
    pieces = sum(str(row["type"]).startswith("pumpSettings.") for row in rows)
    return VendorFile(
        "TidepoolExport.json",
        "tidepool-web-export",
        json.dumps(rows).encode(),
        rows=len(rows),
        refused=1,
        skipped=pieces,  # all but one, and the data set
        timezone=None,
        private=(),
    )


def _kept(device_id: str, start: datetime, chance: random.Random) -> Iterator[Record]:
    """Yield records as the Platform keeps them: glucose in mmol/L, what was embedded apart."""

    def record(minutes: float, kind: str, **fields: Any) -> Record:
        at = start + timedelta(minutes=minutes)
        local = at + timedelta(minutes=_ZONE_MINUTES)
        said = {
            "type": kind,
            "time": f"{at:%Y-%m-%dT%H:%M:%S}.000Z",
            "deviceTime": f"{local:%Y-%m-%dT%H:%M:%S}",
            "timezoneOffset": _ZONE_MINUTES,
            "deviceId": device_id,
        } | fields
        return said | _servers(said)

    for number in range(_DAYS * 288):
        shown = round(140 + 60 * math.sin(number / 31) + chance.gauss(0, 5))
        yield record(5 * number, "cbg", units="mmol/L", value=round(shown / _MMOL, 5), sampleInterval=300_000)
    for day in range(_DAYS):
        for hour in (7, 12.5, 19):
            minutes, grams = 60 * (24 * day + hour), chance.randrange(25, 80)
            bolus = record(minutes, "bolus", subType="normal", normal=round(grams / 10, 1))
            before = round(chance.randrange(80, 220) / _MMOL, 5)
            said = {"bgInput": before, "units": "mmol/L", "carbInput": grams, "insulinCarbRatio": 10}
            yield record(minutes, "wizard", **said, carbUnits="grams", bolus=bolus["id"])
            yield bolus
            yield record(minutes - 2, "smbg", units="mmol/L", value=before, subType="linked")
        for at, length, rate in ((0, 6 * 60, 0.7), (6 * 60, 90, 1.15), (8 * 60 + 0.5, 959.5, 0.85)):
            delivered = {"deliveryType": "scheduled", "scheduleName": "Workday", "rate": rate}
            yield record(24 * 60 * day + at, "basal", **delivered, duration=round(length * _MINUTE))
        hidden = {"type": "basal", "deliveryType": "scheduled", "rate": 1.15, "scheduleName": "Workday"}
        temporary = {"deliveryType": "temp", "rate": 0.575, "percent": 0.5, "suppressed": hidden}
        yield record(24 * 60 * day + 450, "basal", **temporary, duration=round(30.5 * _MINUTE))
    stopped = record(900, "deviceEvent", subType="status", status="suspended", reason={"suspended": "manual"})
    yield stopped
    yield record(900, "deviceEvent", subType="reservoirChange", status=stopped["id"])
    yield record(905, "deviceEvent", subType="prime", primeTarget="cannula", volume=0.5)
    yield record(1300, "deviceEvent", subType="alarm", alarmType="low_power", payload={"code": 17})
    yield record(
        3,
        "pumpSettings",
        activeSchedule="Workday",
        units={"bg": "mmol/L", "carb": "grams"},
        basalSchedules={
            "Workday": [{"start": 0, "rate": 0.7}, {"start": 360 * _MINUTE, "rate": 1.15}],
            "Free": [{"start": 0, "rate": 0.8}],
        },
        bgTarget=[{"start": 0, "low": 5.0, "high": 6.5}],
        carbRatio=[{"start": 0, "amount": 10}, {"start": 660 * _MINUTE, "amount": 12}],
        insulinSensitivity=[{"start": 0, "amount": 2.5}],
        manufacturers=["Medtronic"],
        model=device_id.partition(":")[0].removeprefix("MMT-"),
        serialNumber=device_id.partition(":")[2],
    )


def _servers(record: Mapping[str, Any], salt: str = "") -> Record:
    """Return what the server has added to a record."""
    mark = hashlib.sha256(f"{json.dumps(record, sort_keys=True)}{salt}".encode()).hexdigest()
    return {
        "id": mark[:32],
        "guid": f"{mark[:8]}-{mark[8:12]}-{mark[12:16]}-{mark[16:20]}-{mark[20:32]}",
        "uploadId": f"upid_{hashlib.sha256(str(record['deviceId']).encode()).hexdigest()[:12]}",
        "createdTime": "2025-02-14T08:00:00.000Z",
    }


def _data_sets(device_id: str, records: list[Record]) -> list[Record]:
    """Return the row that an export has of the data set itself."""
    mine = records[0]
    named = {"type": "upload", "time": "2025-02-14T08:00:00.000Z", "deviceId": device_id}
    return [named | {"uploadId": mine["uploadId"], "id": mine["uploadId"], "timezone": "America/New_York"}]


def _as_the_page_has_it(record: Record) -> Iterator[Record]:
    row: Record = {}
    for name, value in record.items():
        if name in _PAGE_LACKS:
            continue
        if name in _PAGE_TEXTS:
            row[name] = json.dumps(value)
        elif isinstance(value, dict) and name not in _SCHEDULES:
            row |= {f"{name}.{inner}": part for inner, part in value.items()}
        elif name == "duration":
            row[name] = value / _MINUTE
        else:
            row[name] = value
    if record["type"] != "pumpSettings":
        yield row
        return
    shared = {name: value for name, value in row.items() if name not in _SCHEDULES and name != "type"}
    for schedules, entry in _SCHEDULES.items():
        found = record[schedules]
        named: dict[str | None, list[Record]] = found if isinstance(found, dict) else {None: found}
        for schedule, entries in named.items():
            for item in entries:
                start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=item["start"])
                written = item | {"start": f"{start:%Y-%m-%dT%H:%M:%S}.000Z"}
                called = {} if schedule is None else {"scheduleName": schedule}
                piece = {f"{entry}.{inner}": part for inner, part in written.items()}
                yield {"type": f"pumpSettings.{schedules}", **shared, **called, **piece}

"""A device's memory: collects its records with the base fields every Tidepool datum has."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from tidepool_simulator.sample.people import DISPLAY_MG_DL_PER_MMOL_L, Device

Record = dict[str, Any]


class Notebook:
    """The records of one device.

    The times of a record belong together as Tidepool's guide asks:
    ``deviceTime = time + timezoneOffset + conversionOffset``; ``clockDriftOffset`` is informative only.

    :param device: whose records they are.
    :param chance: source of record ids, for devices that give them.
    """

    def __init__(self, device: Device, chance: random.Random) -> None:
        self.device = device
        self.clock_drift = device.clock_drift
        self._zone = ZoneInfo(device.timezone)
        self._chance = chance
        self._records: list[tuple[int, int, Record]] = []

    def records(self) -> list[Record]:
        """Return the records in order of time."""
        return [record for _, _, record in sorted(self._records, key=lambda entry: entry[:2])]

    def add(self, at: int, kind: str, fields: Record) -> Record:
        """Keep a record and return it.

        :param at: seconds since 1970, UTC.
        :param kind: Tidepool's ``type``.
        """
        record = self.datum(at, kind, fields)
        self._records.append((at, len(self._records), record))
        return record

    def datum(self, at: int, kind: str, fields: Record) -> Record:
        """Return a record without keeping it: one to embed in another."""
        moment = datetime.fromtimestamp(at, self._zone)
        offset = moment.utcoffset()
        if offset is None:
            raise ValueError(f"time zone {self.device.timezone} has no offset")
        utc = moment.astimezone(UTC).replace(tzinfo=None).isoformat()
        record: Record = {
            "type": kind,
            "time": f"{utc}.000Z" if self.device.milliseconds else f"{utc}Z",
            "deviceTime": moment.replace(tzinfo=None).isoformat(),
            "timezoneOffset": int(offset.total_seconds()) // 60,
            "conversionOffset": 0,
            "clockDriftOffset": self.clock_drift,
            "deviceId": self.device.device_id,
        }
        if self.device.with_ids:
            record["id"] = f"{self._chance.getrandbits(128):032x}"
        record.update(fields)
        return record

    def local_time(self, at: int) -> str:
        """Return what a right clock on the wall shows, ``YYYY-MM-DDTHH:MM:SS``."""
        return datetime.fromtimestamp(at, self._zone).replace(tzinfo=None).isoformat()

    def glucose(self, mg_dl: float) -> Record:
        """Return ``units`` and ``value`` as the device shows them."""
        return {"units": self.device.units, "value": shown(mg_dl, self.device)}


def shown(mg_dl: float, device: Device) -> float | int:
    """Return a glucose as the device's display shows it: whole mg/dL or tenths of mmol/L."""
    if device.units == "mg/dL":
        return round(mg_dl)
    return round(mg_dl / DISPLAY_MG_DL_PER_MMOL_L, 1)

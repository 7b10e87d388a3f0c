"""Devices that used to send data and have sent none for longer than is usual for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby, pairwise
from typing import Any

from tidepool_ingest.ledger import DeviceSpan, Ledger
from tidepool_ingest.ledger.batches import LONG_AGO
from tidepool_ingest.ledger.database import batched
from tidepool_ingest.ledger.record_counts import BatchEnd, batch_ends
from tidepool_ingest.privacy import short_hash

HISTORY_DAYS = 365
"""How far back to look for a device's usual interval. One that stopped before that is no longer named."""

FEWEST_GAPS = 4
"""Least number of gaps between batches for a usual interval."""

USUAL_SHARE = 0.9
"""Share of a device's gaps that are no longer than its usual interval: an occasional holiday is not usual."""

FACTOR = 2
"""How many times its usual interval a device may send nothing."""

FEWEST_DAYS = 3
"""How many days any device may send nothing: data of a weekend arrive on Monday."""

DEVICES_NAMED = 50
"""How many devices a summary names; it only counts the others."""


@dataclass(frozen=True)
class InactiveDevice:
    """A device that has stopped sending.

    :param api_host: host of the Tidepool API that its data go to.
    :param user_id: the person whose data they are.
    :param device_id: its id.
    :param model: device model, as labels show it.
    :param last_day: UTC day of its last record.
    :param usual_days: its usual interval: days between the ends of two batches.
    :param inactive_days: days since its last record.
    :param uploaded_at: when one of its batches last changed in the ledger.
    """

    api_host: str
    user_id: str
    device_id: str
    model: str
    last_day: date
    usual_days: int
    inactive_days: int
    uploaded_at: datetime

    @property
    def allowed_days(self) -> int:
        """How many days it may send nothing before it is called inactive."""
        return max(FACTOR * self.usual_days, FEWEST_DAYS)

    @property
    def name(self) -> str:
        """Its name in logs and pages: its model and the short hashes of device and user."""
        return f"{self.model} {short_hash(self.device_id)} of user {short_hash(self.user_id)}"

    def line(self) -> str:
        """Return a line about it for a log."""
        usual = "every day" if self.usual_days == 1 else f"every {self.usual_days} days"
        return (
            f"{self.name}: inactive for {self.inactive_days} days, since {self.last_day}; it usually sends "
            f"{usual}. Find out whether it is still in use, and its data still staged."
        )


def inactive_devices(ledger: Ledger, today: date) -> list[InactiveDevice]:
    """Return the devices that have sent nothing for longer than is usual for them, the longest first.

    The usual interval follows from the days on which a device's batches end: if it is read out once a month,
    they end once a month, however many records a day it has. Devices with too few batches are left out.

    :param ledger: knows which days have records.
    :param today: the UTC day to count up to.
    """
    ends = batch_ends(ledger.database, today - timedelta(days=HISTORY_DAYS))
    found = [device for device in _inactive(ends, today) if device is not None]
    return sorted(found, key=lambda device: (-device.inactive_days, device.name))


def possibly_inactive(today: date, spans: Iterable[DeviceSpan]) -> list[DeviceSpan]:
    """Return the devices that may be inactive: the others' newest batch has records of the last days.

    :param today: the UTC day to count up to.
    :param spans: the devices.
    """
    recent = today - timedelta(days=FEWEST_DAYS)
    return [span for span in spans if span.last_record is None or span.last_record < recent]


def inactive_among(ledger: Ledger, today: date, spans: Iterable[DeviceSpan]) -> list[InactiveDevice]:
    """Return which of some devices are inactive, as :func:`inactive_devices` does of all.

    :param ledger: knows which days have records.
    :param today: the UTC day to count up to.
    :param spans: the devices.
    """
    named = {span.key[:3] for span in spans if span.key.device_id}
    found: list[InactiveDevice] = []
    for some in batched(sorted(named)):
        ids = sorted({user for _, user, _ in some}), sorted({device for _, _, device in some})
        ends = batch_ends(ledger.database, today - timedelta(days=HISTORY_DAYS), of=ids)
        wanted = (end for end in ends if end[:3] in named)
        found += [device for device in _inactive(wanted, today) if device is not None]
    return found


def inactive_summary(found: list[InactiveDevice]) -> dict[str, Any]:
    """Return the number and names of inactive devices for XCom."""
    return {"devices": len(found), "named": [device.line() for device in found[:DEVICES_NAMED]]}


def _inactive(ends: Iterable[BatchEnd], today: date) -> Iterator[InactiveDevice | None]:
    for device, of_device in groupby(ends, key=lambda end: end[:3]):
        label = ""
        days: list[date] = []
        uploaded_at = LONG_AGO
        for end in of_device:
            label, uploaded_at = end.label, max(uploaded_at, end.updated_at)
            if not days or end.last_day > days[-1]:
                days.append(end.last_day)
        yield _judged(device, label, days, today, uploaded_at)


def _judged(
    device: tuple[str, ...], label: str, days: list[date], today: date, uploaded_at: datetime
) -> InactiveDevice | None:
    gaps = sorted((later - earlier).days for earlier, later in pairwise(days))
    if len(gaps) < FEWEST_GAPS:
        return None
    usual = gaps[math.ceil(USUAL_SHARE * len(gaps)) - 1]
    inactive = (today - days[-1]).days
    if inactive <= max(FACTOR * usual, FEWEST_DAYS):
        return None
    host, user_id, device_id = device
    return InactiveDevice(host, user_id, device_id, model_of(label), days[-1], usual, inactive, uploaded_at)


def model_of(label: str) -> str:
    """Return the device model that a label holds between day and short hash."""
    return label.partition(" ")[2].rpartition(" ")[0]

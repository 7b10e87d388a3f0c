"""Devices that used to send and have stopped for longer than is usual for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby, pairwise
from typing import Any

from tidepool_ingest.ledger import Ledger
from tidepool_ingest.ledger.record_counts import BatchEnd, batch_ends
from tidepool_ingest.privacy import short_hash

HISTORY_DAYS = 365
"""How far back a device's habit is looked for. One that has been silent for longer is not named any more."""

FEWEST_GAPS = 4
"""Gaps between batches from which a habit can be told."""

USUAL_SHARE = 0.9
"""Share of a device's gaps that its habit covers: a holiday now and then does not make it rarer."""

FACTOR = 2
"""How many times its habit a device may be silent."""

FEWEST_DAYS = 3
"""A device that is silent for no longer is never named: data of a weekend arrive on Monday."""

DEVICES_NAMED = 50
"""Devices that a summary names before it only counts them."""


@dataclass(frozen=True)
class SilentDevice:
    """A device that has stopped.

    :param api_host: the Tidepool it sends to.
    :param user_id: whose it is.
    :param device_id: its id.
    :param model: device model, as labels show it.
    :param last_day: UTC day of its last record.
    :param usual_days: days that pass between the ends of two batches of it, usually.
    :param silent_days: days without a record until now.
    """

    api_host: str
    user_id: str
    device_id: str
    model: str
    last_day: date
    usual_days: int
    silent_days: int

    @property
    def name(self) -> str:
        """What logs and pages call it: its model and the short hashes of device and user."""
        return f"{self.model} {short_hash(self.device_id)} of user {short_hash(self.user_id)}"

    def line(self) -> str:
        """Return what there is to tell, fit for a log."""
        return (
            f"{self.name}: silent for {self.silent_days} days, since {self.last_day}; usually it sends every "
            f"{self.usual_days} days"
        )


def silent_devices(ledger: Ledger, today: date) -> list[SilentDevice]:
    """Return the devices that are silent for longer than their habit, the longest silent first.

    A habit is told from the days on which the batches of a device end: one that is read out once a month ends
    once a month, however many records a day it has. Those with too few batches are left out.

    :param ledger: knows on which days records lie.
    :param today: the UTC day up to which silence counts.
    """
    ends = batch_ends(ledger.database, today - timedelta(days=HISTORY_DAYS))
    found = [silent for silent in _silent(ends, today) if silent is not None]
    return sorted(found, key=lambda one: (-one.silent_days, one.name))


def silence_summary(found: list[SilentDevice]) -> dict[str, Any]:
    """Return numbers and names of silent devices, fit for XCom."""
    return {"devices": len(found), "named": [one.line() for one in found[:DEVICES_NAMED]]}


def _silent(ends: Iterable[BatchEnd], today: date) -> Iterator[SilentDevice | None]:
    for device, of_device in groupby(ends, key=lambda end: end[:3]):
        label = ""
        days: list[date] = []
        for end in of_device:
            label = end.label
            if not days or end.last_day > days[-1]:
                days.append(end.last_day)
        yield _judged(device, label, days, today)


def _judged(device: tuple[str, ...], label: str, days: list[date], today: date) -> SilentDevice | None:
    gaps = sorted((later - earlier).days for earlier, later in pairwise(days))
    if len(gaps) < FEWEST_GAPS:
        return None
    usual = gaps[math.ceil(USUAL_SHARE * len(gaps)) - 1]
    silent = (today - days[-1]).days
    if silent <= max(FACTOR * usual, FEWEST_DAYS):
        return None
    host, user_id, device_id = device
    return SilentDevice(host, user_id, device_id, _model_of(label), days[-1], usual, silent)


def _model_of(label: str) -> str:
    """Return the device model out of a label: it stands between day and short hash."""
    return label.partition(" ")[2].rpartition(" ")[0]

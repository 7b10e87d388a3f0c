"""Data sets and data in the form in which the store keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tidepool_simulator.deep_json import dumps
from tidepool_simulator.instants import milliseconds_of, utc_of, utc_text

NORMAL, CONTINUOUS = "normal", "continuous"
OPEN, CLOSED = "open", "closed"

_TIMES_BELOW: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "alert": (("issuedTime",), ("acknowledgedTime",), ("retractedTime",)),
    "controllerStatus": (("battery", "time"),),
    "deviceEvent": (("from", "time"), ("to", "time")),
    "dosingDecision": (
        ("bgForecast", "*", "time"),
        ("bgHistorical", "*", "time"),
        ("carbsOnBoard", "time"),
        ("food", "time"),
        ("insulinOnBoard", "time"),
        ("originalFood", "time"),
        ("smbg", "time"),
    ),
    "pumpStatus": (
        ("basalDelivery", "time"),
        ("basalDelivery", "dose", "startTime"),
        ("basalDelivery", "dose", "endTime"),
        ("battery", "time"),
        ("bolusDelivery", "dose", "startTime"),
        ("reservoir", "time"),
    ),
}
"""Fields beside ``time`` that the Platform keeps as instants, so that they come back in UTC."""


@dataclass
class DataSet:
    """One data set.

    :param document: what the API returns of it.
    :param time_ms: its ``time``; None when it has none (the zero time).
    """

    upload_id: str
    user_id: str
    document: dict[str, Any]
    state: str = OPEN
    active: bool = False
    created_time: int = 0
    deleted_time: int | None = None
    time_ms: int | None = None
    revision: int = 0

    @property
    def id(self) -> str:
        """The id of the upload record."""
        return str(self.document["id"])

    @property
    def is_continuous(self) -> bool:
        """Whether it is never closed and shows its data at once."""
        return bool(self.document["dataSetType"] == CONTINUOUS)

    @property
    def device_id(self) -> str | None:
        """The device of the set, which need not be that of its data."""
        return self.document.get("deviceId")

    @property
    def deduplicator_name(self) -> str | None:
        """The name as it stands in the set, an old one perhaps."""
        name: str | None = self.document.get("deduplicator", {}).get("name")
        return name

    @property
    def by_user(self) -> str | None:
        """Who created it."""
        return self.document.get("byUser")


@dataclass
class Datum:
    """One datum on its way into the store.

    :param stored: as the model says it is stored, its time still spelled as sent.
    :param hash: set by a deduplicator that makes one.
    :param breaks_storage: whether the database cannot take it, by a rule of :mod:`.rules`.
    """

    stored: dict[str, Any]
    hash: str | None = None
    active: bool = False
    breaks_storage: bool = False

    @property
    def type(self) -> str:
        """The type of the datum."""
        return str(self.stored["type"])

    @property
    def origin_id(self) -> str | None:
        """``origin.id``."""
        return self._origin.get("id")

    @property
    def origin_time(self) -> str | None:
        """``origin.time`` as sent."""
        return self._origin.get("time")

    @property
    def _origin(self) -> dict[str, Any]:
        origin: dict[str, Any] = self.stored.get("origin") or {}
        return origin

    def row(self, data_set: DataSet) -> tuple[Any, ...]:
        """Return the datum as a row of the table ``data``, in the order of :data:`DATUM_COLUMNS`."""
        stored = self.stored
        time_ms = milliseconds_of(stored["time"])
        if time_ms is None:
            raise ValueError("a stored datum has a time")
        document = dict(stored, time=utc_text(time_ms))
        for path in _TIMES_BELOW.get(stored["type"], ()):
            _change_time(document, path)
        device = (self._origin.get("payload") or {}).get("device")
        maker = device.get("manufacturer") if isinstance(device, dict) else None
        return (
            data_set.upload_id,
            data_set.user_id,
            stored["id"],
            stored["type"],
            stored.get("subType"),
            time_ms,
            stored.get("deviceId"),
            self.origin_id,
            self.origin_time,
            self.hash,
            stored.get("source"),
            maker if isinstance(maker, str) else None,
            int(self.active),
            0,
            dumps(document),
        )


DATUM_COLUMNS = (
    "upload_id", "user_id", "id", "type", "sub_type", "time_ms", "device_id", "origin_id", "origin_time",
    "hash", "source", "maker", "active", "revision", "document",
)  # fmt: skip


class Selection(NamedTuple):
    """Which data of a set are meant: those whose ``column`` holds one of the values."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Existing:
    """What the store returns of a datum it holds."""

    hash: str | None = None
    origin_id: str | None = None
    origin_time: str | None = field(default=None)


def _change_time(value: Any, path: tuple[str, ...]) -> None:
    """Write a nested time in UTC. Objects on the way are copied: the datum as sent stays as it is."""
    name, *rest = path
    if name == "*":
        for index, item in enumerate(value):
            if item is not None:
                value[index] = dict(item)
                _change_time(value[index], tuple(rest))
        return
    if value.get(name) is None:
        return
    if rest:
        value[name] = list(value[name]) if isinstance(value[name], list) else dict(value[name])
        _change_time(value[name], tuple(rest))
    else:
        value[name] = utc_of(value[name])

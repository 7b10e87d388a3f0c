"""Entries: what a sensor or a meter has measured. They are most of a site's documents, and stream."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import Any, Final, TypeAlias, TypeVar

from tidepool_ingest.formats.nightscout.documents import SENSOR_ERRORS_BELOW, USUAL_MAX, Reading
from tidepool_ingest.formats.nightscout.profiles import MG_PER_DL, units_meant
from tidepool_ingest.formats.nightscout.records import Writer
from tidepool_ingest.formats.nightscout.values import (
    EARLIEST_MS,
    LATEST_MS,
    NO_AMOUNT,
    Document,
    RefusedDocumentError,
    as_json,
    flag,
    instant,
    name_of,
    number,
    origin_id,
    text,
)
from tidepool_ingest.model import to_mmol_per_l
from tidepool_ingest.model.glucose import MMOL_PER_L

SENSOR_ERROR: Final = "staged-sensor-error"
"""Code of a sensor value that is none: Dexcom's error codes are stored in its place."""

CALIBRATION: Final = "calibration"
OTHER_ENTRY: Final = "other-entry"
DELETED: Final = "deleted"
DUPLICATE: Final = "duplicate-row"

REMEMBERED_MAX: Final = 20_000
"""Readings among which the same one is looked for: two months of them."""

_TRENDS: Final = {
    "tripleup": "rapidRise",
    "doubleup": "rapidRise",
    "singleup": "moderateRise",
    "fortyfiveup": "slowRise",
    "flat": "constant",
    "fortyfivedown": "slowFall",
    "singledown": "moderateFall",
    "doubledown": "rapidFall",
    "tripledown": "rapidFall",
}
_PLAIN_MAX: Final = 90
"""Characters of a name that surely fits; of letters and digits only, it is written as it is."""
_RAW: Final = ("noise", "filtered", "unfiltered", "rssi")
_TIMES: Final = ("date", "mills", "dateString", "sysTime", "created_at")


_Kept = TypeVar("_Kept")
_Key: TypeAlias = int | tuple[int, str]
"""Stands for an instant with type and value; a number in place of most takes less time."""


def _key(kind: str, at: int, value: float) -> _Key:
    if kind == "cbg" and type(value) is int and 0 <= value < _NUMBERED:
        return at * _NUMBERED + value
    return at, f"{kind}{value}"


_NUMBERED: Final = 1024
"""Values of a sensor up to what is beyond all of its usual ones."""


def forget(latest: dict[_Kept, Any]) -> None:
    """Forget the older half of what is remembered, as it has become too much."""
    for key in list(islice(latest, REMEMBERED_MAX // 2)):
        del latest[key]


class Readings:
    """Remembers the latest readings, in bounded memory: a site may hold one many times."""

    def __init__(self) -> None:
        self._names: dict[_Key, str] = {}
        self.repeated: dict[_Key, str] = {}
        """Of readings that are there several times, the name that counts."""

    def see(self, key: _Key, name: str) -> None:
        """See a reading in the first pass.

        :param key: stands for it.
        :param name: its document's.
        """
        known = self._names.get(key)
        if known is None:
            self._names[key] = name
            if len(self._names) > REMEMBERED_MAX:
                forget(self._names)
        elif known != name and len(self.repeated) < REMEMBERED_MAX:
            first = min(self.repeated.get(key, known), name)
            self.repeated[key] = self._names[key] = first


class Entries:
    """Makes records of entries.

    :param writer: writes them.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._readings = Readings()
        self._told: dict[_Key, int] = {}
        self._fingers: list[tuple[int, float]] = []
        self.has_sensor = False
        self.has_meter = False

    @property
    def fingers(self) -> list[tuple[int, float]]:
        """When which values in mmol/L were measured by a meter."""
        return self._fingers

    def see_reading(self, reading: Reading) -> None:
        """See a reading in the first pass."""
        self.has_sensor = True
        name = reading.identifier or reading.own or ""
        if not (name.isalnum() and len(name) <= _PLAIN_MAX):
            name = _name_of(reading)
        self._readings.see(reading.date * _NUMBERED + reading.sgv, name)

    def see(self, document: Document) -> None:
        """See an entry in the first pass."""
        try:
            found = _read(document)
            if not isinstance(found, str):
                kind, at, value, units = found
                self._readings.see(_key(kind, at, value), name_of(document))
                self.has_sensor = self.has_sensor or kind == "cbg"
                self.has_meter = self.has_meter or kind == "smbg"
                if kind == "smbg":
                    self._fingers.append((at, value if units == MMOL_PER_L else to_mmol_per_l(value)))
        except RefusedDocumentError:
            return

    def record(self, document: Document) -> bytes | str:
        """Return the record of an entry, or the reason why it is only counted.

        :raises RefusedDocumentError: it gives no record.
        """
        found = _read(document)
        if isinstance(found, str):
            return found
        kind, at, value, units = found
        name = name_of(document)
        key = _key(kind, at, value)
        ordinal = self._told.get(key)
        chosen = self._readings.repeated.get(key)
        if ordinal is not None or (chosen is not None and name != chosen):
            return DUPLICATE
        self._told[key] = 1
        if len(self._told) > REMEMBERED_MAX:
            forget(self._told)
        if not name:
            name = self._nameless(kind, at)
        head = self._writer.head(kind, at)
        if kind == "smbg":
            record = f'{head},"units":"{units}","value":{value},"origin":{{"id":{origin_id(kind, name)}}}}}'
            return record.encode()
        direction = document.get("direction")
        trend = _trend(direction) if isinstance(direction, str) else ""
        raw = _raw(document)
        return (
            f'{head},"units":"{units}","value":{value}{trend}{raw}'
            f',"origin":{{"id":{origin_id(kind, name)}}}}}'
        ).encode()

    def reading(self, reading: Reading) -> bytes | None:
        """Return the record of a reading; ``None`` if another one is the same."""
        at, value, name = reading.date, reading.sgv, reading.identifier or reading.own or ""
        is_plain = name.isalnum() and len(name) <= _PLAIN_MAX
        if not is_plain:
            name = _name_of(reading)
        key = at * _NUMBERED + value
        told = self._told
        if key in told:
            return None
        repeated = self._readings.repeated
        if repeated and repeated.get(key, name) != name:
            return None
        told[key] = 1
        if len(told) > REMEMBERED_MAX:
            forget(told)
        if is_plain and name.isascii():
            named = f'"cbg:{name}"'
        else:
            named = origin_id("cbg", name or self._nameless("cbg", at))
        trend = "" if reading.direction is None else _trend(reading.direction)
        is_bare = reading.noise is None and reading.filtered is None
        is_bare = is_bare and reading.unfiltered is None and reading.rssi is None
        raw = "" if is_bare else _raw({name: getattr(reading, name) for name in _RAW})
        head = self._writer.head("cbg", at)
        end = f'"value":{value}{trend}{raw},"origin":{{"id":{named}}}}}'
        return f'{head},"units":"{MG_PER_DL}",{end}'.encode()

    def _nameless(self, kind: str, at: int) -> str:
        """Return the name of an entry that has none: its instant, and which one of those it is."""
        key = at, f"{kind}:"
        ordinal = self._told.get(key, 0)
        self._told[key] = ordinal + 1
        return f"{self._writer.written(at)}:{ordinal}"


def _name_of(reading: Reading) -> str:
    return name_of({"identifier": reading.identifier, "_id": reading.own})


@lru_cache(maxsize=100)
def _trend(direction: str) -> str:
    """Return a direction as a member of a record; empty if it says nothing."""
    known = _TRENDS.get(direction.lower())
    return f',"trend":"{known}"' if known else ""


def _read(document: Document) -> tuple[str, int, int | float, str] | str:
    """Return type, instant, value and unit of an entry, or the reason why it is only counted.

    :raises RefusedDocumentError: it has none of these.
    """
    kind, at, value = document.get("type"), document.get("date"), document.get("sgv")
    if (
        kind == "sgv"
        and type(value) is int
        and type(at) is int
        and EARLIEST_MS <= at < LATEST_MS
        and SENSOR_ERRORS_BELOW <= value <= USUAL_MAX
        and "units" not in document
        and "isValid" not in document
    ):
        return "cbg", at, value, MG_PER_DL  # most are like that
    if flag(document, "isValid") is False:
        return DELETED
    if kind == "cal":
        return CALIBRATION
    is_meter = kind == "mbg" or (kind != "sgv" and "mbg" in document)
    if not is_meter and kind not in ("sgv", None, "") and "sgv" not in document:
        return OTHER_ENTRY
    at = instant(document, *_TIMES)
    value = number(document, "mbg") if is_meter else number(document, "sgv")
    if value is None or (is_meter and value <= 0):
        raise RefusedDocumentError(NO_AMOUNT)
    units = units_meant(text(document, "units")) or MG_PER_DL if "units" in document else MG_PER_DL
    if is_meter:
        return "smbg", at, value, units
    if value < SENSOR_ERRORS_BELOW and units == MG_PER_DL:
        raise RefusedDocumentError(SENSOR_ERROR)
    return "cbg", at, value, units


def _raw(document: Document) -> str:
    """Return what a sensor said besides, as a payload; empty if it said nothing."""
    raw = {}
    for name in _RAW:
        if name in document:
            try:
                value = number(document, name)
            except RefusedDocumentError:
                continue
            if value is not None:
                raw[name] = value
    return f',"payload":{as_json(raw)}' if raw else ""

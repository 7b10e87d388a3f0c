"""What may be wrong with a record that the Platform's validators accept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from tidepool_ingest.model import (
    EMBEDDING_TYPES,
    MG_PER_DL_UNITS,
    MMOL_PER_L_UNITS,
    Outline,
    Problem,
    deduplicator_named,
    glucose_reading,
)
from tidepool_ingest.model.fast_path import outline_of
from tidepool_ingest.model.gotime import Instant, parse_instant, parse_local_time
from tidepool_ingest.model.problems import DEVICE_ID_DIFFERS
from tidepool_ingest.staging.manifest_terms import USUAL_OUTCOME, CheckOutcome

if TYPE_CHECKING:
    from tidepool_ingest.staging.manifest import Manifest, RecordChecks

DEVICE_ID_MISSING: Final = "staged-device-id-missing"
"""The deduplicator needs a ``deviceId`` on every datum: without one Tidepool answers 500 to the request. Such
a record is always rejected."""

TIME_NOT_UTC: Final = "staged-time-not-utc"
"""The time has an offset. Tidepool's hash is of its text: the same instant in UTC would be another record."""

UNITS_MIXED: Final = "staged-units-mixed"
"""A device's readings are in more than one unit: a reading in both has two hashes and is stored twice."""

DEVICE_TIME_DIFFERS: Final = "staged-device-time-differs"
"""The device's clock cannot have shown this at the record's time: one of the two is probably wrong."""

_DIFFERENCE_MAX_MS: Final = 24 * 60 * 60 * 1000
_DIFFERENCE_MAX_ANYWHERE_MS: Final = _DIFFERENCE_MAX_MS + 14 * 60 * 60 * 1000
"""Where the offset from UTC is not known; none is more than 14 hours."""

_DAY: Final = len("2026-03-05T")
_HOUR: Final = len("2026-03-05T10")
_MINUTE_MS: Final = 60 * 1000
_HOUR_MS: Final = 60 * 60 * 1000
_MAX_HOURS: Final = 10_000
"""Hours that are remembered, with their offsets: some megabytes."""

_Hours: TypeAlias = tuple[Any, ...]
"""The hours of a ``deviceTime`` and a ``time``, and what is between them: the three offsets."""

MAX_SOURCES: Final = 1_000
"""Devices whose unit is remembered; a batch is one device's data."""

_SPELLINGS: Final = {"mg/dL": MG_PER_DL_UNITS, "mmol/L": MMOL_PER_L_UNITS}
_UNIT_OF: Final = {spelling: unit for unit, spellings in _SPELLINGS.items() for spelling in spellings}


class Findings(NamedTuple):
    """What the checks say about one record.

    :param rejected: why it goes to quarantine.
    :param warned: what is reported about it.
    """

    rejected: tuple[Problem, ...] = ()
    warned: tuple[Problem, ...] = ()


_NO_FINDINGS: Final = Findings()


class RecordChecker:
    """Checks the records of one batch that the Platform's validators accept.

    :param checks: what the manifest says about them.
    :param needs_device_id: whether the deduplicator distinguishes data by their device id.
    :param device_id: the data set's device id.
    """

    def __init__(
        self,
        checks: RecordChecks | None = None,
        *,
        needs_device_id: bool = False,
        device_id: str | None = None,
    ) -> None:
        self._outcomes: dict[str, CheckOutcome] = {
            DEVICE_ID_MISSING: "refuse",
            TIME_NOT_UTC: checks.time_not_utc if checks else USUAL_OUTCOME,
            DEVICE_ID_DIFFERS: checks.device_id_differs if checks else USUAL_OUTCOME,
            UNITS_MIXED: checks.units_mixed if checks else USUAL_OUTCOME,
            DEVICE_TIME_DIFFERS: checks.device_time_differs if checks else USUAL_OUTCOME,
        }
        self._needs_device_id = needs_device_id
        self._device_id = device_id
        self._units: dict[str | None, str] = {}
        self._usual_device: object = self
        self._usual_units: tuple[str | None, ...] = ()
        self._right_hours: set[_Hours] = set()

    @classmethod
    def of(cls, manifest: Manifest) -> RecordChecker:
        """Return the checker of a batch."""
        deduplicator = deduplicator_named(manifest.deduplicator_name)
        return cls(
            manifest.checks,
            needs_device_id=deduplicator is not None and deduplicator.needs_datum_device_id,
            device_id=manifest.device_id,
        )

    def needing_check(self, records: Sequence[Outline | None]) -> list[int]:
        """Return the indexes of the records that need checking; there is nothing to say about the others.

        The others are of the usual device and in its units, their time ends with ``Z`` and goes with their
        ``deviceTime``, they have no ``id``, and their type embeds no other datum.

        :param records: accepted records in outline; ``None`` where there is none, which needs checking too.
        """
        device, units = self._usual_device, self._usual_units
        unusual = [
            index
            for index, record in enumerate(records)
            if record is None
            or record.deviceId != device
            or record.units not in units
            or record.time[-1] != "Z"
            or record.id is not None
            or record.type in EMBEDDING_TYPES
        ]
        unclear = self._hours_to_check(records)
        if unclear:
            unusual += (
                index
                for index, record in enumerate(records)
                if record is not None and record.deviceTime is not None and _hours_of(record) in unclear
            )
        return sorted({*unusual})

    def _hours_to_check(self, records: Sequence[Outline | None]) -> set[_Hours]:
        """Return the hours in which a deviceTime may not go with a time; most have been seen before."""
        if self._outcomes[DEVICE_TIME_DIFFERS] == "ignore":
            return set()
        hours: set[_Hours] = {  # as _hours_of has it, which would cost a call for each record
            (
                local[:_HOUR],
                record.time[:_HOUR],
                record.timezoneOffset,
                record.conversionOffset,
                record.clockDriftOffset,
            )
            for record in records
            if record is not None and (local := record.deviceTime) is not None
        }
        hours -= self._right_hours
        right = set(filter(_always_go_together, hours))
        if len(self._right_hours) >= _MAX_HOURS:
            self._right_hours.clear()
        self._right_hours |= right
        return hours - right

    def check_record(self, datum: Mapping[str, Any], embedded: Sequence[str]) -> Findings:
        """Check an accepted record and the data embedded in it.

        :param datum: the record, decoded.
        :param embedded: its fields that hold a datum.
        """
        found: list[Problem] = []
        self._check(datum, "", found)
        for name in embedded:
            self._check(datum[name], f"/{name}", found)
        if not found:
            return _NO_FINDINGS
        return Findings(
            rejected=tuple(problem for problem in found if self._outcomes[problem.code] == "refuse"),
            warned=tuple(problem for problem in found if self._outcomes[problem.code] == "warn"),
        )

    def _check(self, datum: Mapping[str, Any], pointer: str, found: list[Problem]) -> None:
        device_id = datum.get("deviceId")
        if self._needs_device_id and device_id != self._device_id:
            code = DEVICE_ID_MISSING if device_id is None else DEVICE_ID_DIFFERS
            found.append(Problem(code, f"{pointer}/deviceId"))
        if not _is_utc(datum["time"]):
            found.append(Problem(TIME_NOT_UTC, f"{pointer}/time"))
        if datum.get("deviceTime") is not None and not self._surely_goes(datum):
            difference, limit = _difference(datum)
            if difference > limit:
                found.append(Problem(DEVICE_TIME_DIFFERS, f"{pointer}/deviceTime"))
        is_usual = not self._needs_device_id or device_id == self._device_id
        if reading := glucose_reading(datum):
            unit = _UNIT_OF[reading[0]]
            if self._units.get(device_id, unit) != unit:
                found.append(Problem(UNITS_MIXED, f"{pointer}/units"))
            elif len(self._units) < MAX_SOURCES:
                self._units[device_id] = unit
                if is_usual:
                    self._usual_device, self._usual_units = device_id, (None, *_SPELLINGS[unit])
        elif is_usual and self._usual_device is self:
            self._usual_device, self._usual_units = device_id, (None,)  # a pump may have no readings at all

    def _surely_goes(self, datum: Mapping[str, Any]) -> bool:
        """Return whether a datum's deviceTime goes with its time because all in these hours do."""
        return datum["time"][-1] == "Z" and _hours_of(outline_of(datum)) in self._right_hours


def _hours_of(record: Outline) -> _Hours:
    offsets = (record.timezoneOffset, record.conversionOffset, record.clockDriftOffset)
    return ((record.deviceTime or "")[:_HOUR], record.time[:_HOUR], *offsets)


def _always_go_together(hours: _Hours) -> bool:
    """Return whether every two times in these hours go together, the one being in UTC."""
    local, time, zone, conversion, drift = hours
    if not (local[_DAY:].isdigit() and time[_DAY:].isdigit()):
        return False  # an hour of one digit
    shown = _start_of(local[: _DAY - 1]) + int(local[_DAY:]) * _HOUR_MS
    moment = _start_of(time[: _DAY - 1]) + int(time[_DAY:]) * _HOUR_MS
    difference, limit = _compared(shown, moment, zone, conversion, drift)
    return difference <= limit - _HOUR_MS


@lru_cache(maxsize=1_000)
def _start_of(day: str) -> float:
    """Return when a day of an accepted time begins, in milliseconds."""
    instant = parse_local_time(f"{day}T00:00:00")
    if instant is None:
        raise ValueError("an accepted record has a time that cannot be read")
    return _milliseconds(instant)


def _difference(datum: Mapping[str, Any]) -> tuple[float, int]:
    """Return how far an accepted datum's deviceTime is from what it should be, and how far it may be."""
    shown, instant = parse_local_time(datum["deviceTime"]), parse_instant(datum["time"])
    if shown is None or instant is None:
        raise ValueError("an accepted record has a time that cannot be read")
    offsets = (datum.get(name) for name in ("timezoneOffset", "conversionOffset", "clockDriftOffset"))
    return _compared(_milliseconds(shown), _milliseconds(instant), *offsets)


def _compared(
    shown: float, moment: float, zone: float | None, conversion: float | None, drift: float | None
) -> tuple[float, int]:
    """Return the same; all in milliseconds but the zone, which is in minutes.

    A device's clock shows ``time`` + ``timezoneOffset`` + ``conversionOffset`` + ``clockDriftOffset``, as the
    uploader has it.
    """
    expected = moment + (zone or 0) * _MINUTE_MS + (conversion or 0) + (drift or 0)
    return abs(shown - expected), _DIFFERENCE_MAX_ANYWHERE_MS if zone is None else _DIFFERENCE_MAX_MS


def _milliseconds(instant: Instant) -> float:
    seconds, nanoseconds = instant.moment
    return seconds * 1000 + nanoseconds / 1_000_000


def _is_utc(time: str) -> bool:
    """Return whether the Platform writes a time with ``Z``, as it also does one with the offset +00:00."""
    if time.endswith("Z"):
        return True
    instant = parse_instant(time)
    return instant is not None and instant.text.endswith("Z")

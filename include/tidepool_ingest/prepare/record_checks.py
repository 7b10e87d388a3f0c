"""What may be wrong with a record that the Platform's validators accept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from tidepool_ingest.guards.checks import DEVICE_ID_DIFFERS
from tidepool_ingest.model import (
    EMBEDDING_TYPES,
    MG_PER_DL_UNITS,
    MMOL_PER_L_UNITS,
    Problem,
    deduplicator_named,
    glucose_reading,
)
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.staging.manifest import CheckOutcome, Manifest, RecordChecks

DEVICE_ID_MISSING: Final = "staged-device-id-missing"
"""The deduplicator needs a ``deviceId`` on every datum: without one Tidepool answers 500 to the request. Such
a record is always rejected."""

TIME_NOT_UTC: Final = "staged-time-not-utc"
"""The time has an offset. Tidepool's hash is of its text: the same instant in UTC would be another record."""

UNITS_MIXED: Final = "staged-units-mixed"
"""A device's readings are in more than one unit: a reading in both has two hashes and is stored twice."""

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
        chosen = checks or RecordChecks()
        self._outcomes: dict[str, CheckOutcome] = {
            DEVICE_ID_MISSING: "refuse",
            TIME_NOT_UTC: chosen.time_not_utc,
            DEVICE_ID_DIFFERS: chosen.device_id_differs,
            UNITS_MIXED: chosen.units_mixed,
        }
        self._needs_device_id = needs_device_id
        self._device_id = device_id
        self._units: dict[str | None, str] = {}
        self._usual_device: object = self
        self._usual_units: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, manifest: Manifest) -> RecordChecker:
        """Return the checker of a batch."""
        deduplicator = deduplicator_named(manifest.deduplicator_name)
        return cls(
            manifest.checks,
            needs_device_id=deduplicator is not None and deduplicator.needs_datum_device_id,
            device_id=manifest.device_id,
        )

    def needing_check(self, data: Sequence[Mapping[str, Any] | None]) -> list[int]:
        """Return the indexes of the records that need checking; there is nothing to say about the others.

        The others are of the usual device and in its units, their time ends with ``Z``, they have no ``id``,
        and their type embeds no other datum.

        :param data: accepted records, decoded; ``None`` where there is none, which needs checking too.
        """
        device, units = self._usual_device, self._usual_units
        return [
            index
            for index, datum in enumerate(data)
            if datum is None
            or datum.get("deviceId") != device
            or datum.get("units") not in units
            or datum["time"][-1] != "Z"
            or "id" in datum
            or datum["type"] in EMBEDDING_TYPES
        ]

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


def _is_utc(time: str) -> bool:
    """Return whether the Platform writes a time with ``Z``, as it also does one with the offset +00:00."""
    if time.endswith("Z"):
        return True
    instant = parse_instant(time)
    return instant is not None and instant.text.endswith("Z")

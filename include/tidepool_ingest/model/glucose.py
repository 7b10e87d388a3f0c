"""Blood glucose: units, ranges, conversion, targets, and the readings of sensors, meters and ketone strips.

P: data/blood/glucose/, data/blood/ketone/, data/types/blood/.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, Protocol, TypeAlias, TypeVar

from annotated_types import Interval

from tidepool_ingest.model.base import DAY_MS, Datum
from tidepool_ingest.model.conditions import ByUnits, When
from tidepool_ingest.model.fields import (
    ConvertedBy,
    InGlucoseUnits,
    Range,
    Record,
    Report,
    Rule,
    StoredAs,
    Values,
)
from tidepool_ingest.model.parsing import go_int
from tidepool_ingest.model.problems import EXISTS, NOT_EXISTS, OUT_OF_RANGE

_Limit = TypeVar("_Limit")

MMOL_PER_L: Final = "mmol/L"
"""The units in which the Platform stores glucose."""
MMOL_PER_L_UNITS: Final = (MMOL_PER_L, "mmol/l")
MG_PER_DL_UNITS: Final = ("mg/dL", "mg/dl")
MMOL_PER_L_MINUTE: Final = "mmol/L/minute"
MG_PER_DL_MINUTE: Final = "mg/dL/minute"

MG_PER_DL_IN_MMOL_PER_L: Final = 18.01559
"""mg/dL in one mmol/L."""
MMOL_PER_L_PRECISION: Final = 100000.0
"""Converted values are rounded to a hundred-thousandth mmol/L, half away from zero."""

MMOL_PER_L_MAX: Final = 55.0
MG_PER_DL_MAX: Final = 1000.0
KETONE_MMOL_PER_L_MAX: Final = 10.0
MMOL_PER_L_MINUTE_MAX: Final = 5.5
"""mmol/L a minute, up or down."""
MG_PER_DL_MINUTE_MAX: Final = 100.0
"""mg/dL a minute, up or down."""
SAMPLE_INTERVAL_MAX: Final = DAY_MS
"""Milliseconds."""


def by_glucose_units(mmol_per_l: _Limit, mg_per_dl: _Limit) -> Mapping[str, _Limit]:
    """Lay out a limit by every spelling of the units.

    :param mmol_per_l: the limit in mmol/L.
    :param mg_per_dl: the limit in mg/dL.
    """
    return {**dict.fromkeys(MMOL_PER_L_UNITS, mmol_per_l), **dict.fromkeys(MG_PER_DL_UNITS, mg_per_dl)}


GLUCOSE_RANGES: Final[Mapping[str, Range]] = by_glucose_units((0.0, MMOL_PER_L_MAX), (0.0, MG_PER_DL_MAX))
KETONE_RANGES: Final[Mapping[str, Range]] = dict.fromkeys(MMOL_PER_L_UNITS, (0.0, KETONE_MMOL_PER_L_MAX))
RATE_RANGES: Final[Mapping[str, Range]] = {
    MMOL_PER_L_MINUTE: (-MMOL_PER_L_MINUTE_MAX, MMOL_PER_L_MINUTE_MAX),
    MG_PER_DL_MINUTE: (-MG_PER_DL_MINUTE_MAX, MG_PER_DL_MINUTE_MAX),
}

GlucoseUnits: TypeAlias = Annotated[Literal["mmol/L", "mmol/l", "mg/dL", "mg/dl"], StoredAs(MMOL_PER_L)]
RateUnits: TypeAlias = Literal["mmol/L/minute", "mg/dL/minute"]
GlucoseValue: TypeAlias = Annotated[float, InGlucoseUnits(GLUCOSE_RANGES)]
"""A glucose value in the units in force."""
FreeGlucoseValue: TypeAlias = Annotated[float, InGlucoseUnits()]
"""A glucose value in the units in force that has no range of its own."""


def to_mmol_per_l(value: float) -> float:
    """Convert as the Platform does.

    :param value: glucose in mg/dL, or its change in mg/dL a minute.
    :return: the same in mmol/L.
    """
    rounded = go_int(value / MG_PER_DL_IN_MMOL_PER_L * MMOL_PER_L_PRECISION + math.copysign(0.5, value))
    return rounded / MMOL_PER_L_PRECISION


def _check_target(values: Values, units: str | None, report: Report) -> None:
    """Check which of the four shapes a target has, and its limits."""
    target, width, high, low = map(values.get, ("target", "range", "high", "low"))
    limits = GLUCOSE_RANGES.get(units or "")
    unwanted: tuple[str, ...] = ()
    if target is not None:
        unwanted = ("high", "low") if width is not None else ("low",)
        if limits and limits[0] <= target <= limits[1]:
            reach = min(target - limits[0], limits[1] - target)
            if width is not None and not 0.0 <= width <= reach:
                report(OUT_OF_RANGE, "range")
            if width is None and high is not None and not target <= high <= limits[1]:
                report(OUT_OF_RANGE, "high")
    elif high is not None and low is not None:
        unwanted = ("range",)
        _check_bounds(low, high, limits, report)
    else:
        report(NOT_EXISTS, "high" if low is not None else "target")
    for name in unwanted:
        if name in values:
            report(EXISTS, name)


def _check_bounds(low: float, high: float, limits: Range | None, report: Report) -> None:
    if limits is None:
        return
    if not limits[0] <= low <= limits[1]:
        report(OUT_OF_RANGE, "low")
    elif not low <= high <= limits[1]:
        report(OUT_OF_RANGE, "high")


class GlucoseTarget(Record):
    """A target: ``target``, or that with ``range`` or ``high``, or ``low`` with ``high``."""

    high: FreeGlucoseValue | None = None
    low: FreeGlucoseValue | None = None
    range: FreeGlucoseValue | None = None
    target: GlucoseValue | None = None

    rules = (Rule(_check_target),)


class GlucoseReading(Datum):
    """A glucose value, of whatever source."""

    glucose_units = ("units",)
    identity = ("units", "value")

    units: GlucoseUnits
    value: GlucoseValue


class ContinuousGlucose(GlucoseReading):
    """A reading of a continuous glucose monitor."""

    type: Literal["cbg"]
    trend: (
        Literal["constant", "slowFall", "slowRise", "moderateFall", "moderateRise", "rapidFall", "rapidRise"]
        | None
    ) = None
    trend_rate_units: Annotated[
        Annotated[RateUnits, StoredAs(MMOL_PER_L_MINUTE)] | None,
        When("trendRate"),
    ] = None
    trend_rate: Annotated[
        float | None, ByUnits("trendRateUnits", RATE_RANGES), ConvertedBy("trendRateUnits")
    ] = None
    sample_interval: Annotated[int, Interval(ge=0, le=SAMPLE_INTERVAL_MAX)] | None = None
    backfilled: bool | None = None


class SelfMonitoredGlucose(GlucoseReading):
    """A reading of a blood glucose meter."""

    type: Literal["smbg"]
    sub_type: Literal["linked", "manual", "scanned"] | None = None


class BloodKetone(Datum):
    """A reading of a ketone strip."""

    identity = ("units", "value")

    type: Literal["bloodKetone"]
    units: Annotated[Literal["mmol/L", "mmol/l"], StoredAs(MMOL_PER_L)]
    value: Annotated[float, ByUnits("units", KETONE_RANGES)]


def glucose_reading(datum: Mapping[str, Any]) -> tuple[str, float] | None:
    """Read the glucose value that a datum measured: of a ``cbg``, an ``smbg`` or a calibration.

    For telling whether the values of a source can be in the units that they claim. Needs no accepted datum.

    :param datum: a decoded datum.
    :return: the units as given and the value; ``None`` when it has none.
    """
    kind = datum.get("type")
    if kind == "cbg" or kind == "smbg" or (kind == "deviceEvent" and datum.get("subType") == "calibration"):
        units, value = datum.get("units"), datum.get("value")
        if type(units) is str and (type(value) is float or type(value) is int):
            return units, value
    return None


def glucose_readings(data: Iterable[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Read the glucose values that accepted data measured; of those that measured none there is nothing.

    :param data: accepted data, decoded.
    """
    return [
        (datum["units"], datum["value"])
        for datum in data
        if (kind := datum["type"]) == "cbg"
        or kind == "smbg"
        or (kind == "deviceEvent" and datum["subType"] == "calibration")
    ]


class _Reading(Protocol):
    """What is asked of a record; ``None``: not there."""

    type: str
    subType: str | None  # noqa: N815 - Tidepool's name
    units: Any
    value: Any


def readings_of(records: Iterable[_Reading]) -> list[tuple[str, float]]:
    """Return the same of accepted data of which the outlines are known.

    :param records: the outlines.
    """
    return [
        (record.units, record.value)
        for record in records
        if (kind := record.type) == "cbg"
        or kind == "smbg"
        or (kind == "deviceEvent" and record.subType == "calibration")
    ]

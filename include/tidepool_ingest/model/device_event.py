"""Events of a device: alarms, calibrations, primes, overrides, reservoir and time changes, status.

P: data/types/device/.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from annotated_types import Ge, Interval

from tidepool_ingest.model.base import WEEK_MS, Datum, Name, TimezoneName
from tidepool_ingest.model.conditions import ByUnits, From, NotWith, When
from tidepool_ingest.model.fields import (
    FreeObject,
    LocalInstant,
    LocalTimeText,
    Record,
    Report,
    Rule,
    SplitOff,
    Values,
    any_of,
)
from tidepool_ingest.model.glucose import GlucoseTarget, GlucoseUnits, GlucoseValue
from tidepool_ingest.model.problems import NONE_OF_ONE, NOT_EXISTS

PRIME_VOLUME_MAX: Final = 1000.0
"""Units of insulin."""
PRIME_RANGES: Final = dict.fromkeys(("cannula", "tubing"), (0.0, PRIME_VOLUME_MAX))
OVERRIDE_DURATION_MAX: Final = WEEK_MS
"""Milliseconds."""
SCALE_FACTOR_MIN: Final = 0.1
SCALE_FACTOR_MAX: Final = 10.0
ScaleFactor: TypeAlias = Annotated[float, Interval(ge=SCALE_FACTOR_MIN, le=SCALE_FACTOR_MAX)]
Method: TypeAlias = Literal["automatic", "manual"]


class DeviceEvent(Datum):
    """Something that happened on a device."""

    kind_field = "subType"
    identity = ("subType",)

    type: Literal["deviceEvent"]


class Status(DeviceEvent):
    """The device suspended or resumed delivery."""

    sub_type: Literal["status"]
    duration: Annotated[int, Ge(0)] | None = None
    expected_duration: Annotated[int | None, From("duration", 0)] = None
    status: Literal["resumed", "suspended"]
    reason: FreeObject


class Alarm(DeviceEvent):
    """The device raised an alarm."""

    sub_type: Literal["alarm"]
    alarm_type: Literal[
        "auto_off",
        "low_insulin",
        "low_power",
        "no_delivery",
        "no_insulin",
        "no_power",
        "occlusion",
        "other",
        "over_limit",
    ]
    status: Annotated[Status | None, SplitOff()] = None


class Calibration(DeviceEvent):
    """A glucose value was given to a continuous monitor."""

    glucose_units = ("units",)

    sub_type: Literal["calibration"]
    units: GlucoseUnits
    value: GlucoseValue


class Prime(DeviceEvent):
    """The infusion set was filled with insulin."""

    sub_type: Literal["prime"]
    prime_target: Literal["cannula", "tubing"]
    volume: Annotated[float | None, ByUnits("primeTarget", PRIME_RANGES)] = None


class OverrideUnits(Record):
    """The units of an override's target."""

    bg: GlucoseUnits


class PumpSettingsOverride(DeviceEvent):
    """Other settings applied for a while."""

    glucose_units = ("units", "bg")

    sub_type: Literal["pumpSettingsOverride"]
    override_type: Literal["custom", "physicalActivity", "preprandial", "preset", "sleep"]
    override_preset: Annotated[Name | None, When("overrideType", ("preset",), required=True)] = None
    method: Method | None = None
    duration: Annotated[int, Interval(ge=0, le=OVERRIDE_DURATION_MAX)] | None = None
    expected_duration: Annotated[int | None, From("duration", 0, OVERRIDE_DURATION_MAX)] = None
    bg_target: GlucoseTarget | None = None
    basal_rate_scale_factor: ScaleFactor | None = None
    carb_ratio_scale_factor: ScaleFactor | None = None
    insulin_sensitivity_scale_factor: ScaleFactor | None = None
    units: Annotated[OverrideUnits | None, When("bgTarget", required=True)] = None


class ReservoirChange(DeviceEvent):
    """A new reservoir was put in."""

    sub_type: Literal["reservoirChange"]
    status: Annotated[Status | None, SplitOff()] = None


class ClockReading(Record):
    """What a clock said."""

    time: LocalInstant | None = None
    time_zone_name: TimezoneName | None = None

    rules = (any_of("time", "timeZoneName"),)


class ClockChange(Record):
    """The older way to report how a clock was changed."""

    agent: Method
    from_: LocalTimeText
    to: LocalTimeText


def _check_time_change(values: Values, _units: str | None, report: Report) -> None:
    if any(name in values for name in ("from", "method", "to")):
        if "to" not in values:
            report(NOT_EXISTS, "to")
    elif "change" not in values:
        report(NONE_OF_ONE, "")


class TimeChange(DeviceEvent):
    """The device's clock was changed: ``to``, or the older ``change``."""

    sub_type: Literal["timeChange"]
    from_: ClockReading | None = None
    method: Method | None = None
    to: ClockReading | None = None
    change: Annotated[ClockChange | None, NotWith("from"), NotWith("method"), NotWith("to")] = None

    rules = (Rule(_check_time_change),)

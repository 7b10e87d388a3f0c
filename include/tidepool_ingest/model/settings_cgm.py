"""Settings of a continuous glucose monitor (P: data/types/settings/cgm/)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

from annotated_types import Interval, Len

from tidepool_ingest.model.base import DAY_MS, Datum, Name
from tidepool_ingest.model.conditions import ByUnits, When
from tidepool_ingest.model.fields import (
    InGlucoseUnits,
    Pattern,
    Range,
    Record,
    StoredUnder,
    Unique,
)
from tidepool_ingest.model.glucose import (
    MG_PER_DL_MINUTE,
    MMOL_PER_L_MINUTE,
    GlucoseUnits,
    RateUnits,
    by_glucose_units,
)
from tidepool_ingest.model.hardware import Hardware
from tidepool_ingest.model.measures import DurationUnits, duration_ranges

TRANSMITTER_ID: Final = "^(?:[0-9a-zA-Z]{5,64})?$"
"""May be empty: "transmitterId is no longer guaranteed from dexcom"."""

SNOOZE_RANGES: Final = duration_ranges(hours=10.0)
NO_DATA_RANGES: Final = duration_ranges(hours=6.0)
OUT_OF_RANGE_RANGES: Final = duration_ranges(hours=6.0)
URGENT_LOW_RANGES: Final[Mapping[str, Range]] = {"mg/dL": (40.0, 80.0), "mmol/L": (2.22030, 4.44060)}
LOW_RANGES: Final[Mapping[str, Range]] = {"mg/dL": (50.0, 150.0), "mmol/L": (2.77537, 8.32612)}
HIGH_RANGES: Final[Mapping[str, Range]] = {"mg/dL": (100.0, 400.0), "mmol/L": (5.55075, 22.20299)}
RATE_RANGES: Final[Mapping[str, Range]] = {
    MG_PER_DL_MINUTE: (0.0, 10.0),
    MMOL_PER_L_MINUTE: (0.05551, 0.55507),
}

SCHEDULED_ALERTS_MAX: Final = 10
SCHEDULE_START_MAX: Final = DAY_MS
"""Milliseconds after midnight."""
SCHEDULE_END_MAX: Final = 2 * DAY_MS
"""Milliseconds after midnight."""

OLD_LOW_RANGES: Final[Mapping[str, Range]] = by_glucose_units((3.27494, 8.32612), (59.0, 150.0))
OLD_HIGH_RANGES: Final[Mapping[str, Range]] = by_glucose_units((5.55075, 22.20299), (100.0, 400.0))
OLD_RATES_MMOL_PER_L: Final = (0.11101495982091067, 0.16652243973136602)
OLD_RATES_MG_PER_DL: Final = (2.0, 3.0)
OLD_RISE_RATES: Final = by_glucose_units(OLD_RATES_MMOL_PER_L, OLD_RATES_MG_PER_DL)
OLD_FALL_RATES: Final = by_glucose_units(
    tuple(-rate for rate in OLD_RATES_MMOL_PER_L), tuple(-rate for rate in OLD_RATES_MG_PER_DL)
)


class Snooze(Record):
    """How long an alert keeps quiet."""

    duration: Annotated[float, ByUnits("units", SNOOZE_RANGES)]
    units: DurationUnits


class Alert(Record):
    """Whether there is an alert."""

    enabled: bool
    snooze: Snooze | None = None


class LevelAlert(Alert):
    """An alert at a glucose level."""

    units: Annotated[Literal["mg/dL", "mmol/L"] | None, When("level", required=True)] = None


class UrgentLowAlert(LevelAlert):
    """An alert at a very low level."""

    level: Annotated[float | None, ByUnits("units", URGENT_LOW_RANGES)] = None


class LowAlert(LevelAlert):
    """An alert at a low level."""

    level: Annotated[float | None, ByUnits("units", LOW_RANGES)] = None


class HighAlert(LevelAlert):
    """An alert at a high level."""

    level: Annotated[float | None, ByUnits("units", HIGH_RANGES)] = None


class RateAlert(Alert):
    """An alert when glucose rises or falls fast."""

    units: Annotated[RateUnits | None, When("rate", required=True)] = None
    rate: Annotated[float | None, ByUnits("units", RATE_RANGES)] = None


class DurationAlert(Alert):
    """An alert when nothing has come for a while."""

    units: Annotated[DurationUnits | None, When("duration", required=True)] = None


class NoDataAlert(DurationAlert):
    """An alert when no value has come for a while."""

    duration: Annotated[float | None, ByUnits("units", NO_DATA_RANGES)] = None


class OutOfRangeAlert(DurationAlert):
    """An alert when the transmitter has been out of reach for a while."""

    duration: Annotated[float | None, ByUnits("units", OUT_OF_RANGE_RANGES)] = None


class Alerts(Record):
    """All alerts."""

    enabled: bool
    urgent_low: UrgentLowAlert | None = None
    urgent_low_predicted: UrgentLowAlert | None = None
    low: LowAlert | None = None
    low_predicted: LowAlert | None = None
    high: HighAlert | None = None
    high_predicted: HighAlert | None = None
    fall: RateAlert | None = None
    rise: RateAlert | None = None
    no_data: NoDataAlert | None = None
    out_of_range: OutOfRangeAlert | None = None


class ScheduledAlert(Record):
    """Alerts for some days and times of the day."""

    name: Name | None = None
    days: Annotated[
        list[Literal["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]], Unique()
    ]
    start: Annotated[int, Interval(ge=0, le=SCHEDULE_START_MAX)]
    end: Annotated[int, Interval(ge=0, le=SCHEDULE_END_MAX)]
    alerts: Alerts


# The alerts of older uploaders, in the units of the settings, with times in milliseconds.

# fmt: off
OldSnooze: TypeAlias = Literal[
    0, 900000, 1200000, 1500000, 1800000, 2100000, 2400000, 2700000, 3000000, 3300000, 3600000, 3900000,
    4200000, 4500000, 4800000, 5100000, 5400000, 5700000, 6000000, 6300000, 6600000, 6900000, 7200000,
    7500000, 7800000, 8100000, 8400000, 8700000, 9000000, 9300000, 9600000, 9900000, 10200000, 10500000,
    10800000, 11100000, 11400000, 11700000, 12000000, 12300000, 12600000, 12900000, 13200000, 13500000,
    13800000, 14100000, 14400000, 15300000, 16200000, 17100000, 18000000,
]
OldThreshold: TypeAlias = Literal[
    0, 60000, 1200000, 1500000, 1800000, 2100000, 2400000, 2700000, 3000000, 3300000, 3600000, 3900000,
    4200000, 4500000, 4800000, 5100000, 5400000, 5700000, 6000000, 6300000, 6600000, 6900000, 7200000,
    7500000, 7800000, 8100000, 8400000, 8700000, 9000000, 9300000, 9600000, 9900000, 10200000, 10500000,
    10800000, 11100000, 11400000, 11700000, 12000000, 12300000, 12600000, 12900000, 13200000, 13500000,
    13800000, 14100000, 14400000,
]
# fmt: on


class OldLowAlert(Record):
    """The older alert at a low level."""

    enabled: bool
    level: Annotated[float, InGlucoseUnits(OLD_LOW_RANGES)]
    snooze: OldSnooze


class OldHighAlert(Record):
    """The older alert at a high level."""

    enabled: bool
    level: Annotated[float, InGlucoseUnits(OLD_HIGH_RANGES)]
    snooze: OldSnooze


class OldOutOfRangeAlert(Record):
    """The older alert when the transmitter has been out of reach for a while."""

    enabled: bool
    snooze: OldThreshold


class OldFallAlert(Record):
    """The older alert when glucose falls fast."""

    enabled: bool
    rate: Annotated[float, InGlucoseUnits(among=OLD_FALL_RATES)]


class OldRiseAlert(Record):
    """The older alert when glucose rises fast."""

    enabled: bool
    rate: Annotated[float, InGlucoseUnits(among=OLD_RISE_RATES)]


class OldRateAlerts(Record):
    """The older alerts when glucose changes fast."""

    fall_rate: OldFallAlert
    rise_rate: OldRiseAlert


class CgmSettings(Hardware, Datum):
    """Settings of a continuous glucose monitor."""

    glucose_units = ("units",)

    type: Literal["cgmSettings"]
    transmitter_id: Annotated[str, Pattern(TRANSMITTER_ID)] | None = None
    units: GlucoseUnits | None = None
    default_alerts: Alerts | None = None
    scheduled_alerts: Annotated[list[ScheduledAlert], Len(1, SCHEDULED_ALERTS_MAX)] | None = None
    high_alerts: OldHighAlert | None = None
    low_alerts: OldLowAlert | None = None
    out_of_range_alerts: OldOutOfRangeAlert | None = None
    rate_of_change_alerts: Annotated[OldRateAlerts | None, StoredUnder("rateOfChangeAlert")] = None

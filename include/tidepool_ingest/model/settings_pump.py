"""Settings of a pump (P: data/types/settings/pump/)."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from annotated_types import Interval

from tidepool_ingest.model.base import DAY_MS, WEEK_MS, Datum, Name, NotEmptyText, TimezoneOffset
from tidepool_ingest.model.conditions import ByUnits, NotWith, UpTo, When
from tidepool_ingest.model.device_event import ScaleFactor
from tidepool_ingest.model.fields import Record, Rising
from tidepool_ingest.model.glucose import GlucoseTarget, GlucoseUnits, GlucoseValue
from tidepool_ingest.model.hardware import Hardware
from tidepool_ingest.model.insulin import Formulation
from tidepool_ingest.model.measures import DurationUnits, duration_ranges

START_MAX: Final = DAY_MS
"""Milliseconds after midnight."""
RATE_MAX: Final = 100.0
"""Units of insulin an hour."""
RATE_RANGES: Final = {"Units/hour": (0.0, RATE_MAX)}
AMOUNT_RANGES: Final = {"Units": (0.0, 100.0)}
CARB_RATIO_MAX: Final = 250.0
"""Grams a unit of insulin."""
INSULIN_DURATION_RANGES: Final = duration_ranges(hours=10.0)
MODEL_SECONDS_MAX: Final = 24 * 60 * 60
"""Seconds."""
PRESET_DURATION_MAX: Final = WEEK_MS
"""Milliseconds."""


class BasalRateMaximum(Record):
    """The highest basal rate that the pump gives."""

    units: Literal["Units/hour"]
    value: Annotated[float, ByUnits("units", RATE_RANGES)]


class BasalTemporary(Record):
    """How temporary basals are set."""

    type: Literal["off", "percent", "Units/hour"]


class BasalSettings(Record):
    """Settings of basals."""

    rate_maximum: BasalRateMaximum | None = None
    temporary: BasalTemporary | None = None


class BolusAmountMaximum(Record):
    """The largest bolus that the pump gives."""

    units: Literal["Units"]
    value: Annotated[float, ByUnits("units", AMOUNT_RANGES)]


class InsulinDuration(Record):
    """How long insulin acts."""

    duration: Annotated[float, ByUnits("units", INSULIN_DURATION_RANGES)]
    units: DurationUnits


class BolusCalculator(Record):
    """Settings of the bolus calculator."""

    enabled: bool
    insulin: InsulinDuration | None = None


class BolusExtended(Record):
    """Settings of square and dual boluses."""

    enabled: bool


class BolusSettings(Record):
    """Settings of boluses."""

    amount_maximum: BolusAmountMaximum | None = None
    calculator: BolusCalculator | None = None
    extended: BolusExtended | None = None


class BasalRateStart(Record):
    """A basal rate from some time of the day on."""

    rate: Annotated[float, Interval(ge=0.0, le=RATE_MAX)]
    start: int


class CarbRatioStart(Record):
    """A carbohydrate ratio from some time of the day on."""

    amount: Annotated[float, Interval(ge=0.0, le=CARB_RATIO_MAX)]
    start: int


class InsulinSensitivityStart(Record):
    """An insulin sensitivity from some time of the day on."""

    amount: GlucoseValue
    start: int


class GlucoseTargetStart(GlucoseTarget):
    """A glucose target from some time of the day on."""

    start: int


BasalSchedule: TypeAlias = Annotated[list[BasalRateStart], Rising("start", START_MAX)]
CarbRatioSchedule: TypeAlias = Annotated[list[CarbRatioStart], Rising("start", START_MAX)]
SensitivitySchedule: TypeAlias = Annotated[list[InsulinSensitivityStart], Rising("start", START_MAX)]
TargetSchedule: TypeAlias = Annotated[list[GlucoseTargetStart], Rising("start", START_MAX)]


class DisplayGlucose(Record):
    """The units in which the pump shows glucose."""

    units: Literal["mg/dL", "mmol/L"]


class Display(Record):
    """What the pump shows."""

    blood_glucose: DisplayGlucose | None = None


class InsulinModel(Record):
    """How an algorithm thinks that insulin acts; times in seconds."""

    model_type: Literal["fiasp", "other", "rapidAdult", "rapidChild", "walsh"] | None = None
    model_type_other: Annotated[Name | None, When("modelType", ("other",), required=True)] = None
    action_delay: Annotated[int, Interval(ge=0, le=MODEL_SECONDS_MAX)] | None = None
    action_duration: Annotated[int, Interval(ge=0, le=MODEL_SECONDS_MAX)] | None = None
    action_peak_offset: Annotated[int | None, UpTo("actionDuration", 0, MODEL_SECONDS_MAX)] = None


class OverridePreset(Record):
    """Other settings ready to be applied for a while."""

    abbreviation: Name | None = None
    duration: Annotated[int, Interval(ge=0, le=PRESET_DURATION_MAX)] | None = None
    bg_target: GlucoseTarget | None = None
    basal_rate_scale_factor: ScaleFactor | None = None
    carb_ratio_scale_factor: ScaleFactor | None = None
    insulin_sensitivity_scale_factor: ScaleFactor | None = None


class PumpUnits(Record):
    """The units of the settings."""

    bg: GlucoseUnits
    carb: Literal["exchanges", "grams"]
    insulin: Literal["Units"] | None = None


class PumpSettings(Hardware, Datum):
    """Settings of a pump. Of each schedule there is one, or several by names that people made up."""

    glucose_units = ("units", "bg")

    type: Literal["pumpSettings"]
    active_schedule: NotEmptyText
    automated_delivery: bool | None = None
    basal: BasalSettings | None = None
    basal_schedule: BasalSchedule | None = None
    basal_schedules: Annotated[dict[str, BasalSchedule] | None, NotWith("basalSchedule")] = None
    bg_safety_limit: GlucoseValue | None = None
    bg_target_physical_activity: GlucoseTarget | None = None
    bg_target_preprandial: GlucoseTarget | None = None
    bg_target: TargetSchedule | None = None
    bg_targets: Annotated[dict[str, TargetSchedule] | None, NotWith("bgTarget")] = None
    bolus: BolusSettings | None = None
    carb_ratio: CarbRatioSchedule | None = None
    carb_ratios: Annotated[dict[str, CarbRatioSchedule] | None, NotWith("carbRatio")] = None
    display: Display | None = None
    insulin_formulation: Formulation | None = None
    insulin_model: InsulinModel | None = None
    insulin_sensitivity: SensitivitySchedule | None = None
    insulin_sensitivities: Annotated[dict[str, SensitivitySchedule] | None, NotWith("insulinSensitivity")] = (
        None
    )
    override_presets: dict[str, OverridePreset] | None = None
    schedule_time_zone_offset: TimezoneOffset | None = None
    units: PumpUnits | None = None

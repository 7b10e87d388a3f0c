"""What an algorithm or a person decided about insulin, and from what (P: data/types/dosingdecision/)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from annotated_types import Interval, Len

from tidepool_ingest.model.base import DAY_MS, Datum, Name, TimezoneOffset
from tidepool_ingest.model.bolus import Amount, Duration
from tidepool_ingest.model.conditions import NotWith, When
from tidepool_ingest.model.fields import AnyInstant, FreeObject, Record, Rising, any_of
from tidepool_ingest.model.food import Nutrition
from tidepool_ingest.model.glucose import FreeGlucoseValue, GlucoseUnits, GlucoseValue
from tidepool_ingest.model.settings_pump import START_MAX, GlucoseTargetStart

GLUCOSE_VALUES_MAX: Final = 24 * 60
"""Values, one a minute for a day."""
ISSUES_MAX: Final = 100
CARBS_ON_BOARD_MAX: Final = 1000.0
"""Grams, or exchanges."""
INSULIN_ON_BOARD_MAX: Final = 1000.0
"""Units of insulin, above or below zero."""
BASAL_RATE_MAX: Final = 100.0
"""Units of insulin an hour."""
BASAL_DURATION_MAX: Final = DAY_MS
"""Milliseconds."""


class DecisionFood(Record):
    """Food that was taken into account."""

    time: AnyInstant | None = None
    nutrition: Nutrition


class DecisionGlucose(Record):
    """A glucose value that was taken into account."""

    time: AnyInstant
    value: GlucoseValue


class ForecastGlucose(Record):
    """A glucose value that was foreseen, however odd."""

    time: AnyInstant | None = None
    value: FreeGlucoseValue


class CarbsOnBoard(Record):
    """Carbohydrates not yet absorbed."""

    time: AnyInstant | None = None
    amount: Annotated[float, Interval(ge=0.0, le=CARBS_ON_BOARD_MAX)]


class InsulinOnBoard(Record):
    """Insulin not yet used."""

    time: AnyInstant | None = None
    amount: Annotated[float, Interval(ge=-INSULIN_ON_BOARD_MAX, le=INSULIN_ON_BOARD_MAX)]


class RecommendedBasal(Record):
    """A basal that was recommended."""

    rate: Annotated[float, Interval(ge=0.0, le=BASAL_RATE_MAX)]
    duration: Annotated[int, Interval(ge=0, le=BASAL_DURATION_MAX)] | None = None


class DecisionBolus(Record):
    """A bolus that was recommended or asked for: the older ``amount``, or its parts."""

    amount: Amount | None = None
    duration: Annotated[Duration | None, NotWith("amount"), When("extended", required=True)] = None
    extended: Annotated[Amount | None, NotWith("amount")] = None
    normal: Annotated[Amount | None, NotWith("amount")] = None

    rules = (any_of("amount", "extended", "normal"),)


class Issue(Record):
    """A warning or an error."""

    id: Name
    metadata: FreeObject | None = None


class DecisionUnits(Record):
    """The units of the decision's values."""

    bg: GlucoseUnits
    carb: Literal["exchanges", "grams"]
    insulin: Literal["Units"]


class DosingDecision(Datum):
    """A decision about insulin."""

    glucose_units = ("units", "bg")

    type: Literal["dosingDecision"]
    reason: Name
    original_food: DecisionFood | None = None
    food: DecisionFood | None = None
    smbg: DecisionGlucose | None = None
    carbs_on_board: CarbsOnBoard | None = None
    insulin_on_board: InsulinOnBoard | None = None
    bg_target_schedule: Annotated[list[GlucoseTargetStart], Rising("start", START_MAX)] | None = None
    bg_historical: Annotated[list[DecisionGlucose], Len(1, GLUCOSE_VALUES_MAX)] | None = None
    bg_forecast: Annotated[list[ForecastGlucose], Len(1, GLUCOSE_VALUES_MAX)] | None = None
    recommended_basal: RecommendedBasal | None = None
    recommended_bolus: DecisionBolus | None = None
    requested_bolus: DecisionBolus | None = None
    warnings: Annotated[list[Issue], Len(1, ISSUES_MAX)] | None = None
    errors: Annotated[list[Issue], Len(1, ISSUES_MAX)] | None = None
    schedule_time_zone_offset: TimezoneOffset | None = None
    units: DecisionUnits

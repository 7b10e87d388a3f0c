"""Bolus calculations, which Tidepool calls ``wizard`` (P: data/types/calculator/)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from annotated_types import Interval

from tidepool_ingest.model.base import Datum
from tidepool_ingest.model.bolus import AnyBolus, AutomatedBolus
from tidepool_ingest.model.fields import Record, SplitOff
from tidepool_ingest.model.glucose import GlucoseTarget, GlucoseUnits, GlucoseValue

CARB_INPUT_MAX: Final = 1000.0
"""Grams, or exchanges."""
INSULIN_CARB_RATIO_MAX: Final = 250.0
"""Grams a unit of insulin."""
INSULIN_ON_BOARD_MAX: Final = 250.0
"""Units of insulin."""
RECOMMENDED_MAX: Final = 100.0
"""Units of insulin; corrections can be as much below zero."""


class Recommended(Record):
    """What the calculator recommended."""

    carb: Annotated[float, Interval(ge=0.0, le=RECOMMENDED_MAX)] | None = None
    correction: Annotated[float, Interval(ge=-RECOMMENDED_MAX, le=RECOMMENDED_MAX)] | None = None
    net: Annotated[float, Interval(ge=-RECOMMENDED_MAX, le=RECOMMENDED_MAX)] | None = None


class Calculation(Datum):
    """A calculation, and the bolus that followed it, which the Platform stores as a record of its own."""

    glucose_units = ("units",)

    type: Literal["wizard"]
    bg_input: GlucoseValue | None = None
    bg_target: GlucoseTarget | None = None
    bolus: Annotated[AnyBolus | None, SplitOff(without_link=(AutomatedBolus,))] = None
    carb_input: Annotated[float, Interval(ge=0.0, le=CARB_INPUT_MAX)] | None = None
    insulin_carb_ratio: Annotated[float, Interval(ge=0.0, le=INSULIN_CARB_RATIO_MAX)] | None = None
    insulin_on_board: Annotated[float, Interval(ge=0.0, le=INSULIN_ON_BOARD_MAX)] | None = None
    insulin_sensitivity: GlucoseValue | None = None
    recommended: Recommended | None = None
    units: GlucoseUnits
    carb_units: Literal["grams", "exchanges"] | None = None
